//! The newest encoded events, shared by all shards.
//!
//! Live delivery and short resumes never leave it. Entries are immutable once they are in; a reader
//! holds the lock only while it clones the references it needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tidings_core::{Bounds, Interest};
use tidings_log::{ReadError, ReadLimit, ReadStep, Ring, SeekStep};

use crate::Limits;
use crate::delivery::{Delivery, Encoded, bytes_of};

#[derive(Debug)]
pub(crate) struct Tail {
    ring: RwLock<Ring<Delivery>>,
    /// The offset after the newest entry; read without the lock.
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
        self.next.store(ring.bounds().next, Ordering::Release);
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.ring.read().expect(UNPOISONED).bounds()
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
        self.ring.read().expect(UNPOISONED).read(from, until, interest, limit)
    }

    /// Searches the tail alone; `complete` is never true, for more may be kept below.
    pub(crate) fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        examined_max: usize,
    ) -> SeekStep {
        let ring = self.ring.read().expect(UNPOISONED);
        SeekStep { complete: false, ..ring.seek(before, wanted, interest, examined_max) }
    }
}

const UNPOISONED: &str = "no thread panics while it holds the tail";
