//! Random schedules against a slow, obvious model.
//!
//! The shell of these tests is a log that loses events from its start and from its middle, topics
//! that finish and open again, that begins other lives of which the state machine hears late, and of
//! which clients know more than it; outlets of random room, reads and seeks that are answered late and
//! in any order, and a clock that jumps. The model knows every event ever published and says what
//! each subscriber must have received, what may have been left out for one that conflates, what it
//! must have been told, and whether its stream may or must have ended. A failing schedule prints its seed;
//! `TIDINGS_SEED=<seed> cargo test -p tidings-core` runs that one alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;

use crate::effect::{ConfirmOutcome, Effect, Notice, ReadOutcome, SeekOutcome, Write};
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

/// One life of the log.
#[derive(Clone)]
struct Life {
    epoch: Epoch,
    published: Vec<Arc<Entry<()>>>,
    /// The offset after what it began with.
    began_at: u64,
    /// The oldest kept offset.
    oldest: u64,
    /// The offsets that are lost although older ones are kept.
    dropped: BTreeSet<u64>,
    /// The topics that the log holds for finished, with the offset of their last event.
    finished: BTreeMap<Topic, u64>,
}

/// What the test knows of a subscriber that the state machine must not be asked about.
struct Client {
    interest: Interest,
    stream: StreamOptions,
    /// The head when it came, and the topics that were finished in the log by then.
    came_at: u64,
    finished_then: Vec<Topic>,
    /// The first offset it is owed, as far as it has been looked for.
    from: u64,
    /// How many events it wants to begin with, and how much of them is to be looked for yet.
    last: u32,
    search: Option<Search>,
    /// The id it came with, while that is beyond the head or of another life of the log.
    ahead: Option<Position>,
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

/// What a subscriber waits for, and in which life of the log that was asked.
struct Question {
    key: SubscriberKey,
    epoch: Epoch,
    wish: Wish,
}

enum Wish {
    Read { from: u64, until: u64 },
    Seek { before: u64, wanted: u32 },
    Confirm(Position),
}

/// How often streams ended in each way and were told of a loss.
type Tally = BTreeMap<String, usize>;

struct World {
    rng: Rng,
    state: HubState<()>,
    now: Millis,
    life: Life,
    /// The life that the state machine is in, if it has not been told of the present one.
    ended: Option<Life>,
    clients: BTreeMap<SubscriberKey, Client>,
    questions: VecDeque<Question>,
    tally: Tally,
}

impl Life {
    fn next_offset(&self) -> u64 {
        self.published.len() as u64 + 1
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

    /// The offset of the last event of a topic that is finished, for those who may know of it.
    fn finished_for(&self, interest: &Interest, topic: &Topic) -> Option<u64> {
        let offset = *self.finished.get(topic)?;
        let last = &self.published[offset as usize - 1];
        interest.may_receive(&last.topics, last.private).then_some(offset)
    }

    fn all_finished_for(&self, interest: &Interest) -> Vec<(Topic, u64)> {
        exact_topics(interest)
            .filter_map(|topic| Some((topic.clone(), self.finished_for(interest, topic)?)))
            .collect()
    }

    /// The log loses its tail, or is emptied, or has merely to assume so.
    fn end(&self, epoch: Epoch, rng: &mut Rng) -> Self {
        let began_at = rng.u64(1..=self.next_offset());
        let mut next = self.clone();
        (next.epoch, next.began_at) = (epoch, began_at);
        next.published.truncate(began_at as usize - 1);
        next.oldest = next.oldest.min(began_at);
        next.dropped.retain(|&offset| offset < began_at);
        next.finished.retain(|_, offset| *offset < began_at);
        next
    }
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

    /// It is to be told that it cannot go on where it stood, and is owed all that is kept.
    fn begin_after_gap(&mut self, stood_at: Position, oldest: u64, head: u64, reason: GapReason) {
        (self.from, self.is_unread) = (oldest, oldest < head);
        (self.resumed_after, self.told_until, self.skipped) = (None, 0, 0);
        self.received.clear();
        self.excused.clear();
        self.expect(Notice::Gap(Gap { requested: stood_at.to_string(), oldest, reason }));
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
            now: 0,
            life: Life {
                epoch,
                published: Vec::new(),
                began_at: 1,
                oldest: 1,
                dropped: BTreeSet::new(),
                finished: BTreeMap::new(),
            },
            ended: None,
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
            94..95 => self.begin_life(),
            95..96 => self.tell_life(),
            // Now and then effects stay undone while other things happen.
            _ => return,
        }
        if self.rng.u32(0..10) > 0 {
            self.perform();
        } else {
            self.perform_some();
        }
    }

