//! What a publisher tried and what it was told, held against what is in the log.

use std::collections::HashMap;

use crate::history::{History, KeptEvent};

/// The publishes of one publisher, in the order in which it tried them. Each was tried only once the
/// one before was answered or its answer lost.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    publishes: Vec<Publish>,
}

/// Events that were published in one request.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) events: Vec<Event>,
    /// All of it is appended or nothing; if not, what stands first may be there alone.
    pub(crate) is_whole: bool,
    pub(crate) outcome: Outcome,
}

/// An event whose data no other event has.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) topics: Vec<String>,
    pub(crate) data: String,
    pub(crate) is_final: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Nobody knows: the answer has not come, or was lost.
    Unknown,
    /// Nothing was published.
    Refused,
    /// The events have these ids.
    Acknowledged(Vec<String>),
}

impl Ledger {
    /// Begins a publish, of which nothing is known yet.
    pub(crate) fn begin(&mut self, publish: Publish) {
        self.publishes.push(publish);
    }

    /// Notes what became of the publish that was begun last.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        self.publishes.last_mut().unwrap().outcome = outcome;
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        let acknowledged = |it: &&Publish| matches!(it.outcome, Outcome::Acknowledged(_));
        self.publishes.iter().filter(acknowledged).map(|it| it.events.len()).sum()
    }

    pub(crate) fn unknown_count(&self) -> usize {
        self.publishes.iter().filter(|it| it.outcome == Outcome::Unknown).count()
    }

    /// Holds it against the log, and takes what it accounts for out of `places`.
    pub(crate) fn check(&self, history: &History, places: &mut Places<'_>) {
        let mut before = None;
        for publish in &self.publishes {
            let found = publish.check(history, places);
            for &place in &found {
                assert!(before < Some(place), "out of order: {:?}", history.events[place]);
                before = Some(place);
            }
            if publish.is_whole
                && let [first, .., last] = found[..]
            {
                assert_eq!(last - first + 1, found.len(), "others within an array: {publish:?}");
            }
        }
    }
}

impl Publish {
    /// Answers the places at which its events stand.
    fn check(&self, history: &History, places: &mut Places<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for (number, event) in self.events.iter().enumerate() {
            let Some(place) = places.0.remove(event.data.as_str()) else { continue };
            let kept = &history.events[place];
            assert_eq!(found.len(), number, "{kept:?} is there without those before: {self:?}");
            assert_eq!((&kept.topics, kept.is_final), (&event.topics, event.is_final));
            if let Outcome::Acknowledged(ids) = &self.outcome {
                assert_eq!(kept.id, ids[number], "another id than was answered");
            }
            found.push(place);
        }
        let (some, all) = (found.len(), self.events.len());
        match &self.outcome {
            Outcome::Acknowledged(ids) => {
                assert_eq!((some, ids.len()), (all, all), "acknowledged and lost: {self:?}");
            }
            Outcome::Refused => assert_eq!(some, 0, "refused and published: {self:?}"),
            Outcome::Unknown if self.is_whole => {
                assert!(some == 0 || some == all, "{some} of {all} events: {self:?}");
            }
            Outcome::Unknown => {}
        }
        found
    }
}

/// The place of each event in the log by its data.
pub(crate) struct Places<'a>(HashMap<&'a str, usize>);

impl<'a> Places<'a> {
    /// Finds that each event, and each id, is there once.
    pub(crate) fn of(history: &'a History) -> Self {
        let mut places = HashMap::new();
        let mut ids = HashMap::new();
        let mut ends: HashMap<&str, usize> = HashMap::new();
        for (place, event) in history.events.iter().enumerate() {
            let KeptEvent { id, data, topics, is_final } = event;
            if let Some(other) = places.insert(data.as_str(), place) {
                panic!("twice: {:?} and {event:?}", history.events[other]);
            }
            if let Some(other) = ids.insert(id.as_str(), place) {
                panic!("one id: {:?} and {event:?}", history.events[other]);
            }
            for topic in topics {
                let end = ends.get(topic.as_str());
                assert_eq!(end, None, "after the last event of its topic: {event:?}");
                if *is_final {
                    ends.insert(topic, place);
                }
            }
        }
        Self(places)
    }

    /// Finds that nothing is there that nobody accounted for.
    pub(crate) fn check_empty(&self, history: &History) {
        let unaccounted = self.0.values().next().map(|&place| &history.events[place]);
        assert_eq!(unaccounted, None, "nobody published it");
    }
}
