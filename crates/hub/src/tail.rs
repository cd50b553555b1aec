//! The newest encoded events, shared by all shards.
//!
//! Live delivery and short resumes never leave it. Entries are immutable once they are in; a reader
//! holds the lock only while it clones the references it needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tidings_core::{Bounds, Interest};
use tidings_log::{ReadError, ReadLimit, ReadStep, Ring, SeekStep, entry_bytes};

use crate::Limits;
use crate::delivery::{Delivery, Encoded};

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
            let bytes = entry_bytes(&entry, entry.payload.frame.len());
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

    pub(crate) fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Delivery>, ReadError> {
        let ring = self.ring.read().expect(UNPOISONED);
        let candidates = ring.candidates(from, until, interest, limit)?;
        drop(ring);
        Ok(candidates.select(interest, limit))
    }

    /// Searches the tail; `None` if that is for the log: what lies below the tail, or if the tail
    /// holds what is no longer `kept`.
    pub(crate) fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        kept: Bounds,
        limit: ReadLimit,
    ) -> Option<SeekStep> {
        let ring = self.ring.read().expect(UNPOISONED);
        let oldest = ring.bounds().oldest;
        if before <= oldest || oldest < kept.oldest {
            return None;
        }
        let candidates = ring.candidates_below(before, interest, limit.candidates_max);
        drop(ring);
        // The log goes on below the tail.
        Some(candidates.search(wanted, interest, kept.oldest, limit.comparisons_max))
    }
}

const UNPOISONED: &str = "no thread panics while it holds the tail";