    /// The life of the log that the state machine is in.
    fn known(&self) -> &Life {
        self.ended.as_ref().unwrap_or(&self.life)
    }

    fn begin_life(&mut self) {
        let epoch = Epoch::from_random(self.rng.u64(..));
        let next = self.life.end(epoch, &mut self.rng);
        let ended = std::mem::replace(&mut self.life, next);
        self.ended.get_or_insert(ended);
    }

    /// Tells the state machine of the present life of the log.
    fn tell_life(&mut self) {
        if self.ended.is_none() {
            return;
        }
        self.perform();
        let next = self.rng.u64(self.life.began_at..=self.life.next_offset());
        let bounds = Bounds { oldest: self.life.oldest.min(next), next };
        let mut clients = std::mem::take(&mut self.clients);
        for (&key, client) in &mut clients {
            let (_, stood_at) = self.state.subscriber(key).expect("all has been performed");
            self.begin_anew(client, stood_at, bounds);
        }
        self.clients = clients;
        self.ended = None;
        let Self { life, state, now, .. } = self;
        let finished = |interest: &Interest, topic: &Topic| life.finished_for(interest, topic);
        state.handle_new_life(life.epoch, bounds, finished, *now);
    }

    /// What another life means for a client that stood there.
    fn begin_anew(&mut self, client: &mut Client, stood_at: Position, bounds: Bounds) {
        let (ended, epoch) = (self.known().epoch, self.life.epoch);
        assert!(client.expected.is_empty() && !client.was_told_end);
        client.came_at = bounds.next;
        let finished = self.life.all_finished_for(&client.interest);
        client.finished_then = finished.into_iter().map(|(topic, _)| topic).collect();
        if let Some(position) = client.ahead.filter(|it| it.epoch != ended) {
            assert_eq!(stood_at, position);
            client.ahead =
                Some(position).filter(|it| it.epoch != epoch || it.offset >= bounds.next);
            return;
        }
        if client.search.is_some() {
            assert!(client.received.is_empty());
            client.search = Some(Search { wanted: client.last, before: bounds.next });
            client.from = bounds.next;
            return;
        }
        match client.ahead.take() {
            Some(position) => assert_eq!(stood_at, position),
            None => {
                assert_eq!(stood_at.epoch, ended);
                self.check_settled(client, stood_at.offset + 1);
                assert!(client.received.iter().all(|&offset| offset <= stood_at.offset));
            }
        }
        *self.tally.entry("NewLife".to_owned()).or_default() += 1;
        client.begin_after_gap(stood_at, bounds.oldest, bounds.next, GapReason::UnknownEpoch);
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            let open: Vec<Topic> = TOPICS
                .iter()
                .map(|text| Topic::parse(text).unwrap())
                .filter(|topic| !self.life.finished.contains_key(topic))
                .collect();
            if open.is_empty() {
                return;
            }
            let topics: Arc<[Topic]> = (0..self.rng.usize(1..3))
                .map(|_| open[self.rng.usize(..open.len())].clone())
                .collect();
            let event_type = TYPES[self.rng.usize(..TYPES.len())];
            let entry = Entry {
                offset: self.life.next_offset(),
                topics,
                event_type: (event_type != "message")
                    .then(|| EventType::parse(event_type).unwrap()),
                private: self.rng.bool(),
                is_final: self.rng.u32(0..8) == 0,
                payload: (),
            };
            if entry.is_final {
                self.life.finished.extend(entry.topics.iter().map(|t| (t.clone(), entry.offset)));
            }
            self.life.published.push(Arc::new(entry));
        }
    }

    /// Hands over some of what has been published since: a shard may be behind its log.
    fn hand_over(&mut self) {
        let (head, next) = (self.state.head(), self.known().next_offset());
        if head == next {
            return;
        }
        let until = self.rng.u64(head..next) + 1;
        let life = self.ended.as_ref().unwrap_or(&self.life);
        if self.rng.u32(0..20) == 0 {
            let finished = |interest: &Interest, topic: &Topic| life.finished_for(interest, topic);
            self.state.handle_skipped(until, finished);
        } else {
            self.state.handle_appended(&life.published[head as usize - 1..until as usize - 1]);
        }
        let epoch = self.state.epoch();
        for client in self.clients.values_mut() {
            let is_overtaken = |it: &mut Position| it.epoch == epoch && it.offset < until;
            if client.ahead.take_if(is_overtaken).is_some() {
                *self.tally.entry("Overtaken".to_owned()).or_default() += 1;
            }
        }
    }

