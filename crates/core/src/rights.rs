//! Rights: which private events a subscriber may receive, and which topics may be published to.

use std::sync::Arc;

use crate::{selector::Selector, template::TopicBits, topic::Topic};

/// The private events that a subscriber may receive, or the topics that a publisher may publish to.
/// Receiving public events needs no right.
///
/// Two rights are equal when they were made of the same selectors, in whatever order. Cloning
/// shares the selectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rights(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Everything,
    /// Sorted by text, each once; empty for public events only.
    Of(Arc<[Selector]>),
}

impl Rights {
    /// Covers every private event, those of the hub's own topics included.
    #[must_use]
    pub fn everything() -> Self {
        Self(Kind::Everything)
    }

    /// Covers no private event.
    #[must_use]
    pub fn public_only() -> Self {
        Self::of(Vec::new())
    }

    /// Covers the private events with a topic that one of `selectors` contains. Topics of the hub's own
    /// are covered only by selectors that name them: neither by `*` nor by `{+topic}`.
    #[must_use]
    pub fn of(mut selectors: Vec<Selector>) -> Self {
        if selectors.contains(&Selector::All) {
            selectors.retain(|it| matches!(it, Selector::All) || it.is_reserved());
        }
        selectors.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        selectors.dedup();
        Self(Kind::Of(selectors.into()))
    }

    /// Covers besides the events that tell who joined and left the topics of `selectors`.
    #[must_use]
    pub fn with_presence<'a>(&self, selectors: impl IntoIterator<Item = &'a Selector>) -> Self {
        match &self.0 {
            Kind::Everything => Self::everything(),
            Kind::Of(own) => {
                let added = selectors.into_iter().filter_map(Selector::presence);
                Self::of(own.iter().cloned().chain(added).collect())
            }
        }
    }

    /// Tells whether a private event with these topics may be received: some selector contains
    /// some topic.
    #[must_use]
    pub fn covers(&self, topics: &[Topic]) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Of(selectors) => topics.iter().any(|topic| is_covered(selectors, topic)),
        }
    }

    /// Tells whether an event with these topics may be published: each topic is contained in some
    /// selector. True of no topics.
    #[must_use]
    pub fn covers_all(&self, topics: &[Topic]) -> bool {
        self.first_uncovered(topics).is_none()
    }

    /// Returns the first of `topics` that no selector contains, for an error to name.
    #[must_use]
    pub fn first_uncovered<'a>(&self, topics: &'a [Topic]) -> Option<&'a Topic> {
        match &self.0 {
            Kind::Everything => None,
            Kind::Of(selectors) => topics.iter().find(|topic| !is_covered(selectors, topic)),
        }
    }
}

fn is_covered(selectors: &[Selector], topic: &Topic) -> bool {
    let is_reserved = topic.is_reserved();
    if !is_reserved && selectors.contains(&Selector::All) {
        return true;
    }
    let topic = TopicBits::new(topic);
    let covers = |it: &Selector| (!is_reserved || it.is_reserved()) && it.matches_bits(&topic);
    selectors.iter().any(covers)
}

#[cfg(test)]
mod tests;
