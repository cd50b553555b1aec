//! Random schedules against a slow, obvious model.
//!
//! The shell of these tests is a log that loses events from its start and from its middle, topics
//! that finish and open again, outlets of random room, reads and seeks that are answered late and
//! in any order, and a clock that jumps. The model knows every event ever published and says what
//! each subscriber must have received, what may have been left out for one that conflates, what it
//! must have been told, and whether its stream may or must have ended. A failing schedule prints its seed;
//! `TIDINGS_SEED=<seed> cargo test -p tidings-core` runs that one alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;

use crate::effect::{Effect, Notice, ReadOutcome, SeekOutcome, Write};
use crate::hub_state::HubState;
use crate::subscriber::{Phase, Search, StreamOptions, Subscriber};
use crate::{
    Bounds, CloseReason, Entry, Epoch, EventType, ExpiryReason, Gap, GapReason, Interest, Millis,
    Position, Rights, Selector, Start, SubscriberKey, Topic, resume_after,
};

use super::OPTIONS;

const TOPICS: [&str; 5] = ["a", "b", "orders/1", "orders/2", "orders/2/items"];
const SELECTORS: [&str; 6] = ["a", "b", "*", "orders/{id}", "orders/2", "{+any}"];
const TYPES: [&str; 3] = ["message", "created", "deleted"];
const SCHEDULES: u64 = 10_000;
const STEPS: usize = 250;

/// What the test knows of a subscriber that the state machine must not be asked about.
struct Client {
    interest: Interest,
    stream: StreamOptions,
    /// The head when it came, and the topics that were finished in the log by then.
    came_at: u64,
    finished_then: Vec<Topic>,
    /// The first offset it is owed, as far as it has been looked for.
    from: u64,
    /// How much is to be looked for yet.
    search: Option<Search>,
    received: Vec<u64>,
    /// The offset it resumed after, until it has received something or was told of a loss.
    resumed_after: Option<u64>,
    /// Whether it named no id and has not read yet: it is owed only what its first read finds.
    is_unread: bool,
    /// The highest offset whose loss from the middle of the log it knows.
    told_until: u64,
    /// Where it need not have received what is lost.
    excused: Vec<Range<u64>>,
    /// Gaps and lags it must be told of, in this order.
    expected: VecDeque<Notice>,
    /// How many events it was told were left out.
    skipped: u64,
    was_told: bool,
    was_told_end: bool,
    /// Why it was sent away.
    expelled: Option<ExpiryReason>,
    /// Whether it was there when the state was shut down.
    is_leaving: bool,
    /// How many more entries its outlet takes, and since when the state machine was told that it
    /// is full.
    room: usize,
    blocked_since: Option<Millis>,
    /// Its outlet does not say that it sends nothing.
    is_stalled: bool,
}

/// Reads and seeks that have not been answered.
enum Question {
    Read { key: SubscriberKey, from: u64, until: u64 },
    Seek { key: SubscriberKey, before: u64, wanted: u32 },
}

/// How often streams ended in each way and were told of a loss.
type Tally = BTreeMap<String, usize>;

struct World {
    rng: Rng,
    state: HubState<()>,
    epoch: Epoch,
    now: Millis,
    published: Vec<Arc<Entry<()>>>,
    /// The oldest kept offset.
    oldest: u64,
    /// The offsets that are lost although older ones are kept.
    dropped: BTreeSet<u64>,
    /// The topics that the log holds for finished, with the offset of their last event.
    finished: BTreeMap<Topic, u64>,
    clients: BTreeMap<SubscriberKey, Client>,
    questions: VecDeque<Question>,
    tally: Tally,
}

