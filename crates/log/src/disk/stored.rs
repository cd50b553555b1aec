//! One record as it stands in a segment: written, read back, and held against its checksum.
//!
//! The layout is drawn in `docs/internals/log-format.md`. Nothing read from a file is believed
//! before its checksum is right, and no length is before it fits what is there.

use std::sync::Arc;

use bytes::{Buf, Bytes};
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

    /// Reads a head and holds it against its checksum; `None` if the bytes are none.
    pub(crate) fn read(bytes: &[u8; HEAD_BYTES], checksum: &Checksum) -> Option<Self> {
        let is_right = checksum.of(&[&bytes[8..]]) == u32_at(bytes, 4);
        is_right.then(|| Self::read_unchecked(bytes))?
    }

    /// Reads what may be a head; the checksum of the whole record will tell.
    pub(crate) fn read_unchecked(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let head = Self {
            body_bytes: u32_at(bytes, 8),
            batch: u32_at(bytes, 12),
            offset: u64_at(bytes, 16),
            appended_at: u64_at(bytes, 24),
            flags: u16_at(bytes, 32),
            topic_count: u16_at(bytes, 34),
            event_type_bytes: u16_at(bytes, 36),
            key_bytes: u16_at(bytes, 38) ^ HEAD_END,
        };
        (head.body_bytes <= BODY_BYTES_MAX && head.flags & !KNOWN_FLAGS == 0).then_some(head)
    }
}

/// A record whose checksum was right.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) head: Head,
    body: Bytes,
    parts: Parts,
}

/// Where the parts of a body begin; each ends where the next begins.
#[derive(Debug, Clone, Copy)]
struct Parts {
    topics: usize,
    event_type: usize,
    key: usize,
    data: usize,
}

impl Stored {
    /// Takes a record out of `bytes`, which begin with it; `None` if there is no whole and valid
    /// one.
    pub(crate) fn read(bytes: &Bytes, from: usize, checksum: &Checksum) -> Option<Self> {
        let head_bytes: &[u8; HEAD_BYTES] = bytes.get(from..)?.first_chunk()?;
        let head = Head::read_unchecked(head_bytes)?;
        let start = from + HEAD_BYTES;
        let end = start + head.body_bytes as usize;
        if checksum.of(&[bytes.get(from + 4..end)?]) != u32_at(head_bytes, 0) {
            return None;
        }
        let parts = Parts::of(head, &bytes[start..end])?;
        Some(Self { head, body: bytes.slice(start..end), parts })
    }

    /// Makes an entry of it. `memory` holds what was read before, as it repeats.
    pub(crate) fn entry(&self, memory: &mut TopicMemory) -> Option<Entry<Body>> {
        self.clone().into_entry(memory)
    }

    /// As [`entry`](Self::entry).
    pub(crate) fn into_entry(self, memory: &mut TopicMemory) -> Option<Entry<Body>> {
        let Self { head, mut body, parts } = self;
        let event_type = match head.flags & EVENT_TYPE {
            0 => None,
            _ => Some(memory.event_type(&body[parts.event_type..parts.key])?),
        };
        let retry_ms = (head.flags & RETRY != 0).then(|| u64_at(&body, 0));
        let topics = memory.topics(&body[parts.topics..parts.event_type])?;
        body.advance(parts.data);
        let data = ByteString::try_from(body).ok()?;
        Some(Entry {
            offset: head.offset,
            topics,
            event_type,
            private: head.flags & PRIVATE != 0,
            is_final: head.is_final(),
            payload: Body { data, retry_ms, appended_at: head.appended_at },
        })
    }

    /// Its idempotency key.
    pub(crate) fn key(&self) -> Option<Key> {
        let key =
            (self.head.flags & KEY != 0).then_some(&self.body[self.parts.key..self.parts.data]);
        Key::parse(str::from_utf8(key?).ok()?).ok()
    }

    /// The runs of keys that it carries.
    pub(crate) fn carried_keys(&self) -> Option<Vec<KeyRun>> {
        self.head.holds_keys().then(|| read_key_runs(&self.body[self.parts.data..]))?
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
}

impl Parts {
    /// `None` if the lengths contradict each other.
    fn of(head: Head, body: &[u8]) -> Option<Self> {
        let topics = if head.flags & RETRY != 0 { 8 } else { 0 };
        let mut event_type = topics;
        for _ in 0..head.topic_count {
            let length = body.get(event_type..event_type + 2)?;
            event_type += 2 + usize::from(u16_at(length, 0));
        }
        let key = event_type + usize::from(head.event_type_bytes);
        let data = key + usize::from(head.key_bytes);
        let is_sound = data <= body.len() && (head.topic_count > 0 || head.holds_keys());
        is_sound.then_some(Self { topics, event_type, key, data })
    }
}

/// Topics and event types that were read lately: they repeat, and are checked and allocated once.
#[derive(Debug, Default)]
pub(crate) struct TopicMemory {
    topics: Places<Arc<[Topic]>>,
    event_types: Places<EventType>,
}

/// What some bytes were parsed to, each in a place that its bytes decide.
type Places<T> = Vec<Option<(Box<[u8]>, T)>>;

impl TopicMemory {
    fn topics(&mut self, bytes: &[u8]) -> Option<Arc<[Topic]>> {
        recall(&mut self.topics, bytes, |mut bytes| {
            let mut topics = Vec::new();
            while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
                let (text, rest) =
                    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                topics.push(Topic::parse(str::from_utf8(text).ok()?).ok()?);
                bytes = rest;
            }
            Some(topics.into())
        })
    }

    fn event_type(&mut self, bytes: &[u8]) -> Option<EventType> {
        recall(&mut self.event_types, bytes, |bytes| {
            EventType::parse(str::from_utf8(bytes).ok()?).ok()
        })
    }
}

/// Finds what some bytes were parsed to before, or parses them. All bytes have one place each, where
/// others may take their turn.
fn recall<T: Clone>(
    places: &mut Places<T>,
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    if places.is_empty() {
        places.resize(REMEMBERED_MAX, None);
    }
    let mix = |mix: usize, byte: &u8| mix.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let place = &mut places[bytes.iter().rev().take(12).fold(bytes.len(), mix) % REMEMBERED_MAX];
    if let Some((known, parsed)) = place
        && **known == *bytes
    {
        return Some(parsed.clone());
    }
    let parsed = parse(bytes)?;
    *place = Some((bytes.into(), parsed.clone()));
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
        for topic in topics.iter() {
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
    head_bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head_bytes[12..16].copy_from_slice(&head.batch.to_le_bytes());
    head_bytes[16..24].copy_from_slice(&head.offset.to_le_bytes());
    head_bytes[24..32].copy_from_slice(&head.appended_at.to_le_bytes());
    let key_bytes = head.key_bytes ^ HEAD_END;
    let shorts = [head.flags, head.topic_count, head.event_type_bytes, key_bytes];
    for (place, number) in head_bytes[32..].as_chunks_mut().0.iter_mut().zip(shorts) {
        *place = number.to_le_bytes();
    }
    let head_sum = checksum.of(&[&head_bytes[8..]]);
    head_bytes[4..8].copy_from_slice(&head_sum.to_le_bytes());
    let sum = checksum.of(&[&out[start + 4..]]);
    out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
    // Padding is not zero, so that a record whose end was not written can be told.
    let end = start + padded((out.len() - start) as u64) as usize;
    out.resize(end, PADDING);
    end - start
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

const REMEMBERED_MAX: usize = 4_096;

const _: () = assert!(Key::BYTES_MAX < 0x400);
