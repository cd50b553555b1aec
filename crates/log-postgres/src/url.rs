//! The URL that names a database, a log in it, and how to reach both.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Why a text is no URL of a database. Says nothing of the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(pub(crate) String);

/// What a URL says.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// One for each server, in the order in which they are tried.
    pub(crate) servers: Vec<Server>,
    pub(crate) user: Option<String>,
    pub(crate) database: String,
    /// The log: `?name=`.
    pub(crate) log: String,
    pub(crate) tls: TlsWish,
    pub(crate) call_timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// For messages.
    pub(crate) name: String,
    /// For one host; its `Debug` leaves the password out.
    pub(crate) config: Config,
}

/// What of `ssl..=` goes beyond what the client library knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsWish {
    pub(crate) check: TlsCheck,
    /// Authorities to trust in place of the system's.
    pub(crate) root_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// What a server has to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum TlsCheck {
    /// No certificate in particular.
    #[default]
    None,
    /// One that an authority has signed.
    Authority,
    /// One for its name as well.
    Name,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if !is_url {
            return Err(fault("it begins with postgres:// or postgresql://"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut own = Own::default();
        let mut others = String::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !own.take(name, &decoded(value)?)? {
                let joint = if others.is_empty() { '?' } else { '&' };
                let _ = write!(others, "{joint}{name}={value}");
            }
        }
        // The library's own words name the parameter at most.
        let parsed: Config = format!("{base}{others}")
            .parse()
            .map_err(|error: tokio_postgres::Error| fault(&library_words(&error)))?;
        own.into_target(&parsed)
    }
}

/// The parameters that are not left to the client library.
#[derive(Debug, Default)]
struct Own {
    log: Option<String>,
    ssl_mode: Option<String>,
    tls: TlsWish,
    call_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
}

impl Own {
    fn take(&mut self, name: &str, value: &str) -> Result<bool, UrlError> {
        let path = || Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
        match name {
            "name" => self.log = Some(log_name(value)?),
            "timeout" => self.call_timeout = Some(seconds(name, value)?),
            "connect_timeout" => self.connect_timeout = Some(seconds(name, value)?),
            "sslmode" => self.ssl_mode = Some(value.to_owned()),
            "sslrootcert" => self.tls.root_file = path(),
            "sslcert" => self.tls.cert_file = path(),
            "sslkey" => self.tls.key_file = path(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn into_target(self, parsed: &Config) -> Result<Target, UrlError> {
        let mut tls = self.tls;
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            return Err(fault("sslcert and sslkey belong together"));
        }
        let ssl_mode = match self.ssl_mode.as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("allow" | "prefer") => SslMode::Prefer,
            // As libpq has it: who names authorities wants them asked.
            Some("require") if tls.root_file.is_some() => {
                tls.check = TlsCheck::Authority;
                SslMode::Require
            }
            Some("require") => SslMode::Require,
            Some("verify-ca") => {
                tls.check = TlsCheck::Authority;
                SslMode::Require
            }
            Some("verify-full") => {
                tls.check = TlsCheck::Name;
                SslMode::Require
            }
            Some(other) => {
                return Err(fault(&format!(
                    "sslmode is disable, prefer, require, verify-ca or verify-full, not {other:?}"
                )));
            }
        };
        let call_timeout = self.call_timeout.unwrap_or(CALL_TIMEOUT);
        let connect_timeout = self.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let servers = servers(parsed, ssl_mode, call_timeout, connect_timeout)?;
        let user = parsed.get_user().map(str::to_owned);
        let database = parsed.get_dbname().or(parsed.get_user()).unwrap_or("postgres").to_owned();
        let log = self.log.unwrap_or_else(|| LOG_NAME.to_owned());
        Ok(Target { servers, user, database, log, tls, call_timeout, connect_timeout })
    }
}

fn servers(
    parsed: &Config,
    ssl_mode: SslMode,
    call_timeout: Duration,
    connect_timeout: Duration,
) -> Result<Vec<Server>, UrlError> {
    let (hosts, addresses, ports) =
        (parsed.get_hosts(), parsed.get_hostaddrs(), parsed.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(fault("it names no host; a socket is given as ?host=/folder"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(fault("there is one port for all hosts, or one for each"));
    }
    let server = |place: usize| {
        let port = ports.get(place).or(ports.first()).copied().unwrap_or(PORT);
        one_server(
            parsed,
            hosts.get(place),
            addresses.get(place).copied(),
            port,
            ssl_mode,
            call_timeout,
            connect_timeout,
        )
    };
    Ok((0..count).map(server).collect())
}

fn one_server(
    parsed: &Config,
    host: Option<&Host>,
    address: Option<IpAddr>,
    port: u16,
    ssl_mode: SslMode,
    call_timeout: Duration,
    connect_timeout: Duration,
) -> Server {
    let mut config = Config::new();
    let mut name = address.map(|address| address.to_string()).unwrap_or_default();
    match host {
        Some(Host::Tcp(host)) => {
            config.host(host);
            name.clone_from(host);
        }
        #[cfg(unix)]
        Some(Host::Unix(folder)) => {
            config.host_path(folder);
            name = folder.display().to_string();
        }
        None => {}
    }
    if let Some(address) = address {
        config.hostaddr(address);
    }
    if port != PORT {
        let _ = write!(name, ":{port}");
    }
    parsed.get_user().map(|user| config.user(user));
    parsed.get_password().map(|password| config.password(password));
    parsed.get_dbname().map(|database| config.dbname(database));
    parsed.get_options().map(|options| config.options(options));
    config
        .application_name(parsed.get_application_name().unwrap_or("tidings"))
        .port(port)
        .ssl_mode(ssl_mode)
        .ssl_negotiation(parsed.get_ssl_negotiation())
        .channel_binding(parsed.get_channel_binding())
        .connect_timeout(connect_timeout)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(3)
        .tcp_user_timeout(*parsed.get_tcp_user_timeout().unwrap_or(&call_timeout));
    Server { name, config }
}

fn log_name(text: &str) -> Result<String, UrlError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > LOG_NAME_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(fault("name has 1 to 40 characters of a-z, 0-9, _ and -"));
    }
    Ok(text.to_owned())
}

fn seconds(name: &str, text: &str) -> Result<Duration, UrlError> {
    let seconds = text.parse::<f64>().ok().filter(|number| (0.1..=600.0).contains(number));
    let seconds = seconds.ok_or_else(|| fault(&format!("{name} is 0.1 to 600 seconds")))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn decoded(value: &str) -> Result<String, UrlError> {
    let text = percent_decode_str(value).decode_utf8();
    text.map(Into::into).map_err(|_| fault("what is percent-encoded in it is not UTF-8"))
}

fn library_words(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

fn fault(words: &str) -> UrlError {
    UrlError(format!("this is no URL of a Postgres database: {words}"))
}

const PORT: u16 = 5432;
const LOG_NAME: &str = "tidings";
const LOG_NAME_BYTES_MAX: usize = 40;
/// Long enough for a commit behind a checkpoint, short enough to take part in the repeats of an append.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that is gone without a word is noticed by an idle connection after 20 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
