//! One record as it stands in a segment: written, read back, and held against its checksum.
//!
//! The layout is drawn in `docs/internals/log-format.md`. Nothing read from a file is believed
//! before its checksum is right, and no length is before it fits what is there.

use bytes::Bytes;
use bytestring::ByteString;
use tidings_core::{Entry, EventType, Topic};

use crate::keys::{KeyId, KeyRun};
use crate::{Body, Key, Record, UnixMillis};

/// Draws the checksums of one segment, which nobody can compute who does not know its salt.
#[derive(Debug, Clone)]
pub(crate) struct Checksum(crc32fast::Hasher);

impl Checksum {
    pub(crate) fn new(salt: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&salt.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn of(&self, parts: &[&[u8]]) -> u32 {
        let mut hasher = self.0.clone();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
}

/// The fields of a record that every reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes after the head, without the padding.
    pub(crate) body_bytes: u32,
    pub(crate) offset: u64,
    pub(crate) appended_at: UnixMillis,
    /// The number of the write that it was part of, counted from 1 in each segment.
    pub(crate) batch: u32,
    flags: u16,
    topic_count: u16,
    event_type_bytes: u16,
    key_bytes: u16,
}

impl Head {
    /// How much room the record takes.
    pub(crate) fn total_bytes(self) -> u64 {
        padded(HEAD_BYTES as u64 + u64::from(self.body_bytes))
    }

    /// Whether with it all of its batch is there.
    pub(crate) fn is_commit(self) -> bool {
        self.flags & COMMIT != 0
    }

    /// Whether it holds keys carried over from a segment that is gone, and no event.
    pub(crate) fn holds_keys(self) -> bool {
        self.flags & CARRIED_KEYS != 0
    }

    pub(crate) fn is_final(self) -> bool {
        self.flags & FINAL != 0
    }

    /// Reads a head; `None` if the bytes are none.
    pub(crate) fn read(bytes: &[u8; HEAD_BYTES], checksum: &Checksum) -> Option<Self> {
        let head = Self {
            body_bytes: u32_at(bytes, 0),
            batch: u32_at(bytes, 12),
            offset: u64_at(bytes, 16),
            appended_at: u64_at(bytes, 24),
            flags: u16_at(bytes, 32),
            topic_count: u16_at(bytes, 34),
            event_type_bytes: u16_at(bytes, 36),
            key_bytes: u16_at(bytes, 38) ^ HEAD_END,
        };
        let is_plausible = head.body_bytes <= BODY_BYTES_MAX && head.flags & !KNOWN_FLAGS == 0;
        let is_right = || head_sum(bytes, checksum) == u32_at(bytes, 8);
        (is_plausible && is_right()).then_some(head)
    }
}

/// A record whose checksum was right.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) head: Head,
    body: Bytes,
}

/// The places of the parts of a body.
struct Parts<'a> {
    retry_ms: Option<u64>,
    /// Length and text of each topic.
    topics: &'a [u8],
    event_type: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    data: std::ops::Range<usize>,
}

impl Stored {
    /// Takes a record out of `bytes`, which begin with it; `None` if there is no whole and valid
    /// one.
    pub(crate) fn read(bytes: &Bytes, checksum: &Checksum) -> Option<Self> {
        let head_bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let head = Head::read(head_bytes, checksum)?;
        let end = HEAD_BYTES + head.body_bytes as usize;
        let body = bytes.get(HEAD_BYTES..end)?;
        let stored = Self { head, body: bytes.slice(HEAD_BYTES..end) };
        // The body's checksum is in the head, which has one of its own.
        (checksum.of(&[body]) == u32_at(head_bytes, 4) && stored.parts().is_some())
            .then_some(stored)
    }

    /// Makes an entry of it. `topics` remembers topics that were seen before, as they repeat.
    pub(crate) fn entry(&self, topics: &mut TopicMemory) -> Option<Entry<Body>> {
        let parts = self.parts()?;
        let mut named = Vec::with_capacity(usize::from(self.head.topic_count));
        for text in TopicTexts(parts.topics) {
            named.push(topics.topic(text)?);
        }
        let event_type = match parts.event_type {
            Some(text) => Some(topics.event_type(text)?),
            None => None,
        };
        Some(Entry {
            offset: self.head.offset,
            topics: named.into(),
            event_type,
            private: self.head.flags & PRIVATE != 0,
            is_final: self.head.is_final(),
            payload: Body {
                data: ByteString::try_from(self.body.slice(parts.data)).ok()?,
                retry_ms: parts.retry_ms,
                appended_at: self.head.appended_at,
            },
        })
    }

    /// Its idempotency key.
    pub(crate) fn key(&self) -> Option<Key> {
        Key::parse(str::from_utf8(self.parts()?.key?).ok()?).ok()
    }

    /// The runs of keys that it carries.
    pub(crate) fn carried_keys(&self) -> Option<Vec<KeyRun>> {
        if !self.head.holds_keys() {
            return None;
        }
        read_key_runs(&self.body[self.parts()?.data])
    }

