//! Random schedules of publishes, faults and lives, checked against what is in the store at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use fastrand::Rng;
use tidings_core::Epoch;

use super::*;
use crate::conformance::record;
use crate::{Key, Record};

/// What may happen in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Connections and answers are lost, and the store is restarted without loss.
    Rough,
    /// The store loses what it was told as well.
    Lossy,
}

struct Simulation {
    random: Rng,
    time: Virtual,
    store: InMemoryStore,
    nodes: Vec<Node>,
    /// What was published, and what became of it as far as the publisher was told.
    published: BTreeMap<String, Answer>,
    epochs: BTreeSet<String>,
}

struct Node {
    log: SharedLog<InMemoryEngine>,
    /// Where what it was told of begins in the present life.
    epoch: Epoch,
    next: u64,
    /// What it knows of this life: what it has followed, and what was acknowledged to it.
    followed: BTreeMap<u64, String>,
    acknowledged: BTreeMap<u64, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Acknowledged,
    Unknown,
    Refused,
}

type Checked = Result<(), String>;

impl Node {
    fn new(log: SharedLog<InMemoryEngine>) -> Self {
        let (epoch, next) = (log.epoch(), log.bounds().next);
        Self { log, epoch, next, followed: BTreeMap::new(), acknowledged: BTreeMap::new() }
    }

    /// Takes in what the node is told next; whether there was anything.
    fn follow(&mut self) -> Result<bool, String> {
        match self.log.follow(Duration::ZERO) {
            Followed::Nothing => return Ok(false),
            Followed::Entries(entries) => {
                for entry in entries {
                    if entry.offset != self.next {
                        return Err(format!("{} followed instead of {}", entry.offset, self.next));
                    }
                    self.next += 1;
                    self.followed.insert(entry.offset, entry.payload.data.to_string());
                }
            }
            Followed::Skipped { next } => {
                if next <= self.next {
                    return Err(format!("skipped from {} back to {next}", self.next));
                }
                self.next = next;
            }
            Followed::NewLife { epoch, bounds } => {
                if epoch == self.epoch {
                    return Err(format!("the life {epoch} is new to one who knows it"));
                }
                (self.epoch, self.next) = (epoch, bounds.next);
                self.followed.clear();
                self.acknowledged.clear();
            }
        }
        Ok(true)
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let time = Virtual::new(seed);
        let store = InMemoryStore::new(false);
        let nodes = Vec::new();
        let (published, epochs) = (BTreeMap::new(), BTreeSet::new());
        let random = Rng::with_seed(seed);
        let mut simulation = Self { random, time, store, nodes, published, epochs };
        for _ in 0..3 {
            let node = simulation.open();
            simulation.nodes.push(node);
        }
        simulation
    }

    fn open(&self) -> Node {
        let options = SharedLogOptions {
            retention: Retention { events_max: 30, ..SharedLogOptions::default().retention },
            append_timeout: Duration::from_millis(200),
            ..SharedLogOptions::default()
        };
        let time = Box::new(self.time.clone());
        Node::new(SharedLog::open_in(self.store.engine(), options, time).unwrap())
    }

    fn step(&mut self, weather: Weather) -> Checked {
        let place = self.random.usize(..self.nodes.len());
        match self.random.u8(..100) {
            0..35 => self.publish(place)?,
            35..65 => drop(self.nodes[place].follow()?),
            65..80 => self.fail(place),
            80..84 => self.time.advance(Duration::from_millis(self.random.u64(..2_000))),
            84..86 => self.nodes[place].log.trim(0),
            86..88 => self.store.set_down(self.random.bool()),
            88..90 => self.nodes[place].log.engine.set_cut(self.random.bool()),
            90..92 => self.store.deliver_late(),
            92..94 => self.store.set_unwritable(self.random.bool().then_some("it is full")),
            94..96 => self.store.restart(),
            96..97 => self.nodes[place] = self.open(),
            _ if weather == Weather::Rough => {}
            97 => self.store.empty(),
            _ => {
                self.store.lose_tail(self.random.u64(1..4));
                self.store.restart();
            }
        }
        Ok(())
    }

    fn fail(&mut self, place: usize) {
        const CALLS: [Call; 5] = [Call::Append, Call::Append, Call::Wait, Call::Open, Call::Trim];
        let call = CALLS[self.random.usize(..CALLS.len())];
        let unavailable = Fault::Fails(EngineError::Unavailable("no route".to_owned()));
        let fault = match self.random.u8(..4) {
            0 => Fault::AnswerLost,
            1 => Fault::Fails(EngineError::OtherLife),
            2 if call == Call::Append => Fault::Late,
            _ => unavailable,
        };
        self.nodes[place].log.engine.fail_next(call, fault);
    }

    /// Publishes something new, or again what nobody knows to be published.
    fn publish(&mut self, place: usize) -> Checked {
        let node = &mut self.nodes[place];
        let unknown = self
            .published
            .iter()
            .find(|(text, answer)| **answer == Answer::Unknown && text.starts_with("keyed"));
        let texts: Vec<String> = match unknown {
            Some((text, _)) if self.random.bool() => vec![text.clone()],
            _ => {
                let kind = if self.random.bool() { "keyed" } else { "plain" };
                let first = self.published.len();
                let count = self.random.usize(1..4);
                (first..first + count).map(|number| format!("{kind} {number}")).collect()
            }
        };
        let publishes = texts.iter().map(|text| vec![record_of(text)]).collect();
        let outcome = node.log.append(publishes, 0);
        let answer = match &outcome {
            Ok(_) => Answer::Acknowledged,
            Err(AppendError::Unknown(_)) => Answer::Unknown,
            Err(AppendError::Unavailable(_)) => Answer::Refused,
        };
        for text in &texts {
            let known = self.published.entry(text.clone()).or_insert(answer);
            // What was unknown before stays so if it is refused.
            if answer == Answer::Acknowledged {
                *known = answer;
            }
        }
        let Ok(appended) = outcome else { return Ok(()) };
        if appended.epoch != node.epoch {
            // It is told of the new life when it follows.
            return Ok(());
        }
        for (text, outcome) in texts.iter().zip(&appended.outcomes) {
            let Ok(offsets) = outcome else { return Err(format!("{text} was refused")) };
            for offset in offsets.iter() {
                node.acknowledged.insert(offset, text.clone());
                if node.log.bounds().next <= offset && node.log.epoch() == appended.epoch {
                    return Err(format!("{offset} is acknowledged, and cannot be read"));
                }
            }
        }
        Ok(())
    }

