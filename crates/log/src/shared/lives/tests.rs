use super::*;

const FRESH: Epoch = Epoch::from_random(100);

/// What is expected of a verdict.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// The life goes on, and so does its term.
    Same,
    /// The life goes on with a new term.
    Term,
    /// Another life begins.
    Begins,
}
use Expected::{Begins, Same, Term as NewTerm};

fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

/// A record of the life 1, with terms and the lives before it.
fn record(terms: &[(&str, u64)], past: &[u64]) -> LifeRecord {
    let term = |&(server, from): &(&str, u64)| Term { server: server.to_owned(), from };
    LifeRecord {
        epoch: epoch(1).to_string(),
        terms: terms.iter().map(term).collect(),
        past: past.iter().map(|&number| epoch(number).to_string()).collect(),
    }
}

/// What a node saw of a life: its number, the last server, the next offset.
fn seen((number, server, next): (u64, &str, u64)) -> Seen {
    Seen { life: Life { epoch: epoch(number), server: server.to_owned() }, next }
}

fn check(
    name: &str,
    terms: &[(&str, u64)],
    found: (&str, u64),
    node: Option<(u64, &str, u64)>,
    is_durable: bool,
    expected: &Expected,
) {
    let stored = record(terms, &[7]);
    let (server, next) = found;
    let seen = node.map(seen);
    let verdict = judge(Some(&stored), server, next, seen.as_ref(), is_durable, FRESH);
    let told = match &verdict.record {
        None => Same,
        Some(record) if record.epoch == stored.epoch => NewTerm,
        Some(_) => Begins,
    };
    assert_eq!(&told, expected, "{name}");
    let life = if told == Begins { FRESH } else { epoch(1) };
    assert_eq!(verdict.life, Life { epoch: life, server: server.to_owned() }, "{name}");
    let Some(record) = verdict.record else { return };
    assert_eq!(record.epoch, life.to_string(), "{name}");
    let last = Term { server: server.to_owned(), from: next };
    assert_eq!(record.terms.last(), Some(&last), "{name}");
    if told == Begins {
        assert_eq!(record.terms.len(), 1, "{name}");
        assert!(record.past.contains(&stored.epoch), "{name}");
    }
}

#[test]
fn a_life_goes_on_if_nothing_is_missing_and_somebody_vouches_for_it() {
    let a: &[_] = &[("a", 1)];
    let ab: &[_] = &[("a", 1), ("b", 100)];
    let abc: &[_] = &[("a", 1), ("b", 100), ("c", 90)];
    for (name, terms, found, node, is_durable, expected) in [
        ("a node that starts", a, ("a", 50), None, false, Same),
        ("a node that comes again", a, ("a", 50), Some((1, "a", 50)), false, Same),
        ("a node that was behind", a, ("a", 50), Some((1, "a", 10)), false, Same),
        ("a node that saw more than there is", a, ("a", 50), Some((1, "a", 51)), false, Begins),
        ("and a durable server says nothing else", a, ("a", 50), Some((1, "a", 51)), true, Begins),
        ("restart, nobody saw it", a, ("b", 50), None, false, Begins),
        ("restart of a durable server", a, ("b", 50), None, true, NewTerm),
        ("restart, a witness", a, ("b", 50), Some((1, "a", 50)), false, NewTerm),
        ("restart, a witness that saw less", a, ("b", 50), Some((1, "a", 30)), false, NewTerm),
        ("restart, a witness that saw more", a, ("b", 50), Some((1, "a", 51)), false, Begins),
        ("durable, a witness that saw more", a, ("b", 50), Some((1, "a", 51)), true, Begins),
        ("taken up, saw as much", ab, ("b", 150), Some((1, "a", 100)), false, Same),
        (
            "taken up, saw more, and it has grown",
            ab,
            ("b", 150),
            Some((1, "a", 101)),
            false,
            Begins,
        ),
        ("taken up, was there since", ab, ("b", 150), Some((1, "b", 150)), false, Same),
        (
            "who knows an older server is no witness",
            ab,
            ("c", 150),
            Some((1, "a", 90)),
            false,
            Begins,
        ),
        ("but may see that it is durable", ab, ("c", 150), Some((1, "a", 90)), true, NewTerm),
        ("a later loss", abc, ("c", 150), Some((1, "a", 95)), false, Begins),
        ("not touched by a later loss", abc, ("c", 150), Some((1, "a", 90)), false, Same),
        ("a server that is forgotten", ab, ("b", 150), Some((1, "z", 20)), true, Begins),
        ("from a life that has ended", a, ("a", 50), Some((7, "a", 999)), false, Same),
        ("from one that has ended, restart", a, ("b", 50), Some((7, "a", 999)), false, Begins),
        ("from a life that the store has lost", a, ("a", 50), Some((8, "a", 10)), true, Begins),
    ] {
        check(name, terms, found, node, is_durable, &expected);
    }
}

#[test]
fn a_store_that_knows_no_life_begins_one() {
    let no_terms = record(&[], &[]);
    let strange = LifeRecord { epoch: "?".to_owned(), ..record(&[("a", 1)], &[]) };
    for stored in [None, Some(&no_terms), Some(&strange)] {
        let witness = seen((1, "a", 5));
        for seen in [None, Some(&witness)] {
            let verdict = judge(stored, "a", 5, seen, true, FRESH);
            assert_eq!(verdict.life.epoch, FRESH);
            assert_eq!(verdict.record.map(|it| it.epoch), Some(FRESH.to_string()));
        }
    }
}

