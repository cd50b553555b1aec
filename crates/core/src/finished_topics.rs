//! Which topics of an interest have had their last event.
//!
//! What is known holds at the head: a topic that the log has finished later is open until the head
//! is there. Only an interest that names nothing but exact topics can come to an end; for one with
//! a pattern nothing is recorded.

use crate::{Entry, Interest, Selector, Topic};

/// The finished topics of one interest. Takes memory only while there are any.
#[derive(Debug, Default)]
pub(crate) struct FinishedTopics(Option<Box<Known>>);

/// At least one topic is finished, of an interest that names nothing but exact topics.
#[derive(Debug)]
struct Known {
    /// How many topics the interest names.
    topic_count: usize,
    /// Those that are finished with the offset of their last event, sorted by topic.
    finished: Vec<(Topic, u64)>,
}

impl FinishedTopics {
    /// Replaces what is known by what the log says, as far as it happened before `head`; the rest
    /// is still to come through [`note`](Self::note).
    pub(crate) fn replace(&mut self, interest: &Interest, finished: &[(Topic, u64)], head: u64) {
        self.0 = None;
        for (topic, offset) in finished {
            if *offset < head && names(interest, topic) {
                self.finish(interest, topic, *offset);
            }
        }
    }

    /// Takes note of an event at the head that has one of the topics of `interest`.
    pub(crate) fn note<P>(&mut self, interest: &Interest, entry: &Entry<P>) {
        // Whoever may not receive the last event is not to learn of it either.
        if entry.is_final && interest.may_receive(&entry.topics, entry.private) {
            for topic in entry.topics.iter().filter(|topic| names(interest, topic)) {
                self.finish(interest, topic, entry.offset);
            }
        } else if let Some(known) = &mut self.0 {
            known.finished.retain(|(topic, _)| !entry.topics.contains(topic));
            if known.finished.is_empty() {
                self.0 = None;
            }
        }
    }

    /// The offset after which no event is to come, or `None` while one may.
    pub(crate) fn end(&self) -> Option<u64> {
        let known = self.0.as_ref().filter(|known| known.finished.len() == known.topic_count)?;
        known.finished.iter().map(|&(_, offset)| offset).max()
    }

    /// The finished topics, sorted.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let known = self.0.iter().flat_map(|known| &known.finished);
        known.map(|(topic, _)| topic.clone()).collect()
    }

    fn finish(&mut self, interest: &Interest, topic: &Topic, offset: u64) {
        let Some(topic_count) = interest.exact_topics().map(Iterator::count) else { return };
        let finished = &mut self
            .0
            .get_or_insert_with(|| Box::new(Known { topic_count, finished: Vec::new() }))
            .finished;
        match finished.binary_search_by(|(known, _)| known.cmp(topic)) {
            Ok(place) => finished[place].1 = offset,
            Err(place) => finished.insert(place, (topic.clone(), offset)),
        }
    }
}

fn names(interest: &Interest, topic: &Topic) -> bool {
    let place =
        interest.selectors().binary_search_by(|selector| selector.as_str().cmp(topic.as_str()));
    place.is_ok_and(|place| matches!(interest.selectors()[place], Selector::Exact(_)))
}
