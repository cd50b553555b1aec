//! Appending a group of publishes in one step of the server.

use std::time::Duration;

use tidings_core::Topic;
use tidings_log::shared::{Append, EngineError, Outcome, Placed};
use tidings_log::{Record, entry_bytes};

use crate::connection::REPLY_BYTES;
use crate::engine::COMMAND_TIMEOUT;
use crate::finding::Link;
use crate::layout::{EXACT_MAX, Keys, has_more, key_text, more_text, topics_text};
use crate::opening;
use crate::scripts::{self, Script};
use crate::wire::{Commands, Reply};

/// Appends, and waits for so many replicas if any are asked for.
pub(crate) fn append(
    link: &mut Link,
    keys: &Keys,
    replicas: Option<(u32, Duration)>,
    append: &Append<'_>,
) -> Result<Vec<Outcome>, EngineError> {
    let is_plain = |record: &Record| record.key.is_none() && !record.is_final;
    let kind =
        if append.publishes.iter().flatten().all(is_plain) { Kind::Plain } else { Kind::Careful };
    let mut reply = send(link, keys, replicas, append, kind)?;
    if reply == "C" {
        reply = send(link, keys, replicas, append, Kind::Careful)?;
    }
    let damaged = |link: &Link| link.connection.unexpected("answer to an append");
    match reply.split_at_checked(1) {
        Some(("L", "")) => Err(EngineError::OtherLife),
        Some(("S", "")) => {
            Err(EngineError::Unavailable("an append that was given up came late".to_owned()))
        }
        Some(("F", "")) => Err(opening::foreign(link.connection.server(), keys, None)),
        Some(("A", first)) => {
            let first = first.parse().ok().filter(|&first| first <= EXACT_MAX);
            first.map(|first| all_appended(append, first)).ok_or_else(|| damaged(link))
        }
        Some(("O", lines)) => parse_outcomes(append, lines).ok_or_else(|| damaged(link)),
        _ => Err(damaged(link)),
    }
}

/// How much the script has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No record has a key or is final.
    Plain,
    Careful,
}

fn send(
    link: &mut Link,
    keys: &Keys,
    replicas: Option<(u32, Duration)>,
    append: &Append<'_>,
    kind: Kind,
) -> Result<String, EngineError> {
    let attempt = |link: &mut Link, verb: &str, name: &str| {
        let mut commands = Commands::default();
        write_append(&mut commands, verb, name, keys, replicas.is_some(), append, kind);
        let (mut count, mut timeout) = (1, COMMAND_TIMEOUT);
        if let Some((replicas, wait)) = replicas {
            let (replicas, wait_ms) = (replicas.to_string(), wait.as_millis().to_string());
            commands.add(&["WAIT", &replicas, &wait_ms]);
            count += 1;
            timeout += wait;
        }
        link.connection.call(&commands, count, REPLY_BYTES_MAX, timeout)
    };
    let script: &Script = &scripts::APPEND;
    let mut replies = attempt(link, "EVALSHA", &script.hash)?;
    if matches!(&replies[0], Reply::Error(error) if error.starts_with("NOSCRIPT")) {
        replies = attempt(link, "EVAL", script.text)?;
    }
    let reply = match &replies[0] {
        Reply::Error(error) => return Err(link.connection.refusal(error)),
        reply => reply.as_str().unwrap_or_default().to_owned(),
    };
    match (replicas, replies.get(1)) {
        (Some((wanted, _)), Some(told)) if reply.starts_with(['A', 'O']) => {
            check_replicas(link, wanted, told).map(|()| reply)
        }
        _ => Ok(reply),
    }
}

fn check_replicas(link: &mut Link, wanted: u32, told: &Reply) -> Result<(), EngineError> {
    match told {
        Reply::Error(error) => Err(link.connection.refusal(error)),
        told if told.as_u64().is_some_and(|have| have >= u64::from(wanted)) => Ok(()),
        told => Err(EngineError::Unavailable(format!(
            "{}: {} of {wanted} replicas have the events in time",
            link.connection.server(),
            told.as_u64().unwrap_or_default()
        ))),
    }
}

