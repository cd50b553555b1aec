//! A bounded run of the newest entries, with an index by topic.
//!
//! Reading what interests a few exact topics costs as much as they hold, whatever else is there.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidings_core::{Bounds, Entry, Interest, Topic};

use crate::{ReadError, ReadLimit, ReadStep, SeekStep};

/// Entries with dense offsets; the oldest leave first.
#[derive(Debug)]
pub struct Ring<P> {
    entries: VecDeque<Held<P>>,
    /// The offsets of each topic that stands in `entries`, ascending.
    offsets_of: HashMap<Topic, VecDeque<u64>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Held<P> {
    /// `None` once it was removed before its time.
    entry: Option<Arc<Entry<P>>>,
    bytes: usize,
}

impl<P> Ring<P> {
    /// Makes an empty ring whose first entry will have the offset `next`.
    pub fn new(next: u64) -> Self {
        Self { entries: VecDeque::new(), offsets_of: HashMap::new(), next, bytes: 0 }
    }

    /// Adds the next entry, which counts as `bytes`.
    ///
    /// # Panics
    ///
    /// If its offset is not the next one.
    pub fn push(&mut self, entry: Arc<Entry<P>>, bytes: usize) {
        assert_eq!(entry.offset, self.next, "a ring has no holes");
        for topic in entry.topics.iter() {
            match self.offsets_of.get_mut(topic.as_str()) {
                Some(offsets) => offsets.push_back(entry.offset),
                None => {
                    self.offsets_of.insert(topic.clone(), VecDeque::from([entry.offset]));
                }
            }
        }
        self.next += 1;
        self.bytes += bytes;
        self.entries.push_back(Held { entry: Some(entry), bytes });
    }

    /// Leaves the next place empty.
    pub(crate) fn push_empty(&mut self) {
        self.next += 1;
        self.entries.push_back(Held { entry: None, bytes: 0 });
    }

    /// Puts older entries, in order, before the oldest one; each counts as what stands with it. It begins at
    /// `from` then, and where an offset is missing between there and what was the oldest, its place stays empty.
    ///
    /// # Panics
    ///
    /// If an entry does not lie in between.
    pub fn prepend(&mut self, from: u64, older: Vec<(Arc<Entry<P>>, usize)>) {
        for (entry, bytes) in older.into_iter().rev() {
            self.leave_empty(entry.offset + 1);
            assert_eq!(entry.offset + 1, self.bounds().oldest, "older entries come first");
            for topic in entry.topics.iter() {
                self.offsets_of.entry(topic.clone()).or_default().push_front(entry.offset);
            }
            self.bytes += bytes;
            self.entries.push_front(Held { entry: Some(entry), bytes });
        }
        self.leave_empty(from);
    }

    fn leave_empty(&mut self, from: u64) {
        while self.bounds().oldest > from {
            self.entries.push_front(Held { entry: None, bytes: 0 });
        }
    }

    /// Removes the oldest entry and returns it, unless it was removed before.
    pub fn pop(&mut self) -> Option<Arc<Entry<P>>> {
        let Held { entry, bytes } = self.entries.pop_front()?;
        self.bytes -= bytes;
        let entry = entry?;
        self.forget_topics(&entry);
        Some(entry)
    }

    /// Removes one entry before its time and returns it; its place stays empty.
    pub fn remove(&mut self, offset: u64) -> Option<Arc<Entry<P>>> {
        let place = self.place(offset).ok()?;
        let held = self.entries.get_mut(place)?;
        let entry = held.entry.take()?;
        self.bytes -= std::mem::take(&mut held.bytes);
        self.forget_topics(&entry);
        Some(entry)
    }

    fn forget_topics(&mut self, entry: &Entry<P>) {
        for topic in entry.topics.iter() {
            let Some(offsets) = self.offsets_of.get_mut(topic.as_str()) else { continue };
            // It is nearly always the first.
            if let Ok(place) = offsets.binary_search(&entry.offset) {
                offsets.remove(place);
            }
            if offsets.is_empty() {
                self.offsets_of.remove(topic.as_str());
            }
        }
    }

    /// Removes the oldest entries until at most so many entries and bytes are left.
    pub fn shrink(&mut self, events_max: usize, bytes_max: usize) {
        while self.entries.len() > events_max || self.bytes > bytes_max {
            self.pop();
        }
    }

    /// The entry at an offset, if it is here.
    pub(crate) fn get(&self, offset: u64) -> Option<&Arc<Entry<P>>> {
        let place = offset.checked_sub(self.bounds().oldest)?;
        self.entries.get(usize::try_from(place).ok()?)?.entry.as_ref()
    }