impl Client {
    /// What a loss of `range` means for it.
    fn lose(&mut self, epoch: Epoch, range: Range<u64>) {
        let (missed, oldest) = (range.start, range.end);
        // One that conflates may have to read from further back again, and says so in the notice.
        let is_unsaid = self.stream.conflate && !self.stream.control;
        self.excused.push(if is_unsaid { self.from..oldest } else { range });
        let notice = match self.resumed_after.take() {
            None => Notice::Lagged { missed, oldest },
            Some(offset) => Notice::Gap(Gap {
                requested: Position { epoch, offset }.to_string(),
                oldest,
                reason: GapReason::Trimmed,
            }),
        };
        self.expect(notice);
    }

    fn check_loss(&mut self, mut notice: Notice) {
        if let Some(Notice::Lagged { missed, .. }) = self.expected.front()
            && let Notice::Lagged { missed: said, oldest } = &mut notice
            && self.stream.conflate
        {
            assert!(*said <= *missed, "lost from {missed} on, not from {said}");
            self.excused.push(*said..*oldest);
            *said = *missed;
        } else if let Notice::Gap(gap) = &notice
            && self.stream.conflate
        {
            self.excused.push(self.from..gap.oldest);
        }
        assert_eq!(self.expected.pop_front(), Some(notice));
    }

