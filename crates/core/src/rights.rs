//! Rights: which private events a subscriber may receive.

use std::sync::Arc;

use crate::{selector::Selector, template::TopicBits, topic::Topic};

/// The private events that a subscriber may receive. Public events need no right.
///
/// Two rights are equal when they were made of the same selectors, in whatever order. Cloning
/// shares the selectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rights(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Everything,
    /// Sorted by text, each once, without [`Selector::All`]; empty for public events only.
    Of(Arc<[Selector]>),
}

impl Rights {
    /// Covers every private event.
    #[must_use]
    pub fn everything() -> Self {
        Self(Kind::Everything)
    }

    /// Covers no private event.
    #[must_use]
    pub fn public_only() -> Self {
        Self::of(Vec::new())
    }

    /// Covers the private events with a topic that one of `selectors` contains.
    #[must_use]
    pub fn of(mut selectors: Vec<Selector>) -> Self {
        if selectors.contains(&Selector::All) {
            return Self::everything();
        }
        selectors.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        selectors.dedup();
        Self(Kind::Of(selectors.into()))
    }

    /// Tells whether a private event with these topics may be received: some selector contains
    /// some topic.
    #[must_use]
    pub fn covers(&self, topics: &[Topic]) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Of(selectors) => topics.iter().any(|topic| {
                let topic = TopicBits::new(topic);
                selectors.iter().any(|selector| selector.matches_bits(&topic))
            }),
        }
    }
}

#[cfg(test)]
mod tests;
