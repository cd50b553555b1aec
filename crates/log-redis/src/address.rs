//! Where the log is: the URL that names the server and the log in it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Where a log is, how to get in, and what its name is there.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) login: Login,
    /// For the sentinels themselves.
    pub(crate) sentinel_login: Login,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) database: u32,
    pub(crate) name: String,
    /// How many replicas have to have an event before it is acknowledged, and how long to wait for them.
    pub(crate) replicas: Option<(u32, Duration)>,
}

/// How the server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Server(Host),
    Socket(PathBuf),
    Sentinels { hosts: Vec<Host>, master: String },
    Cluster(Vec<Host>),
}

/// A name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// An IPv6 address stands without brackets.
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A user and a password; without both nobody logs in.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// How the server proves who it is, and the hub too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Whom to believe, in place of whom the system believes.
    pub(crate) ca: Option<PathBuf>,
    /// The hub's own certificate and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) is_insecure: bool,
}

/// Why a URL does not say where a log is. It never holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is none of those that are understood.
    #[error(
        "the URL of a log in Redis begins with redis://, rediss://, redis+unix://, redis+sentinel://, \
         rediss+sentinel://, redis+cluster:// or rediss+cluster://"
    )]
    Scheme,
    /// There is no host.
    #[error("the URL names no {0}")]
    Missing(&'static str),
    /// A part is not what it should be.
    #[error("{0}")]
    Part(String),
    /// A file of TLS cannot be used.
    #[error("{0}")]
    Tls(String),
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may hold an @ that somebody has not encoded.
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (parse_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let is_tls = scheme.starts_with("rediss");
        let mut address = Self {
            place: Place::Cluster(Vec::new()),
            login,
            sentinel_login: Login::default(),
            tls: is_tls.then(TlsFiles::default),
            database: 0,
            name: "tidings".to_owned(),
            replicas: None,
        };
        let mut database_in_path = None;
        address.place = match scheme {
            "redis" | "rediss" => {
                let mut hosts = parse_hosts(hosts, REDIS_PORT)?;
                if hosts.len() > 1 {
                    return Err(part(
                        "one server is expected; for several use redis+sentinel:// or redis+cluster://",
                    ));
                }
                database_in_path = Some(path).filter(|path| !path.is_empty());
                Place::Server(hosts.remove(0))
            }
            "redis+unix" => {
                if !hosts.is_empty() {
                    return Err(part("a socket is written redis+unix:///path/to/the.sock"));
                }
                if path.is_empty() {
                    return Err(UrlError::Missing("socket"));
                }
                Place::Socket(PathBuf::from(format!("/{}", decoded(path, "path")?)))
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let hosts = parse_hosts(hosts, SENTINEL_PORT)?;
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                database_in_path = Some(database).filter(|database| !database.is_empty());
                if master.is_empty() {
                    return Err(UrlError::Missing("master; write redis+sentinel://host/mymaster"));
                }
                Place::Sentinels { hosts, master: decoded(master, "name of the master")? }
            }
            "redis+cluster" | "rediss+cluster" => {
                if !path.is_empty() {
                    return Err(part("a cluster has no databases; end the URL after the hosts"));
                }
                Place::Cluster(parse_hosts(hosts, REDIS_PORT)?)
            }
            _ => return Err(UrlError::Scheme),
        };
        if let Some(database) = database_in_path {
            address.database = number(database, "the database")?;
        }
        address.take_query(query)?;
        Ok(address)
    }

    fn take_query(&mut self, query: &str) -> Result<(), UrlError> {
        let (mut cert, mut key) = (None, None);
        let (mut replicas, mut replica_timeout) = (None, None);
        for (option, value) in query.split('&').filter(|it| !it.is_empty()).map(|it| {
            let (option, value) = it.split_once('=').unwrap_or((it, ""));
            (option, value)
        }) {
            let value = decoded(value, option)?;
            match option {
                "name" => self.name = checked_name(value)?,
                "db" if !matches!(self.place, Place::Cluster(_)) => {
                    self.database = number(&value, "the database")?;
                }
                "sentinel-user" => self.sentinel_login.user = Some(value),
                "sentinel-password" => self.sentinel_login.password = Some(value),
                "replicas" => replicas = Some(number(&value, "replicas")?),
                "replica-timeout" => {
                    let millis = number::<u64>(&value, "replica-timeout (milliseconds)")?;
                    replica_timeout = Some(Duration::from_millis(millis));
                }
                "ca" | "cert" | "key" | "insecure" => {
                    let insecure_ok = self.is_loopback();
                    let Some(tls) = &mut self.tls else {
                        return Err(part(&format!("{option} is for rediss:// alone")));
                    };
                    match option {
                        "ca" => tls.ca = Some(value.into()),
                        "cert" => cert = Some(PathBuf::from(value)),
                        "key" => key = Some(PathBuf::from(value)),
                        _ if value != "true" => return Err(part("insecure may only be true")),
                        _ if !insecure_ok => {
                            return Err(part(
                                "insecure is for servers on this machine alone; use ca",
                            ));
                        }
                        _ => tls.is_insecure = true,
                    }
                }
                // It may be a piece of a password.
                _ if option.contains(|it: char| !it.is_ascii_lowercase() && it != '-') => {
                    return Err(part("what follows ? is no option; in a password write ? as %3F"));
                }
                _ => return Err(part(&format!("there is no option {option:?} here"))),
            }
        }
        if let Some(tls) = &mut self.tls {
            tls.identity = match (cert, key) {
                (Some(cert), Some(key)) => Some((cert, key)),
                (None, None) => None,
                _ => return Err(part("cert and key go together")),
            };
        }
        self.replicas = match (replicas, replica_timeout) {
            (Some(count), timeout) if count > 0 => {
                let timeout = timeout.unwrap_or(REPLICA_TIMEOUT);
                if timeout.is_zero() || timeout > REPLICA_TIMEOUT_MAX {
                    return Err(part("replica-timeout is from 1 to 10000 milliseconds"));
                }
                Some((count, timeout))
            }
            (_, None) => None,
            _ => return Err(part("replica-timeout goes with replicas")),
        };
        Ok(())
    }

    fn is_loopback(&self) -> bool {
        let hosts = match &self.place {
            Place::Server(host) => std::slice::from_ref(host),
            Place::Sentinels { hosts, .. } | Place::Cluster(hosts) => hosts,
            Place::Socket(_) => &[],
        };
        hosts.iter().all(|host| {
            host.name == "localhost"
                || host.name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        })
    }
}

