//! What is wrong, or looks wrong, with values that are right one by one. Whatever leaves a hub more
//! open than it looks is told here, before it listens.

use std::net::IpAddr;

use crate::options::{GivenValue, Kind, option_named};
use crate::settings::log_place::LogPlace;
use crate::settings::{Origin, ServeSettings, Settings, shown};
use crate::value::{is_in_the_open, show_bytes, show_network};

/// What cannot be meant: the hub does not start with it.
pub(crate) fn contradictions(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    check_trust(settings, &mut faults);
    check_encryption(settings, &mut faults);
    check_needed(settings, &mut faults);
    check_sizes(settings, &mut faults);
    faults
}

/// What may be meant, and is worth a second look.
pub(crate) fn doubts(settings: &Settings) -> Vec<String> {
    let serve = &settings.serve;
    let mut doubts = Vec::new();
    for name in ["trusted-proxies", "proxy-protocol"] {
        let networks =
            if name == "proxy-protocol" { &serve.proxy_protocol } else { &serve.trusted_proxies };
        if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
            doubts.push(format!(
                "{}: {} is everybody, so that clients can say of themselves who they are; name the \
                 proxies alone",
                shown(settings, name),
                show_network(network),
            ));
        }
    }
    if serve.has_keys() && serve.is_exposed() && serve.anonymous {
        doubts.push(format!(
            "{}: whoever reaches {} may read public events without a token",
            shown(settings, "anonymous"),
            serve.listen,
        ));
    }
    let cookie = serve.token_cookie.as_deref().filter(|_| serve.has_keys());
    if let Some(cookie) = cookie.filter(|_| serve.cors_origins.iter().any(|origin| origin == "*")) {
        doubts.push(format!(
            "{}: pages of other origins cannot use the cookie `{cookie}`, as browsers send none where \
             all are allowed; name the origins if they are to",
            shown(settings, "cors-origins"),
        ));
    }
    doubts
}

/// What of the webhooks is worth a second look. A hub that starts tells this itself.
pub(crate) fn webhook_doubts(settings: &Settings) -> Vec<String> {
    let serve = &settings.serve;
    let mut doubts = Vec::new();
    for name in ["authorization-webhook", "connection-webhook"] {
        let url = if name == "authorization-webhook" {
            &serve.authorization_webhook
        } else {
            &serve.connection_webhook
        };
        if url.as_deref().is_some_and(is_in_the_open) {
            doubts.push(format!(
                "{}: what is sent there can be read and changed on the way; use https",
                shown(settings, name),
            ));
        }
    }
    doubts
}

fn check_trust(settings: &Settings, faults: &mut Vec<String>) {
    let serve = &settings.serve;
    if serve.is_exposed() && !serve.has_keys() && !serve.insecure {
        faults.push(format!(
            "{}: other machines can reach this address, and there is no key to check who they are\n  \
             make one with `{MAKE_KEY}` and add --key-file hub.key\n  or listen on 127.0.0.1, or add \
             --insecure to let everyone publish and subscribe",
            shown(settings, "listen"),
        ));
    }
    if serve.insecure && serve.has_keys() {
        let keys = KEY_OPTIONS.iter().find(|name| is_changed(settings, name)).unwrap_or(&"key");
        faults.push(format!(
            "{}: this is for a hub that asks nobody, and with {} it asks everybody\n  leave one of the \
             two out",
            shown(settings, "insecure"),
            shown(settings, keys),
        ));
    }
    if serve.authorization_webhook.is_some() && !serve.has_keys() {
        faults.push(format!(
            "{}: nobody could publish: the webhook is asked about subscribers alone\n  add a key for \
             those who publish: `{MAKE_KEY}`, and --key-file hub.key",
            shown(settings, "authorization-webhook"),
        ));
    }
    let sets = serve.jwks_url.iter().map(|url| ("jwks-url", url));
    let others = serve.authority.iter().filter_map(|it| it.jwks_url.as_ref());
    for (name, url) in sets.chain(others.map(|url| ("authority", url))) {
        if is_in_the_open(url) {
            faults.push(format!(
                "{}: {url} is not encrypted, so that anybody on the way could add a key and make \
                 tokens\n  use https, or save the key set and give it with --key-file",
                shown(settings, name),
            ));
        }
    }
}

fn check_encryption(settings: &Settings, faults: &mut Vec<String>) {
    let serve = &settings.serve;
    for (given, missing, present) in [
        (&serve.tls_cert, &serve.tls_key, "tls-cert"),
        (&serve.tls_key, &serve.tls_cert, "tls-key"),
    ] {
        if given.is_some() && missing.is_none() {
            let absent = if present == "tls-cert" { "tls-key" } else { "tls-cert" };
            faults.push(format!(
                "{}: TLS needs a certificate and its key\n  give --{absent} as well; one file may \
                 hold both",
                shown(settings, present),
            ));
        }
    }
    let ways: Vec<&str> = ["tls-cert", "tls-self-signed", "acme-domain"]
        .into_iter()
        .filter(|name| is_changed(settings, name))
        .collect();
    if let [first, second, ..] = ways[..] {
        faults.push(format!(
            "{}: there is another certificate by {}\n  give one of them",
            shown(settings, second),
            shown(settings, first),
        ));
    }
    // An authority of one's own may know other names.
    let is_public = !is_changed(settings, "acme-directory");
    for name in &serve.acme_domain {
        if is_public && (!name.contains('.') || name.parse::<IpAddr>().is_ok()) {
            faults.push(format!(
                "{}: nobody certifies `{name}`\n  give names that lead to this machine from \
                 everywhere; for development there is --tls-self-signed",
                shown(settings, "acme-domain"),
            ));
        }
    }
    if !serve.acme_domain.is_empty() && settings.data_folder().is_none() {
        faults.push(format!(
            "{}: the certificate must outlive the process, as an authority gives only a few a week\n  \
             name a folder for it with --data",
            shown(settings, "acme-domain"),
        ));
    }
}