    fn expect(&mut self, notice: Notice) {
        if self.stream.control {
            self.expected.push_back(notice);
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let epoch = Epoch::from_random(seed);
        let mut rng = Rng::with_seed(seed);
        let mut state = HubState::new(epoch, 1, OPTIONS);
        if rng.bool() {
            state.conflated_topics_max = rng.usize(1..4);
        }
        Self {
            rng,
            state,
            epoch,
            now: 0,
            published: Vec::new(),
            oldest: 1,
            dropped: BTreeSet::new(),
            finished: BTreeMap::new(),
            clients: BTreeMap::new(),
            questions: VecDeque::new(),
            tally: Tally::new(),
        }
    }

    fn run(mut self) -> Tally {
        let shutdown_at = self.rng.usize(..STEPS * 8);
        for step in 0..STEPS {
            self.step();
            if step == shutdown_at {
                self.shutdown();
            }
        }
        self.settle();
        self.check();
        self.now += LONG_MS;
        self.state.handle_timeout(self.now);
        self.settle();
        self.check();
        let may_stay = |client: &Client| {
            client.stream.poll_deadline.is_none() && client.stream.expires_at.is_none()
        };
        assert!(self.clients.values().all(may_stay), "a poll has an end, and so have rights");
        assert!(!self.clients.values().any(|client| client.is_leaving), "a shutdown has an end");
        self.tally
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..15 => self.publish(),
            15..30 => self.hand_over(),
            30..42 => self.subscribe(),
            42..65 => self.answer(),
            65..78 => self.make_room(),
            78..81 => self.trim(),
            81..84 => self.drop_some(),
            84..85 => self.open_again(),
            85..86 => self.expel(),
            86..90 => self.vanish(),
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
            let open: Vec<Topic> = TOPICS
                .iter()
                .map(|text| Topic::parse(text).unwrap())
                .filter(|topic| !self.finished.contains_key(topic))
                .collect();
            if open.is_empty() {
                return;
            }
            let topics: Arc<[Topic]> = (0..self.rng.usize(1..3))
                .map(|_| open[self.rng.usize(..open.len())].clone())
                .collect();
            let event_type = TYPES[self.rng.usize(..TYPES.len())];
            let entry = Entry {
                offset: self.next_offset(),
                topics,
                event_type: (event_type != "message")
                    .then(|| EventType::parse(event_type).unwrap()),
                private: self.rng.bool(),
                is_final: self.rng.u32(0..8) == 0,
                payload: (),
            };
            if entry.is_final {
                self.finished.extend(entry.topics.iter().map(|t| (t.clone(), entry.offset)));
            }
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
        if self.rng.u32(0..20) == 0 {
            self.state.handle_skipped(until, |interest, topic| {
                finished_for(&self.finished, &self.published, interest, topic)
            });
        } else {
            self.state.handle_appended(&self.published[head as usize - 1..until as usize - 1]);
        }
    }

    /// The log may hold more than the state was told of, and have held less when the subscriber came.
    fn last_events(&mut self, head: u64, next: u64) -> Start {
        let draw = self.rng.u32(0..36);
        let before = (head.saturating_sub(3).max(self.oldest) + u64::from(draw / 6)).min(next);
        Start::Last { wanted: draw % 6, before }
    }

    fn subscribe(&mut self) {
        let interest = self.random_interest();
        let (head, next) = (self.state.head(), self.next_offset());
        let bounds = Bounds { oldest: self.oldest, next };
        let (start, gap) = match self.rng.u32(0..6) {
            0 => (Start::At(next), None),
            1 => (Start::At(self.oldest), None),
            2 => (self.last_events(head, next), None),
            3 => resume_after(b"forged", self.epoch, bounds),
            _ => {
                let id = Position { epoch: self.epoch, offset: self.rng.u64(0..next) }.to_string();
                resume_after(id.as_bytes(), self.epoch, bounds)
            }
        };
        let (from, search, resumed_after) = match start {
            Start::At(offset) => (offset, None, None),
            Start::After(offset) => (offset + 1, None, Some(offset)),
            Start::Last { wanted: 0, before } => (before, None, None),
            Start::Last { wanted, before } => (before, Some(Search { wanted, before }), None),
        };
        let poll_deadline = (self.rng.u32(0..6) == 0).then(|| self.now + self.rng.u64(0..30_000));
        let control = self.rng.u32(0..8) > 0;
        let conflate = self.rng.u32(0..3) == 0;
        let expires_at = (self.rng.u32(0..6) == 0).then(|| self.now + self.rng.u64(0..60_000));
        let jitter = self.rng.f32();
        let stream = StreamOptions { control, conflate, poll_deadline, expires_at, jitter };
        let finished: Vec<(Topic, u64)> = exact_topics(&interest)
            .filter_map(|topic| {
                let last = finished_for(&self.finished, &self.published, &interest, topic)?;
                Some((topic.clone(), last))
            })
            .collect();
        let key =
            self.state.subscribe(interest.clone(), &finished, start, gap.clone(), stream, self.now);
        let mut client = Client {
            interest,
            stream,
            came_at: head,
            finished_then: finished.into_iter().map(|(topic, _)| topic).collect(),
            from,
            search,
            received: Vec::new(),
            resumed_after,
            is_unread: resumed_after.is_none() && search.is_none() && from < head,
            told_until: 0,
            excused: Vec::new(),
            expected: VecDeque::new(),
            skipped: 0,
            was_told: false,
            was_told_end: false,
            expelled: None,
            is_leaving: false,
            room: self.rng.usize(1..8),
            blocked_since: None,
            is_stalled: self.rng.u32(0..5) == 0,
        };
        if let Some(gap) = gap {
            client.expect(Notice::Gap(gap));
        }
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

    fn events(&self, offsets: Range<u64>) -> impl DoubleEndedIterator<Item = &Arc<Entry<()>>> {
        self.published[offsets.start as usize - 1..offsets.end as usize - 1].iter()
    }

    fn kept(&self, offsets: Range<u64>) -> impl DoubleEndedIterator<Item = &Arc<Entry<()>>> {
        self.events(offsets).filter(|entry| !self.is_lost(entry.offset))
    }

    fn is_lost(&self, offset: u64) -> bool {
        offset < self.oldest || self.dropped.contains(&offset)
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
            Effect::Seek { subscriber: key, interest: _, before, wanted } => {
                self.questions.push_back(Question::Seek { key, before, wanted });
            }
            Effect::Close { subscriber, reason, cursor } => {
                if let Some(client) = self.clients.remove(&subscriber) {
                    *self.tally.entry(format!("{reason:?}")).or_default() += 1;
                    self.check_close(&client, reason, cursor);
                }
            }
        }
    }

    fn write(&mut self, write: &Write<()>) {
        let Some(client) = self.clients.get_mut(&write.subscriber) else { return };
        assert!(!client.was_told_end, "nothing follows the end");
        let accepted = write.batch.entries.len().min(client.room);
        client.room -= accepted;
        client.received.extend(write.batch.entries[..accepted].iter().map(|entry| entry.offset));
        client.resumed_after = client.resumed_after.filter(|_| accepted == 0);
        let writable = client.room > 0;
        client.blocked_since = (!writable).then_some(self.now);
        self.state.handle_written(write, accepted, writable, self.now);
    }

    fn note(&mut self, key: SubscriberKey, notice: Notice) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        assert!(!client.was_told_end, "nothing follows the end");
        match notice {
            Notice::Gap(_) | Notice::Lagged { .. } => {
                *self.tally.entry("Loss".to_owned()).or_default() += 1;
                client.check_loss(notice);
                client.was_told = true;
            }
            Notice::Conflated { skipped } => {
                assert!(client.stream.conflate && client.stream.control && skipped > 0);
                *self.tally.entry("Conflated".to_owned()).or_default() += 1;
                client.skipped += skipped;
                client.was_told = true;
            }
            Notice::Shutdown { .. } => {
                assert!(client.is_leaving);
                client.was_told = true;
            }
            Notice::Expired { reason } => {
                assert!(client.stream.control);
                assert_eq!(reason, client.expelled.unwrap_or(ExpiryReason::Expired));
                client.was_told_end = true;
            }
            Notice::Finished { topics } => {
                assert!(client.stream.control);
                assert!(exact_topics(&client.interest).eq(&topics), "{topics:?}");
                client.was_told_end = true;
            }
        }
    }