    /// How much an answer with it counts as.
    pub(crate) fn counted_bytes(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    /// Writes it anew for another segment, as a batch of its own.
    pub(crate) fn write_alone(&self, batch: u32, checksum: &Checksum, out: &mut Vec<u8>) {
        let head = Head { batch, flags: self.head.flags | COMMIT, ..self.head };
        write(head, checksum, out, |out| out.extend_from_slice(&self.body));
    }

    /// `None` if the lengths contradict each other.
    fn parts(&self) -> Option<Parts<'_>> {
        let Head { flags, topic_count, event_type_bytes, key_bytes, .. } = self.head;
        let (body, mut at) = (&self.body[..], 0);
        let mut retry_ms = None;
        if flags & RETRY != 0 {
            retry_ms = Some(u64::from_le_bytes(*body.first_chunk()?));
            at += 8;
        }
        let topics_start = at;
        for _ in 0..topic_count {
            let length = body.get(at..at + 2)?;
            at += 2 + usize::from(u16_at(length, 0));
        }
        let topics = body.get(topics_start..at)?;
        let event_type = body.get(at..at + usize::from(event_type_bytes))?;
        at += event_type.len();
        let key = body.get(at..at + usize::from(key_bytes))?;
        at += key.len();
        let data = at..body.len();
        (topic_count > 0 || flags & CARRIED_KEYS != 0).then_some(Parts {
            retry_ms,
            topics,
            event_type: (flags & EVENT_TYPE != 0).then_some(event_type),
            key: (flags & KEY != 0).then_some(key),
            data,
        })
    }
}

/// Walks over the topics of a body, whose lengths have been looked at.
struct TopicTexts<'a>(&'a [u8]);

impl<'a> Iterator for TopicTexts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        self.0 = rest;
        Some(text)
    }
}

/// Topics and event types that were read lately: they repeat, and are checked and allocated once.
#[derive(Debug, Default)]
pub(crate) struct TopicMemory {
    topics: Vec<Option<Topic>>,
    event_types: Vec<Option<EventType>>,
}

impl TopicMemory {
    fn topic(&mut self, text: &[u8]) -> Option<Topic> {
        recall(&mut self.topics, text, |known| known.as_str(), |text| Topic::parse(text).ok())
    }

    fn event_type(&mut self, text: &[u8]) -> Option<EventType> {
        let parse = |text: &str| EventType::parse(text).ok();
        recall(&mut self.event_types, text, |known| known.as_str(), parse)
    }
}

/// Finds what a text was parsed to before, or parses it. Each text has one place, where another may
/// take its turn.
fn recall<T: Clone>(
    places: &mut Vec<Option<T>>,
    text: &[u8],
    text_of: impl Fn(&T) -> &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    if places.is_empty() {
        places.resize(REMEMBERED_MAX, None);
    }
    let mix = |mix: usize, byte: &u8| mix.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let place = &mut places[text.iter().rev().take(12).fold(text.len(), mix) % REMEMBERED_MAX];
    let known = place.as_ref().filter(|known| text_of(known).as_bytes() == text);
    if let Some(known) = known {
        return Some(known.clone());
    }
    let parsed = parse(str::from_utf8(text).ok()?)?;
    *place = Some(parsed.clone());
    Some(parsed)
}

/// Writes a record; answers how many bytes it took.
pub(crate) fn write_record(
    record: &Record,
    offset: u64,
    appended_at: UnixMillis,
    batch: u32,
    is_last: bool,
    checksum: &Checksum,
    out: &mut Vec<u8>,
) -> usize {
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    let Record { topics, event_type, private, data, retry_ms, key, is_final } = record;
    let head = Head {
        body_bytes: 0,
        offset,
        appended_at,
        batch,
        flags: flag(is_last, COMMIT)
            | flag(*private, PRIVATE)
            | flag(*is_final, FINAL)
            | flag(event_type.is_some(), EVENT_TYPE)
            | flag(retry_ms.is_some(), RETRY)
            | flag(key.is_some(), KEY),
        topic_count: topics.len() as u16,
        event_type_bytes: event_type.as_ref().map_or(0, |it| it.as_str().len()) as u16,
        key_bytes: key.as_ref().map_or(0, |key| key.as_str().len()) as u16,
    };
    write(head, checksum, out, |out| {
        if let Some(retry_ms) = retry_ms {
            out.extend_from_slice(&retry_ms.to_le_bytes());
        }
        for topic in topics {
            out.extend_from_slice(&(topic.as_str().len() as u16).to_le_bytes());
            out.extend_from_slice(topic.as_str().as_bytes());
        }
        out.extend_from_slice(event_type.as_ref().map_or(&[], |it| it.as_str().as_bytes()));
        out.extend_from_slice(key.as_ref().map_or(&[], |key| key.as_str().as_bytes()));
        out.extend_from_slice(data.as_bytes());
    })
}