/// Options that say nothing without another.
fn check_needed(settings: &Settings, faults: &mut Vec<String>) {
    for (names, needed, what) in NEEDS {
        if needed.iter().any(|name| is_changed(settings, name)) {
            continue;
        }
        for name in names.iter().filter(|name| is_changed(settings, name)) {
            let needed: Vec<String> = needed.iter().map(|name| format!("--{name}")).collect();
            faults.push(format!(
                "{}: {what}\n  give {} as well, or leave it out",
                shown(settings, name),
                needed.join(" or "),
            ));
        }
    }
}

fn check_sizes(settings: &Settings, faults: &mut Vec<String>) {
    let serve = &settings.serve;
    let smallest = DISK_BYTES_MIN.max(serve.max_event_bytes.saturating_mul(2));
    if serve.log == LogPlace::Disk && serve.log_bytes_max < smallest {
        faults.push(format!(
            "{}: this is too small for a log on disk, which grows by files of 1MiB at least\n  give \
             it {} or more, or keep events in memory with --log memory",
            shown(settings, "log-bytes-max"),
            show_bytes(smallest),
        ));
    }
    for (larger, smaller, reason) in AT_LEAST {
        if size_of(serve, larger) < size_of(serve, smaller) {
            faults.push(format!(
                "{}: this is less than {}\n  {reason}: raise the one or lower the other",
                shown(settings, larger),
                shown(settings, smaller),
            ));
        }
    }
}

/// Says whether the option `name` has another value than it would have if nobody gave one; somebody
/// who writes the default down does not mean anything by it.
fn is_changed(settings: &Settings, name: &str) -> bool {
    let Some(row) = option_named(name) else { return false };
    if *settings.origin(name) == Origin::Default {
        return false;
    }
    let mut defaults = settings.serve.clone();
    let default = match row.default_text(1, &settings.serve) {
        Some(text) => GivenValue::Text(text),
        None => GivenValue::List(Vec::new()),
    };
    let is_readable = row.kind.apply(&mut defaults, &default).is_ok();
    is_readable && row.kind.json(&defaults) != row.kind.json(&settings.serve)
}

fn size_of(serve: &ServeSettings, name: &str) -> u64 {
    match option_named(name).map(|row| &row.kind) {
        Some(Kind::Bytes { field, .. } | Kind::Count { field, .. }) => *field(&mut serve.clone()),
        _ => 0,
    }
}

/// How to make a key, for whoever has none.
pub(crate) const MAKE_KEY: &str = "openssl rand -hex 32 > hub.key";

/// Any of these is a key, or leads to one.
const KEY_OPTIONS: [&str; 4] = ["key", "key-file", "jwks-url", "authority"];

/// Options, those of which one must be given for them to say anything, and what is missing else.
const NEEDS: [(&[&str], &[&str], &str); 8] = [
    (
        &["issuer", "audience", "require-exp"],
        &["key", "key-file", "jwks-url"],
        "there is no key whose tokens it could be about",
    ),
    (
        &["algorithm"],
        &["key", "key-file", "jwks-url"],
        "there is no key that it could be the algorithm of",
    ),
    (
        &["authorization-webhook-timeout", "authorization-webhook-cache"],
        &["authorization-webhook"],
        "there is no such webhook",
    ),
    (&["connection-webhook-debounce"], &["connection-webhook"], "there is no such webhook"),
    (
        &["webhook-secret"],
        &["authorization-webhook", "connection-webhook"],
        "there is no webhook to sign anything for",
    ),
    (
        &["acme-email", "acme-directory", "acme-ca"],
        &["acme-domain"],
        "there is no name to get a certificate for",
    ),
    (&["publish-burst"], &["publish-rate"], "there is no rate that it could be above"),
    (&["connect-burst"], &["connect-rate"], "there is no rate that it could be above"),
];

/// The least that a log on disk may be told to keep, in bytes: a few files, so that what is full does
/// not leave as a whole.
const DISK_BYTES_MIN: u64 = 4 << 20;

/// Options of which the first must not be less than the second, and why.
const AT_LEAST: [(&str, &str, &str); 3] = [
    ("tail-bytes-max", "max-event-bytes", "the tail must have room for one event of any size"),
    ("log-bytes-max", "max-event-bytes", "the log must have room for one event of any size"),
    ("max-body-bytes", "max-event-bytes", "a request must have room for one event of any size"),
];
