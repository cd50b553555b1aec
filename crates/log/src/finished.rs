//! The topics that are finished, and the offsets of their last events.

use std::collections::{HashMap, VecDeque};

use tidings_core::Topic;

/// Finished topics, of which the oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct FinishedTopics {
    offsets: HashMap<Topic, u64>,
    /// In the order of their last events.
    order: VecDeque<(u64, Topic)>,
}

impl FinishedTopics {
    /// Takes note of the last event of a topic, later than all others.
    pub(crate) fn finish(&mut self, topic: Topic, offset: u64) {
        self.order.push_back((offset, topic.clone()));
        self.offsets.insert(topic, offset);
    }

    /// The offset of the last event of a topic.
    pub(crate) fn get(&self, topic: &Topic) -> Option<u64> {
        self.offsets.get(topic).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Forgets those whose last events are below `oldest`.
    pub(crate) fn forget_below(&mut self, oldest: u64) {
        while let Some((offset, _)) = self.order.front()
            && *offset < oldest
        {
            let Some((offset, topic)) = self.order.pop_front() else { return };
            if self.offsets.get(&topic) == Some(&offset) {
                self.offsets.remove(&topic);
            }
        }
    }
}
