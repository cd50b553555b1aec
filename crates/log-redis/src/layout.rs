//! What stands where: the keys of a log, and an event as an entry of a stream.
//!
//! The offset of an event is the first part of its entry's id, the second is 0. Its fields: `t`, its topics, one in a
//! line; `d`, its data; `a`, when it was appended, and what all before its group count as; and `m`, only
//! where there is more to say: `p` for private and `f` for final or `-` for neither, its retry or `-`, and its type.

use bytestring::ByteString;
use tidings_core::{Entry, EventType, Topic};
use tidings_log::{Body, Key, Record};

use crate::wire::Reply;

/// The keys of one log. All are in one slot of a cluster.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The events.
    pub(crate) events: String,
    /// The version, the life, what is next and what oldest; and of each node (`w:`) its last append, and how it was
    /// answered.
    pub(crate) meta: String,
    /// The finished topics by the offsets of their last events.
    pub(crate) finished: String,
    /// What idempotency keys stand for.
    pub(crate) keys: String,
    /// The same keys by when they were last used.
    pub(crate) ages: String,
    /// Those of them that begin a run, in order.
    pub(crate) runs: String,
    /// Of topics that have lost events to rules: the highest offset.
    pub(crate) dropped: String,
    /// What the events count as that rules have dropped, of so many offsets together.
    pub(crate) holes: String,
    /// What nodes leave for each other.
    pub(crate) notes: String,
    /// Until when.
    pub(crate) notes_until: String,
}

impl Keys {
    pub(crate) fn of(name: &str) -> Self {
        let key = |part: &str| format!("{{tidings:{name}}}:{part}");
        Self {
            events: key("events"),
            meta: key("meta"),
            finished: key("finished"),
            keys: key("keys"),
            ages: key("ages"),
            runs: key("runs"),
            dropped: key("dropped"),
            holes: key("holes"),
            notes: key("notes"),
            notes_until: key("notes-until"),
        }
    }
}

/// The topics of a record in one text.
pub(crate) fn topics_text(record: &Record, into: &mut String) {
    into.clear();
    for topic in record.topics.iter() {
        if !into.is_empty() {
            into.push('\n');
        }
        into.push_str(topic.as_str());
    }
}

/// Whether a record has anything to say besides topics and data.
pub(crate) fn has_more(record: &Record) -> bool {
    record.private || record.is_final || record.retry_ms.is_some() || record.event_type.is_some()
}

/// What a record has to say besides topics and data; empty if nothing.
pub(crate) fn more_text(record: &Record, into: &mut String) {
    into.clear();
    if !has_more(record) {
        return;
    }
    match (record.private, record.is_final) {
        (true, true) => into.push_str("pf"),
        (true, false) => into.push('p'),
        (false, true) => into.push('f'),
        (false, false) => into.push('-'),
    }
    match record.retry_ms {
        Some(retry_ms) => into.push_str(&format!(" {retry_ms}")),
        None => into.push_str(" -"),
    }
    if let Some(event_type) = &record.event_type {
        into.push(' ');
        into.push_str(event_type.as_str());
    }
}

/// A key as the scripts know it: of one that counts up, its number stands behind a tab, in digits that sort.
pub(crate) fn key_text(key: Option<&Key>, into: &mut String) {
    into.clear();
    let Some(key) = key else { return };
    let text = key.as_str();
    let digits = text.len() - text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, digits) = text.split_at(digits);
    let is_canonical = digits == "0" || !digits.starts_with('0');
    match digits.parse::<u64>() {
        Ok(number) if is_canonical && prefix.ends_with(':') && number <= EXACT_MAX => {
            into.push_str(&format!("{prefix}\t{number:016}"));
        }
        _ => into.push_str(text),
    }
}

/// The offset in the id of an entry.
pub(crate) fn parse_id(id: &Reply) -> Option<u64> {
    let (offset, sequence) = id.as_str()?.split_once('-')?;
    (sequence == "0").then(|| offset.parse().ok()).flatten()
}

/// Reads an entry; `None` if it is none that a hub has written.
pub(crate) fn parse_entry(entry: Reply) -> Option<Entry<Body>> {
    let mut parts = entry.into_list()?.into_iter();
    let offset = parts.next().as_ref().and_then(parse_id).filter(|&it| it <= EXACT_MAX)?;
    let mut fields = parts.next()?.into_list()?.into_iter();
    let (mut topics, mut data, mut appended_at, mut more) = (None, None, None, None);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let Reply::Text(value) = value else { return None };
        match name.as_str()? {
            "t" => topics = parse_topics(&value),
            "d" => data = ByteString::try_from(value).ok(),
            "a" => appended_at = parse_appended_at(&value),
            "m" => more = Some(More::parse(&value)?),
            _ => return None,
        }
    }
    let more = more.unwrap_or_default();
    Some(Entry {
        offset,
        topics: topics?,
        event_type: more.event_type,
        private: more.private,
        is_final: more.is_final,
        payload: Body { data: data?, retry_ms: more.retry_ms, appended_at: appended_at? },
    })
}

#[derive(Debug, Default)]
struct More {
    private: bool,
    is_final: bool,
    retry_ms: Option<u64>,
    event_type: Option<EventType>,
}

impl More {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(3, ' ');
        let flags = parts.next()?;
        let retry_ms = match parts.next()? {
            "-" => None,
            retry => Some(retry.parse().ok()?),
        };
        let event_type = parts.next().map(EventType::parse).transpose().ok()?;
        let (private, is_final) = match flags {
            "-" => (false, false),
            "p" => (true, false),
            "f" => (false, true),
            "pf" => (true, true),
            _ => return None,
        };
        Some(Self { private, is_final, retry_ms, event_type })
    }
}

fn parse_topics(text: &[u8]) -> Option<std::sync::Arc<[Topic]>> {
    let text = std::str::from_utf8(text).ok()?;
    text.split('\n').map(|topic| Topic::parse(topic).ok()).collect()
}

fn parse_appended_at(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split(' ').next()?.parse().ok()
}

/// The greatest number that the scripts' arithmetic tells from its neighbours.
pub(crate) const EXACT_MAX: u64 = (1 << 53) - 1;
