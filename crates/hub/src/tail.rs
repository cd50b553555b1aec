//! The newest encoded events, shared by all shards.
//!
//! Live delivery and short resumes never leave it. Entries are immutable once they are in; a reader
//! holds the lock only while it clones the references it needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tidings_core::{Interest, ReadOutcome};
use tidings_log::{EventLog, ReadError, ReadLimit, ReadStep, Ring, SeekStep};

use crate::Limits;
use crate::delivery::{Delivery, Encoded};
use crate::replay::{bytes_of, leave_out_dropped};

#[derive(Debug)]
pub(crate) struct Tail {
    ring: RwLock<Ring<Delivery>>,
    /// The offset after the newest entry; read without the lock. In one order with the sleep of
    /// shards, so that none sleeps through an event.
    next: AtomicU64,
    events_max: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(next: u64, limits: &Limits) -> Self {
        Self {
            ring: RwLock::new(Ring::new(next)),
            next: AtomicU64::new(next),
            events_max: limits.tail_events_max,
            bytes_max: limits.tail_bytes_max,
        }
    }

    pub(crate) fn push(&self, entries: Vec<Arc<Encoded>>) {
        let mut ring = self.ring.write().expect(UNPOISONED);
        for entry in entries {
            let bytes = bytes_of(&entry);
            ring.push(entry, bytes);
        }
        ring.shrink(self.events_max, self.bytes_max);
        self.next.store(ring.bounds().next, Ordering::SeqCst);
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    pub(crate) fn from(
        &self,
        from: u64,
        events_max: usize,
    ) -> Result<Vec<Arc<Encoded>>, ReadError> {
        self.ring.read().expect(UNPOISONED).from(from, events_max)
    }

    /// Reads what is in the tail and kept by the log; `None` if the log must be read.
    pub(crate) fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        log: &dyn EventLog,
        limit: ReadLimit,
    ) -> Option<ReadOutcome<Delivery>> {
        let ring = self.ring.read().expect(UNPOISONED);
        let candidates = ring.candidates(from, until, interest, limit).ok()?;
        drop(ring);
        let ReadStep { mut entries, next } = candidates.select(interest, limit);
        let dropped = leave_out_dropped(log, interest, from, &mut entries);
        Some(ReadOutcome::Entries { entries, next, dropped, is_scarce: false })
    }

    /// Searches the tail; `None` if that is for the log: what lies below the tail, or if the tail
    /// may hold what is no longer kept.
    pub(crate) fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        log: &dyn EventLog,
        limit: ReadLimit,
    ) -> Option<SeekStep> {
        let kept = log.bounds().oldest;
        let ring = self.ring.read().expect(UNPOISONED);
        let oldest = ring.bounds().oldest;
        if before <= oldest || oldest < kept {
            return None;
        }
        let candidates = ring.candidates_below(before, interest, limit.candidates_max);
        drop(ring);
        // The log goes on below the tail.
        let step = candidates.search(wanted, interest, kept, limit.comparisons_max);
        log.dropped(interest, step.before).is_none().then_some(step)
    }
}

const UNPOISONED: &str = "no thread panics while it holds the tail";
