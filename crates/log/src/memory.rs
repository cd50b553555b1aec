//! The log that lives and dies with its process.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::{Bounds, Entry, Epoch, Interest};

use crate::{
    AppendError, Body, EventLog, ReadError, ReadLimit, ReadStep, Record, Ring, SeekStep,
    UnixMillis, entry_bytes,
};

/// How much a [`MemoryLog`] keeps: each bound holds by itself, the oldest events leave first.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLogOptions {
    /// Events to keep at most.
    pub events_max: usize,
    /// Bytes to keep at most, counted by [`entry_bytes`]. The newest event is kept even if it alone is
    /// larger.
    pub bytes_max: usize,
    /// Milliseconds to keep an event at most.
    pub age_max_ms: u64,
}

impl Default for MemoryLogOptions {
    /// 100,000 events, 64 MiB, 24 hours.
    fn default() -> Self {
        Self { events_max: 100_000, bytes_max: 64 << 20, age_max_ms: 24 * 60 * 60 * 1000 }
    }
}

/// An [`EventLog`] in memory. It promises no durability: what it holds is gone with the process,
/// and the next log needs another epoch.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    options: MemoryLogOptions,
    ring: RwLock<Ring<Body>>,
}

impl MemoryLog {
    /// Makes an empty log. `epoch` must be new: an epoch from 50 random bits is.
    pub fn new(epoch: Epoch, options: MemoryLogOptions) -> Self {
        Self { epoch, options, ring: RwLock::new(Ring::new(1)) }
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring<Body>> {
        self.ring.read().expect("no thread panics while it holds the ring")
    }

    fn ring_mut(&self) -> RwLockWriteGuard<'_, Ring<Body>> {
        self.ring.write().expect("no thread panics while it holds the ring")
    }

    fn keep_within_bounds(&self, ring: &mut Ring<Body>, now: UnixMillis) {
        let newest_bytes = ring.newest_bytes();
        ring.shrink(self.options.events_max.max(1), self.options.bytes_max.max(newest_bytes));
        let too_old = |entry: &Arc<Entry<Body>>| {
            entry.payload.appended_at.saturating_add(self.options.age_max_ms) < now
        };
        while ring.oldest().is_some_and(too_old) {
            ring.pop();
        }
    }
}

impl EventLog for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn bounds(&self) -> Bounds {
        self.ring().bounds()
    }

    fn append(
        &self,
        records: Vec<Record>,
        now: UnixMillis,
    ) -> Result<Vec<Arc<Entry<Body>>>, AppendError> {
        let mut ring = self.ring_mut();
        let first = ring.bounds().next;
        let entries: Vec<_> = (first..).zip(records).map(|(at, it)| entry(at, it, now)).collect();
        for entry in &entries {
            ring.push(Arc::clone(entry), entry_bytes(entry, entry.payload.data.len()));
        }
        self.keep_within_bounds(&mut ring, now);
        Ok(entries)
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Body>, ReadError> {
        let candidates = self.ring().candidates(from, until, interest, limit)?;
        Ok(candidates.select(interest, limit))
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        let ring = self.ring();
        let candidates = ring.candidates_below(before, interest, limit.candidates_max);
        let oldest = ring.bounds().oldest;
        drop(ring);
        Ok(candidates.search(wanted, interest, oldest, limit.comparisons_max))
    }

    fn trim(&self, now: UnixMillis) {
        self.keep_within_bounds(&mut self.ring_mut(), now);
    }
}

fn entry(offset: u64, record: Record, now: UnixMillis) -> Arc<Entry<Body>> {
    let Record { topics, event_type, private, data, retry_ms } = record;
    let payload = Body { data, retry_ms, appended_at: now };
    Arc::new(Entry { offset, topics, event_type, private, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{everything, record};

    const LARGE: usize = usize::MAX / 2;

    fn check(options: MemoryLogOptions, appended: &[(&str, UnixMillis)], expected: Bounds) {
        let log = MemoryLog::new(Epoch::from_random(1), options);
        for &(data, now) in appended {
            log.append(vec![record("a", data)], now).unwrap();
        }
        log.trim(appended.last().map_or(0, |&(_, now)| now));
        assert_eq!(log.bounds(), expected);
    }

    #[test]
    fn the_memory_log_conforms() {
        crate::conformance::check(|| {
            Box::new(MemoryLog::new(Epoch::from_random(1), MemoryLogOptions::default()))
        });
    }

    #[test]
    fn events_max_keeps_the_newest() {
        let options = MemoryLogOptions { events_max: 2, bytes_max: LARGE, age_max_ms: 1_000 };
        check(options, &[("x", 0), ("y", 0), ("z", 0)], Bounds { oldest: 2, next: 4 });
    }

    #[test]
    fn bytes_max_keeps_the_newest_even_if_it_alone_is_larger() {
        let sample = entry(1, record("a", "x"), 0);
        let one = entry_bytes(&sample, 1);
        let options = MemoryLogOptions { events_max: 9, bytes_max: 2 * one, age_max_ms: 1_000 };
        check(options, &[("x", 0), ("y", 0), ("z", 0)], Bounds { oldest: 2, next: 4 });
        let large = "x".repeat(10_000);
        check(options, &[("x", 0), ("y", 0), (&large, 0)], Bounds { oldest: 3, next: 4 });
    }

    #[test]
    fn age_max_lets_go_of_what_is_older() {
        let options = MemoryLogOptions { events_max: 9, bytes_max: LARGE, age_max_ms: 1_000 };
        check(options, &[("x", 0), ("y", 500), ("z", 1_001)], Bounds { oldest: 2, next: 4 });
        check(options, &[("x", 1_000), ("y", 0)], Bounds { oldest: 1, next: 3 });
    }

    #[test]
    fn what_left_is_named_as_trimmed() {
        let options = MemoryLogOptions { events_max: 1, bytes_max: LARGE, age_max_ms: 1_000 };
        let log = MemoryLog::new(Epoch::from_random(1), options);
        log.append(vec![record("a", "x"), record("a", "y")], 0).unwrap();
        let limit =
            ReadLimit { events_max: 10, bytes_max: 10, candidates_max: 10, comparisons_max: 10 };
        let error = log.read(1, 3, &everything(), limit).unwrap_err();
        assert_eq!(error, ReadError::Trimmed { oldest: 2 });
    }
}