    /// The log may hold more than the state was told of, and have held less when the subscriber came.
    fn last_events(&mut self, head: u64, next: u64) -> Start {
        let draw = self.rng.u32(0..36);
        let oldest = self.known().oldest;
        let before = (head.saturating_sub(3).max(oldest) + u64::from(draw / 6)).min(next);
        Start::Last { wanted: draw % 6, before }
    }

    /// An id that the state machine may not know of: from behind its head, or of some life of the log.
    fn unseen_id(&mut self) -> Position {
        let ended = self.ended.as_ref().map_or(self.life.epoch, |life| life.epoch);
        let forged = Epoch::from_random(self.rng.u64(..));
        let epoch = [self.life.epoch, self.life.epoch, ended, forged][self.rng.usize(0..4)];
        let highest = self.life.next_offset().max(self.known().next_offset());
        Position { epoch, offset: self.rng.u64(0..highest + 3) }
    }

    fn subscribe(&mut self) {
        let interest = self.random_interest();
        let (head, next) = (self.state.head(), self.known().next_offset());
        // The node may know of more than the state machine, and of less than the log.
        let seen = self.rng.u64(head..=next);
        let (epoch, oldest) = (self.known().epoch, self.known().oldest);
        let bounds = Bounds { oldest: oldest.min(seen), next: seen };
        let (start, gap) = match self.rng.u32(0..8) {
            0 => (Start::At(next), None),
            1 => (Start::At(oldest), None),
            2 => (self.last_events(head, next), None),
            3 => resume_after(b"forged", epoch, Bounds { oldest, next }, true),
            4 | 5 => resume_after(self.unseen_id().to_string().as_bytes(), epoch, bounds, true),
            _ => {
                let id = Position { epoch, offset: self.rng.u64(0..next) }.to_string();
                resume_after(id.as_bytes(), epoch, Bounds { oldest, next }, false)
            }
        };
        let (from, search, resumed_after) = match start {
            Start::At(offset) => (offset, None, None),
            Start::After(offset) => (offset + 1, None, Some(offset)),
            Start::Last { wanted: 0, before } => (before, None, None),
            Start::Last { wanted, before } => (before, Some(Search { wanted, before }), None),
            Start::Ahead(position) => (position.offset + 1, None, Some(position.offset)),
        };
        let ahead = match start {
            Start::Ahead(it) => Some(it).filter(|it| it.epoch != epoch || it.offset >= head),
            _ => None,
        };
        let poll_deadline = (self.rng.u32(0..6) == 0).then(|| self.now + self.rng.u64(0..30_000));
        let control = self.rng.u32(0..8) > 0;
        let conflate = self.rng.u32(0..3) == 0;
        let expires_at = (self.rng.u32(0..6) == 0).then(|| self.now + self.rng.u64(0..60_000));
        let jitter = self.rng.f32();
        let stream = StreamOptions { control, conflate, poll_deadline, expires_at, jitter };
        let finished = self.known().all_finished_for(&interest);
        let key =
            self.state.subscribe(interest.clone(), &finished, start, gap.clone(), stream, self.now);
        let mut client = Client {
            interest,
            stream,
            came_at: head,
            finished_then: finished.into_iter().map(|(topic, _)| topic).collect(),
            from,
            last: search.map_or(0, |search| search.wanted),
            search,
            ahead,
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
            Effect::Read { subscriber, interest: _, from, until } => {
                self.ask(subscriber, Wish::Read { from, until });
            }
            Effect::Seek { subscriber, interest: _, before, wanted } => {
                self.ask(subscriber, Wish::Seek { before, wanted });
            }
            Effect::Confirm { subscriber, position } => {
                self.ask(subscriber, Wish::Confirm(position));
            }
            Effect::Close { subscriber, reason, settled } => {
                if let Some(client) = self.clients.remove(&subscriber) {
                    *self.tally.entry(format!("{reason:?}")).or_default() += 1;
                    self.check_close(&client, reason, settled);
                }
            }
        }
    }

    fn ask(&mut self, key: SubscriberKey, wish: Wish) {
        self.questions.push_back(Question { key, epoch: self.state.epoch(), wish });
    }