    /// The offset of the first entry under a topic from `from` on.
    pub fn first_under(&self, topic: &Topic, from: u64) -> Option<u64> {
        let offsets = self.offsets_of.get(topic.as_str())?;
        offsets.get(offsets.partition_point(|&offset| offset < from)).copied()
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry<P>>> {
        self.entries.iter().filter_map(|held| held.entry.as_ref())
    }

    /// How many places there are, empty ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What all entries count as.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the newest entry counts as, or 0.
    pub fn newest_bytes(&self) -> usize {
        self.entries.back().map_or(0, |held| held.bytes)
    }

    /// What can be read.
    pub fn bounds(&self) -> Bounds {
        Bounds { oldest: self.next - self.entries.len() as u64, next: self.next }
    }

    /// All entries from `from` on, at most `events_max`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] if `from` has left.
    pub fn from(&self, from: u64, events_max: usize) -> Result<Vec<Arc<Entry<P>>>, ReadError> {
        let place = self.place(from)?;
        let held = self.entries.range(place..).take(events_max);
        Ok(held.filter_map(|held| held.entry.clone()).collect())
    }

    /// Entries that may interest someone, from `from` up to at most `until`.
    ///
    /// Holds nothing against the interest but its exact topics, so that it is quick under a lock;
    /// [`Candidates::select`] does the rest without one.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] if `from` has left.
    pub fn candidates(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<Candidates<P>, ReadError> {
        self.place(from)?;
        let until = until.min(self.next);
        if from >= until {
            return Ok(Candidates { held: Vec::new(), end: from });
        }
        Ok(match interest.exact_topics() {
            Some(topics) => {
                let each_max = share(limit.candidates_max, interest).min(limit.events_max.max(1));
                self.indexed_forwards(topics, from, until, each_max)
            }
            None => {
                let end = until.min(from.saturating_add(limit.candidates_max as u64));
                Candidates { held: self.held_between(from, end).collect(), end }
            }
        })
    }

    /// Entries below `before` that may interest someone, newest first, at most `candidates_max`;
    /// as [`candidates`](Self::candidates).
    pub fn candidates_below(
        &self,
        before: u64,
        interest: &Interest,
        candidates_max: usize,
    ) -> Candidates<P> {
        let Bounds { oldest, next } = self.bounds();
        let before = before.min(next).max(oldest);
        match interest.exact_topics() {
            Some(topics) => self.indexed_backwards(topics, before, share(candidates_max, interest)),
            None => {
                let end = before.saturating_sub(candidates_max as u64).max(oldest);
                Candidates { held: self.held_between(end, before).rev().collect(), end }
            }
        }
    }

    /// Every entry under one of `topics`, at most `each_max` for each topic, and the offset up to
    /// which that is all of them.
    fn indexed_forwards<'a>(
        &'a self,
        topics: impl Iterator<Item = &'a Topic>,
        from: u64,
        until: u64,
        each_max: usize,
    ) -> Candidates<P> {
        let mut end = until;
        let mut found = Vec::new();
        for topic in topics {
            let Some(offsets) = self.offsets_of.get(topic.as_str()) else { continue };
            let first = offsets.partition_point(|&offset| offset < from);
            let mut left = offsets.range(first..).copied().take_while(|&offset| offset < until);
            found.extend(left.by_ref().take(each_max));
            // What follows a topic that was cut short is not known.
            end = left.next().map_or(end, |cut| end.min(cut));
        }
        found.sort_unstable();
        found.dedup();
        let known = found.into_iter().take_while(|&offset| offset < end);
        Candidates { held: known.filter_map(|offset| self.held(offset)).collect(), end }
    }

    /// The same backwards.
    fn indexed_backwards<'a>(
        &'a self,
        topics: impl Iterator<Item = &'a Topic>,
        before: u64,
        each_max: usize,
    ) -> Candidates<P> {
        let mut end = self.bounds().oldest;
        let mut found = Vec::new();
        for topic in topics {
            let Some(offsets) = self.offsets_of.get(topic.as_str()) else { continue };
            let first_above = offsets.partition_point(|&offset| offset < before);
            let mut left = offsets.range(..first_above).rev().copied();
            found.extend(left.by_ref().take(each_max));
            end = left.next().map_or(end, |cut| end.max(cut + 1));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        let known = found.into_iter().take_while(|&offset| offset >= end);
        Candidates { held: known.filter_map(|offset| self.held(offset)).collect(), end }
    }

    fn held(&self, offset: u64) -> Option<Candidate<P>> {
        candidate(&self.entries[(offset - self.bounds().oldest) as usize])
    }

    fn held_between(&self, from: u64, until: u64) -> impl DoubleEndedIterator<Item = Candidate<P>> {
        let oldest = self.bounds().oldest;
        let places = (from - oldest) as usize..(until - oldest) as usize;
        self.entries.range(places).filter_map(candidate)
    }

    fn place(&self, offset: u64) -> Result<usize, ReadError> {
        let oldest = self.bounds().oldest;
        match offset.checked_sub(oldest) {
            Some(place) => Ok((place as usize).min(self.entries.len())),
            None => Err(ReadError::Trimmed { oldest }),
        }
    }
}

fn candidate<P>(held: &Held<P>) -> Option<Candidate<P>> {
    Some(Candidate { entry: Arc::clone(held.entry.as_ref()?), bytes: held.bytes })
}

/// An entry that may interest someone, and what it counts as.
#[derive(Debug)]
pub(crate) struct Candidate<P> {
    pub(crate) entry: Arc<Entry<P>>,
    pub(crate) bytes: usize,
}

/// Entries that may interest someone: all there are between where the search began and `end`.
#[derive(Debug)]
pub struct Candidates<P> {
    pub(crate) held: Vec<Candidate<P>>,
    /// Forwards everything below this offset was looked at, backwards everything from it on.
    pub(crate) end: u64,
}

impl<P> Candidates<P> {
    /// Takes the interesting ones, in order, up to the limit.
    pub fn select(self, interest: &Interest, limit: ReadLimit) -> ReadStep<Arc<Entry<P>>> {
        let mut selection = Selection::new(interest, limit);
        for Candidate { entry, bytes } in self.held {
            if let Err(next) = selection.offer(entry, bytes) {
                return ReadStep { entries: selection.entries, next };
            }
        }
        ReadStep { entries: selection.entries, next: self.end }
    }