/// Writes keys as a record that is no event and stands before the event `next`.
pub(crate) fn write_carried_keys(
    runs: &[KeyRun],
    next: u64,
    now: UnixMillis,
    batch: u32,
    checksum: &Checksum,
    out: &mut Vec<u8>,
) {
    let head = Head {
        body_bytes: 0,
        offset: next,
        appended_at: now,
        batch,
        flags: COMMIT | CARRIED_KEYS,
        topic_count: 0,
        event_type_bytes: 0,
        key_bytes: 0,
    };
    write(head, checksum, out, |out| write_key_runs(runs, out));
}

pub(crate) fn write_key_runs(runs: &[KeyRun], out: &mut Vec<u8>) {
    for KeyRun { id, offset, count, at } in runs {
        out.extend_from_slice(&id.prefix.to_le_bytes());
        for number in [id.number, *offset, *count, *at] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Reads what [`write_key_runs`] wrote; `None` if it is not that.
pub(crate) fn read_key_runs(bytes: &[u8]) -> Option<Vec<KeyRun>> {
    let (runs, rest) = bytes.as_chunks::<KEY_RUN_BYTES>();
    let read = |bytes: &[u8; KEY_RUN_BYTES]| KeyRun {
        id: KeyId {
            prefix: u128::from(u64_at(bytes, 0)) | u128::from(u64_at(bytes, 8)) << 64,
            number: u64_at(bytes, 16),
        },
        offset: u64_at(bytes, 24),
        count: u64_at(bytes, 32),
        at: u64_at(bytes, 40),
    };
    rest.is_empty().then(|| runs.iter().map(read).collect())
}

fn write(
    head: Head,
    checksum: &Checksum,
    out: &mut Vec<u8>,
    write_body: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    write_body(out);
    let (head_bytes, body) = out[start..].split_at_mut(HEAD_BYTES);
    head_bytes[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head_bytes[4..8].copy_from_slice(&checksum.of(&[body]).to_le_bytes());
    head_bytes[12..16].copy_from_slice(&head.batch.to_le_bytes());
    head_bytes[16..24].copy_from_slice(&head.offset.to_le_bytes());
    head_bytes[24..32].copy_from_slice(&head.appended_at.to_le_bytes());
    let key_bytes = head.key_bytes ^ HEAD_END;
    let shorts = [head.flags, head.topic_count, head.event_type_bytes, key_bytes];
    for (place, number) in head_bytes[32..].as_chunks_mut().0.iter_mut().zip(shorts) {
        *place = number.to_le_bytes();
    }
    let head_bytes = head_bytes.first_chunk().expect("a head has this length");
    let sum = head_sum(head_bytes, checksum);
    out[start + 8..start + 12].copy_from_slice(&sum.to_le_bytes());
    // Padding is not zero, so that a record whose end was not written can be told.
    let end = start + padded((out.len() - start) as u64) as usize;
    out.resize(end, PADDING);
    end - start
}

/// The checksum of a head: of everything in it but itself.
fn head_sum(bytes: &[u8; HEAD_BYTES], checksum: &Checksum) -> u32 {
    checksum.of(&[&bytes[..8], &bytes[12..]])
}

/// How much room a record takes at most.
pub(crate) fn room_for(record: &Record) -> u64 {
    let Record { topics, event_type, data, key, .. } = record;
    let topics: usize = topics.iter().map(|topic| 2 + topic.as_str().len()).sum();
    let event_type = event_type.as_ref().map_or(0, |it| it.as_str().len());
    let key = key.as_ref().map_or(0, |key| key.as_str().len());
    padded((HEAD_BYTES + 8 + topics + event_type + key + data.len()) as u64)
}

/// Records begin at multiples of eight.
pub(crate) fn padded(bytes: u64) -> u64 {
    // At least one byte of padding.
    (bytes / ALIGNMENT + 1) * ALIGNMENT
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
}

pub(crate) const HEAD_BYTES: usize = 40;
pub(crate) const ALIGNMENT: u64 = 8;
/// What follows a body up to the next record.
pub(crate) const PADDING: u8 = 0xA5;
/// More than any event takes; bounds what a damaged length can make a reader ask for.
pub(crate) const BODY_BYTES_MAX: u32 = 1 << 30;
pub(crate) const KEY_RUN_BYTES: usize = 48;

/// Makes the last byte of a head no zero, so that one whose end was not written can be told; keys are
/// shorter than that.
const HEAD_END: u16 = 0xA400;

/// The last record of what was written together: with it, all of it counts.
const COMMIT: u16 = 1;
const PRIVATE: u16 = 1 << 1;
const FINAL: u16 = 1 << 2;
const EVENT_TYPE: u16 = 1 << 3;
const RETRY: u16 = 1 << 4;
const KEY: u16 = 1 << 5;
const CARRIED_KEYS: u16 = 1 << 6;
const KNOWN_FLAGS: u16 = 0x7f;

const REMEMBERED_MAX: usize = 256;

const _: () = assert!(Key::BYTES_MAX < 0x400);
