//! The log that lives and dies with its process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::{Bounds, Entry, Epoch, Interest, Topic};

use crate::keys::HashSeed;
use crate::ledger::Ledger;
use crate::retention::RuledTopics;
use crate::{
    AppendError, Appended, Body, EventLog, KeyWindow, ReadError, ReadLimit, ReadStep, Record,
    Retention, Ring, SeekStep, UnixMillis, entry_bytes,
};

/// What a [`MemoryLog`] keeps.
#[derive(Debug, Clone)]
pub struct MemoryLogOptions {
    /// How much it keeps; bytes are counted by [`entry_bytes`].
    pub retention: Retention,
    /// How long it remembers idempotency keys.
    pub keys: KeyWindow,
}

impl Default for MemoryLogOptions {
    /// 100,000 events, 64 MiB, 24 hours, no rules.
    fn default() -> Self {
        let retention = Retention {
            events_max: 100_000,
            bytes_max: 64 << 20,
            age_max_ms: 24 * 60 * 60 * 1000,
            rules: Vec::new(),
        };
        Self { retention, keys: KeyWindow::default() }
    }
}

/// An [`EventLog`] in memory. It promises no durability: what it holds is gone with the process,
/// and the next log needs another epoch.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    options: MemoryLogOptions,
    has_rules: bool,
    closed: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring<Body>,
    ledger: Ledger,
    ruled: RuledTopics,
}

impl MemoryLog {
    /// Makes an empty log. `epoch` must be new: an epoch from 50 random bits is.
    pub fn new(epoch: Epoch, options: MemoryLogOptions) -> Self {
        let state = State {
            ring: Ring::new(1),
            ledger: Ledger::new(HashSeed::random(), options.keys),
            ruled: RuledTopics::new(options.retention.rules.clone()),
        };
        let has_rules = !options.retention.rules.is_empty();
        Self {
            epoch,
            options,
            has_rules,
            closed: AtomicBool::new(false),
            state: RwLock::new(state),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect(UNPOISONED)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect(UNPOISONED)
    }
}

impl State {
    fn keep_within_bounds(&mut self, retention: &Retention, now: UnixMillis) {
        let events_max = size(retention.events_max).max(1);
        let bytes_max = size(retention.bytes_max).max(self.ring.newest_bytes());
        while self.ring.len() > events_max || self.ring.bytes() > bytes_max {
            self.pop();
        }
        let cut = now.saturating_sub(retention.age_max_ms);
        // A place that a rule has emptied is as old as the event after it.
        let oldest = |ring: &Ring<Body>| {
            ring.iter().next().map(|entry| (entry.offset, entry.payload.appended_at))
        };
        while let Some((offset, appended_at)) = oldest(&self.ring)
            && appended_at < cut
        {
            while self.ring.bounds().oldest <= offset {
                self.pop();
            }
        }
        self.ledger.trim(self.ring.bounds().oldest, now);
    }

    fn pop(&mut self) {
        let Some(entry) = self.ring.pop() else { return };
        self.forget(&entry);
    }

    /// Lets the rules know that an entry is gone.
    fn forget(&mut self, entry: &Entry<Body>) {
        for topic in entry.topics.iter() {
            let was_kept = entry.offset > self.ruled.surplus_of(topic);
            self.ruled.forget(topic, u64::from(was_kept), self.ring.bounds().oldest);
        }
    }

    fn enforce_rules(&mut self, now: UnixMillis) {
        let dropped = self.ruled.enforce(&self.ring, now, |body| body.appended_at, Vec::new());
        for offset in dropped.offsets {
            if let Some(entry) = self.ring.remove(offset) {
                self.forget(&entry);
            }
        }
    }
}

impl EventLog for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn bounds(&self) -> Bounds {
        self.state().ring.bounds()
    }

    fn append(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let mut state = self.state_mut();
        let state = &mut *state;
        let next = state.ring.bounds().next;
        let is_kept = |offset: u64, topic: &Topic| state.ruled.keeps(offset, topic);
        let mut plan = state.ledger.plan(publishes, next, now, is_kept);
        let records = std::mem::take(&mut plan.records);
        let entries: Vec<_> = (next..).zip(records).map(|(at, it)| entry(at, it, now)).collect();
        state.ledger.settle(&plan, now);
        for entry in &entries {
            entry.topics.iter().for_each(|topic| state.ruled.count(topic, 1));
            state.ring.push(Arc::new(entry.clone()), entry_bytes(entry, entry.payload.data.len()));
        }
        state.keep_within_bounds(&self.options.retention, now);
        Ok(Appended { epoch: self.epoch, entries, outcomes: plan.outcomes })
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        let candidates = self.state().ring.candidates(from, until, interest, limit)?;
        let ReadStep { entries, next } = candidates.select(interest, limit);
        Ok(ReadStep { entries: entries.iter().map(|entry| Entry::clone(entry)).collect(), next })
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        let state = self.state();
        let candidates = state.ring.candidates_below(before, interest, limit.candidates_max);
        let oldest = state.ring.bounds().oldest;
        drop(state);
        Ok(candidates.search(wanted, interest, oldest, limit.comparisons_max))
    }

    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        !self.has_rules || self.state().ruled.is_kept(offset, topics)
    }

    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        if self.has_rules { self.state().ruled.dropped(interest, from) } else { None }
    }

    fn finished(&self, topic: &Topic) -> Option<u64> {
        let state = self.state();
        state.ledger.finished(topic).filter(|&offset| state.ruled.keeps(offset, topic))
    }

    fn trim(&self, now: UnixMillis) {
        let mut state = self.state_mut();
        if self.has_rules {
            state.enforce_rules(now);
        }
        state.keep_within_bounds(&self.options.retention, now);
    }

    fn failure(&self) -> Option<String> {
        self.closed.load(Ordering::SeqCst).then(|| closed().to_string())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Gives a record its place.
pub(crate) fn entry(offset: u64, record: Record, now: UnixMillis) -> Entry<Body> {
    let Record { topics, event_type, private, data, retry_ms, is_final, key: _ } = record;
    let payload = Body { data, retry_ms, appended_at: now };
    Entry { offset, topics, event_type, private, is_final, payload }
}

/// Why a log that was closed takes nothing.
pub(crate) fn closed() -> AppendError {
    AppendError::Unavailable("it is closed".to_owned())
}

/// A number for this machine's memory; what is larger than its addresses is no bound at all.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const UNPOISONED: &str = "no thread panics while it holds the log";

#[cfg(test)]
mod tests;
