//! Where events are kept, as the option `log` says it.

use tidings_log_postgres::PostgresEngine;
use tidings_log_redis::RedisEngine;

/// Where events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogPlace {
    /// On a disk, in the folder of the option `data`.
    Disk,
    /// In memory: gone when the process ends.
    Memory,
    /// In Redis, shared with other hubs.
    Redis(StoreUrl),
    /// In Postgres, shared with other hubs.
    Postgres(StoreUrl),
}

/// The URL of a store that has been found to be one. `Debug` does not write its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreUrl {
    url: String,
    /// The URL as it is shown, if that is another text.
    redacted: Option<String>,
}

impl StoreUrl {
    fn new(url: &str, redacted: impl FnOnce() -> String) -> Self {
        Self { url: url.to_owned(), redacted: has_password(url).then(redacted) }
    }

    fn shown(&self) -> &str {
        self.redacted.as_deref().unwrap_or(&self.url)
    }

    /// The URL itself, for whoever connects.
    pub(crate) fn expose(&self) -> &str {
        &self.url
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.shown())
    }
}

impl LogPlace {
    /// What the option may be, for errors and the reference page.
    pub(crate) const ALLOWED: &str =
        "disk, memory, redis://HOST:PORT or postgres://USER@HOST/DATABASE";

    /// Reads the value of the option `log`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match (text, scheme) {
            ("disk", _) => Ok(Self::Disk),
            ("memory", _) => Ok(Self::Memory),
            (_, Some(scheme)) if scheme.starts_with("redis") => {
                let engine = RedisEngine::new(text).map_err(|error| error.to_string())?;
                Ok(Self::Redis(StoreUrl::new(text, || engine.redacted_url())))
            }
            (_, Some("postgres" | "postgresql")) => {
                let engine = PostgresEngine::new(text).map_err(|error| error.to_string())?;
                Ok(Self::Postgres(StoreUrl::new(text, || engine.redacted_url())))
            }
            (_, Some("nats")) => Err("this version keeps no events in NATS".into()),
            ("redis" | "rediss" | "postgres" | "postgresql", None) => {
                Err(format!("where it is has to be said: {text}://HOST"))
            }
            ("off" | "error" | "warn" | "info" | "debug" | "trace", None) => Err(format!(
                "this option says where events are kept; for the process's own log there is \
                 --log-level {text}"
            )),
            _ => Err("there is no such log".into()),
        }
    }

    /// How the option spells it; without a password.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Redis(url) | Self::Postgres(url) => url.shown(),
        }
    }

    /// Says whether [`shown`](Self::shown) leaves something out.
    pub(crate) fn has_secret(&self) -> bool {
        matches!(self, Self::Redis(url) | Self::Postgres(url) if url.redacted.is_some())
    }
}

/// Says whether there is a password in a URL, before a host or as a parameter.
fn has_password(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || rest.contains("password=")
}

#[cfg(test)]
mod tests {
    use super::LogPlace;

    #[test]
    fn passwords_are_not_shown() {
        for text in [
            "redis://:s3cret@cache.internal:6379/1?name=shop",
            "postgres://hub:s3cret@db.internal/app",
            "redis+sentinel://:s3cret@one:26379,two/main?sentinel-password=s3cret",
        ] {
            let place = LogPlace::parse(text).unwrap_or_else(|it| panic!("{text}: {it}"));
            assert!(!place.shown().contains("s3cret") && place.has_secret(), "{}", place.shown());
            assert!(!format!("{place:?}").contains("s3cret"));
        }
        for text in ["redis://127.0.0.1:6379", "postgres://hub@db.internal/app", "disk"] {
            let place = LogPlace::parse(text).unwrap_or_else(|it| panic!("{text}: {it}"));
            assert_eq!((place.shown(), place.has_secret()), (text, false));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            ("redis", "where it is has to be said: redis://HOST"),
            ("debug", "--log-level debug"),
            ("nats://x", "no events in NATS"),
            ("sqlite", "there is no such log"),
            ("redis://", ""),
            ("postgres://h?name=Über", ""),
        ] {
            match LogPlace::parse(text) {
                Err(wrong) => assert!(wrong.contains(said), "{text}: {wrong}"),
                Ok(place) => panic!("{text} is {place:?}"),
            }
        }
    }
}
