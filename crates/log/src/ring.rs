//! A bounded run of the newest entries, with an index by topic.
//!
//! Reading what interests a few exact topics costs as much as they hold, whatever else is there.

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
    entry: Arc<Entry<P>>,
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
        for topic in &entry.topics {
            match self.offsets_of.get_mut(topic.as_str()) {
                Some(offsets) => offsets.push_back(entry.offset),
                None => {
                    self.offsets_of.insert(topic.clone(), VecDeque::from([entry.offset]));
                }
            }
        }
        self.next += 1;
        self.bytes += bytes;
        self.entries.push_back(Held { entry, bytes });
    }

    /// Removes the oldest entry and returns it.
    pub fn pop(&mut self) -> Option<Arc<Entry<P>>> {
        let Held { entry, bytes } = self.entries.pop_front()?;
        self.bytes -= bytes;
        for topic in &entry.topics {
            let offsets = self.offsets_of.get_mut(topic.as_str()).expect("every topic is indexed");
            offsets.pop_front();
            if offsets.is_empty() {
                self.offsets_of.remove(topic.as_str());
            }
        }
        Some(entry)
    }

    /// Removes the oldest entries until at most so many entries and bytes are left.
    pub fn shrink(&mut self, events_max: usize, bytes_max: usize) {
        while self.entries.len() > events_max || self.bytes > bytes_max {
            self.pop();
        }
    }

    /// The oldest entry.
    pub fn oldest(&self) -> Option<&Arc<Entry<P>>> {
        self.entries.front().map(|held| &held.entry)
    }

    /// What the newest entry counts as, or 0.
    pub fn newest_bytes(&self) -> usize {
        self.entries.back().map_or(0, |held| held.bytes)
    }

    /// What can be read.
    pub fn bounds(&self) -> Bounds {
        Bounds { oldest: self.next - self.entries.len() as u64, next: self.next }
    }

    /// What the entries count as.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All entries from `from` on, at most `events_max`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] if `from` has left.
    pub fn from(&self, from: u64, events_max: usize) -> Result<Vec<Arc<Entry<P>>>, ReadError> {
        let place = self.place(from)?;
        let held = self.entries.iter().skip(place).take(events_max);
        Ok(held.map(|held| Arc::clone(&held.entry)).collect())
    }

    /// As [`EventLog::read`](crate::EventLog::read).
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] if `from` has left.
    pub fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<P>, ReadError> {
        self.place(from)?;
        let until = until.min(self.next);
        if from >= until {
            return Ok(ReadStep { entries: Vec::new(), next: from });
        }
        let (candidates, next) = match interest.exact_topics() {
            Some(topics) => self.candidates_of(topics, from, until, limit.events_max),
            None => {
                let next = until.min(from.saturating_add(limit.examined_max as u64));
                (self.held_between(from, next).collect(), next)
            }
        };
        Ok(collect(&candidates, next, interest, limit))
    }

    /// As [`EventLog::seek`](crate::EventLog::seek).
    pub fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        examined_max: usize,
    ) -> SeekStep {
        let Bounds { oldest, next } = self.bounds();
        let before = before.min(next).max(oldest);
        if let Some(topics) = interest.exact_topics() {
            let mut offsets: Vec<u64> = topics
                .filter_map(|topic| self.offsets_of.get(topic.as_str()))
                .flat_map(|offsets| offsets.range(..offsets.partition_point(|&at| at < before)))
                .copied()
                .collect();
            offsets.sort_unstable_by(|a, b| b.cmp(a));
            offsets.dedup();
            let held = offsets.iter().map(|&offset| self.held(offset));
            let step = search(held, wanted, interest);
            return SeekStep { before: oldest, complete: true, ..step };
        }
        let lowest = before.saturating_sub(examined_max as u64).max(oldest);
        let step = search(self.held_between(lowest, before).rev(), wanted, interest);
        SeekStep { before: lowest, complete: lowest == oldest, ..step }
    }

    /// Every entry under one of `topics`, at most `events_max` for each topic, and the offset up to
    /// which that is all of them.
    fn candidates_of<'a>(
        &'a self,
        topics: impl Iterator<Item = &'a Topic>,
        from: u64,
        until: u64,
        events_max: usize,
    ) -> (Vec<&'a Held<P>>, u64) {
        let mut next = until;
        let mut candidates = Vec::new();
        for topic in topics {
            let Some(offsets) = self.offsets_of.get(topic.as_str()) else { continue };
            let first = offsets.partition_point(|&offset| offset < from);
            let mut left = offsets.range(first..).copied().take_while(|&offset| offset < until);
            candidates.extend(left.by_ref().take(events_max));
            // What follows a topic that was cut short is not known.
            next = left.next().map_or(next, |cut| next.min(cut));
        }
        candidates.sort_unstable();
        candidates.dedup();
        let known = candidates.into_iter().take_while(|&offset| offset < next);
        (known.map(|offset| self.held(offset)).collect(), next)
    }

    fn held(&self, offset: u64) -> &Held<P> {
        &self.entries[(offset - self.bounds().oldest) as usize]
    }

    fn held_between(&self, from: u64, until: u64) -> impl DoubleEndedIterator<Item = &Held<P>> {
        let oldest = self.bounds().oldest;
        self.entries.range((from - oldest) as usize..(until - oldest) as usize)
    }

    fn place(&self, offset: u64) -> Result<usize, ReadError> {
        let oldest = self.bounds().oldest;
        match offset.checked_sub(oldest) {
            Some(place) => Ok((place as usize).min(self.entries.len())),
            None => Err(ReadError::Trimmed { oldest }),
        }
    }
}

/// Takes the interesting ones of `candidates`, which are all there is before `next`, up to the
/// limit.
fn collect<P>(
    candidates: &[&Held<P>],
    next: u64,
    interest: &Interest,
    limit: ReadLimit,
) -> ReadStep<P> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    for held in candidates {
        if !admits(interest, &held.entry) {
            continue;
        }
        bytes += held.bytes;
        if entries.len() == limit.events_max || (bytes > limit.bytes_max && !entries.is_empty()) {
            return ReadStep { entries, next: held.entry.offset };
        }
        entries.push(Arc::clone(&held.entry));
    }
    ReadStep { entries, next }
}

/// Takes the first `wanted` interesting ones of entries that come newest first.
fn search<'a, P: 'a>(
    newest_first: impl Iterator<Item = &'a Held<P>>,
    wanted: u32,
    interest: &Interest,
) -> SeekStep {
    let interesting = newest_first.filter(|held| admits(interest, &held.entry));
    let mut step = SeekStep { found: 0, lowest: None, before: 0, complete: false };
    for held in interesting.take(wanted as usize) {
        step.found += 1;
        step.lowest = Some(held.entry.offset);
    }
    step
}

fn admits<P>(interest: &Interest, entry: &Entry<P>) -> bool {
    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
}