/// Without the passwords.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls.is_some() { "s" } else { "" };
        let kind = match &self.place {
            Place::Server(_) => "",
            Place::Socket(_) => "+unix",
            Place::Sentinels { .. } => "+sentinel",
            Place::Cluster(_) => "+cluster",
        };
        write!(f, "redis{s}{kind}://")?;
        if let Some(user) = &self.login.user {
            write!(f, "{user}")?;
        }
        if self.login.password.is_some() {
            write!(f, ":***")?;
        }
        if self.login != Login::default() {
            write!(f, "@")?;
        }
        write!(f, "{}", self.place)?;
        match (&self.place, self.database) {
            (_, 0) => {}
            (Place::Socket(_), database) => return write!(f, "?db={database}&name={}", self.name),
            (_, database) => write!(f, "/{database}")?,
        }
        write!(f, "?name={}", self.name)
    }
}

/// For messages.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(host) => write!(f, "{host}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Sentinels { hosts, master } => write!(f, "{}/{master}", joined(hosts)),
            Self::Cluster(hosts) => write!(f, "{}", joined(hosts)),
        }
    }
}

fn joined(hosts: &[Host]) -> String {
    hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Host {
    /// Reads `host:port` as servers write it, IPv6 with or without brackets; the host may be missing.
    pub(crate) fn parse_told(text: &str) -> Option<(Option<String>, u16)> {
        let (name, port) = text.rsplit_once(':')?;
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = Some(name).filter(|name| !name.is_empty() && *name != "?");
        Some((name.map(str::to_owned), port.parse().ok()?))
    }
}

fn parse_login(text: &str) -> Result<Login, UrlError> {
    let (user, password) =
        text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = Some(decoded(user, "user")?).filter(|user| !user.is_empty());
    let password = password.map(|password| decoded(password, "password")).transpose()?;
    if user.is_some() && password.is_none() {
        return Err(part("the user has no password; a password alone is written :password@"));
    }
    Ok(Login { user, password })
}

fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<Host>, UrlError> {
    let hosts: Result<Vec<_>, _> =
        text.split(',').map(|text| parse_host(text, default_port)).collect();
    hosts.and_then(|hosts| match hosts.len() {
        ..=HOSTS_MAX => Ok(hosts),
        _ => Err(part(&format!("at most {HOSTS_MAX} hosts are named"))),
    })
}

fn parse_host(text: &str, default_port: u16) -> Result<Host, UrlError> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or_else(|| part("a [ has no ]"))?;
            if name.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(part("between [ and ] stands an IPv6 address"));
            }
            (name, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") => default_port,
        Some(port) => number(port, "the port")?,
        None => return Err(part("after ] stands a port or nothing")),
    };
    if name.is_empty() {
        return Err(UrlError::Missing("host"));
    }
    if name.contains(|it: char| it.is_control() || it.is_whitespace()) {
        return Err(part("a host is a name or an address; IPv6 stands in brackets"));
    }
    Ok(Host { name: name.to_owned(), port })
}

