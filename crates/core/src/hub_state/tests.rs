//! Random schedules against a slow, obvious model.
//!
//! The shell of these tests is a log that can be trimmed, outlets of random room, reads and seeks
//! that are answered late and in any order, and a clock that jumps. The model knows every event
//! ever published and says what each subscriber must have received. A failing schedule prints its
//! seed; `TIDINGS_SEED=<seed> cargo test -p tidings-core` runs that one alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::{Bounds, SubscriberKey};
use crate::{EventType, Rights, Selector, Topic, resume_after};

type State = HubState<()>;

const OPTIONS: StateOptions =
    StateOptions { heartbeat_ms: 15_000, write_timeout_ms: 30_000, log_retry_ms: 1_000 };
const TOPICS: [&str; 5] = ["a", "b", "orders/1", "orders/2", "orders/2/items"];
const SELECTORS: [&str; 6] = ["a", "b", "*", "orders/{id}", "orders/2", "{+any}"];
const TYPES: [&str; 3] = ["message", "created", "deleted"];
const SCHEDULES: u64 = 10_000;
const STEPS: usize = 250;

/// What the test knows of a subscriber that the state machine must not be asked about.
struct Client {
    interest: Interest,
    /// The first offset it is owed.
    from: u64,
    received: Vec<u64>,
    /// Offsets that were announced as gone, from and up to.
    gone: Vec<(u64, u64)>,
    /// How many more entries its outlet takes, and whether the state machine was told it is full.
    room: usize,
    blocked: bool,
    stalled: bool,
}

/// Reads and seeks that have not been answered.
enum Question {
    Read { key: SubscriberKey, from: u64, until: u64 },
    Seek { key: SubscriberKey, interest: Arc<Interest>, before: u64, wanted: u32 },
}

