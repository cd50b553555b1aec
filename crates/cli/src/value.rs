//! Values as people write them: durations such as `15s`, sizes such as `64MiB`, counts, addresses.
//! Each reader says what is wrong in a few words; what would be right is told by the option table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use tidings::Selector;
use tidings_auth::Algorithm;

/// Reads a duration: whole numbers, each with a unit of `ms`, `s`, `m`, `h` or `d`, one after the
/// other, as in `15s` or `1h30m`. A lone `0` needs no unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = split_number(rest)?;
        let unit_ms = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, ms)| *ms)
            .ok_or_else(|| unknown_unit(unit))?;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or("the number is too large")?;
        rest = after;
    }
    if text.is_empty() {
        Err("there is no value".into())
    } else {
        Ok(Duration::from_millis(total_ms))
    }
}

/// Writes a duration in the largest unit that loses nothing; days only from two days on.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".into();
    }
    let (unit, unit_ms) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(unit, unit_ms)| ms.is_multiple_of(*unit_ms) && (*unit != "d" || ms > *unit_ms))
        .unwrap_or(&DURATION_UNITS[0]);
    format!("{}{unit}", ms / unit_ms)
}

/// Reads a number of bytes: a whole number, alone or with a unit (`KiB`, `MiB`, `GiB`, `TiB`, powers
/// of 1024; `kB`, `MB`, `GB`, `TB`, powers of 1000; `B`), in any letter case.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("there is no value".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| "the number is too large".into());
    }
    let (number, unit, after) = split_number(text)?;
    let (_, unit_bytes) = BYTE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or_else(|| unknown_unit(unit))?;
    if !after.is_empty() {
        return Err(format!("`{after}` after the unit"));
    }
    number.checked_mul(*unit_bytes).ok_or_else(|| "the number is too large".into())
}

/// Writes a number of bytes in the largest power of 1024 that loses nothing.
pub(crate) fn show_bytes(bytes: u64) -> String {
    BYTE_UNITS
        .iter()
        .filter(|(unit, _)| unit.ends_with("iB"))
        .rev()
        .find(|(_, unit_bytes)| bytes != 0 && bytes.is_multiple_of(*unit_bytes))
        .map_or_else(
            || bytes.to_string(),
            |(unit, unit_bytes)| format!("{}{unit}", bytes / unit_bytes),
        )
}

/// Reads a whole number.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("there is no value".into());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("this is not a whole number".into());
    }
    text.parse().map_err(|_| "the number is too large".into())
}

/// Reads a whole number within bounds, or `unlimited` as [`u64::MAX`].
pub(crate) fn parse_limit(text: &str, min: u64, max: u64) -> Result<u64, String> {
    if text.eq_ignore_ascii_case(UNLIMITED) {
        return Ok(u64::MAX);
    }
    within(parse_count(text)?, min, max)
}

/// Checks that a value is within bounds.
pub(crate) fn within<T: PartialOrd + Copy>(value: T, min: T, max: T) -> Result<T, String> {
    if value < min {
        return Err("this is too small".into());
    }
    if value > max {
        return Err("this is too large".into());
    }
    Ok(value)
}

/// Reads `ADDRESS:PORT`, where the address is an IP address or `localhost`.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    if let Some(port) = text.strip_prefix(':') {
        return Err(format!(
            "there is no address before the port; every address is 0.0.0.0:{port}"
        ));
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!("there is no address; this machine alone is 127.0.0.1:{text}"));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("there is no port".into());
    }
    Err("this is not an IP address with a port".into())
}

/// Reads `true`, `false`, `1` or `0`.
pub(crate) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("this is neither true nor false".into()),
    }
}

/// Reads a list of web origins. `*` stands alone.
pub(crate) fn parse_origins<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    let mut origins = Vec::new();
    for text in texts {
        let origin = text.trim();
        if origin.is_empty() {
            continue;
        }
        check_origin(origin)?;
        if !origins.iter().any(|known| known == origin) {
            origins.push(origin.to_owned());
        }
    }
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        return Err("`*` already means every origin, so it stands alone".into());
    }
    Ok(origins)
}

/// Reads host names, without ports; each once, in lower case.
pub(crate) fn parse_hosts<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for text in texts {
        let host = text.trim().to_ascii_lowercase();
        if host.is_empty() {
            continue;
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return Err(format!("`{host}` is no host name; leave out the scheme and the port"));
        }
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Reads topics and selectors, each once; empty ones are left out.
pub(crate) fn parse_selectors<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Selector>, String> {
    let mut selectors = Vec::new();
    for text in texts.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        let selector = Selector::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
        if !selectors.contains(&selector) {
            selectors.push(selector);
        }
    }
    if selectors.len() > SELECTORS_MAX {
        return Err(format!("there are more than {SELECTORS_MAX} selectors"));
    }
    Ok(selectors)
}