    /// Lets all faults pass, and has all nodes follow to the end.
    fn calm_down(&mut self) -> Checked {
        self.store.set_down(false);
        self.store.set_unwritable(None);
        self.store.deliver_late();
        self.nodes.iter().for_each(|node| node.log.engine.set_cut(false));
        let mut silent = 0;
        while silent < 30 {
            silent += 1;
            self.time.advance(Duration::from_secs(6));
            for node in &mut self.nodes {
                if node.follow()? {
                    silent = 0;
                }
            }
        }
        Ok(())
    }

    /// Compares what the nodes know with what is in the store.
    fn check(&mut self) -> Checked {
        let bounds = self.store.bounds();
        let stored = self.store.entries();
        let text_at: BTreeMap<u64, String> =
            stored.iter().map(|it| (it.offset, it.payload.data.to_string())).collect();
        let mut seen = BTreeSet::new();
        for text in text_at.values() {
            if !seen.insert(text) {
                return Err(format!("{text} was published twice"));
            }
            if self.published.get(text).is_none_or(|answer| *answer == Answer::Refused) {
                return Err(format!("{text} was refused, and is there"));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(failure) = node.log.failure() {
                return Err(format!("node {number} has not recovered: {failure}"));
            }
            if node.epoch != self.nodes[0].epoch || node.next != bounds.next {
                return Err(format!("node {number} has come to {} in {}", node.next, node.epoch));
            }
            let known = node.followed.iter().chain(&node.acknowledged);
            for (offset, text) in known.filter(|(offset, _)| **offset >= bounds.oldest) {
                if text_at.get(offset) != Some(text) {
                    let there = text_at.get(offset);
                    return Err(format!("node {number} knows {text} at {offset}, not {there:?}"));
                }
            }
            let first = node.followed.keys().next().map_or(bounds.next, |&first| first);
            for offset in first.max(bounds.oldest)..bounds.next {
                if !node.followed.contains_key(&offset) {
                    return Err(format!("node {number} was not told of {offset}"));
                }
            }
        }
        self.epochs.insert(self.nodes[0].epoch.to_string());
        Ok(())
    }

    fn run(&mut self, weather: Weather, flaw: Option<Flaw>) -> Checked {
        for round in 0..4 {
            for _ in 0..self.random.usize(5..30) {
                self.step(weather)?;
            }
            if let Some(flaw) = flaw.filter(|_| round == 2) {
                self.store.break_once(flaw);
            }
            self.calm_down()?;
            self.check()?;
        }
        Ok(())
    }
}

fn record_of(text: &str) -> Record {
    let key = text.starts_with("keyed").then(|| Key::parse(text).unwrap());
    Record { key, ..record("a", text) }
}

fn seeds(count: u64) -> Range<u64> {
    let first = std::env::var("TIDINGS_SEED").map_or(0, |seed| seed.parse().unwrap());
    println!("TIDINGS_SEED={first}");
    first..first + count
}

fn check(seed: u64, weather: Weather) -> Simulation {
    let mut simulation = Simulation::new(seed);
    let outcome = simulation.run(weather, None);
    assert_eq!(outcome, Ok(()), "TIDINGS_SEED={seed} in {weather:?} weather");
    simulation
}

#[test]
fn rough_weather_loses_and_doubles_nothing() {
    let (mut answers, mut lives) = (Vec::new(), 0);
    for seed in seeds(2_000) {
        let simulation = check(seed, Weather::Rough);
        lives += simulation.epochs.len();
        answers.extend(simulation.published.into_values());
    }
    let count = |answer| answers.iter().filter(|it| **it == answer).count();
    let counted = [Answer::Acknowledged, Answer::Unknown, Answer::Refused].map(count);
    // The schedules try what they are for.
    assert!(counted[0] > 20_000 && counted[1] > 500 && counted[2] > 5_000, "{counted:?}");
    assert!(lives < 2_500, "{lives} lives of 2,000 logs");
}

#[test]
fn whoever_has_seen_what_is_lost_is_told_of_another_life() {
    let lives: usize = seeds(2_000).map(|seed| check(seed, Weather::Lossy).epochs.len()).sum();
    assert!(lives > 3_000, "{lives}");
}

#[test]
fn a_broken_store_is_caught() {
    for flaw in [Flaw::Skip, Flaw::Repeat, Flaw::Reorder] {
        let mut caught = 0;
        let mut broken = 0;
        for seed in seeds(200) {
            let mut simulation = Simulation::new(seed);
            let outcome = simulation.run(Weather::Rough, Some(flaw));
            if !simulation.store.is_to_break() {
                broken += 1;
                caught += u32::from(outcome.is_err());
            }
        }
        assert!(broken > 100, "{flaw:?}: {broken}");
        assert!(caught * 10 >= broken * 9, "{flaw:?}: {caught} of {broken}");
    }
}
