//! One thread that owns a part of the subscribers.
//!
//! It performs what the state machine decides: it feeds it new events from the tail, puts what is
//! due into outlets, and answers its questions from the tail, or has the log readers answer them.
//! The sockets that were handed over are its own: it writes them, and hears of their end. It never
//! waits for a single connection or for the log.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use slotmap::{Key, KeyData, SecondaryMap};
use tidings_core::{
    CloseReason, Effect, ExpiryReason, HubState, Interest, Millis, Notice, Position, StateOptions,
    SubscriberKey, Topic, Write,
};

use tidings_sse::HEARTBEAT;

use crate::HubOptions;
use crate::admission::{Beginning, Owner};
use crate::connections::{ConnectionFigures, ConnectionFilter, ConnectionId, Expulsion, Listing};
use crate::delivery::{Delivery, Encoded, encode_notice};
use crate::joined::Joined;
use crate::log_reader::{Question, Wish, seek_outcome};
use crate::mailbox::{Command, Mailbox, Subscribe};
use crate::meter::{EndReason, Tally};
use crate::outlet::{Beat, End, Outlet};
use crate::reactor::{Reactor, Readiness};
use crate::socket::{Presence, Socket};
use crate::surroundings::Surroundings;
use crate::tail::{LifeBegun, Missed};
use crate::turns::{Request, Turns};

pub(crate) struct Shard {
    /// Which of the shards it is.
    place: u16,
    around: Surroundings,
    reactor: Reactor,
    mailbox: Arc<Mailbox>,
    /// Taken from the mailbox.
    commands: VecDeque<Command>,
    log_readers: mpsc::Sender<Question>,
    state: HubState<Delivery>,
    /// The number of the life of the log that it is in, as the tail counts them.
    life: u64,
    /// Subscribers that come from a life of the log that the shard has not been told of.
    early: Vec<Subscribe>,
    outlets: SecondaryMap<SubscriberKey, Connection>,
    /// Sockets whose stream has ended and that have not taken all of it, and how long they may take
    /// for that.
    lingering: HashMap<u64, (Socket, Millis)>,
    turns: Turns,
    /// How many more turns may be taken at once before the shard looks around.
    turns_at_once: usize,
    joined: Joined,
    tally: Tally,
    flush_interval: Duration,
    /// Live events are not looked at before this time.
    flush_at: Instant,
    linger_ms: Millis,
    /// The reconnection time for those who come after the order to shut down.
    late_retry_ms: Option<Millis>,
    /// Tokens that were withdrawn of late, and until when who comes by them is sent away: they may
    /// have been looked at before, and the subscription be on its way.
    withdrawn: Vec<(ConnectionFilter, Millis)>,
}

/// An outlet, and whether its client wants notices.
struct Connection {
    outlet: Outlet,
    owner: Option<Box<Owner>>,
    opened_at: Millis,
    /// What it was given.
    bytes: u64,
    control: bool,
    /// Dropped with the connection: then its questions need no answer. `None` while it has asked none.
    presence: Option<Arc<()>>,
}

impl Shard {
    pub(crate) fn new(
        place: u16,
        around: Surroundings,
        reactor: Reactor,
        mailbox: Arc<Mailbox>,
        log_readers: mpsc::Sender<Question>,
        options: &HubOptions,
    ) -> Self {
        let state_options = StateOptions {
            heartbeat_ms: options.heartbeat.as_millis() as u64,
            write_timeout_ms: options.write_timeout.as_millis() as u64,
            log_retry_ms: LOG_RETRY_MS,
            confirm_after_ms: CONFIRM_AFTER_MS,
        };
        let LifeBegun { number: life, epoch, bounds } = around.tail.life();
        let state = HubState::new(epoch, bounds.next, state_options);
        Self {
            place,
            around,
            reactor,
            mailbox,
            commands: VecDeque::new(),
            log_readers,
            state,
            life,
            early: Vec::new(),
            outlets: SecondaryMap::new(),
            lingering: HashMap::new(),
            turns: Turns::default(),
            turns_at_once: ROUND_TURNS_MAX,
            joined: Joined::default(),
            tally: Tally::default(),
            flush_interval: options.flush_interval,
            flush_at: Instant::now(),
            linger_ms: state_options.write_timeout_ms,
            late_retry_ms: None,
            withdrawn: Vec::new(),
        }
    }

