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
    redacted: String,
}

impl StoreUrl {
    /// The URL itself, for whoever connects.
    pub(crate) fn expose(&self) -> &str {
        &self.url
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted)
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
                let redacted = engine.redacted_url();
                Ok(Self::Redis(StoreUrl { url: text.to_owned(), redacted }))
            }
            (_, Some("postgres" | "postgresql")) => {
                let engine = PostgresEngine::new(text).map_err(|error| error.to_string())?;
                let redacted = engine.redacted_url();
                Ok(Self::Postgres(StoreUrl { url: text.to_owned(), redacted }))
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
            Self::Redis(url) | Self::Postgres(url) => &url.redacted,
        }
    }

    /// Says whether [`shown`](Self::shown) leaves something out.
    pub(crate) fn has_secret(&self) -> bool {
        matches!(self, Self::Redis(url) | Self::Postgres(url) if url.url != url.redacted)
    }
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
        let place = LogPlace::parse("redis://127.0.0.1:6379").unwrap_or_else(|it| panic!("{it}"));
        assert_eq!((place.shown(), place.has_secret()), ("redis://127.0.0.1:6379", false));
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