struct World {
    rng: Rng,
    state: State,
    now: Millis,
    published: Vec<Arc<Entry<()>>>,
    /// The oldest kept offset.
    oldest: u64,
    clients: BTreeMap<SubscriberKey, Client>,
    questions: VecDeque<Question>,
    closed: HashMap<SubscriberKey, CloseReason>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            state: State::new(Epoch::from_random(seed), 1, OPTIONS),
            now: 0,
            published: Vec::new(),
            oldest: 1,
            clients: BTreeMap::new(),
            questions: VecDeque::new(),
            closed: HashMap::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self.check();
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..15 => self.publish(),
            15..30 => self.hand_over(),
            30..42 => self.subscribe(),
            42..67 => self.answer(),
            67..80 => self.make_room(),
            80..84 => self.trim(),
            84..90 => self.vanish(),
            90..94 => self.pass_time(),
            // Now and then effects stay undone while other things happen.
            _ => return,
        }
        if self.rng.u32(0..10) > 0 {
            self.perform();
        } else {
            self.perform_some();
        }
    }

    fn next_offset(&self) -> u64 {
        self.published.len() as u64 + 1
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            let topics = (0..self.rng.usize(1..3))
                .map(|_| Topic::parse(TOPICS[self.rng.usize(..TOPICS.len())]).unwrap())
                .collect();
            let event_type = TYPES[self.rng.usize(..TYPES.len())];
            let entry = Entry {
                offset: self.next_offset(),
                topics,
                event_type: (event_type != "message")
                    .then(|| EventType::parse(event_type).unwrap()),
                private: self.rng.bool(),
                is_final: false,
                payload: (),
            };
            self.published.push(Arc::new(entry));
        }
    }

    /// Hands over some of what has been published since: a shard may be behind its log.
    fn hand_over(&mut self) {
        let (head, next) = (self.state.head(), self.next_offset());
        if head == next {
            return;
        }
        let until = self.rng.u64(head..next) + 1;
        if self.rng.u32(0..30) == 0 {
            self.state.handle_skipped(until, |_| None);
        } else {
            self.state.handle_appended(&self.published[head as usize - 1..until as usize - 1]);
        }
    }

    fn subscribe(&mut self) {
        let interest = self.random_interest();
        let next = self.next_offset();
        let bounds = Bounds { oldest: self.oldest, next };
        let (start, gap) = match self.rng.u32(0..6) {
            0 => (Start::At(next), None),
            1 => (Start::At(self.oldest), None),
            2 => (Start::Last(self.rng.u32(0..6)), None),
            3 => resume_after(b"forged", self.state.epoch, bounds),
            _ => {
                let offset = self.rng.u64(0..next);
                let id = Position { epoch: self.state.epoch, offset }.to_string();
                resume_after(id.as_bytes(), self.state.epoch, bounds)
            }
        };
        let from = match start {
            Start::At(offset) => offset,
            Start::After(offset) => offset + 1,
            Start::Last(wanted) => self.model_of_last(&interest, wanted),
        };
        let stream = StreamOptions { control: true, poll_deadline: None, jitter: self.rng.f32() };
        let announced = gap.is_some();
        let key = self.state.subscribe(interest.clone(), &[], start, gap, stream, self.now);
        let client = Client {
            interest,
            from,
            received: Vec::new(),
            gone: Vec::new(),
            room: self.rng.usize(1..8),
            blocked: false,
            stalled: false,
        };
        // A gap at the start counts as announced; everything kept follows, which `from` says.
        assert!(!announced || from == self.oldest);
        self.clients.insert(key, client);
    }

    /// One of few interests, so that groups have several members, or any.
    fn random_interest(&mut self) -> Interest {
        if self.rng.bool() {
            let selector = Selector::parse(SELECTORS[self.rng.usize(..2)]).unwrap();
            return Interest::new(vec![selector], Vec::new(), Rights::everything());
        }
        let selectors = (0..self.rng.usize(1..3))
            .map(|_| Selector::parse(SELECTORS[self.rng.usize(..SELECTORS.len())]).unwrap())
            .collect();
        let types = (0..self.rng.usize(0..3).saturating_sub(1))
            .map(|_| EventType::parse(TYPES[self.rng.usize(..TYPES.len())]).unwrap())
            .collect();
        let rights = match self.rng.u32(0..3) {
            0 => Rights::everything(),
            1 => Rights::public_only(),
            _ => Rights::of(vec![Selector::parse("orders/{id}").unwrap()]),
        };
        Interest::new(selectors, types, rights)
    }

    /// The offset of the `wanted`-th last kept event that `interest` admits, or the oldest such,
    /// among those that were handed over.
    fn model_of_last(&self, interest: &Interest, wanted: u32) -> u64 {
        let head = self.state.head();
        let handed_over = self.kept(self.oldest.min(head), head);
        let matching = handed_over.filter(|entry| admits(interest, entry));
        let mut offsets: Vec<u64> = matching.map(|entry| entry.offset).collect();
        offsets.reverse();
        offsets.truncate(wanted as usize);
        offsets.last().copied().unwrap_or(head)
    }

    fn kept(&self, from: u64, until: u64) -> impl DoubleEndedIterator<Item = &Arc<Entry<()>>> {
        self.published[from as usize - 1..until as usize - 1].iter()
    }

    fn perform(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            self.perform_one(effect);
        }
    }

    fn perform_some(&mut self) {
        for _ in 0..self.rng.usize(0..4) {
            let Some(effect) = self.state.poll_effect() else { return };
            self.perform_one(effect);
        }
    }

    fn perform_one(&mut self, effect: Effect<()>) {
        match effect {
            Effect::Write(write) => self.write(&write),
            Effect::Announce { subscriber, notice } => self.note(subscriber, notice),
            Effect::Heartbeat { subscriber, .. } => self.beat(subscriber),
            Effect::Read { subscriber: key, interest: _, from, until } => {
                self.questions.push_back(Question::Read { key, from, until });
            }
            Effect::Seek { subscriber: key, interest, before, wanted } => {
                self.questions.push_back(Question::Seek { key, interest, before, wanted });
            }
            Effect::Close { subscriber, reason, .. } => {
                self.closed.insert(subscriber, reason);
                self.clients.remove(&subscriber);
            }
        }
    }

    fn write(&mut self, write: &Write<()>) {
        let Some(client) = self.clients.get_mut(&write.subscriber) else { return };
        let accepted = write.batch.entries.len().min(client.room);
        client.room -= accepted;
        client.received.extend(write.batch.entries[..accepted].iter().map(|entry| entry.offset));
        client.blocked = client.room == 0;
        let writable = !client.blocked;
        self.state.handle_written(write, accepted, writable, self.now);
    }

    fn note(&mut self, key: SubscriberKey, notice: Notice) {
        let oldest_now = self.oldest;
        let Some(client) = self.clients.get_mut(&key) else { return };
        match notice {
            Notice::Gap(gap) => {
                assert!(client.received.is_empty() && client.gone.is_empty());
                assert!(client.from <= gap.oldest && gap.oldest <= oldest_now);
                client.gone.push((client.from, gap.oldest));
            }
            Notice::Lagged { missed, oldest } => {
                assert!(missed < oldest && oldest <= oldest_now, "only what is gone is announced");
                client.gone.push((missed, oldest));
            }
            Notice::Shutdown { .. } | Notice::Finished { .. } => {
                unreachable!("no schedule does that")
            }
        }
    }

    fn beat(&mut self, key: SubscriberKey) {
        if self.clients.get(&key).is_some_and(|client| client.stalled && client.blocked) {
            self.state.handle_backlog(key, self.now.saturating_sub(20_000), self.now);
        }
    }

    /// Answers one question, not always the oldest, from the log as it is now.
    fn answer(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let question = self.questions.remove(self.rng.usize(..self.questions.len())).unwrap();
        let failed = self.rng.u32(0..20) == 0;
        match question {
            Question::Read { key, .. } if failed => {
                self.state.handle_read(key, ReadOutcome::Failed, self.now);
            }
            Question::Seek { key, .. } if failed => {
                self.state.handle_sought(key, SeekOutcome::Failed, self.now);
            }
            Question::Read { key, from, until } => {
                let outcome = self.read(from, until);
                self.state.handle_read(key, outcome, self.now);
            }
            Question::Seek { key, interest, before, wanted } => {
                if let Some(client) = self.clients.get_mut(&key) {
                    // It wants the last events that are kept when they are looked for.
                    client.from = client.from.max(self.oldest.min(before));
                }
                let outcome = self.sought(&interest, before, wanted);
                self.state.handle_sought(key, outcome, self.now);
            }
        }
    }

    fn read(&mut self, from: u64, until: u64) -> ReadOutcome<()> {
        if from < self.oldest {
            return ReadOutcome::Trimmed { oldest: self.oldest };
        }
        let next = self.rng.u64(from + 1..=until);
        let entries = self.kept(from, next).cloned().collect();
        ReadOutcome::Entries { entries, next, dropped: None }
    }

    fn sought(&mut self, interest: &Interest, before: u64, wanted: u32) -> SeekOutcome {
        let lowest_step = before.saturating_sub(self.rng.u64(1..10)).max(self.oldest).min(before);
        let hits: Vec<u64> = self
            .kept(lowest_step, before)
            .rev()
            .filter(|entry| admits(interest, entry))
            .map(|entry| entry.offset)
            .take(wanted as usize)
            .collect();
        SeekOutcome::Found {
            found: hits.len() as u32,
            lowest: hits.last().copied(),
            before: lowest_step,
            complete: lowest_step <= self.oldest,
        }
    }

    fn random_client(&mut self) -> Option<SubscriberKey> {
        let place = self.rng.usize(..self.clients.len().max(1));
        self.clients.keys().nth(place).copied()
    }

    fn make_room(&mut self) {
        let Some(key) = self.random_client() else { return };
        let client = self.clients.get_mut(&key).unwrap();
        client.room += self.rng.usize(1..6);
        if std::mem::take(&mut client.blocked) {
            self.state.handle_writable(key, self.now);
        }
    }

    fn trim(&mut self) {
        self.oldest = self.rng.u64(self.oldest..=self.next_offset());
    }

    fn vanish(&mut self) {
        let Some(key) = self.random_client() else { return };
        self.state.unsubscribe(key);
        self.clients.remove(&key);
    }

    fn pass_time(&mut self) {
        self.now += self.rng.u64(1..20_000);
        self.state.handle_timeout(self.now);
    }

    /// Answers everything and lets every client read until nothing moves.
    fn settle(&mut self) {
        loop {
            self.perform();
            if self.state.head() < self.next_offset() {
                self.hand_over();
                continue;
            }
            if !self.questions.is_empty() {
                self.answer();
                continue;
            }
            let blocked = self.clients.iter().find(|(_, client)| client.blocked);
            if let Some((&key, _)) = blocked {
                let client = self.clients.get_mut(&key).unwrap();
                (client.room, client.blocked) = (100, false);
                self.state.handle_writable(key, self.now);
                continue;
            }
            if !self.state.subscribers.values().any(waits_for_log) {
                return;
            }
            self.now += OPTIONS.log_retry_ms;
            self.state.handle_timeout(self.now);
        }
    }

    /// Every client has received, in order and once, what it was owed and was not told is gone.
    fn check(&self) {
        assert_eq!(self.state.subscriber_count(), self.clients.len());
        for (key, client) in &self.clients {
            let is_gone = |offset: u64| client.gone.iter().any(|&(a, b)| (a..b).contains(&offset));
            let owed: Vec<u64> = self
                .kept(client.from, self.next_offset())
                .filter(|entry| admits(&client.interest, entry) && !is_gone(entry.offset))
                .map(|entry| entry.offset)
                .collect();
            assert_eq!(
                client.received, owed,
                "{key:?} from {}, gone {:?}",
                client.from, client.gone
            );
        }
    }
}

