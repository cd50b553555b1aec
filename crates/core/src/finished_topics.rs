//! Which topics of an interest have had their last event.
//!
//! What is known holds at the head: a topic that the log has finished later is open until the head
//! is there. Only an interest that names nothing but exact topics can come to an end; for one with
//! a pattern nothing is recorded.

use crate::{Entry, Interest, Selector, Topic};

/// The finished topics of one interest.
#[derive(Debug)]
pub(crate) struct FinishedTopics {
    /// How many topics the interest names, or `None` if it has a pattern.
    topic_count: Option<usize>,
    /// Those that are finished with the offset of their last event, sorted by topic.
    finished: Vec<(Topic, u64)>,
}

impl FinishedTopics {
    /// All topics of `interest` are open.
    pub(crate) fn none_of(interest: &Interest) -> Self {
        Self { topic_count: interest.exact_topics().map(Iterator::count), finished: Vec::new() }
    }

    /// Replaces what is known by what the log says, as far as it happened before `head`; the rest
    /// is still to come through [`note`](Self::note).
    pub(crate) fn replace(&mut self, interest: &Interest, finished: &[(Topic, u64)], head: u64) {
        self.finished.clear();
        if self.topic_count.is_none() {
            return;
        }
        for (topic, offset) in finished {
            if *offset < head && names(interest, topic) {
                self.finish(topic, *offset);
            }
        }
    }

    /// Takes note of an event at the head that has one of the topics of `interest`.
    pub(crate) fn note<P>(&mut self, interest: &Interest, entry: &Entry<P>) {
        if entry.is_final && self.topic_count.is_some() {
            for topic in entry.topics.iter().filter(|topic| names(interest, topic)) {
                self.finish(topic, entry.offset);
            }
        } else if !self.finished.is_empty() {
            self.finished.retain(|(topic, _)| !entry.topics.contains(topic));
        }
    }

    /// The offset after which no event is to come, or `None` while one may.
    pub(crate) fn end(&self) -> Option<u64> {
        if self.topic_count != Some(self.finished.len()) {
            return None;
        }
        self.finished.iter().map(|&(_, offset)| offset).max()
    }

    /// The finished topics, sorted.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.finished.iter().map(|(topic, _)| topic.clone()).collect()
    }

    fn finish(&mut self, topic: &Topic, offset: u64) {
        match self.finished.binary_search_by(|(known, _)| known.cmp(topic)) {
            Ok(place) => self.finished[place].1 = offset,
            Err(place) => self.finished.insert(place, (topic.clone(), offset)),
        }
    }
}

fn names(interest: &Interest, topic: &Topic) -> bool {
    let place =
        interest.selectors().binary_search_by(|selector| selector.as_str().cmp(topic.as_str()));
    place.is_ok_and(|place| matches!(interest.selectors()[place], Selector::Exact(_)))
}