    /// Works until it is told to stop. If it fails, which is a defect, its streams end in good order
    /// before the panic goes on.
    pub(crate) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work()));
        let reason = if outcome.is_ok() { EndReason::Shutdown } else { EndReason::Failed };
        self.mailbox.close();
        self.commands.drain(..).for_each(Command::end_unheard);
        let early = self.early.drain(..).map(|it| Command::Subscribe(Box::new(it)));
        early.for_each(Command::end_unheard);
        for (_, connection) in self.outlets.drain() {
            // Whoever still has to be waited for is let go of.
            connection.outlet.end(End { reason, settled: None }, 0);
        }
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    }

    fn work(&mut self) {
        let mut ready = Vec::new();
        loop {
            self.turns_at_once = ROUND_TURNS_MAX;
            self.flush();
            self.mailbox.take(&mut self.commands);
            while let Some(command) = self.commands.pop_front() {
                if matches!(command, Command::Stop) {
                    return;
                }
                // A subscriber must not find less than what was published before it came.
                self.follow_tail();
                self.perform_command(command);
                self.perform_effects();
            }
            self.take_turns();
            self.handle_timeouts();
            self.joined.clear();
            self.tally.settle(&self.around.meter);
            self.wait(&mut ready);
            for readiness in ready.drain(..) {
                self.handle_ready(readiness);
                self.perform_effects();
            }
        }
    }

    /// Waits for whatever comes first: a command, an event, a socket, a deadline.
    fn wait(&mut self, ready: &mut Vec<Readiness>) {
        let deadline =
            [self.state.poll_timeout(), self.turns.deadline(), self.linger_deadline()].into_iter();
        let mut deadline = deadline.flatten().min().map(|at| self.around.clock.at(at));
        let now = Instant::now();
        let (head, life) = (self.state.head(), self.life);
        let is_flushing_later = self.flush_at > now;
        if is_flushing_later {
            // Until then nothing that is published needs to wake it.
            deadline = Some(deadline.map_or(self.flush_at, |at| at.min(self.flush_at)));
        }
        let has_any = self.state.subscriber_count() > 0 || !self.early.is_empty();
        let tail = &self.around.tail;
        let is_idle = || tail.next() == head && tail.lives() == life;
        let may_wait = self.mailbox.doze(has_any && !is_flushing_later, is_idle);
        let timeout = if may_wait {
            deadline.map(|at| at.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        };
        self.reactor.wait(timeout, ready);
        self.mailbox.rise();
    }

    /// Follows the tail, unless that was done so lately that more should leave together.
    fn flush(&mut self) {
        if self.flush_interval.is_zero() {
            return self.follow_tail();
        }
        let now = Instant::now();
        let is_new_life = self.around.tail.lives() != self.life;
        let has_more = self.around.tail.next() > self.state.head() || is_new_life;
        if now >= self.flush_at && has_more {
            self.follow_tail();
            self.flush_at = now + self.flush_interval;
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.around.clock.now();
        self.state.handle_timeout(now);
        self.perform_effects();
        self.lingering.retain(|_, (_, until)| *until > now);
    }

    fn linger_deadline(&self) -> Option<Millis> {
        self.lingering.values().map(|&(_, until)| until).min()
    }

    fn handle_ready(&mut self, readiness: Readiness) {
        let key = SubscriberKey::from(KeyData::from_ffi(readiness.number));
        let now = self.around.clock.now();
        if let Some(Connection { outlet: Outlet::Socket(socket), .. }) = self.outlets.get_mut(key) {
            if readiness.is_readable && socket.discard() == Presence::Gone {
                self.state.unsubscribe(key);
                self.forget(key);
            } else if readiness.is_writable && socket.flush(now) {
                self.state.handle_writable(key, now);
            }
        } else if let Some((socket, _)) = self.lingering.get_mut(&readiness.number) {
            if readiness.is_readable && socket.discard() == Presence::Gone {
                self.lingering.remove(&readiness.number);
            } else if readiness.is_writable
                && socket.flush(now)
                && let Some((socket, _)) = self.lingering.remove(&readiness.number)
            {
                socket.close();
            }
        }
    }

    /// Reads for those whose turn it is, a round of them: what is live goes first.
    fn take_turns(&mut self) {
        for _ in 0..ROUND_TURNS_MAX {
            self.flush();
            if !self.take_turn() {
                return;
            }
            self.perform_effects();
        }
    }

    /// Reads for the next in the queue; false if nobody's turn it is.
    fn take_turn(&mut self) -> bool {
        let Some(request) = self.turns.next(self.around.clock.now()) else { return false };
        if self.outlets.contains_key(request.key) {
            self.read(request);
        } else {
            self.turns.end(request.key);
        }
        true
    }

    /// Hands the events that are in the tail by now to the state machine, a round at a time.
    fn follow_tail(&mut self) {
        if self.around.tail.lives() != self.life {
            self.begin_life();
        }
        let next = self.around.tail.next();
        if self.state.subscriber_count() == 0 {
            return self.state.handle_skipped(next, |_, _| None);
        }
        while self.state.head() < next {
            match self.around.tail.from(self.life, self.state.head(), ROUND_EVENTS_MAX) {
                Ok(entries) => self.state.handle_appended(&entries),
                // More was published since the last round than the tail holds.
                Err(Missed::Left) => {
                    let (next, around) = (self.around.tail.next(), &self.around);
                    let epoch = self.state.epoch();
                    self.state.handle_skipped(next, |interest, topic| {
                        around.finished(epoch, interest, topic)
                    });
                }
                Err(Missed::Life) => return self.follow_tail(),
            }
            self.perform_effects();
        }
    }

    /// Goes on in the life of the log that the tail is in.
    fn begin_life(&mut self) {
        self.perform_effects();
        let LifeBegun { number, epoch, bounds } = self.around.tail.life();
        self.life = number;
        // They are about the life that is over.
        self.turns = Turns::default();
        let (now, around) = (self.around.clock.now(), &self.around);
        let finished = |interest: &Interest, topic: &Topic| around.finished(epoch, interest, topic);
        self.state.handle_new_life(epoch, bounds, finished, now);
        self.perform_effects();
        for subscribe in std::mem::take(&mut self.early) {
            self.take_up(subscribe);
            self.perform_effects();
        }
    }

    fn perform_command(&mut self, command: Command) {
        let now = self.around.clock.now();
        match command {
            Command::Subscribe(subscribe) => self.take_up(*subscribe),
            Command::Unsubscribe(key) => {
                self.state.unsubscribe(key);
                self.forget(key);
            }
            Command::Writable(key) => self.state.handle_writable(key, now),
            Command::Taken(key) => self.turns.end(key),
            Command::Read(key, epoch, outcome) => {
                self.turns.end(key);
                self.state.handle_read(key, epoch, outcome, now);
            }
            Command::Sought(key, epoch, outcome) => {
                self.state.handle_sought(key, epoch, outcome, now);
            }
            Command::Confirmed(key, epoch, outcome) => {
                self.state.handle_confirmed(key, epoch, outcome, now);
            }
            Command::List(listing) => self.list(*listing, now),
            Command::Expel(expulsion) => self.expel(*expulsion),
            Command::Answer(answer) => drop(answer.send(())),
            Command::Shutdown { retry_ms, drain_ms } => {
                self.late_retry_ms = Some(retry_ms);
                self.state.shutdown(retry_ms, drain_ms, now);
            }
            Command::Stop => {}
            #[cfg(test)]
            Command::Fail => panic!("told to"),
        }
    }

    /// Takes up a subscriber, if its beginning was found in the life of the log that the shard is in, or can
    /// be found there now. Else that comes soon.
    fn take_up(&mut self, mut subscribe: Subscribe) {
        let epoch = self.state.epoch();
        if subscribe.beginning.epoch != epoch {
            let Some(bounds) = self.around.bounds_in(epoch) else {
                return self.early.push(subscribe);
            };
            let wanted = subscribe.beginning.wanted;
            subscribe.beginning = Beginning::find(wanted, epoch, bounds, self.around.is_shared);
        }
        self.subscribe(subscribe);
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { interest, beginning, stream, outlet, owner } = subscribe;
        let Beginning { start, gap, .. } = beginning;
        let now = self.around.clock.now();
        let finished = self.finished_topics(&interest);
        let key = self.state.subscribe(interest, &finished, start, gap, stream, now);
        let is_there = match &outlet {
            Outlet::Backlog(backlog) => backlog.attach(key),
            Outlet::Socket(socket) => {
                let registered = self.reactor.register(socket.stream(), key.data().as_ffi());
                if let Err(error) = &registered {
                    tracing::warn!(%error, "a connection cannot be watched, and is closed");
                }
                registered.is_ok()
            }
        };
        if is_there {
            let connection = Connection {
                outlet,
                owner,
                opened_at: now,
                bytes: 0,
                control: stream.control,
                presence: None,
            };
            self.outlets.insert(key, connection);
        } else {
            self.state.unsubscribe(key);
        }
        self.withdrawn.retain(|&(_, until)| until > now);
        if self.withdrawn.iter().any(|(filter, _)| self.meant(key, filter).is_some()) {
            self.state.expel(key, ExpiryReason::Revoked);
        }
        if let Some(retry_ms) = self.late_retry_ms {
            // What was published before it came is not kept from it.
            self.perform_effects();
            self.state.dismiss(key, retry_ms, now, now);
        }
    }

    fn finished_topics(&self, interest: &Interest) -> Vec<(Topic, u64)> {
        let topics = interest.exact_topics().into_iter().flatten();
        let end_of = |topic| self.around.finished(self.state.epoch(), interest, topic);
        topics.filter_map(|it| Some((it.clone(), end_of(it)?))).collect()
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect<Delivery>) {
        let now = self.around.clock.now();
        match effect {
            Effect::Write(write) => self.write(&write, now),
            Effect::Announce { subscriber, notice } => self.announce(subscriber, &notice),
            Effect::Heartbeat { subscriber, is_silent } => {
                let Some(connection) = self.outlets.get_mut(subscriber) else { return };
                match connection.outlet.heartbeat(is_silent, now) {
                    Beat::Waiting(since) => self.state.handle_backlog(subscriber, since, now),
                    Beat::Fine => {
                        connection.bytes += if is_silent { HEARTBEAT.len() as u64 } else { 0 };
                        if let (Outlet::Socket(_), true) = (&connection.outlet, is_silent) {
                            self.tally.count_bytes(HEARTBEAT.len() as u64);
                        }
                    }
                }
            }
            Effect::Read { subscriber, interest, from, until } => {
                self.turns.wait(Request { key: subscriber, interest, from, until });
                // Without a queue it is its turn at once; but not for ever, however fast it is.
                if self.turns.waiting_count() == 1 && self.turns_at_once > 0 {
                    self.turns_at_once -= 1;
                    self.take_turn();
                }
            }
            Effect::Seek { subscriber, interest, before, wanted } => {
                self.seek(subscriber, interest, before, wanted);
            }
            Effect::Confirm { subscriber, position } => {
                let Some((interest, _)) = self.state.subscriber(subscriber) else { return };
                self.ask(subscriber, Arc::clone(interest), Wish::Confirm { position });
            }
            Effect::Close { subscriber, reason, settled } => {
                self.close(subscriber, reason, settled);
            }
        }
    }

    fn write(&mut self, write: &Write<Delivery>, now: Millis) {
        let Some(connection) = self.outlets.get_mut(write.subscriber) else { return };
        let taken = connection.outlet.offer(write, &mut self.joined, now);
        if taken.wakes && !write.live {
            self.turns.begin(write.subscriber, now);
        }
        let entries = &write.batch.entries[..taken.accepted];
        let bytes = entries.iter().map(|entry| entry.payload.frame.len() as u64).sum();
        connection.bytes += bytes;
        if let Outlet::Socket(_) = connection.outlet {
            self.count_delivered(entries, bytes, write.live);
        }
        self.state.handle_written(write, taken.accepted, taken.writable, now);
    }

    fn count_delivered(&mut self, entries: &[Arc<Encoded>], bytes: u64, are_live: bool) {
        self.tally.count_bytes(bytes);
        if are_live {
            let published = entries.iter().map(|entry| entry.payload.published_micros);
            self.tally.count_live(published, self.around.clock.now_micros());
        } else {
            self.tally.count_replayed(entries.len() as u64);
        }
    }

    fn announce(&mut self, key: SubscriberKey, notice: &Notice) {
        let Some(connection) = self.outlets.get_mut(key) else { return };
        self.around.meter.count_notice(notice);
        let bytes = encode_notice(self.state.epoch(), notice, connection.control);
        connection.bytes += bytes.len() as u64;
        if let Outlet::Socket(_) = connection.outlet {
            self.tally.count_bytes(bytes.len() as u64);
        }
        connection.outlet.announce(bytes, self.around.clock.now());
    }

    /// Answers at once from the tail, or from what another subscriber has read lately, or leaves
    /// it to the log readers.
    fn read(&mut self, request: Request) {
        let Request { key, interest, from, until } = request;
        let (epoch, around) = (self.state.epoch(), &self.around);
        let Surroundings { tail, replay, log, read_limit, .. } = around;
        let read = tail.read(epoch, from, until, &interest, &**log, *read_limit);
        let read = read.or_else(|| replay.recall(epoch, from, until, &interest));
        match read.filter(|_| around.is_in(epoch)) {
            Some(outcome) => {
                self.turns.end(key);
                self.state.handle_read(key, epoch, outcome, self.around.clock.now());
            }
            None => self.ask(key, interest, Wish::Read { from, until }),
        }
    }

    /// Searches the tail, or leaves it to the log readers; what the log no longer keeps is not
    /// found, even if it is still in the tail.
    fn seek(&mut self, key: SubscriberKey, interest: Arc<Interest>, before: u64, wanted: u32) {
        let (epoch, around) = (self.state.epoch(), &self.around);
        let Surroundings { tail, log, read_limit, .. } = around;
        let sought = tail.seek(epoch, before, wanted, &interest, &**log, *read_limit);
        match sought.filter(|_| around.is_in(epoch)) {
            Some(step) => {
                let now = self.around.clock.now();
                self.state.handle_sought(key, epoch, seek_outcome(step), now);
            }
            None => self.ask(key, interest, Wish::Seek { before, wanted }),
        }
    }

    fn ask(&mut self, key: SubscriberKey, interest: Arc<Interest>, wish: Wish) {
        let Some(connection) = self.outlets.get_mut(key) else { return };
        let from = Arc::clone(&self.mailbox);
        let asker: Weak<()> = Arc::downgrade(connection.presence.get_or_insert_default());
        let epoch = self.state.epoch();
        let question = Question { from, asker, key, epoch, interest, wish };
        // The readers outlive the shards; at the very end nobody needs the answer.
        let _ = self.log_readers.send(question);
    }

    fn list(&self, listing: Listing, now: Millis) {
        let Listing { filter, after, limit, reply } = listing;
        let connections = self.state.subscribers_after(after).filter_map(|key| {
            let connection = self.meant(key, &filter)?;
            let (interest, position) = self.state.subscriber(key)?;
            Some(ConnectionFigures {
                id: ConnectionId::new(self.place, key),
                identity: connection.owner.as_ref().and_then(|owner| owner.identity.clone()),
                address: connection.owner.as_ref().and_then(|owner| owner.address),
                topics: interest.selectors().iter().map(|it| it.as_str().to_owned()).collect(),
                position,
                lag: self.state.head().saturating_sub(position.offset + 1),
                age: Duration::from_millis(now.saturating_sub(connection.opened_at)),
                bytes: connection.bytes,
            })
        });
        // Who asked may have gone.
        let _ = reply.send(connections.take(limit).collect());
    }

    fn expel(&mut self, expulsion: Expulsion) {
        let Expulsion { filter, reason, reply } = expulsion;
        let keys: Vec<SubscriberKey> = self
            .state
            .subscribers_after(None)
            .filter(|&key| self.meant(key, &filter).is_some())
            .collect();
        for &key in &keys {
            self.state.expel(key, reason);
        }
        let is_keys = |filter: &ConnectionFilter| matches!(filter, ConnectionFilter::Keys(_));
        let lasts = is_keys(&filter) || matches!(filter, ConnectionFilter::Token { .. });
        if lasts && reason == ExpiryReason::Revoked {
            let now = self.around.clock.now();
            let is_replaced = |it: &ConnectionFilter| is_keys(it) && is_keys(&filter);
            self.withdrawn.retain(|(it, until)| *until > now && !is_replaced(it));
            // A beginning takes no longer than the client may take for its first bytes.
            self.withdrawn.push((filter, now + self.linger_ms + WITHDRAWN_MARGIN_MS));
        }
        let _ = reply.send(keys.len() as u64);
    }

    /// A connection, if the filter means it.
    fn meant(&self, key: SubscriberKey, filter: &ConnectionFilter) -> Option<&Connection> {
        let connection = self.outlets.get(key)?;
        let identity = connection.owner.as_ref().and_then(|owner| owner.identity.as_deref());
        filter.matches(ConnectionId::new(self.place, key), identity).then_some(connection)
    }

    fn forget(&mut self, key: SubscriberKey) -> Option<Connection> {
        self.turns.end(key);
        self.outlets.remove(key)
    }

    fn close(&mut self, key: SubscriberKey, reason: CloseReason, settled: Position) {
        let Some(connection) = self.forget(key) else { return };
        let reason = match reason {
            CloseReason::PollDone | CloseReason::PollElapsed => EndReason::Poll,
            CloseReason::WriteTimeout => EndReason::WriteTimeout,
            CloseReason::Shutdown => EndReason::Shutdown,
            CloseReason::Finished => EndReason::Finished,
            CloseReason::Expired(ExpiryReason::Expired) => EndReason::Expired,
            CloseReason::Expired(ExpiryReason::Revoked) => EndReason::Revoked,
            CloseReason::Expired(ExpiryReason::Closed) => EndReason::Closed,
        };
        let now = self.around.clock.now();
        let end = End { reason, settled: Some(settled) };
        if let Some(socket) = connection.outlet.end(end, now) {
            self.lingering.insert(key.data().as_ffi(), (socket, now + self.linger_ms));
        }
    }
}

/// How long a request may take from when its rights were looked at until it is answered.
const WITHDRAWN_MARGIN_MS: u64 = 60_000;
/// How long to leave a log alone that could not be read.
const LOG_RETRY_MS: u64 = 1_000;
/// How long another node may be ahead before the log is asked what it has given out: many times as long as
/// an event takes from one to the other.
const CONFIRM_AFTER_MS: u64 = 100;
/// Bounds what one round matches and how long a new subscriber waits for it.
const ROUND_EVENTS_MAX: usize = 256;
/// Turns between two looks at the mailbox.
const ROUND_TURNS_MAX: usize = 32;
