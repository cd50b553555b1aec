//! What a subscriber wants and may have: its selectors, its event-type filter and its rights.
//!
//! Subscribers with equal interests receive the same events, so the hub decides once for all of
//! them. Two interests are equal when they hold the same selectors and types in any order.

use std::hash::{Hash, Hasher};

use crate::template::TopicBits;
use crate::{EventType, Rights, Selector, Topic};

/// The name `EventSource` gives to an event without a type.
const UNTYPED: &str = "message";

/// Decides whether an event is delivered to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interest {
    selectors: Selectors,
    event_types: Box<[EventType]>,
    rights: Rights,
}

/// Sorted by text, each once. Most interests have one, which needs no memory of its own.
#[derive(Debug, Clone)]
enum Selectors {
    One(Selector),
    Several(Box<[Selector]>),
}

impl Interest {
    /// Makes an interest in the topics that any of `selectors` matches. An empty `event_types`
    /// lets every type through; `message` stands for events without a type.
    pub fn new(selectors: Vec<Selector>, event_types: Vec<EventType>, rights: Rights) -> Self {
        let selectors = Selectors::new(normalise(selectors, Selector::as_str));
        let event_types = normalise(event_types, EventType::as_str).into();
        Self { selectors, event_types, rights }
    }

    /// The interest in whatever is published under one topic, with the same rights.
    #[must_use]
    pub fn narrowed_to(&self, topic: Topic) -> Self {
        Self::new(vec![Selector::Exact(topic)], Vec::new(), self.rights.clone())
    }

    /// The selectors, each once.
    pub fn selectors(&self) -> &[Selector] {
        self.selectors.as_slice()
    }

    /// Moves its texts to where the calling thread allocates. What was made between the buffers of
    /// a request keeps the memory around it from being given back; with who keeps it for long, it
    /// stands among its like.
    pub(crate) fn compact(self) -> Self {
        Self {
            selectors: Selectors::new(self.selectors().iter().map(Selector::compact).collect()),
            event_types: self.event_types.iter().map(EventType::compact).collect(),
            rights: self.rights,
        }
    }

    /// The exact topics this interest is limited to, or `None` if a selector is a pattern.
    ///
    /// A log that keeps an index by topic reads only these.
    pub fn exact_topics(&self) -> Option<impl Iterator<Item = &Topic>> {
        let exact = |selector: &Selector| matches!(selector, Selector::Exact(_));
        self.selectors().iter().all(exact).then(|| {
            self.selectors().iter().filter_map(|selector| match selector {
                Selector::Exact(topic) => Some(topic),
                Selector::All | Selector::Template(_) => None,
            })
        })
    }

    /// Whether an event under `topics` is delivered.
    pub fn admits(&self, topics: &[Topic], event_type: Option<&EventType>, private: bool) -> bool {
        self.selects(topics) && self.passes(topics, event_type, private)
    }

    /// Whether its rights cover an event under `topics`.
    pub fn may_receive(&self, topics: &[Topic], private: bool) -> bool {
        !private || self.rights.covers(topics)
    }

    /// Whether every public event that a selector matches is delivered.
    pub(crate) fn wants_all_types(&self) -> bool {
        self.event_types.is_empty()
    }

    /// The half of [`admits`](Self::admits) that remains once a selector is known to match.
    pub(crate) fn passes(
        &self,
        topics: &[Topic],
        event_type: Option<&EventType>,
        private: bool,
    ) -> bool {
        self.wants_type(event_type) && self.may_receive(topics, private)
    }

    /// Whether events under `topic` are asked for.
    pub(crate) fn selects_one(&self, topic: &Topic) -> bool {
        self.selects(std::slice::from_ref(topic))
    }

    fn selects(&self, topics: &[Topic]) -> bool {
        topics.iter().any(|topic| {
            let topic = TopicBits::new(topic);
            self.selectors().iter().any(|selector| selector.matches_bits(&topic))
        })
    }

    fn wants_type(&self, event_type: Option<&EventType>) -> bool {
        let name = event_type.map_or(UNTYPED, EventType::as_str);
        self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted.as_str() == name)
    }
}

impl Selectors {
    fn new(mut selectors: Vec<Selector>) -> Self {
        match selectors.pop() {
            Some(only) if selectors.is_empty() => Self::One(only),
            last => {
                selectors.extend(last);
                Self::Several(selectors.into())
            }
        }
    }

    fn as_slice(&self) -> &[Selector] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Several(selectors) => selectors,
        }
    }
}

impl PartialEq for Selectors {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Selectors {}

impl Hash for Selectors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

/// Sorts by text and removes what stands twice, so that equal sets compare equal.
fn normalise<T>(mut items: Vec<T>, text: fn(&T) -> &str) -> Vec<T> {
    items.sort_by(|a, b| text(a).cmp(text(b)));
    items.dedup_by(|a, b| text(a) == text(b));
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(selectors: &[&str], event_types: &[&str], rights: Rights) -> Interest {
        Interest::new(
            selectors.iter().map(|text| Selector::parse(text).unwrap()).collect(),
            event_types.iter().map(|text| EventType::parse(text).unwrap()).collect(),
            rights,
        )
    }

    fn check(interest: &Interest, topics: &[&str], event_type: &str, private: bool) -> bool {
        let topics: Vec<Topic> = topics.iter().map(|text| Topic::parse(text).unwrap()).collect();
        let event_type = (!event_type.is_empty()).then(|| EventType::parse(event_type).unwrap());
        interest.admits(&topics, event_type.as_ref(), private)
    }

    #[test]
    fn any_selector_and_any_topic_suffice() {
        let wanted = interest(&["a", "orders/{id}"], &[], Rights::everything());
        assert!(check(&wanted, &["a"], "", false));
        assert!(check(&wanted, &["x", "orders/7"], "", false));
        assert!(!check(&wanted, &["x", "orders/7/items"], "", false));
    }

    #[test]
    fn message_stands_for_events_without_a_type() {
        let wanted = interest(&["*"], &["message", "done"], Rights::everything());
        assert!(check(&wanted, &["a"], "", false));
        assert!(check(&wanted, &["a"], "message", false));
        assert!(check(&wanted, &["a"], "done", false));
        assert!(!check(&wanted, &["a"], "progress", false));
    }

    #[test]
    fn private_events_need_rights_to_one_of_their_topics() {
        let mine = Rights::of(vec![Selector::parse("users/7").unwrap()]);
        let wanted = interest(&["*"], &[], mine);
        assert!(check(&wanted, &["a"], "", false));
        assert!(!check(&wanted, &["a"], "", true));
        assert!(check(&wanted, &["a", "users/7"], "", true));
    }

    #[test]
    fn order_and_repetition_do_not_make_another_interest() {
        let one = interest(&["b", "a", "b"], &["y", "x"], Rights::everything());
        let other = interest(&["a", "b"], &["x", "y", "y"], Rights::everything());
        assert_eq!(one, other);
    }

    #[test]
    fn only_exact_selectors_name_their_topics() {
        let exact = interest(&["a", "b"], &[], Rights::everything());
        assert_eq!(
            exact.exact_topics().unwrap().map(Topic::as_str).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(interest(&["a", "*"], &[], Rights::everything()).exact_topics().is_none());
    }
}