    /// Takes the first `wanted` interesting ones of those that come newest first; `oldest` is the
    /// oldest kept offset.
    pub fn search(
        self,
        wanted: u32,
        interest: &Interest,
        oldest: u64,
        comparisons_max: usize,
    ) -> SeekStep {
        let mut step = SeekStep { found: 0, lowest: None, before: self.end, complete: false };
        let mut comparisons = 0;
        for Candidate { entry, .. } in self.held {
            if step.found == wanted || comparisons > comparisons_max {
                step.before = entry.offset + 1;
                return step;
            }
            comparisons += comparisons_of(interest, &entry);
            if admits(interest, &entry) {
                step.found += 1;
                step.lowest = Some(entry.offset);
            }
        }
        step.complete = step.before <= oldest;
        step
    }
}

/// Takes interesting entries, one after the other, until a limit is reached.
#[derive(Debug)]
pub(crate) struct Selection<'a, E> {
    interest: &'a Interest,
    limit: ReadLimit,
    pub(crate) entries: Vec<E>,
    bytes: usize,
    comparisons: usize,
}

impl<'a, E> Selection<'a, E> {
    pub(crate) fn new(interest: &'a Interest, limit: ReadLimit) -> Self {
        Self { interest, limit, entries: Vec::new(), bytes: 0, comparisons: 0 }
    }

    /// Takes the next entry if it interests; an error says that the limit is reached, and at which
    /// offset to go on: its own.
    pub(crate) fn offer<P>(&mut self, entry: E, bytes: usize) -> Result<(), u64>
    where
        E: Borrow<Entry<P>>,
    {
        let seen = entry.borrow();
        if self.comparisons > self.limit.comparisons_max {
            return Err(seen.offset);
        }
        self.comparisons += comparisons_of(self.interest, seen);
        if !admits(self.interest, seen) {
            return Ok(());
        }
        self.bytes += bytes;
        let is_full =
            self.entries.len() == self.limit.events_max || self.bytes > self.limit.bytes_max;
        if is_full && !self.entries.is_empty() {
            return Err(seen.offset);
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// How much of `candidates_max` each of an interest's topics may use; at least one.
pub(crate) fn share(candidates_max: usize, interest: &Interest) -> usize {
    (candidates_max / interest.selectors().len().max(1)).max(1)
}

pub(crate) fn comparisons_of<P>(interest: &Interest, entry: &Entry<P>) -> usize {
    interest.selectors().len() * entry.topics.len()
}

pub(crate) fn admits<P>(interest: &Interest, entry: &Entry<P>) -> bool {
    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
}

/// What an entry counts as whose payload has so many bytes: its text, its place, and what the
/// index needs for each topic, with the allocator's share, rounded up.
pub fn entry_bytes<P>(entry: &Entry<P>, payload_bytes: usize) -> usize {
    let topics: usize = entry.topics.iter().map(|topic| topic.as_str().len() + TOPIC_BYTES).sum();
    let event_type = entry.event_type.as_ref().map_or(0, |event_type| event_type.as_str().len());
    ENTRY_BYTES + payload_bytes + topics + event_type
}

const ENTRY_BYTES: usize = 128;
const TOPIC_BYTES: usize = 192;
