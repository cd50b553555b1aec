//! Taking a log up: which life it has, and what is there.

use tidings_core::{Bounds, Epoch, Topic};
use tidings_log::shared::{EngineError, LifeRecord, Opened, Seen, Verdict, judge};

use crate::connection::REPLY_BYTES;
use crate::engine::{COMMAND_TIMEOUT, TopicOffsets};
use crate::finding::Link;
use crate::layout::{EXACT_MAX, Keys, parse_id};
use crate::scripts;
use crate::server::Keeping;
use crate::wire::{Commands, Reply};

/// Decides which life the log has, writes that down, and looks at what is there.
pub(crate) fn open(
    link: &mut Link,
    keys: &Keys,
    seen: Option<&Seen>,
    fresh: Epoch,
) -> Result<Opened, EngineError> {
    let keeping = Keeping::ask(&mut link.connection)?;
    keeping.check(link.connection.server())?;
    if keeping.eviction.is_none() {
        tracing::warn!(
            server = link.connection.server(),
            "whether it deletes keys when it is full is not known: see to maxmemory-policy noeviction"
        );
    }
    check_rights(link, keys)?;
    for _ in 0..ATTEMPTS_MAX {
        let found = Found::look(link, keys)?;
        // What the disk of this server has to have kept, if the last time it was a server that syncs always.
        let is_durable = keeping.syncs_always && found.synced_always && !link.facts.was_promoted;
        let stored = found.stored.clone().map(|stored| match found.is_whole {
            true => stored,
            // Nobody can vouch for it.
            false => LifeRecord { terms: Vec::new(), ..stored },
        });
        let verdict = judge(
            stored.as_ref(),
            &link.facts.identity,
            found.bounds.next,
            seen,
            is_durable,
            fresh,
        );
        if !write_down(link, keys, &found, &verdict)? {
            continue;
        }
        note_syncing(link, keys, keeping.syncs_always)?;
        return Ok(Opened {
            bounds: found.bounds,
            life: verdict.life,
            finished: topic_offsets(link, &keys.finished)?,
            dropped: topic_offsets(link, &keys.dropped)?,
        });
    }
    Err(EngineError::Unavailable("other nodes open the log all the time".to_owned()))
}

/// Refuses a user who may not do all that is done later, some of it half-way through an append.
fn check_rights(link: &mut Link, keys: &Keys) -> Result<(), EngineError> {
    let none: [&str; 0] = [];
    let missing = link.run(&scripts::RIGHTS, &[&keys.meta], &none, REPLY_BYTES)?;
    match missing.as_str() {
        Some("") => Ok(()),
        Some(missing) => Err(EngineError::Refused(format!(
            "{} does not permit this user {missing:.300} on {{tidings:..}}:* (see ACL SETUSER)",
            link.connection.server()
        ))),
        None => Err(link.connection.unexpected("rights")),
    }
}

/// What stands in the server.
#[derive(Debug)]
struct Found {
    stored: Option<LifeRecord>,
    /// As it stands there, and what is next as it stands there; empty if it does not.
    text: String,
    next_text: String,
    bounds: Bounds,
    /// Whether the events go as far as was written down.
    is_whole: bool,
    /// Whether the last server that the log was on had each write on its disk.
    synced_always: bool,
}

impl Found {
    fn look(link: &mut Link, keys: &Keys) -> Result<Self, EngineError> {
        let mut commands = Commands::default();
        commands.add(&["HMGET", &keys.meta, "v", "life", "next", "oldest", "synced"]);
        commands.add(&["XREVRANGE", &keys.events, "+", "-", "COUNT", "1"]);
        commands.add(&["XINFO", "STREAM", &keys.events]);
        let mut replies =
            link.connection.call(&commands, 3, ENTRY_BYTES_MAX, COMMAND_TIMEOUT)?.into_iter();
        let mut reply = || replies.next().unwrap_or(Reply::Nil);
        let meta = match reply() {
            Reply::Error(error) => return Err(link.connection.refusal(&error)),
            meta => meta.into_list().unwrap_or_default(),
        };
        match reply() {
            Reply::Error(error) => return Err(link.connection.refusal(&error)),
            Reply::List(entries) => check_newest(link, keys, entries)?,
            _ => {}
        }
        let last = match reply() {
            // There is no stream.
            Reply::Error(error) if error.contains("no such key") => None,
            Reply::Error(error) => return Err(link.connection.refusal(&error)),
            info => Some(
                last_generated(info)
                    .ok_or_else(|| foreign(link.connection.server(), keys, None))?,
            ),
        };
        Self::of(link, keys, &meta, last)
    }

    fn of(
        link: &mut Link,
        keys: &Keys,
        meta: &[Reply],
        last: Option<u64>,
    ) -> Result<Self, EngineError> {
        let server = link.connection.server().to_owned();
        let text = |place: usize| meta.get(place).and_then(Reply::as_str);
        let number = |place: usize| meta.get(place).and_then(Reply::as_u64);
        match text(0) {
            None | Some("1") => {}
            Some(version) if version.parse::<u32>().is_ok() => {
                return Err(EngineError::Refused(format!(
                    "{server} holds a log of a later version ({version}): update this hub"
                )));
            }
            Some(_) => return Err(link.connection.unexpected("version")),
        }
        let stored_text = text(1).unwrap_or_default().to_owned();
        let stored = serde_json::from_str::<LifeRecord>(&stored_text).ok();
        let written = number(2).unwrap_or(1).clamp(1, EXACT_MAX);
        let next = written.max(last.map_or(1, |last| last + 1));
        if next > written && stored.is_some() {
            return Err(foreign(&server, keys, last.map(|last| format!("{last}-0")).as_deref()));
        }
        if next > EXACT_MAX {
            return Err(foreign(&server, keys, None));
        }
        let is_whole = last.map_or(1, |last| last + 1) == next;
        let synced = text(4).zip(stored.as_ref().and_then(|it| it.terms.last()));
        let synced_always = synced.is_some_and(|(synced, term)| synced == term.server);
        // Without the stream nothing is kept.
        let oldest = if last.is_none() { next } else { number(3).unwrap_or(1).clamp(1, next) };
        let bounds = Bounds { oldest, next };
        let next_text = text(2).unwrap_or_default().to_owned();
        Ok(Self { stored, text: stored_text, next_text, bounds, is_whole, synced_always })
    }
}