fn write_append(
    commands: &mut Commands,
    verb: &str,
    name: &str,
    keys: &Keys,
    is_replicated: bool,
    append: &Append<'_>,
    kind: Kind,
) {
    let records = || append.publishes.iter().flatten();
    let count = records().count();
    let has_more = records().any(has_more);
    let arguments = match kind {
        Kind::Plain => 9 + count * if has_more { 3 } else { 2 },
        Kind::Careful => 9 + append.publishes.len() + count * 4,
    };
    commands.begin(3 + 6 + arguments).word(verb).word(name).word("6");
    commands.word(&keys.events).word(&keys.meta).word(&keys.finished);
    commands.word(&keys.keys).word(&keys.ages).word(&keys.runs);
    commands.word(append.life.epoch.to_string()).word(&append.life.server);
    commands.word(format!("{:016x}", append.writer)).word(append.sequence.to_string());
    commands.word(append.now.to_string()).word(if is_replicated { "1" } else { "0" });
    let (mut topics, mut more, mut key) = (String::new(), String::new(), String::new());
    match kind {
        Kind::Plain => {
            let bytes: usize = records().map(record_bytes).sum();
            commands.word("p").word(bytes.to_string()).word(if has_more { "1" } else { "0" });
            for record in records() {
                topics_text(record, &mut topics);
                commands.word(&topics).word(record.data.as_bytes());
                if has_more {
                    more_text(record, &mut more);
                    commands.word(&more);
                }
            }
        }
        Kind::Careful => {
            let window = append.keys;
            commands
                .word("c")
                .word(window.age_max_ms.to_string())
                .word(window.runs_max.to_string());
            for publish in append.publishes {
                commands.word(publish.len().to_string());
                for record in publish {
                    topics_text(record, &mut topics);
                    more_text(record, &mut more);
                    key_text(record.key.as_ref(), &mut key);
                    commands.word(&topics).word(record.data.as_bytes()).word(&more).word(&key);
                }
            }
        }
    }
}

/// As [`entry_bytes`] counts the entry that it becomes.
fn record_bytes(record: &Record) -> usize {
    let entry = tidings_core::Entry {
        offset: 0,
        topics: record.topics.clone(),
        event_type: record.event_type.clone(),
        private: record.private,
        is_final: record.is_final,
        payload: (),
    };
    entry_bytes(&entry, record.data.len())
}

fn all_appended(append: &Append<'_>, first: u64) -> Vec<Outcome> {
    let mut next = first;
    let mut outcome = |publish: &Vec<Record>| {
        let range = next..next + publish.len() as u64;
        next = range.end;
        Outcome::Appended(range.map(|offset| Placed { offset, is_repeated: false }).collect())
    };
    append.publishes.iter().map(&mut outcome).collect()
}

fn parse_outcomes(append: &Append<'_>, lines: &str) -> Option<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(append.publishes.len());
    let mut lines = lines.split('\n');
    for publish in append.publishes {
        let line = lines.next()?;
        outcomes.push(match line.strip_prefix('-') {
            Some(refusal) => {
                let (offset, topic) = refusal.split_once(' ')?;
                Outcome::Finished { topic: Topic::parse(topic).ok()?, offset: offset.parse().ok()? }
            }
            None => {
                let placed: Option<Vec<_>> =
                    line.split(',').filter(|it| !it.is_empty()).map(parse_placed).collect();
                Outcome::Appended(placed.filter(|placed| placed.len() == publish.len())?)
            }
        });
    }
    lines.next().is_none_or(str::is_empty).then_some(outcomes)
}

fn parse_placed(text: &str) -> Option<Placed> {
    let repeated = text.strip_prefix('=');
    let offset = repeated.unwrap_or(text).parse().ok().filter(|&offset| offset <= EXACT_MAX)?;
    Some(Placed { offset, is_repeated: repeated.is_some() })
}

/// Some digits for each record of a group.
const REPLY_BYTES_MAX: usize = 64 * REPLY_BYTES;