fn checked_name(name: String) -> Result<String, UrlError> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if (1..=40).contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(name)
    } else {
        Err(part("the name of a log is 1 to 40 of a-z, 0-9, _ and -"))
    }
}

fn number<N: std::str::FromStr>(text: &str, what: &str) -> Result<N, UrlError> {
    text.parse().map_err(|_| part(&format!("{what} is not a number that is possible here")))
}

fn decoded(text: &str, what: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| part(&format!("the {what} is not UTF-8 when decoded")))
}

fn part(words: &str) -> UrlError {
    UrlError::Part(words.to_owned())
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const HOSTS_MAX: usize = 100;
const REPLICA_TIMEOUT: Duration = Duration::from_millis(1_000);
const REPLICA_TIMEOUT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_a_log_is() {
        for (url, shown) in [
            ("redis://cache", "redis://cache:6379?name=tidings"),
            ("redis://cache:7000/3?name=news", "redis://cache:7000/3?name=news"),
            ("redis://:s3cret@[::1]", "redis://:***@[::1]:6379?name=tidings"),
            ("rediss://hub:s3cret@cache?ca=/ca.pem", "rediss://hub:***@cache:6379?name=tidings"),
            ("redis://hub:s%33cr@et@cache", "redis://hub:***@cache:6379?name=tidings"),
            ("redis+unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2&name=tidings"),
            (
                "redis+sentinel://:s3cret@a,b:7000/mymaster?sentinel-password=s3cret&name=x",
                "redis+sentinel://:***@a:26379,b:7000/mymaster?name=x",
            ),
            ("redis+cluster://a,b", "redis+cluster://a:6379,b:6379?name=tidings"),
            ("rediss://localhost?insecure=true", "rediss://localhost:6379?name=tidings"),
            ("redis://a?replicas=1&replica-timeout=500", "redis://a:6379?name=tidings"),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.to_string(), shown);
            let debug = format!("{address:?} {address:#?}");
            assert!(!debug.contains("s3cr"), "{debug}");
        }
        let address = Address::parse("redis://hub:s%33cr%40et@a?replicas=2").unwrap();
        assert_eq!(address.login.password.as_deref(), Some("s3cr@et"));
        assert_eq!(address.replicas, Some((2, REPLICA_TIMEOUT)));
    }

    #[test]
    fn wrong_urls_are_explained_without_their_password() {
        for (url, words) in [
            ("http://cache", "begins with redis://"),
            ("cache:6379", "begins with redis://"),
            ("redis://", "names no host"),
            ("redis://:s3cret@", "names no host"),
            ("redis://a,b", "redis+sentinel://"),
            ("redis://s3cret@a", "the user has no password"),
            ("redis://:s3cret@a:port", "the port is not a number"),
            ("redis://:s3cret@a/x", "the database is not a number"),
            ("redis://a:6379:1", "the port"),
            ("redis://::1", "the port"),
            ("redis://[::1", "a [ has no ]"),
            ("redis://a?name=Big", "1 to 40 of a-z"),
            ("redis://a?nmae=x", "no option \"nmae\""),
            ("redis://u:1?s3cret@a", "write ? as %3F"),
            ("redis://u:1/s3cret@a", "the database is not a number"),
            ("redis://a?ca=x", "for rediss:// alone"),
            ("rediss://a?insecure=true", "on this machine alone"),
            ("rediss://a?cert=x", "cert and key go together"),
            ("redis://a?replica-timeout=5", "goes with replicas"),
            ("redis+unix://host/path", "redis+unix:///"),
            ("redis+unix://", "names no socket"),
            ("redis+sentinel://a", "names no master"),
            ("redis+cluster://a/1", "no databases"),
            ("redis+cluster://a?db=1", "no option \"db\""),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