#[test]
fn two_witnesses_come_to_one_life_whoever_is_first() {
    let stored = record(&[("a", 1)], &[]);
    let (less, more) = (seen((1, "a", 40)), seen((1, "a", 60)));
    // Who saw less takes it up, and it grows before who saw more comes.
    let first = judge(Some(&stored), "b", 50, Some(&less), false, FRESH).record.unwrap();
    let second = judge(Some(&first), "b", 80, Some(&more), false, FRESH);
    assert_eq!(second.life.epoch, FRESH);
    // Who saw more is first; then the other one follows.
    let first = judge(Some(&stored), "b", 50, Some(&more), false, FRESH).record.unwrap();
    let second = judge(Some(&first), "b", 80, Some(&less), false, epoch(101));
    assert_eq!((second.record, second.life.epoch), (None, FRESH));
}

#[test]
fn nodes_that_come_to_an_emptied_store_settle_on_one_life() {
    let nodes = [seen((1, "a", 40)), seen((1, "a", 60)), seen((2, "a", 9))];
    let mut stored = judge(None, "a", 1, None, false, epoch(10)).record.unwrap();
    let mut lives = Vec::new();
    for round in 0..3 {
        for (node, fresh) in nodes.iter().zip(20 + 10 * round..) {
            let node = match lives.last() {
                Some(life) if round > 0 => Seen { life: Life::clone(life), next: 1 },
                _ => node.clone(),
            };
            let verdict = judge(Some(&stored), "a", 1, Some(&node), false, epoch(fresh));
            stored = verdict.record.unwrap_or(stored);
            lives.push(verdict.life);
        }
    }
    assert!(lives[3..].iter().all(|life| *life == lives[2]), "{lives:?}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut stored = record(&[("0", 1)], &[]);
    for number in 1..200 {
        let name = number.to_string();
        stored = judge(Some(&stored), &name, number, None, true, FRESH).record.unwrap();
    }
    assert_eq!(stored.terms.len(), TERMS_MAX);
    for number in 1_000..1_200 {
        let name = number.to_string();
        stored = judge(Some(&stored), &name, 1, None, false, epoch(number)).record.unwrap();
    }
    assert_eq!((stored.past.len(), stored.terms.len()), (PAST_MAX, 1));
    assert!(stored.past.contains(&epoch(1_198).to_string()));
}

#[test]
fn a_record_without_a_past_is_read() {
    let text = r#"{"epoch":"0000000001","terms":[{"server":"a","from":1}]}"#;
    let read: LifeRecord = serde_json::from_str(text).unwrap();
    assert_eq!(read, record(&[("a", 1)], &[]));
}

/// A store that loses what it likes when it is restarted, and what nodes remember of it.
struct Model {
    random: fastrand::Rng,
    stored: Option<LifeRecord>,
    /// What is in the log: offset 1 first. No two events are the same.
    events: Vec<u64>,
    server: u64,
    given: u64,
    lives: u64,
}

struct Witness {
    seen: Option<Seen>,
    /// The events that it saw in its life.
    events: Vec<u64>,
}

impl Model {
    fn restart(&mut self) {
        self.server += 1;
        if self.random.bool() {
            let kept = self.random.usize(..=self.events.len());
            self.events.truncate(kept);
        }
        if self.random.u8(..20) == 0 {
            self.events.clear();
            self.stored = None;
        }
    }

    fn open(&mut self, node: &mut Witness, epochs: &mut Vec<Epoch>) {
        self.lives += 1;
        let (server, next) = (self.server.to_string(), self.events.len() as u64 + 1);
        let fresh = epoch(self.lives);
        let verdict = judge(self.stored.as_ref(), &server, next, node.seen.as_ref(), false, fresh);
        if let Some(record) = verdict.record {
            self.stored = Some(record);
        }
        let is_same = node.seen.as_ref().is_some_and(|it| it.life.epoch == verdict.life.epoch);
        if is_same {
            assert!(
                self.events.starts_with(&node.events),
                "it saw {:?} and is not told that {:?} is what is left",
                node.events,
                self.events
            );
        } else {
            node.events = self.events.clone();
        }
        if verdict.life.epoch == fresh {
            assert!(!epochs.contains(&fresh));
            epochs.push(fresh);
        }
        let next = node.events.len() as u64 + 1;
        node.seen = Some(Seen { life: verdict.life, next });
    }

    /// Whether the node finds that the store is what it knows.
    fn is_current(&self, node: &Witness) -> bool {
        let stored = self.stored.as_ref().map(|it| it.epoch.clone());
        node.seen.as_ref().is_some_and(|seen| {
            Some(seen.life.epoch.to_string()) == stored
                && seen.life.server == self.server.to_string()
        })
    }
}

#[test]
fn no_node_overlooks_that_something_is_missing_that_it_has_seen() {
    let random = fastrand::Rng::with_seed(7);
    let (stored, events) = (None, Vec::new());
    let mut model = Model { random, stored, events, server: 0, given: 0, lives: 0 };
    let mut nodes: Vec<Witness> =
        (0..3).map(|_| Witness { seen: None, events: Vec::new() }).collect();
    let mut epochs = Vec::new();
    for _ in 0..50_000 {
        let node = &mut nodes[model.random.usize(..3)];
        match model.random.u8(..10) {
            0 => model.restart(),
            1 => node.seen = None,
            _ if !model.is_current(node) => model.open(node, &mut epochs),
            2..6 => {
                model.given += 1;
                model.events.push(model.given);
            }
            _ => {
                // It follows, though perhaps not up to the end.
                let upto = model.random.usize(node.events.len()..=model.events.len());
                node.events.clone_from(&model.events[..upto].to_vec());
                if let Some(seen) = &mut node.seen {
                    seen.next = upto as u64 + 1;
                }
            }
        }
    }
    assert!(epochs.len() > 1_000 && model.given > 5_000, "{} {}", epochs.len(), model.given);
}
