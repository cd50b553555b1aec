//! What a node knows to be new and has not handed over yet.

use std::collections::VecDeque;

use tidings_core::Entry;

use crate::{Body, Followed, entry_bytes};

/// A bounded run of entries for whoever follows. What does not fit is read from the store when its turn comes.
#[derive(Debug)]
pub(super) struct Queue {
    /// The offset that comes next for who follows.
    next: u64,
    /// In order. Offsets that are missing are gone from the log.
    entries: VecDeque<Entry<Body>>,
    /// Everything below was put here, or is gone.
    end: u64,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(next: u64) -> Self {
        Self { next, entries: VecDeque::new(), end: next, bytes: 0 }
    }

    /// What comes next for who follows.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Where what is to be read from the store begins.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Puts an entry here if it is the next one and there is room.
    pub(super) fn offer(&mut self, entry: &Entry<Body>) {
        if entry.offset == self.end
            && self.entries.len() < QUEUE_EVENTS_MAX
            && self.bytes < QUEUE_BYTES_MAX
        {
            self.push(entry.clone());
        }
    }

    /// Puts entries here that were read from a place up to [`end`](Self::end) on, up to `end`.
    pub(super) fn extend(&mut self, entries: Vec<Entry<Body>>, end: u64) {
        for entry in entries {
            if entry.offset >= self.end {
                self.push(entry);
            }
        }
        self.end = self.end.max(end);
    }

    /// What comes next, if anything does.
    pub(super) fn take(&mut self) -> Option<Followed> {
        let first = self.entries.front().map_or(self.end, |entry| entry.offset);
        if first > self.next {
            self.next = first;
            return Some(Followed::Skipped { next: first });
        }
        let mut taken = Vec::new();
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.offset == self.next) {
            self.next += 1;
            self.bytes -= bytes_of(&entry);
            taken.push(entry);
            if taken.len() == TAKEN_EVENTS_MAX {
                break;
            }
        }
        (!taken.is_empty()).then_some(Followed::Entries(taken))
    }

    fn push(&mut self, entry: Entry<Body>) {
        self.end = entry.offset + 1;
        self.bytes += bytes_of(&entry);
        self.entries.push_back(entry);
    }
}

fn bytes_of(entry: &Entry<Body>) -> usize {
    entry_bytes(entry, entry.payload.data.len())
}

/// A second's worth of events for a busy node.
pub(super) const QUEUE_EVENTS_MAX: usize = 1 << 16;
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What is handed over at once: some milliseconds of work.
const TAKEN_EVENTS_MAX: usize = 4_096;