    fn beat(&mut self, key: SubscriberKey) {
        let Some(client) = self.clients.get(&key).filter(|client| client.is_stalled) else {
            return;
        };
        if let Some(since) = client.blocked_since {
            self.state.handle_backlog(key, since, self.now);
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
                let outcome = self.read(key, from, until);
                self.state.handle_read(key, outcome, self.now);
            }
            Question::Seek { key, before, wanted } => {
                let outcome = self.sought(key, before, wanted);
                self.state.handle_sought(key, outcome, self.now);
            }
        }
    }

    fn read(&mut self, key: SubscriberKey, from: u64, until: u64) -> ReadOutcome<()> {
        let (epoch, oldest, head) = (self.epoch, self.oldest, self.state.head());
        if from < oldest {
            if let Some(client) = self.asker(key) {
                client.lose(epoch, from..oldest);
                client.is_unread &= oldest < head;
            }
            return ReadOutcome::Trimmed { oldest };
        }
        let next = self.rng.u64(from + 1..=until);
        let is_from_memory = self.rng.u32(0..6) == 0;
        let entries = if is_from_memory {
            // There, nothing has been dropped.
            self.events(from..next).cloned().collect()
        } else {
            self.kept(from..next).cloned().collect()
        };
        if self.rng.u32(0..6) == 0 {
            self.drop_some();
        }
        let dropped = self.dropped_from(key, from).filter(|_| !is_from_memory);
        // What the state machine has yet to be handed is not lost for anybody.
        let known = dropped.map_or(0, |offset| offset.min(head - 1));
        if let Some(client) = self.asker(key) {
            if std::mem::take(&mut client.is_unread) {
                client.excused.push(from..known + 1);
                client.told_until = known;
            } else if known > client.told_until {
                client.lose(epoch, from..known + 1);
                client.told_until = known;
            }
        }
        let is_scarce = self.rng.u32(0..8) == 0;
        ReadOutcome::Entries { entries, next, dropped, is_scarce }
    }

    /// The highest dropped offset that may interest someone: the log does not know more of what it
    /// lost than its topics.
    fn dropped_from(&self, key: SubscriberKey, from: u64) -> Option<u64> {
        let selectors = self.clients.get(&key)?.interest.selectors();
        let is_selected = |&&offset: &&u64| {
            let topics = &self.published[offset as usize - 1].topics;
            topics.iter().any(|topic| selectors.iter().any(|selector| selector.matches(topic)))
        };
        self.dropped.range(from..).rev().find(is_selected).copied()
    }

    /// Who asked, unless the answer comes too late.
    fn asker(&mut self, key: SubscriberKey) -> Option<&mut Client> {
        self.clients.get_mut(&key).filter(|_| self.state.subscribers.contains_key(key))
    }

    fn sought(&mut self, key: SubscriberKey, before: u64, wanted: u32) -> SeekOutcome {
        let lowest_step = before.saturating_sub(self.rng.u64(1..10)).max(self.oldest).min(before);
        let complete = lowest_step <= self.oldest;
        let hits: Vec<u64> = self
            .kept(lowest_step..before)
            .rev()
            .filter(|entry| self.clients.get(&key).is_some_and(|c| admits(&c.interest, entry)))
            .map(|entry| entry.offset)
            .take(wanted as usize)
            .collect();
        let head = self.state.head();
        let (found, lowest) = (hits.len() as u32, hits.last().copied());
        if let Some(client) = self.asker(key) {
            assert_eq!(client.search, Some(Search { wanted, before }));
            client.from = lowest.unwrap_or(client.from);
            client.search = Some(Search { wanted: wanted - found, before: lowest_step })
                .filter(|search| search.wanted > 0 && !complete);
            client.is_unread = client.search.is_none() && client.from < head;
        }
        SeekOutcome::Found { found, lowest, before: lowest_step, complete }
    }

    fn random_client(&mut self) -> Option<SubscriberKey> {
        let place = self.rng.usize(..self.clients.len().max(1));
        self.clients.keys().nth(place).copied()
    }

    fn make_room(&mut self) {
        let Some(key) = self.random_client() else { return };
        let client = self.clients.get_mut(&key).unwrap();
        client.room += self.rng.usize(1..6);
        if client.blocked_since.take().is_some() {
            self.state.handle_writable(key, self.now);
        }
    }

    /// Loses the oldest events, and perhaps forgets which topics they finished.
    fn trim(&mut self) {
        self.oldest = self.rng.u64(self.oldest..=self.next_offset());
        self.forget_finished();
    }

    /// Loses some events of a topic.
    fn drop_some(&mut self) {
        let topic = Topic::parse(TOPICS[self.rng.usize(..TOPICS.len())]).unwrap();
        let until = self.rng.u64(self.oldest..=self.next_offset());
        for entry in &self.published[self.oldest as usize - 1..until as usize - 1] {
            if entry.topics.contains(&topic) && self.rng.bool() {
                self.dropped.insert(entry.offset);
            }
        }
        self.forget_finished();
    }

    fn forget_finished(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        finished.retain(|_, &mut offset| !self.is_lost(offset) || self.rng.bool());
        self.finished = finished;
    }

    /// Forgets that a topic is finished, although its last event is kept.
    fn open_again(&mut self) {
        self.finished.pop_first();
    }

    fn vanish(&mut self) {
        let Some(key) = self.random_client() else { return };
        self.state.unsubscribe(key);
        self.clients.remove(&key);
    }

    fn expel(&mut self) {
        let Some(key) = self.random_client() else { return };
        let client = self.clients.get_mut(&key).unwrap();
        // It may have come to its end already, of which it has yet to hear.
        if self.state.subscribers.contains_key(key) {
            let reason = if self.rng.bool() { ExpiryReason::Revoked } else { ExpiryReason::Closed };
            client.expelled = Some(reason);
            self.state.expel(key, reason);
        }
    }

    fn pass_time(&mut self) {
        self.now += self.rng.u64(1..20_000);
        self.state.handle_timeout(self.now);
    }

    fn shutdown(&mut self) {
        self.perform();
        self.clients.values_mut().for_each(|client| client.is_leaving = true);
        self.state.shutdown(2_000, 10_000, self.now);
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
            let blocked = self.clients.iter().find(|(_, client)| client.blocked_since.is_some());
            if let Some((&key, _)) = blocked {
                let client = self.clients.get_mut(&key).unwrap();
                (client.room, client.blocked_since) = (100, None);
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

    /// Who is still there has what it was owed, and something may still come.
    fn check(&self) {
        assert_eq!(self.state.subscriber_count(), self.clients.len());
        for client in self.clients.values() {
            self.check_settled(client, self.next_offset());
            assert!(!client.was_told_end && client.expected.is_empty());
            let mut topics = exact_topics(&client.interest).peekable();
            let is_over = topics.peek().is_some()
                && topics.all(|topic| {
                    finished_for(&self.finished, &self.published, &client.interest, topic).is_some()
                });
            assert!(!is_over, "{:?} is finished", client.interest);
        }
    }

    /// The client has received, in order and once, what it was owed before `until`, except what is
    /// lost and was told to be, and what was left out as it may be.
    fn check_settled(&self, client: &Client, until: u64) {
        let Client { interest, from, excused, .. } = client;
        let is_excused =
            |offset| self.is_lost(offset) && excused.iter().any(|lost| lost.contains(&offset));
        let (mut skipped, mut lost) = (Vec::new(), 0);
        let mut received = client.received.iter().copied().peekable();
        for entry in self.events(*from..until.max(*from).min(self.next_offset())) {
            let offset = entry.offset;
            if received.next_if_eq(&offset).is_some() {
                assert!(admits(interest, entry), "{offset} was not to be received");
            } else if admits(interest, entry) && is_excused(offset) {
                lost += 1;
            } else if admits(interest, entry) {
                assert!(
                    client.stream.conflate,
                    "{offset} is missing from {:?}, from {from} until {until}, excused {excused:?}",
                    client.received,
                );
                skipped.push(entry);
            }
        }
        assert!(received.all(|offset| offset >= until), "{:?} has no order", client.received);
        self.check_skipped(client, until, &skipped, lost);
    }

    /// `skipped` were left out for newer ones, the client was told how many, and perhaps so were
    /// some of those `lost`.
    fn check_skipped(&self, client: &Client, until: u64, skipped: &[&Arc<Entry<()>>], lost: u64) {
        let interest = &client.interest;
        let later =
            |offset: u64| self.events((offset + 1).min(self.next_offset())..self.next_offset());
        for entry in skipped {
            assert!(!entry.is_final, "{} was left out", entry.offset);
            let selectors = interest.selectors();
            let is_selected = |topic: &&Topic| selectors.iter().any(|it| it.matches(topic));
            for topic in entry.topics.iter().filter(is_selected) {
                let makes_way_for = |newer: &Arc<Entry<()>>| {
                    let is_received = client.received.binary_search(&newer.offset).is_ok();
                    let may_be_missing = newer.offset >= until || self.is_lost(newer.offset);
                    newer.topics.contains(topic)
                        && admits(interest, newer)
                        && (is_received || may_be_missing)
                };
                let has_newer = later(entry.offset).any(makes_way_for);
                assert!(has_newer, "{} is the newest of {topic}", entry.offset);
            }
        }
        let ahead = later(until.saturating_sub(1)).filter(|entry| admits(interest, entry)).count();
        let least = skipped.len() as u64;
        let told = least..=least + lost + ahead as u64;
        let is_told = !client.stream.control || told.contains(&client.skipped);
        assert!(is_told, "told of {} left out, not {told:?}", client.skipped);
    }

    fn check_close(&self, client: &Client, reason: CloseReason, cursor: u64) {
        if client.search.is_none() {
            self.check_settled(client, cursor);
        }
        assert!(client.expected.is_empty(), "{:?} was not told", client.expected);
        let has_last_word = matches!(reason, CloseReason::Finished | CloseReason::Expired(_));
        assert_eq!(client.was_told_end, has_last_word && client.stream.control, "{reason:?}");
        let poll_deadline = client.stream.poll_deadline;
        let is_due = match reason {
            CloseReason::PollDone => {
                poll_deadline.is_some() && (client.was_told || !client.received.is_empty())
            }
            CloseReason::PollElapsed => poll_deadline.is_some_and(|deadline| deadline <= self.now),
            CloseReason::WriteTimeout => {
                // It may have made room by now.
                let is_over = |since| since + OPTIONS.write_timeout_ms <= self.now;
                client.is_stalled && client.blocked_since.is_none_or(is_over)
            }
            CloseReason::Shutdown => client.is_leaving,
            CloseReason::Expired(ExpiryReason::Expired) => {
                client.stream.expires_at.is_some_and(|at| at <= self.now)
            }
            CloseReason::Expired(reason) => client.expelled == Some(reason),
            CloseReason::Finished => (client.came_at..=self.state.head())
                .any(|next| self.end_for(client, next).is_some_and(|end| end < cursor)),
        };
        assert!(is_due, "closed for {reason:?} at {cursor}");
    }

    /// The last event that is for a client if nothing is published from `next` on, or `None` if
    /// something may be.
    fn end_for(&self, client: &Client, next: u64) -> Option<u64> {
        let last_of = |topic: &Topic| {
            let last = self.events(1..next).rfind(|entry| entry.topics.contains(topic))?;
            // A topic that was open for the log when it came has to have been finished since.
            let counts = client.finished_then.contains(topic) || last.offset >= client.came_at;
            let is_known = client.interest.may_receive(&last.topics, last.private);
            (last.is_final && counts && is_known).then_some(last.offset)
        };
        let ends: Option<Vec<u64>> = exact_topics(&client.interest).map(last_of).collect();
        ends?.into_iter().max()
    }
}

/// The topics that an interest names, or none if it has a pattern.
fn exact_topics(interest: &Interest) -> impl Iterator<Item = &Topic> {
    interest.exact_topics().into_iter().flatten()
}

/// The offset of the last event of a topic that is finished, for those who may know of it.
fn finished_for(
    finished: &BTreeMap<Topic, u64>,
    published: &[Arc<Entry<()>>],
    interest: &Interest,
    topic: &Topic,
) -> Option<u64> {
    let offset = *finished.get(topic)?;
    let last = &published[offset as usize - 1];
    interest.may_receive(&last.topics, last.private).then_some(offset)
}

fn admits(interest: &Interest, entry: &Entry<()>) -> bool {
    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
}

fn waits_for_log(subscriber: &Subscriber) -> bool {
    subscriber.phase == Phase::WaitingForLog
}

#[test]
fn every_schedule_delivers_what_the_model_says() {
    if let Ok(seed) = std::env::var("TIDINGS_SEED") {
        World::new(seed.parse().expect("TIDINGS_SEED is a number")).run();
        return;
    }
    let mut tally = Tally::new();
    for seed in 0..SCHEDULES {
        match std::panic::catch_unwind(|| World::new(seed).run()) {
            Ok(counts) => {
                for (what, count) in counts {
                    *tally.entry(what).or_default() += count;
                }
            }
            Err(panic) => {
                eprintln!("the schedule of TIDINGS_SEED={seed} failed");
                std::panic::resume_unwind(panic);
            }
        }
    }
    for what in [
        "PollDone",
        "PollElapsed",
        "WriteTimeout",
        "Shutdown",
        "Finished",
        "Expired(Expired)",
        "Expired(Revoked)",
        "Expired(Closed)",
        "Loss",
        "Conflated",
    ] {
        let count = tally.get(what).copied().unwrap_or(0);
        assert!(count > 500, "{what} came {count} times");
    }
}

/// Longer than any deadline of a schedule.
const LONG_MS: Millis = 600_000;
