//! An [`EventLog`] on a database.
//!
//! It does what the benchmark needs as well as the database allows, and the rest simply: no
//! idempotency, no finished topics, no retention but by age.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result};
use tidings_core::{Bounds, Entry, Epoch, EventType, Interest, Topic};
use tidings_log::{
    AppendError, Appended, Body, EventLog, Offsets, ReadError, ReadLimit, ReadStep, Record,
    SeekStep, UnixMillis, entry_bytes,
};

use crate::engine::MeasuredLog;
use crate::store::{Batch, Row, Store};

/// A log whose records a database holds.
#[derive(Debug)]
pub struct StoreLog<S> {
    store: S,
    is_indexed: bool,
    age_max_ms: u64,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    topics: Vec<Topic>,
    numbers: HashMap<Topic, u32>,
}

impl<S: Store> StoreLog<S> {
    /// Takes over an open database, empty or not.
    pub fn new(store: S, is_indexed: bool, age_max_ms: u64) -> Result<Self> {
        let bounds = match store.ends()? {
            None => Bounds { oldest: 1, next: 1 },
            Some((oldest, newest)) => Bounds { oldest, next: newest + 1 },
        };
        let names = store.topics()?;
        let topics = names.iter().map(|name| Topic::parse(name)).collect::<Result<Vec<_>, _>>()?;
        let numbers = topics.iter().cloned().zip(0..).collect();
        let state = RwLock::new(State { bounds, topics, numbers });
        Ok(Self { store, is_indexed, age_max_ms, state })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>> {
        let state = self.state();
        let mut step = Step { entries: Vec::new(), bytes: 0, seen: 0, next: until };
        let mut take = |offset: u64, bytes: &[u8]| {
            let entry = decode(offset, bytes, &state.topics)?;
            Ok(step.take(entry, interest, limit))
        };
        match interest.exact_topics() {
            Some(mut topics) if self.is_indexed => {
                if let (Some(topic), None) = (topics.next(), topics.next()) {
                    if let Some(number) = state.numbers.get(topic) {
                        self.store.scan_topic(*number, from, until, &mut take)?;
                    }
                } else {
                    self.store.scan(from, until, &mut take)?;
                }
            }
            _ => self.store.scan(from, until, &mut take)?,
        }
        Ok(ReadStep { entries: step.entries, next: step.next })
    }

    /// The first offset that was appended at or after a time.
    fn first_since(&self, time: UnixMillis, bounds: Bounds) -> Result<u64> {
        let (mut low, mut high) = (bounds.oldest, bounds.next);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut appended_at = None;
            self.store.scan(middle, middle + 1, &mut |_, bytes| {
                appended_at = bytes.first_chunk().map(|bytes| UnixMillis::from_le_bytes(*bytes));
                Ok(ControlFlow::Break(()))
            })?;
            if appended_at.context("every offset is there")? < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn remove_older(&self, now: UnixMillis) -> Result<()> {
        let state = self.state();
        let oldest = self.first_since(now.saturating_sub(self.age_max_ms), state.bounds)?;
        self.store.remove_below(oldest, state.topics.len() as u32)?;
        drop(state);
        self.state.write().unwrap_or_else(PoisonError::into_inner).bounds.oldest = oldest;
        Ok(())
    }
}

impl State {
    fn number_of(&mut self, topic: &Topic, batch: &mut Batch) -> u32 {
        if let Some(number) = self.numbers.get(topic) {
            return *number;
        }
        let number = self.topics.len() as u32;
        self.topics.push(topic.clone());
        self.numbers.insert(topic.clone(), number);
        batch.new_topics.push((number, topic.as_str().to_owned()));
        number
    }
}

struct Step {
    entries: Vec<Entry<Body>>,
    bytes: usize,
    seen: usize,
    next: u64,
}

impl Step {
    fn take(&mut self, entry: Entry<Body>, wanted: &Interest, limit: ReadLimit) -> ControlFlow<()> {
        let offset = entry.offset;
        self.seen += 1;
        if wanted.admits(&entry.topics, entry.event_type.as_ref(), entry.private) {
            let bytes = entry_bytes(&entry, entry.payload.data.len());
            if self.bytes + bytes > limit.bytes_max && !self.entries.is_empty() {
                self.next = offset;
                return ControlFlow::Break(());
            }
            self.bytes += bytes;
            self.entries.push(entry);
        }
        if self.entries.len() < limit.events_max && self.seen < limit.candidates_max {
            return ControlFlow::Continue(());
        }
        self.next = offset + 1;
        ControlFlow::Break(())
    }
}

impl<S: Store> EventLog for StoreLog<S> {
    fn epoch(&self) -> Epoch {
        Epoch::from_random(0)
    }

    fn bounds(&self) -> Bounds {
        self.state().bounds
    }

    fn append(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch { is_indexed: self.is_indexed, ..Batch::default() };
        let mut next = state.bounds.next;
        let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
        for records in publishes {
            outcomes.push(Ok(Offsets::new(next, records.len() as u64)));
            for record in records {
                let topics: Vec<u32> =
                    record.topics.iter().map(|topic| state.number_of(topic, &mut batch)).collect();
                encode(&record, now, &topics, &mut batch.bytes);
                batch.rows.push(Row { offset: next, topics, end: batch.bytes.len() });
                let payload =
                    Body { data: record.data, retry_ms: record.retry_ms, appended_at: now };
                entries.push(Entry {
                    offset: next,
                    topics: record.topics,
                    event_type: record.event_type,
                    private: record.private,
                    is_final: record.is_final,
                    payload,
                });
                next += 1;
            }
        }
        let outcome = self.store.append(&batch);
        outcome.map_err(|error| AppendError::Unavailable(format!("{error:#}")))?;
        state.bounds.next = next;
        Ok(Appended { epoch: self.epoch(), entries, outcomes })
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        let bounds = self.bounds();
        if from < bounds.oldest {
            return Err(ReadError::Trimmed { oldest: bounds.oldest });
        }
        self.read_all(from, until.min(bounds.next), interest, limit)
            .map_err(|error| ReadError::Unavailable(format!("{error:#}")))
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        let oldest = self.bounds().oldest;
        let from = before.saturating_sub(limit.candidates_max as u64).max(oldest);
        let unlimited = ReadLimit { events_max: usize::MAX, bytes_max: usize::MAX, ..limit };
        let entries = self.read(from, before, interest, unlimited)?.entries;
        let first = entries.len().saturating_sub(wanted as usize);
        Ok(SeekStep {
            found: (entries.len() - first) as u32,
            lowest: entries.get(first).map(|entry| entry.offset),
            before: from,
            complete: from == oldest,
        })
    }

    fn is_kept(&self, _: u64, _: &[Topic]) -> bool {
        true
    }

    fn dropped(&self, _: &Interest, _: u64) -> Option<u64> {
        None
    }

    fn finished(&self, _: &Topic) -> Option<u64> {
        None
    }

    fn trim(&self, now: UnixMillis) {
        self.remove_older(now).expect("the database removes");
    }

    fn failure(&self) -> Option<String> {
        None
    }

    fn close(&self) {}
}

impl<S: Store> MeasuredLog for StoreLog<S> {
    fn compact(&mut self) -> Result<bool> {
        self.store.compact().map(|()| true)
    }
}

/// `appended_at`, flags, `retry_ms` if there is one, the type after its length, the topics after
/// their number, the data.
fn encode(record: &Record, now: UnixMillis, topics: &[u32], bytes: &mut Vec<u8>) {
    bytes.extend(now.to_le_bytes());
    let has_retry = record.retry_ms.is_some();
    bytes
        .push(u8::from(record.private) | u8::from(record.is_final) << 1 | u8::from(has_retry) << 2);
    bytes.extend(record.retry_ms.iter().flat_map(|retry_ms| retry_ms.to_le_bytes()));
    let event_type = record.event_type.as_ref().map_or("", EventType::as_str);
    bytes.extend((event_type.len() as u16).to_le_bytes());
    bytes.extend(event_type.as_bytes());
    bytes.extend((topics.len() as u16).to_le_bytes());
    bytes.extend(topics.iter().flat_map(|topic| topic.to_le_bytes()));
    bytes.extend(record.data.as_bytes());
}

fn decode(offset: u64, bytes: &[u8], names: &[Topic]) -> Result<Entry<Body>> {
    decode_whole(offset, bytes, names).with_context(|| format!("event {offset} is damaged"))
}

fn decode_whole(offset: u64, bytes: &[u8], names: &[Topic]) -> Option<Entry<Body>> {
    let (appended_at, bytes) = bytes.split_first_chunk()?;
    let (flags, bytes) = bytes.split_first()?;
    let (retry_ms, bytes) = if flags & 4 == 0 {
        (None, bytes)
    } else {
        let (retry_ms, bytes) = bytes.split_first_chunk()?;
        (Some(u64::from_le_bytes(*retry_ms)), bytes)
    };
    let (length, bytes) = bytes.split_first_chunk()?;
    let (event_type, bytes) = bytes.split_at_checked(u16::from_le_bytes(*length).into())?;
    let event_type = match event_type {
        [] => None,
        text => Some(EventType::parse(std::str::from_utf8(text).ok()?).ok()?),
    };
    let (count, bytes) = bytes.split_first_chunk()?;
    let (topics, data) = bytes.split_at_checked(4 * usize::from(u16::from_le_bytes(*count)))?;
    let topics = topics.chunks_exact(4).map(|number| {
        let number = u32::from_le_bytes(number.try_into().ok()?);
        names.get(number as usize).cloned()
    });
    Some(Entry {
        offset,
        topics: topics.collect::<Option<_>>()?,
        event_type,
        private: flags & 1 != 0,
        is_final: flags & 2 != 0,
        payload: Body {
            data: std::str::from_utf8(data).ok()?.into(),
            retry_ms,
            appended_at: u64::from_le_bytes(*appended_at),
        },
    })
}
