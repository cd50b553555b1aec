//! The events under retention rules, as one node knows them, so that it can say which are to be dropped.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use tidings_core::{Entry, Interest, Topic};

use crate::retention::RuledTopics;
use crate::{Body, RetentionRule, Ring, UnixMillis};

/// The rules, and where and when the events are to which they apply: some 300 bytes of memory for each event
/// under a rule, and 16 for any other.
#[derive(Debug)]
pub(super) struct RuledEvents {
    topics: RuledTopics,
    ring: Ring<UnixMillis>,
    /// Up to here something may have been dropped that this node has never seen.
    unseen: u64,
    /// What rules drop that was dropped by others before it was noted here: the store may still hold it.
    suspects: Vec<u64>,
    /// What rules have dropped here, and the store still holds.
    held: VecDeque<Arc<Entry<UnixMillis>>>,
    owed: Owed,
}

/// What the store is to drop, and to remember for nodes that start later.
#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) offsets: Vec<u64>,
    /// Of topics that lose events the highest offset.
    pub(super) topics: BTreeMap<Topic, u64>,
}

impl RuledEvents {
    /// Those of a log whose oldest kept offset is `oldest`, and of which `dropped` is remembered. What is kept is
    /// to be [noted](Self::note).
    pub(super) fn new(rules: Vec<RetentionRule>, oldest: u64, dropped: &[(Topic, u64)]) -> Self {
        let mut topics = RuledTopics::new(rules);
        dropped.iter().for_each(|(topic, offset)| topics.note_dropped(topic, *offset));
        let (suspects, held, owed) = (Vec::new(), VecDeque::new(), Owed::default());
        Self { topics, ring: Ring::new(oldest), unseen: 0, suspects, held, owed }
    }

    /// Takes note of an entry, later than all others.
    pub(super) fn note(&mut self, entry: &Entry<Body>) {
        if self.ring.is_empty() {
            self.ring = Ring::new(entry.offset);
        }
        while self.ring.bounds().next < entry.offset {
            self.ring.push_empty();
        }
        let Entry { offset, topics, is_final, .. } = entry;
        for topic in topics.iter() {
            let is_kept = *offset > self.topics.surplus_of(topic);
            self.topics.count(topic, u64::from(is_kept));
        }
        if !topics.iter().any(|topic| self.topics.is_ruled(topic)) {
            self.ring.push_empty();
            return;
        }
        if !self.topics.is_kept(*offset, topics) {
            self.suspects.push(*offset);
        }
        let stamp = Entry {
            offset: *offset,
            topics: Arc::clone(topics),
            event_type: None,
            private: false,
            is_final: *is_final,
            payload: entry.payload.appended_at,
        };
        self.ring.push(Arc::new(stamp), 0);
    }

    /// Takes note of what another node has dropped.
    pub(super) fn note_dropped(&mut self, topic: &Topic, offset: u64) {
        let mut events = 0;
        let mut place = self.topics.surplus_of(topic);
        while let Some(next) = self.ring.first_under(topic, place + 1)
            && next <= offset
        {
            events += 1;
            place = next;
            self.suspects.push(next);
        }
        self.topics.note_dropped(topic, offset);
        self.topics.drop_surplus(topic, offset, events);
    }

    /// Takes note that something below an offset is gone that this node has never seen.
    pub(super) fn note_unseen(&mut self, below: u64) {
        self.unseen = self.unseen.max(below.saturating_sub(1));
    }

    /// Compares what was found between two offsets, perhaps only under some topics, with what should be there: what
    /// is not was dropped by another node, which had seen more or has another time.
    pub(super) fn note_found(
        &mut self,
        between: Range<u64>,
        topics: Option<&[Topic]>,
        found: &[Entry<Body>],
    ) {
        let found: HashSet<u64> = found.iter().map(|entry| entry.offset).collect();
        let mut known = self.known(between, topics);
        known.retain(|offset| !found.contains(offset));
        for offset in known {
            let Some(entry) = self.ring.get(offset).cloned() else { continue };
            entry.topics.iter().for_each(|topic| self.note_dropped(topic, offset));
            self.ring.remove(offset);
        }
    }

    /// The offsets of events under rules, perhaps only under some topics.
    fn known(&self, between: Range<u64>, topics: Option<&[Topic]>) -> Vec<u64> {
        let bounds = self.ring.bounds();
        let (from, until) = (between.start.max(bounds.oldest), between.end.min(bounds.next));
        let Some(topics) = topics else {
            return (from..until).filter(|&offset| self.ring.get(offset).is_some()).collect();
        };
        let mut known = Vec::new();
        for topic in topics {
            let mut place = from;
            while let Some(offset) = self.ring.first_under(topic, place).filter(|&at| at < until) {
                known.push(offset);
                place = offset + 1;
            }
        }
        known
    }

    /// Forgets what has left with everything else of its age.
    pub(super) fn forget_below(&mut self, oldest: u64) {
        while !self.ring.is_empty() && self.ring.bounds().oldest < oldest {
            if let Some(entry) = self.ring.pop() {
                self.forget(&entry, oldest);
            }
        }
        self.held.retain(|entry| entry.offset >= oldest);
    }

    /// Drops what is too old or too much at `now`.
    pub(super) fn enforce(&mut self, now: UnixMillis) {
        let suspects = std::mem::take(&mut self.suspects);
        let dropped = self.topics.enforce(&self.ring, now, |&appended_at| appended_at, suspects);
        for (topic, offset) in dropped.surpluses {
            self.owed.add(&topic, offset);
        }
        for offset in dropped.offsets {
            let Some(entry) = self.ring.remove(offset) else { continue };
            self.forget(&entry, self.ring.bounds().oldest);
            entry.topics.iter().for_each(|topic| self.owed.add(topic, offset));
            self.held.push_back(entry);
        }
        let is_due =
            |entry: &mut Arc<Entry<UnixMillis>>| entry.payload.saturating_add(GRACE_MS) <= now;
        while let Some(entry) = self.held.pop_front_if(is_due) {
            self.owed.offsets.push(entry.offset);
        }
    }

    /// What the store is to drop; who cannot have it done [puts it back](Self::postpone).
    pub(super) fn take_owed(&mut self) -> Owed {
        std::mem::take(&mut self.owed)
    }

    pub(super) fn postpone(&mut self, mut owed: Owed) {
        let later = std::mem::take(&mut self.owed);
        owed.offsets.extend(later.offsets);
        later.topics.iter().for_each(|(topic, &offset)| owed.add(topic, offset));
        self.owed = owed;
    }

    pub(super) fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        self.topics.is_kept(offset, topics)
    }

    pub(super) fn keeps(&self, offset: u64, topic: &Topic) -> bool {
        self.topics.keeps(offset, topic)
    }

    pub(super) fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        let unseen = (self.unseen >= from.max(1) && self.topics.may_concern(interest))
            .then_some(self.unseen);
        self.topics.dropped(interest, from).max(unseen)
    }

    fn forget(&mut self, entry: &Entry<UnixMillis>, oldest: u64) {
        for topic in entry.topics.iter() {
            let was_kept = entry.offset > self.topics.surplus_of(topic);
            self.topics.forget(topic, u64::from(was_kept), oldest);
        }
    }
}

impl Owed {
    fn add(&mut self, topic: &Topic, offset: u64) {
        let known = self.topics.entry(topic.clone()).or_default();
        *known = (*known).max(offset);
    }
}

/// How old an event is at least when the store drops it by a rule: long enough for all nodes that keep up to have
/// received it, so that none of them has to say that it may have missed something.
const GRACE_MS: u64 = 2_000;

#[cfg(test)]
mod tests;