/// The newest entry is one that a hub has written.
fn check_newest(link: &Link, keys: &Keys, entries: Vec<Reply>) -> Result<(), EngineError> {
    for entry in entries {
        let id = match &entry {
            Reply::List(parts) => parts.first().and_then(Reply::as_str).map(str::to_owned),
            _ => None,
        };
        if crate::layout::parse_entry(entry).is_none() {
            return Err(foreign(link.connection.server(), keys, id.as_deref()));
        }
    }
    Ok(())
}

fn last_generated(info: Reply) -> Option<u64> {
    let mut fields = info.into_list()?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if name.as_str() == Some("last-generated-id") {
            // A stream from which all was deleted before anything was appended.
            return parse_id(&value);
        }
    }
    None
}

/// Something stands in the stream that no hub has written.
pub(crate) fn foreign(server: &str, keys: &Keys, id: Option<&str>) -> EngineError {
    let events = &keys.events;
    EngineError::Damaged(match id {
        Some(id) => format!(
            "{server}: the entry {id:.60} of {events} was not written by a hub; \
             take it out (XDEL, and XSETID back to the last entry that remains), or delete the log"
        ),
        None => format!(
            "{server}: {events} was written by something else than a hub; take out what it wrote \
             (XDEL, and XSETID back to the last entry that remains), or delete the log"
        ),
    })
}

/// Writes the verdict down; not if somebody else has written something meanwhile.
fn write_down(
    link: &mut Link,
    keys: &Keys,
    found: &Found,
    verdict: &Verdict,
) -> Result<bool, EngineError> {
    let Some(record) = &verdict.record else { return Ok(true) };
    let text =
        serde_json::to_string(record).map_err(|error| EngineError::Damaged(error.to_string()))?;
    let words = [
        found.text.clone(),
        text,
        verdict.life.epoch.to_string(),
        verdict.life.server.clone(),
        found.bounds.next.to_string(),
        found.bounds.oldest.to_string(),
        found.next_text.clone(),
    ];
    let names = [&keys.meta, &keys.finished, &keys.dropped, &keys.holes];
    let reply = link.run(&scripts::BEGIN, &names.map(String::as_str), &words, REPLY_BYTES)?;
    Ok(reply.as_u64() == Some(1))
}

/// Remembers for the next time whether this server has each write on its disk.
fn note_syncing(link: &mut Link, keys: &Keys, syncs_always: bool) -> Result<(), EngineError> {
    let identity = if syncs_always { link.facts.identity.as_str() } else { "" };
    let mut commands = Commands::default();
    commands.add(&["HSET", &keys.meta, "synced", identity]);
    match link.connection.call(&commands, 1, REPLY_BYTES, COMMAND_TIMEOUT)?.pop() {
        Some(Reply::Error(error)) => Err(link.connection.refusal(&error)),
        _ => Ok(()),
    }
}

/// Reads topics with offsets, some at a time.
fn topic_offsets(link: &mut Link, key: &str) -> Result<TopicOffsets, EngineError> {
    let mut read: TopicOffsets = Vec::new();
    let mut from = "-inf".to_owned();
    let page = PAGE.to_string();
    loop {
        let mut commands = Commands::default();
        let words = ["ZRANGEBYSCORE", key, &from, "+inf", "WITHSCORES", "LIMIT", "0", &page];
        commands.add(&words);
        let reply = link.connection.call(&commands, 1, PAGE_BYTES, COMMAND_TIMEOUT)?.pop();
        let pairs = match reply {
            Some(Reply::Error(error)) => return Err(link.connection.refusal(&error)),
            reply => reply.and_then(Reply::into_list).unwrap_or_default(),
        };
        let is_last = pairs.len() < 2 * PAGE;
        let known = read.len();
        let last = read.last().map(|(_, offset)| *offset);
        let mut pairs = pairs.into_iter();
        while let (Some(topic), Some(offset)) = (pairs.next(), pairs.next()) {
            let topic = topic.as_str().and_then(|topic| Topic::parse(topic).ok());
            let pair = topic.zip(offset.as_u64().filter(|&offset| offset <= EXACT_MAX));
            let Some(pair) = pair else { return Err(link.connection.unexpected("topics")) };
            // Those at the end of the page before come again.
            let is_again = Some(pair.1) == last
                && read[..known]
                    .iter()
                    .rev()
                    .take_while(|it| Some(it.1) == last)
                    .any(|it| *it == pair);
            if !is_again {
                read.push(pair);
            }
        }
        if is_last || read.len() == known {
            return Ok(read);
        }
        from = read.last().map(|(_, offset)| offset.to_string()).unwrap_or_default();
    }
}

const ATTEMPTS_MAX: u32 = 10;
const PAGE: usize = 10_000;
/// Of topics at their longest.
const PAGE_BYTES: usize = PAGE * 1500;
/// The newest entry is read twice, as such and by XINFO, which gives the oldest too.
const ENTRY_BYTES_MAX: usize = 512 << 20;
