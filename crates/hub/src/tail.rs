//! The newest encoded events, shared by all shards.
//!
//! Live delivery and short resumes never leave it. Entries are immutable once they are in; a reader
//! holds the lock only while it clones the references it needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::{Bounds, Epoch, Interest, ReadOutcome};
use tidings_log::{EventLog, ReadLimit, ReadStep, Ring, SeekStep};

use crate::Limits;
use crate::delivery::{Delivery, Encoded};
use crate::replay::{bytes_of, leave_out_dropped};

#[derive(Debug)]
pub(crate) struct Tail {
    held: RwLock<Held>,
    /// The offset after the newest entry; read without the lock. In one order with the sleep of
    /// shards, so that none sleeps through an event.
    next: AtomicU64,
    /// How many lives of the log have begun here; changes before `next` does.
    lives: AtomicU64,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Held {
    life: LifeBegun,
    ring: Ring<Delivery>,
}

/// A life of the log that the tail is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LifeBegun {
    /// Counts them.
    pub(crate) number: u64,
    pub(crate) epoch: Epoch,
    /// What could be read when it began.
    pub(crate) bounds: Bounds,
}

/// Why the tail does not have what comes next.
#[derive(Debug)]
pub(crate) enum Missed {
    /// It has left.
    Left,
    /// The log has begun another life.
    Life,
}

impl Tail {
    pub(crate) fn new(epoch: Epoch, bounds: Bounds, limits: &Limits) -> Self {
        let life = LifeBegun { number: 0, epoch, bounds };
        Self {
            held: RwLock::new(Held { life, ring: Ring::new(bounds.next) }),
            next: AtomicU64::new(bounds.next),
            lives: AtomicU64::new(0),
            events_max: limits.tail_events_max,
            bytes_max: limits.tail_bytes_max,
        }
    }

    pub(crate) fn push(&self, entries: Vec<Arc<Encoded>>) {
        let Held { ring, .. } = &mut *self.held_mut();
        for entry in entries {
            let bytes = bytes_of(&entry);
            ring.push(entry, bytes);
        }
        ring.shrink(self.events_max, self.bytes_max);
        self.next.store(ring.bounds().next, Ordering::SeqCst);
    }

    /// Lets go of everything: the next entry will have this offset.
    pub(crate) fn skip_to(&self, next: u64) {
        let Held { ring, .. } = &mut *self.held_mut();
        *ring = Ring::new(next);
        self.next.store(next, Ordering::SeqCst);
    }

    /// Lets go of everything: the log has begun another life.
    pub(crate) fn begin(&self, epoch: Epoch, bounds: Bounds) {
        let mut held = self.held_mut();
        let number = held.life.number + 1;
        *held = Held { life: LifeBegun { number, epoch, bounds }, ring: Ring::new(bounds.next) };
        self.lives.store(number, Ordering::SeqCst);
        self.next.store(bounds.next, Ordering::SeqCst);
    }

    /// Takes in the entries from `from` up to, not including, `until`, as far as there is room and if they
    /// come right before the oldest one. False if that was not all.
    pub(crate) fn prepend(&self, from: u64, until: u64, older: Vec<Arc<Encoded>>) -> bool {
        let Held { ring, .. } = &mut *self.held_mut();
        if ring.bounds().oldest != until {
            return false;
        }
        let places = (self.events_max.saturating_sub(ring.len())) as u64;
        let (mut begin, mut bytes) = (until, ring.bytes());
        let mut fitting = Vec::new();
        for entry in older.into_iter().rev() {
            let entry_bytes = bytes_of(&entry);
            bytes += entry_bytes;
            if until - entry.offset > places || bytes > self.bytes_max {
                ring.prepend(begin, fitting.into_iter().rev().collect());
                return false;
            }
            begin = entry.offset;
            fitting.push((entry, entry_bytes));
        }
        let from = from.max(until.saturating_sub(places));
        ring.prepend(from, fitting.into_iter().rev().collect());
        true
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// The offset of the oldest place.
    pub(crate) fn oldest(&self) -> u64 {
        self.held().ring.bounds().oldest
    }

    /// How many lives of the log have begun here.
    pub(crate) fn lives(&self) -> u64 {
        self.lives.load(Ordering::SeqCst)
    }

    /// The life of the log that it is about.
    pub(crate) fn life(&self) -> LifeBegun {
        self.held().life
    }

    /// What comes after what is known in the life with this number.
    pub(crate) fn from(
        &self,
        life: u64,
        from: u64,
        events_max: usize,
    ) -> Result<Vec<Arc<Encoded>>, Missed> {
        let held = self.held();
        if held.life.number != life {
            return Err(Missed::Life);
        }
        held.ring.from(from, events_max).map_err(|_| Missed::Left)
    }

    /// Reads what is in the tail and kept by the log; `None` if the log must be read, or if the tail is
    /// about another life than that of `epoch`.
    pub(crate) fn read(
        &self,
        epoch: Epoch,
        from: u64,
        until: u64,
        interest: &Interest,
        log: &dyn EventLog,
        limit: ReadLimit,
    ) -> Option<ReadOutcome<Delivery>> {
        let held = self.held_in(epoch)?;
        let candidates = held.ring.candidates(from, until, interest, limit).ok()?;
        drop(held);
        let ReadStep { mut entries, next } = candidates.select(interest, limit);
        let dropped = leave_out_dropped(log, interest, from, &mut entries);
        Some(ReadOutcome::Entries { entries, next, dropped, is_scarce: false })
    }

    /// Searches the tail; `None` if that is for the log: what lies below the tail, or if the tail
    /// may hold what is no longer kept, or is about another life than that of `epoch`.
    pub(crate) fn seek(
        &self,
        epoch: Epoch,
        before: u64,
        wanted: u32,
        interest: &Interest,
        log: &dyn EventLog,
        limit: ReadLimit,
    ) -> Option<SeekStep> {
        let kept = log.bounds().oldest;
        let held = self.held_in(epoch)?;
        let oldest = held.ring.bounds().oldest;
        if before <= oldest || oldest < kept {
            return None;
        }
        let candidates = held.ring.candidates_below(before, interest, limit.candidates_max);
        drop(held);
        // The log goes on below the tail.
        let step = candidates.search(wanted, interest, kept, limit.comparisons_max);
        log.dropped(interest, step.before).is_none().then_some(step)
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().expect(UNPOISONED)
    }

    fn held_in(&self, epoch: Epoch) -> Option<RwLockReadGuard<'_, Held>> {
        Some(self.held()).filter(|held| held.life.epoch == epoch)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "no thread panics while it holds the tail";