fn admits(interest: &Interest, entry: &Entry<()>) -> bool {
    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
}

fn waits_for_log(subscriber: &Subscriber) -> bool {
    matches!(subscriber.phase, Phase::WaitingForLog { .. })
}

#[test]
fn every_schedule_delivers_what_the_model_says() {
    let seeds = match std::env::var("TIDINGS_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("TIDINGS_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SCHEDULES,
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        if let Err(panic) = outcome {
            eprintln!("the schedule of TIDINGS_SEED={seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_poll_does_not_end_before_what_is_kept_was_read() {
    let mut state = State::new(Epoch::from_random(1), 1, OPTIONS);
    let entry = Arc::new(Entry {
        offset: 1,
        topics: [Topic::parse("a").unwrap()].into(),
        event_type: None,
        private: false,
        is_final: false,
        payload: (),
    });
    state.handle_appended(std::slice::from_ref(&entry));
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions { control: true, poll_deadline: Some(0), jitter: 0.0 };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { from: 1, until: 2, .. })));

    state.handle_timeout(5_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: false, .. })));
    assert!(state.poll_effect().is_none());
    assert!(state.poll_timeout() > Some(5_000), "it does not wait in a circle");

    let entries = vec![entry];
    state.handle_read(key, ReadOutcome::Entries { entries, next: 2, dropped: None }, 5_000);
    let Some(Effect::Write(write)) = state.poll_effect() else { panic!("nothing is offered") };
    state.handle_written(&write, 1, true, 5_000);
    let closed = state.poll_effect();
    assert!(
        matches!(closed, Some(Effect::Close { reason: CloseReason::PollDone, cursor: 2, .. })),
        "{closed:?}"
    );
}

