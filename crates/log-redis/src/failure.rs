//! What went wrong, in words for whoever runs the hub.

use std::io;

use tidings_log::shared::EngineError;

use crate::wire::ReplyFault;

/// What an answer that refuses a command means.
pub(crate) fn refusal(server: &str, error: &str) -> EngineError {
    let code = error.split(' ').next().unwrap_or_default();
    // What a script says about a command of its own names the code within.
    let says = |word: &str| code == word || error.contains(&format!("-{word} "));
    let unavailable = |words: &str| EngineError::Unavailable(format!("{server} {words}"));
    let unwritable = |words: &str| EngineError::Unwritable(format!("{server} {words}"));
    let refused = |words: &str| EngineError::Refused(format!("{server} {words}"));
    if says("OOM") {
        unwritable("is full: raise maxmemory, or keep less")
    } else if says("READONLY") {
        unwritable("is a replica and cannot be written: name its master in --log, or its sentinels")
    } else if says("MISCONF") {
        unwritable("cannot save to its disk and takes nothing: see its log for why")
    } else if says("NOREPLICAS") {
        unwritable("has fewer replicas than its min-replicas-to-write asks for")
    } else if says("LOADING") {
        unavailable("is loading its data")
    } else if says("BUSY") {
        unavailable("is busy with a script: if it does not end, use SCRIPT KILL")
    } else if says("MASTERDOWN") {
        unavailable("is a replica that has lost its master")
    } else if says("CLUSTERDOWN") {
        unavailable("belongs to a cluster that is down: not all of its slots are served")
    } else if says("MOVED") || says("ASK") || says("TRYAGAIN") {
        unavailable("does not serve the log's slot any more, or not yet: the cluster is moving it")
    } else if says("UNBLOCKED") {
        unavailable("has become a replica, or was told to send this hub away")
    } else if says("NOAUTH") {
        refused("asks for a password: write it in the URL, redis://:password@host")
    } else if says("WRONGPASS") {
        refused("does not know this user and password, or the user is disabled")
    } else if says("NOPERM") {
        refused(&format!("does not permit what the hub has to do: {}", told(error)))
    } else if error.contains("user executing the script can't") {
        refused("does not permit this user all that the hub has to do (see ACL SETUSER)")
    } else if says("DAMAGED") {
        EngineError::Damaged(format!("{server}: {}", told(error)))
    } else if says("WRONGTYPE") {
        EngineError::Damaged(format!("{server} holds something else under the keys of the log"))
    } else if error.contains("max number of clients reached") {
        unavailable("has no room for another connection: raise maxclients")
    } else if error.contains("DENIED Redis is running in protected mode") || says("DENIED") {
        refused("is in protected mode: it needs a password, or to be told that it needs none")
    } else if error.contains("AUTH") && error.contains("without any password configured") {
        refused("has no password, and the URL has one: take it out of the URL")
    } else if error.contains("invalid password") {
        refused("does not know this password")
    } else if error.contains("DB index is out of range") {
        refused("has fewer databases than the URL asks for")
    } else if error.contains("unknown command") {
        refused(&format!("does not know what the hub needs: {}", told(error)))
    } else {
        unavailable(&format!("answered: {}", told(error)))
    }
}

/// What a connection that failed means.
pub(crate) fn lost(server: &str, error: &io::Error) -> EngineError {
    EngineError::Unavailable(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("{server} does not answer in time")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("{server} is not reached: the connection is refused")
        }
        io::ErrorKind::UnexpectedEof => format!("{server} has closed the connection"),
        // What is wrong with a certificate does not mend itself, but may be mended without the hub.
        io::ErrorKind::InvalidData => format!("{server} is not reached by TLS: {error}"),
        _ => format!("{server} is not reached: {error}"),
    })
}

/// What a reply that could not be read means.
pub(crate) fn unreadable(server: &str, fault: &ReplyFault) -> EngineError {
    match fault {
        ReplyFault::Io(error) => lost(server, error),
        ReplyFault::Nonsense => {
            EngineError::Unavailable(format!("{server} does not speak as Redis does"))
        }
        ReplyFault::TooLarge => EngineError::Damaged(format!(
            "{server} holds more in one place than a hub stores there"
        )),
    }
}

/// What a reply that is not of the expected kind means.
pub(crate) fn unexpected(server: &str, what: &str) -> EngineError {
    EngineError::Damaged(format!("{server} holds no {what} where the hub keeps it"))
}

/// The words of a server, not too many.
fn told(error: &str) -> String {
    let short: String = error.chars().filter(|it| !it.is_control()).take(200).collect();
    short.strip_prefix("ERR ").map(str::to_owned).unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        type Kind = fn(String) -> EngineError;
        const CASES: [(&str, Kind, &str); 17] = [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                EngineError::Unwritable,
                "maxmemory",
            ),
            (
                "READONLY You can't write against a read only replica.",
                EngineError::Unwritable,
                "replica",
            ),
            (
                "ERR Error running script: -READONLY You can't write",
                EngineError::Unwritable,
                "replica",
            ),
            ("MISCONF Redis is configured to save RDB snapshots", EngineError::Unwritable, "disk"),
            ("NOREPLICAS Not enough good replicas to write.", EngineError::Unwritable, "replicas"),
            ("LOADING Redis is loading the dataset in memory", EngineError::Unavailable, "loading"),
            ("BUSY Redis is busy running a script.", EngineError::Unavailable, "SCRIPT KILL"),
            ("MASTERDOWN Link with MASTER is down", EngineError::Unavailable, "master"),
            ("CLUSTERDOWN The cluster is down", EngineError::Unavailable, "slots"),
            ("MOVED 3999 127.0.0.1:6381", EngineError::Unavailable, "slot"),
            ("NOAUTH Authentication required.", EngineError::Refused, "password"),
            ("WRONGPASS invalid username-password pair", EngineError::Refused, "password"),
            ("NOPERM this user has no permissions to run 'xadd'", EngineError::Refused, "xadd"),
            ("WRONGTYPE Operation against a key", EngineError::Damaged, "something else"),
            ("ERR max number of clients reached", EngineError::Unavailable, "maxclients"),
            (
                "ERR AUTH <password> called without any password configured",
                EngineError::Refused,
                "out of the URL",
            ),
            ("ERR something new", EngineError::Unavailable, "answered: something new"),
        ];
        for (answer, kind, words) in CASES {
            let error = refusal("Redis at x", answer);
            assert_eq!(error, kind(error.to_string()), "{answer}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
