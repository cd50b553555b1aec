//! What a conflating subscriber holds while it catches up: the newest event of each topic.
//!
//! It reads forward without being offered anything, and an event makes way for a newer one once
//! all its topics have had one. Then it is offered what is left, in order, and is told how many
//! events were left out, each of them once. What it does not take is let go of and read again; by
//! then more may have made way, and only these are still to be counted.
//!
//! Topics that the subscriber did not ask for do not count. A last event of a topic never makes way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::effect::Batch;
use crate::{Entry, Interest, Topic};

/// The events that are held for one subscriber, and what it was told of those left out.
#[derive(Debug)]
pub(crate) struct Conflation<P> {
    held: BTreeMap<u64, Held<P>>,
    newest: HashMap<Topic, u64>,
    topics_max: usize,
    /// Everything before this offset was looked at; counts while something is held.
    next: u64,
    /// Where to stop: the head when it began.
    target: u64,
    /// How many were left out of what is held.
    skipped: u64,
    /// Of everything before this offset it has been told,
    told_until: u64,
    /// except of these events, which it was offered and did not take; sorted.
    refused: Vec<u64>,
}

#[derive(Debug)]
struct Held<P> {
    entry: Arc<Entry<P>>,
    /// Of so many topics it is the newest event.
    topic_count: usize,
}

impl<P> Conflation<P> {
    /// Holds at most `topics_max` topics, or those of one event.
    pub(crate) fn new(topics_max: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            newest: HashMap::new(),
            topics_max,
            next: 0,
            target: 0,
            skipped: 0,
            told_until: 0,
            refused: Vec::new(),
        }
    }

    /// Where to read on, for a subscriber that has settled everything before `cursor`.
    pub(crate) fn position(&self, cursor: u64) -> u64 {
        if self.is_empty() { cursor } else { self.next }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether what is held is to be offered, even if there is more to read.
    pub(crate) fn is_complete(&self) -> bool {
        self.next >= self.target
    }

    /// Goes on reading at `next`.
    pub(crate) fn skip_to(&mut self, next: u64) {
        self.next = next;
    }

    /// Takes in events that `interest` admits, in order, of those before `next`. They are to be
    /// offered once everything before `head` was looked at, or when there is no room for more.
    pub(crate) fn hold(
        &mut self,
        interest: &Interest,
        entries: Vec<Arc<Entry<P>>>,
        next: u64,
        head: u64,
    ) {
        if self.is_empty() {
            self.target = head;
        }
        self.next = next;
        for entry in entries {
            let is_known = entry.offset < self.told_until
                && self.refused.binary_search(&entry.offset).is_err();
            if is_known {
                continue;
            }
            if !self.is_empty() && !self.has_room(&entry) {
                (self.next, self.target) = (entry.offset, 0);
                return;
            }
            self.hold_one(interest, entry);
        }
    }

    /// Gives up all that is held, in order, and the number of events that were left out of it.
    pub(crate) fn take(&mut self) -> (u64, Batch<P>) {
        let held = std::mem::take(&mut self.held);
        self.newest = HashMap::new();
        let entries = held.into_values().map(|held| held.entry).collect();
        (std::mem::take(&mut self.skipped), Batch { entries, next: self.next })
    }

    /// Takes note that what was taken has been offered, and all but `refused` was accepted.
    pub(crate) fn handle_offered(&mut self, next: u64, refused: &[Arc<Entry<P>>]) {
        self.refused.retain(|&offset| offset >= next);
        self.refused.splice(..0, refused.iter().map(|entry| entry.offset));
        self.told_until = self.told_until.max(next);
    }

    /// Whether there is nothing to remember for a subscriber that has settled everything before
    /// `cursor`.
    pub(crate) fn is_over(&self, cursor: u64) -> bool {
        self.is_empty() && self.told_until <= cursor
    }

    fn has_room(&self, entry: &Entry<P>) -> bool {
        // Last events of topics that have others since are not among the newest.
        if self.held.len() >= 2 * self.topics_max {
            return false;
        }
        let is_new = |topic: &&Topic| !self.newest.contains_key(*topic);
        self.newest.len() + entry.topics.len() <= self.topics_max
            || self.newest.len() + entry.topics.iter().filter(is_new).count() <= self.topics_max
    }

    fn hold_one(&mut self, interest: &Interest, entry: Arc<Entry<P>>) {
        let offset = entry.offset;
        let mut topic_count = 0;
        // The only topic of an event that was asked for was asked for.
        let is_only = entry.topics.len() == 1;
        for topic in entry.topics.iter().filter(|topic| is_only || interest.selects_one(topic)) {
            let older = self.newest.insert(topic.clone(), offset);
            // A topic may stand twice.
            if older != Some(offset) {
                topic_count += 1;
                older.into_iter().for_each(|older| self.make_way(older));
            }
        }
        self.held.insert(offset, Held { entry, topic_count });
    }

    fn make_way(&mut self, offset: u64) {
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.topic_count -= 1;
        if held.topic_count == 0 && !held.entry.is_final {
            self.held.remove(&offset);
            self.skipped += 1;
        }
    }
}

/// Topics that are held for one subscriber at most: as many as a large dashboard has.
pub(crate) const CONFLATED_TOPICS_MAX: usize = 1_024;