    fn write(&mut self, write: &Write<()>) {
        let Some(client) = self.clients.get_mut(&write.subscriber) else { return };
        assert!(!client.was_told_end, "nothing follows the end");
        assert_eq!(client.ahead, None, "it has seen more");
        let known = self.ended.as_ref().unwrap_or(&self.life);
        for entry in &write.batch.entries {
            let original = &known.published[entry.offset as usize - 1];
            assert!(Arc::ptr_eq(entry, original), "it is of another life");
        }
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
        let Question { key, epoch, wish } =
            self.questions.remove(self.rng.usize(..self.questions.len())).unwrap();
        if epoch != self.state.epoch() {
            return self.answer_late(key, epoch, &wish);
        }
        let has_failed = self.rng.u32(0..20) == 0;
        // Nobody answers for a life that is over; a new question will be asked in the next one.
        let is_over = self.ended.is_some() && !matches!(wish, Wish::Confirm(_));
        match wish {
            Wish::Read { .. } if has_failed => {
                self.state.handle_read(key, epoch, ReadOutcome::Failed, self.now);
            }
            Wish::Seek { .. } if has_failed => {
                self.state.handle_sought(key, epoch, SeekOutcome::Failed, self.now);
            }
            Wish::Confirm(_) if has_failed => {
                self.state.handle_confirmed(key, epoch, ConfirmOutcome::Failed, self.now);
            }
            _ if is_over => {}
            Wish::Read { from, until } => {
                let outcome = self.read(key, from, until);
                self.state.handle_read(key, epoch, outcome, self.now);
            }
            Wish::Seek { before, wanted } => {
                let outcome = self.sought(key, before, wanted);
                self.state.handle_sought(key, epoch, outcome, self.now);
            }
            Wish::Confirm(position) => {
                let outcome = self.confirmed(key, position);
                self.state.handle_confirmed(key, epoch, outcome, self.now);
            }
        }
    }

    /// Answers what was asked in an earlier life, with what would do harm.
    fn answer_late(&mut self, key: SubscriberKey, epoch: Epoch, wish: &Wish) {
        let far = 1_000_000;
        match wish {
            Wish::Read { .. } => {
                let outcome = ReadOutcome::Trimmed { oldest: far };
                self.state.handle_read(key, epoch, outcome, self.now);
            }
            Wish::Seek { .. } => {
                let outcome =
                    SeekOutcome::Found { found: 1, lowest: Some(far), before: far, complete: true };
                self.state.handle_sought(key, epoch, outcome, self.now);
            }
            Wish::Confirm(_) => {
                let outcome = ConfirmOutcome::Unknown { oldest: far };
                self.state.handle_confirmed(key, epoch, outcome, self.now);
            }
        }
    }

    fn confirmed(&mut self, key: SubscriberKey, position: Position) -> ConfirmOutcome {
        if position.epoch == self.life.epoch && position.offset < self.life.next_offset() {
            return ConfirmOutcome::GivenOut;
        }
        let (epoch, oldest, head) = (self.known().epoch, self.known().oldest, self.state.head());
        // In the meantime the head may have come there, in a life that is over.
        if let Some(client) = self.asker(key).filter(|client| client.ahead == Some(position)) {
            client.ahead = None;
            let reason =
                if position.epoch == epoch { GapReason::Invalid } else { GapReason::UnknownEpoch };
            client.begin_after_gap(position, oldest, head, reason);
            *self.tally.entry("Unknown".to_owned()).or_default() += 1;
        }
        ConfirmOutcome::Unknown { oldest }
    }

