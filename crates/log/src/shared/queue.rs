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
const QUEUE_EVENTS_MAX: usize = 1 << 16;
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What is handed over at once: some milliseconds of work.
const TAKEN_EVENTS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::record;

    fn entry(offset: u64) -> Entry<Body> {
        crate::memory::entry(offset, record("a", ""), 0)
    }

    fn entries(offsets: impl IntoIterator<Item = u64>) -> Vec<Entry<Body>> {
        offsets.into_iter().map(entry).collect()
    }

    /// What is told one after the other: offsets, and 0 before one that is skipped to.
    fn taken(queue: &mut Queue) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Some(followed) = queue.take() {
            match followed {
                Followed::Entries(entries) => taken.extend(entries.iter().map(|it| it.offset)),
                Followed::Skipped { next } => taken.extend([0, next]),
                other => panic!("{other:?} is not for a queue to tell"),
            }
        }
        taken
    }

    #[test]
    fn what_comes_twice_is_told_once_and_what_is_gone_is_skipped() {
        let mut queue = Queue::new(3);
        queue.offer(&entry(3));
        queue.offer(&entry(5));
        queue.extend(entries(3..=4), 5);
        assert_eq!((taken(&mut queue), queue.end()), (vec![3, 4], 5));
        queue.extend(entries([4, 7, 8]), 10);
        assert_eq!(taken(&mut queue), [0, 7, 7, 8, 0, 10]);
        assert_eq!((queue.next(), queue.end(), queue.bytes), (10, 10, 0));
    }

    #[test]
    fn what_did_not_fit_is_left_for_the_store_to_tell() {
        let mut queue = Queue::new(1);
        let count = QUEUE_EVENTS_MAX as u64;
        (1..count + 10).for_each(|offset| queue.offer(&entry(offset)));
        assert_eq!(queue.end(), count + 1);
        assert_eq!(taken(&mut queue), (1..=count).collect::<Vec<_>>());
        // There is room again, and something lies between.
        queue.offer(&entry(count + 10));
        assert_eq!((queue.take().is_none(), queue.end()), (true, count + 1));
        queue.extend(entries(count + 1..count + 11), count + 11);
        assert_eq!(taken(&mut queue), (count + 1..count + 11).collect::<Vec<_>>());
    }

    #[test]
    fn large_events_fill_a_queue_by_their_bytes() {
        let mut queue = Queue::new(1);
        let large = "x".repeat(1 << 20);
        for offset in 1..100 {
            queue.offer(&crate::memory::entry(offset, record("a", &large), 0));
        }
        assert_eq!(queue.end(), 65);
    }
}