/// Reads networks; an address without a prefix is a network of one, and bits after the prefix are
/// refused, because whoever wrote them meant something else.
pub(crate) fn parse_networks<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for text in texts.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                format!("`{text}` is neither an address nor a network such as 10.0.0.0/8")
            })?,
        };
        if network != network.trunc() {
            return Err(format!("`{text}` has bits after its prefix; write {}", network.trunc()));
        }
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// Writes a network as [`parse_networks`] reads it; one address without its prefix.
pub(crate) fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        return network.addr().to_string();
    }
    network.to_string()
}

/// Reads the URL of another server, without user name and password, which would be shown.
pub(crate) fn parse_web_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("this is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("this is neither http:// nor https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or a password has no place here".into());
    }
    if url.fragment().is_some() {
        return Err("what follows `#` has no place here".into());
    }
    Ok(text.to_owned())
}

/// Reads several URLs, each once.
pub(crate) fn parse_web_urls<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    parse_texts(texts).iter().map(|text| parse_web_url(text)).collect()
}

/// Reads texts, each once; empty ones are left out.
pub(crate) fn parse_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut read: Vec<String> = Vec::new();
    for text in texts.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        if !read.iter().any(|known| known == text) {
            read.push(text.to_owned());
        }
    }
    read
}

/// Reads the name of a signature algorithm (RFC 7518, section 3.1), or `auto` as `None`: what the kind of the key says.
pub(crate) fn parse_algorithm(text: &str) -> Result<Option<Algorithm>, String> {
    if text.eq_ignore_ascii_case(AUTO) {
        return Ok(None);
    }
    let known = Algorithm::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(text));
    known.map(Some).ok_or_else(|| match text.to_ascii_lowercase().as_str() {
        "none" => "tokens that nobody signed prove nothing".into(),
        _ => "there is no such algorithm".into(),
    })
}

/// Writes an algorithm as [`parse_algorithm`] reads it.
pub(crate) fn show_algorithm(algorithm: Option<Algorithm>) -> &'static str {
    algorithm.map_or(AUTO, Algorithm::as_str)
}

/// Says whether a URL leaves this machine without encryption.
pub(crate) fn is_in_the_open(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    url.scheme() == "http" && !is_this_machine(&url)
}

/// Says whether a URL is that of a server on this machine.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks the name of a cookie (RFC 6265, section 4.1.1).
pub(crate) fn check_cookie_name(text: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.bytes().all(is_plain) { Ok(()) } else { Err("a cookie has no such name".into()) }
}

/// Checks what an issuer calls itself: any text of reasonable length.
pub(crate) fn check_issuer(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX { Err("this is too long".into()) } else { Ok(()) }
}

/// Checks an e-mail address as far as that is worth it.
pub(crate) fn check_email(text: &str) -> Result<(), String> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(' ') => Ok(()),
        _ => Err("this is not an e-mail address".into()),
    }
}

/// Checks that an origin is written exactly as browsers send it: scheme, host, port unless it is the
/// scheme's own, all in lower case and without a path (RFC 6454, section 6.2).
fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "*" {
        return Ok(());
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err(format!("`{origin}` has no scheme; an origin is https://app.example.com"));
    };
    if let Some(slash) = host.find('/') {
        return Err(format!(
            "`{origin}` has a path; an origin ends after the host: {scheme}://{}",
            &host[..slash]
        ));
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("`{origin}` has capitals; browsers send {}", origin.to_lowercase()));
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    if let Some(bare) = host.strip_suffix(own_port)
        && !own_port.is_empty()
    {
        return Err(format!("browsers leave {own_port} out: write {scheme}://{bare}"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if scheme.is_empty() || host.is_empty() || !host.bytes().all(plain) {
        return Err(format!("`{origin}` is not an origin; write scheme, host and port alone"));
    }
    Ok(())
}

/// Splits `15sfoo3` into the number, the letters after it, and the rest.
fn split_number(text: &str) -> Result<(u64, &str, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err("there is no number where one should be".into());
    }
    let number = text[..digits].parse().map_err(|_| "the number is too large")?;
    let rest = text[digits..].trim_start();
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    if letters == 0 {
        return Err(match rest.chars().next() {
            None => "the unit is missing".into(),
            Some(found) => format!("`{found}` after the number"),
        });
    }
    Ok((number, &rest[..letters], rest[letters..].trim_start()))
}

fn unknown_unit(unit: &str) -> String {
    format!("`{unit}` is not a unit")
}

/// The word for a limit that is none.
pub(crate) const UNLIMITED: &str = "unlimited";

/// The longest text that names somebody, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// The word for the algorithm that the kind of a key says.
const AUTO: &str = "auto";

/// Units of time with their milliseconds, smallest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size with their bytes; those of 1024 smallest first.
/// The most selectors: each topic is held against all of them.
const SELECTORS_MAX: usize = 100;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

#[cfg(test)]
mod tests;
