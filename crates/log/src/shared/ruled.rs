//! The events under retention rules, as one node knows them, so that it can say which are to be dropped.

use std::collections::BTreeMap;
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
    owed: Owed,
}

/// What rules have dropped, and the store is to drop.
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
        Self { topics, ring: Ring::new(oldest), owed: Owed::default() }
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
        }
        self.topics.note_dropped(topic, offset);
        self.topics.drop_surplus(topic, offset, events);
    }

    /// Forgets what has left with everything else of its age.
    pub(super) fn forget_below(&mut self, oldest: u64) {
        while !self.ring.is_empty() && self.ring.bounds().oldest < oldest {
            if let Some(entry) = self.ring.pop() {
                self.forget(&entry, oldest);
            }
        }
    }

    /// Drops what is too old or too much at `now`.
    pub(super) fn enforce(&mut self, now: UnixMillis) {
        let dropped = self.topics.enforce(&self.ring, now, |&appended_at| appended_at);
        for (topic, offset) in dropped.surpluses {
            self.owed.add(&topic, offset);
        }
        for offset in dropped.offsets {
            let Some(entry) = self.ring.remove(offset) else { continue };
            self.forget(&entry, self.ring.bounds().oldest);
            entry.topics.iter().for_each(|topic| self.owed.add(topic, offset));
            self.owed.offsets.push(offset);
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
        self.topics.dropped(interest, from)
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