    fn read(&mut self, key: SubscriberKey, from: u64, until: u64) -> ReadOutcome<()> {
        let (epoch, oldest, head) = (self.known().epoch, self.known().oldest, self.state.head());
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
            self.known().events(from..next).cloned().collect()
        } else {
            self.known().kept(from..next).cloned().collect()
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
            let topics = &self.known().published[offset as usize - 1].topics;
            topics.iter().any(|topic| selectors.iter().any(|selector| selector.matches(topic)))
        };
        self.known().dropped.range(from..).rev().find(is_selected).copied()
    }

    /// Who asked, unless the answer comes too late.
    fn asker(&mut self, key: SubscriberKey) -> Option<&mut Client> {
        self.clients.get_mut(&key).filter(|_| self.state.subscribers.contains_key(key))
    }

    fn sought(&mut self, key: SubscriberKey, before: u64, wanted: u32) -> SeekOutcome {
        let oldest = self.known().oldest;
        let lowest_step = before.saturating_sub(self.rng.u64(1..10)).max(oldest).min(before);
        let complete = lowest_step <= oldest;
        let hits: Vec<u64> = self
            .known()
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
        self.life.oldest = self.rng.u64(self.life.oldest..=self.life.next_offset());
        self.forget_finished();
    }

    /// Loses some events of a topic.
    fn drop_some(&mut self) {
        let topic = Topic::parse(TOPICS[self.rng.usize(..TOPICS.len())]).unwrap();
        let life = &mut self.life;
        let until = self.rng.u64(life.oldest..=life.next_offset());
        for entry in &life.published[life.oldest as usize - 1..until as usize - 1] {
            if entry.topics.contains(&topic) && self.rng.bool() {
                life.dropped.insert(entry.offset);
            }
        }
        self.forget_finished();
    }

    fn forget_finished(&mut self) {
        let mut finished = std::mem::take(&mut self.life.finished);
        finished.retain(|_, &mut offset| !self.life.is_lost(offset) || self.rng.bool());
        self.life.finished = finished;
    }

    /// Forgets that a topic is finished, although its last event is kept.
    fn open_again(&mut self) {
        self.life.finished.pop_first();
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
            self.tell_life();
            self.perform();
            if self.state.head() < self.life.next_offset() {
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
            self.now += 2 * OPTIONS.log_retry_ms;
            self.state.handle_timeout(self.now);
        }
    }

    /// Who is still there has what it was owed, and something may still come.
    fn check(&self) {
        assert_eq!(self.state.subscriber_count(), self.clients.len());
        for client in self.clients.values() {
            self.check_settled(client, self.life.next_offset());
            assert!(!client.was_told_end);
            assert_eq!((client.expected.front(), client.ahead), (None, None));
            let mut topics = exact_topics(&client.interest).peekable();
            let is_over = topics.peek().is_some()
                && topics.all(|topic| self.life.finished_for(&client.interest, topic).is_some());
            assert!(!is_over, "{:?} is finished", client.interest);
        }
    }

    /// The client has received, in order and once, what it was owed before `until`, except what is
    /// lost and was told to be, and what was left out as it may be.
    fn check_settled(&self, client: &Client, until: u64) {
        let Client { interest, from, excused, .. } = client;
        let is_excused = |offset| {
            self.known().is_lost(offset) && excused.iter().any(|lost| lost.contains(&offset))
        };
        let (mut skipped, mut lost) = (Vec::new(), 0);
        let mut received = client.received.iter().copied().peekable();
        for entry in self.known().events(*from..until.max(*from).min(self.known().next_offset())) {
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
        let later = |offset: u64| {
            self.known()
                .events((offset + 1).min(self.known().next_offset())..self.known().next_offset())
        };
        for entry in skipped {
            assert!(!entry.is_final, "{} was left out", entry.offset);
            let selectors = interest.selectors();
            let is_selected = |topic: &&Topic| selectors.iter().any(|it| it.matches(topic));
            for topic in entry.topics.iter().filter(is_selected) {
                let makes_way_for = |newer: &Arc<Entry<()>>| {
                    let is_received = client.received.binary_search(&newer.offset).is_ok();
                    let may_be_missing =
                        newer.offset >= until || self.known().is_lost(newer.offset);
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

    fn check_close(&self, client: &Client, reason: CloseReason, settled: Position) {
        let cursor = settled.offset + 1;
        if let Some(position) = client.ahead {
            assert_eq!((settled, client.received.as_slice()), (position, &[][..]));
        } else if client.search.is_none() {
            assert_eq!(settled.epoch, self.known().epoch);
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
            let last = self.known().events(1..next).rfind(|entry| entry.topics.contains(topic))?;
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

fn admits(interest: &Interest, entry: &Entry<()>) -> bool {
    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
}

fn waits_for_log(subscriber: &Subscriber) -> bool {
    matches!(subscriber.phase, Phase::WaitingForLog | Phase::Ahead)
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
        "NewLife",
        "Unknown",
        "Overtaken",
    ] {
        let count = tally.get(what).copied().unwrap_or(0);
        assert!(count > 500, "{what} came {count} times");
    }
}

/// Longer than any deadline of a schedule.
const LONG_MS: Millis = 600_000;
