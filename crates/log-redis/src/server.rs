//! What a server says of itself.

use tidings_log::shared::EngineError;

use crate::connection::{CONNECT_TIMEOUT, Connection, REPLY_BYTES};
use crate::wire::{Commands, Reply};

/// What has to be known of a server before the log is entrusted to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// What names a time in which the server cannot have lost anything: this run of it, and this of its times as a master.
    pub(crate) identity: String,
    pub(crate) is_cluster: bool,
    /// Whether it was a replica of another one, as far as it knows.
    pub(crate) was_promoted: bool,
}

/// How a server keeps what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Whether it has each write on its disk before it answers.
    pub(crate) syncs_always: bool,
    /// What it throws away when it is full; `None` if it does not say.
    pub(crate) eviction: Option<String>,
}

impl ServerFacts {
    /// Asks a server who it is.
    ///
    /// # Errors
    ///
    /// If it is none that the log can be on: too old, a replica, still loading.
    pub(crate) fn ask(connection: &mut Connection) -> Result<Self, EngineError> {
        let mut commands = Commands::default();
        commands.add(&["INFO", "server"]).add(&["INFO", "replication"]);
        let replies = connection.call(&commands, 2, REPLY_BYTES, CONNECT_TIMEOUT)?;
        let info = joined(connection, replies)?;
        Self::parse(&info, connection.server())
    }

    fn parse(info: &str, server: &str) -> Result<Self, EngineError> {
        let told = |field| value(info, field);
        let missing =
            |field| EngineError::Refused(format!("{server} does not tell its {field} (INFO)"));
        let version = told("redis_version").ok_or_else(|| missing("redis_version"))?;
        let major = version.split('.').next().and_then(|it| it.parse::<u32>().ok());
        if major.is_none_or(|major| major < VERSION_MIN) {
            return Err(EngineError::Refused(format!(
                "{server} is version {version:.20}; Redis {VERSION_MIN} or later is needed, or Valkey"
            )));
        }
        match told("role") {
            Some("master") => {}
            Some(_) => {
                let master = told("master_host").unwrap_or("another server");
                return Err(EngineError::Unavailable(format!(
                    "{server} is a replica of {master:.100}: name the master in --log, or its sentinels"
                )));
            }
            None => return Err(missing("role")),
        }
        let run = told("run_id").ok_or_else(|| missing("run_id"))?;
        let term = told("master_replid").unwrap_or_default();
        let before = told("master_replid2").unwrap_or_default();
        Ok(Self {
            identity: format!("{run:.40}:{term:.40}"),
            is_cluster: told("redis_mode") == Some("cluster"),
            was_promoted: before.bytes().any(|byte| byte != b'0'),
        })
    }
}

impl Keeping {
    /// Asks a server how it keeps things.
    pub(crate) fn ask(connection: &mut Connection) -> Result<Self, EngineError> {
        let mut commands = Commands::default();
        commands.add(&["INFO", "memory"]).add(&["INFO", "persistence"]);
        commands.add(&["CONFIG", "GET", "appendfsync"]);
        let mut replies = connection.call(&commands, 3, REPLY_BYTES, CONNECT_TIMEOUT)?;
        // Some servers do not let anybody ask: then it is not known.
        let fsync = replies
            .pop()
            .and_then(Reply::into_list)
            .and_then(|pair| pair.get(1).and_then(Reply::as_str).map(str::to_owned));
        let info = joined(connection, replies)?;
        Ok(Self::parse(&info, fsync.as_deref()))
    }

    fn parse(info: &str, fsync: Option<&str>) -> Self {
        Self {
            syncs_always: value(info, "aof_enabled") == Some("1") && fsync == Some("always"),
            eviction: value(info, "maxmemory_policy").map(str::to_owned),
        }
    }

    /// Refuses a server that throws away what it was given.
    pub(crate) fn check(&self, server: &str) -> Result<(), EngineError> {
        match self.eviction.as_deref() {
            Some(policy) if policy.starts_with("allkeys") => Err(EngineError::Refused(format!(
                "{server} deletes any key when it is full, the log too (maxmemory-policy {policy:.40}): \
                 set maxmemory-policy noeviction"
            ))),
            _ => Ok(()),
        }
    }
}

fn joined(connection: &mut Connection, replies: Vec<Reply>) -> Result<String, EngineError> {
    let mut info = String::new();
    for reply in replies {
        match reply {
            Reply::Error(error) => return Err(connection.refusal(&error)),
            Reply::Text(text) => info += &String::from_utf8_lossy(&text),
            _ => {}
        }
    }
    Ok(info)
}

fn value<'a>(info: &'a str, field: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
}

/// The first version whose scripts say what they need before they run.
const VERSION_MIN: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, role: &str, before: &str) -> String {
        format!(
            "# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\nrun_id:r1\r\n\
             # Replication\r\nrole:{role}\r\nmaster_host:other\r\nmaster_replid:t1\r\nmaster_replid2:{before}\r\n"
        )
    }

    #[test]
    fn only_servers_that_can_keep_a_log_are_taken() {
        let parse = |info: &str| ServerFacts::parse(info, "Redis at x");
        let facts = parse(&info("7.0.15", "master", "0000")).unwrap();
        assert_eq!(
            (facts.identity.as_str(), facts.is_cluster, facts.was_promoted),
            ("r1:t1", false, false)
        );
        assert!(parse(&info("7.2.4", "master", "00a0")).unwrap().was_promoted);
        for version in ["6.2.14", "5.0", "x", ""] {
            let error = parse(&info(version, "master", "0")).unwrap_err();
            assert!(
                matches!(&error, EngineError::Refused(words) if words.contains("Redis 7 or later")),
                "{error}"
            );
        }
        let error = parse(&info("8.0.0", "slave", "0")).unwrap_err();
        assert!(
            matches!(&error, EngineError::Unavailable(words) if words.contains("replica of other")),
            "{error}"
        );
        assert!(matches!(parse("redis_version:7.0.0\r\n"), Err(EngineError::Refused(_))));
        assert!(matches!(parse(""), Err(EngineError::Refused(_))));
    }

    #[test]
    fn what_may_be_deleted_is_refused() {
        for (policy, is_refused) in [
            ("noeviction", false),
            ("volatile-lru", false),
            ("allkeys-lru", true),
            ("allkeys-random", true),
        ] {
            let keeping = Keeping::parse(&format!("maxmemory_policy:{policy}\r\n"), None);
            assert_eq!(keeping.check("Redis at x").is_err(), is_refused, "{policy}");
        }
        assert!(Keeping::parse("", None).check("Redis at x").is_ok());
        for (aof, fsync, expected) in [
            ("1", Some("always"), true),
            ("0", Some("always"), false),
            ("1", Some("everysec"), false),
            ("1", None, false),
        ] {
            let keeping = Keeping::parse(&format!("aof_enabled:{aof}\r\n"), fsync);
            assert_eq!(keeping.syncs_always, expected);
        }
    }
}