#[test]
fn heartbeats_and_ends_far_ahead_come_in_their_time() {
    let options = StateOptions { heartbeat_ms: 600_000, ..OPTIONS };
    let mut state = State::new(Epoch::from_random(1), 1, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions { control: true, poll_deadline: None, jitter: 0.0 };
    let poll = StreamOptions { poll_deadline: Some(60_000), ..stream };
    let streaming = state.subscribe(interest.clone(), &[], Start::At(1), None, stream, 0);
    let polling = state.subscribe(interest, &[], Start::At(1), None, poll, 0);
    let mut happened = Vec::new();
    while let Some(now) = state.poll_timeout().filter(|&now| now <= 1_200_000) {
        state.handle_timeout(now);
        while let Some(effect) = state.poll_effect() {
            match effect {
                Effect::Heartbeat { subscriber, is_silent: true } => {
                    happened.push((now, subscriber, "heartbeat"));
                }
                Effect::Close { subscriber, .. } => happened.push((now, subscriber, "close")),
                _ => {}
            }
        }
    }
    assert_eq!(
        happened,
        [
            (60_000, polling, "close"),
            (600_000, streaming, "heartbeat"),
            (1_200_000, streaming, "heartbeat"),
        ]
    );
}

#[test]
fn a_log_that_failed_is_tried_again_in_time_even_if_a_heartbeat_comes_first() {
    let options = StateOptions { heartbeat_ms: 1_000, log_retry_ms: 1_500, ..OPTIONS };
    let mut state = State::new(Epoch::from_random(1), 5, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions { control: true, poll_deadline: None, jitter: 0.0 };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
    state.handle_read(key, ReadOutcome::Failed, 0);
    state.handle_timeout(1_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: true, .. })));
    assert_eq!(state.poll_timeout(), Some(1_500));
    state.handle_timeout(1_500);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
}
