//! One thread that owns a part of the subscribers.
//!
//! It performs what the state machine decides: it feeds it new events from the tail, puts what is
//! due into outlets, and answers its questions from the tail, or has the log readers answer them.
//! It never waits for a connection or for the log.

use std::sync::Arc;
use std::sync::mpsc;

use slotmap::SecondaryMap;
use tidings_core::{
    CloseReason, Effect, HubState, Interest, Notice, Position, StateOptions, SubscriberKey, Topic,
};

use crate::HubOptions;
use crate::delivery::{Delivery, encode_notice};
use crate::log_reader::{Question, Wish, seek_outcome};
use crate::mailbox::{Command, Mailbox, Subscribe};
use crate::meter::EndReason;
use crate::outlet::{Backlog, Beat, End, Outlet};
use crate::surroundings::Surroundings;
use crate::turns::{Request, Turns};

pub(crate) struct Shard {
    around: Surroundings,
    mailbox: Arc<Mailbox>,
    log_readers: mpsc::Sender<Question>,
    state: HubState<Delivery>,
    outlets: SecondaryMap<SubscriberKey, Connection>,
    turns: Turns,
}

/// An outlet, and whether its client wants notices.
struct Connection {
    outlet: Box<dyn Outlet>,
    control: bool,
    /// Dropped with the connection: then its questions need no answer.
    presence: Arc<()>,
}

impl Shard {
    pub(crate) fn new(
        around: Surroundings,
        mailbox: Arc<Mailbox>,
        log_readers: mpsc::Sender<Question>,
        options: &HubOptions,
    ) -> Self {
        let state_options = StateOptions {
            heartbeat_ms: options.heartbeat.as_millis() as u64,
            write_timeout_ms: options.write_timeout.as_millis() as u64,
            log_retry_ms: LOG_RETRY_MS,
        };
        let state = HubState::new(around.log.epoch(), around.tail.next(), state_options);
        Self {
            around,
            mailbox,
            log_readers,
            state,
            outlets: SecondaryMap::new(),
            turns: Turns::default(),
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        self.mailbox.attach();
        let mut commands = Vec::new();
        loop {
            self.follow_tail();
            self.mailbox.take(&mut commands);
            for command in commands.drain(..) {
                if matches!(command, Command::Stop) {
                    return;
                }
                // A subscriber must not find less than what was published before it came.
                self.follow_tail();
                self.perform_command(command);
                self.perform_effects();
            }
            self.take_turns();
            self.state.handle_timeout(self.around.clock.now());
            self.perform_effects();
            self.sleep();
        }
    }

    fn sleep(&self) {
        let deadline =
            [self.state.poll_timeout(), self.turns.deadline()].into_iter().flatten().min();
        let deadline = deadline.map(|at| self.around.clock.at(at));
        let head = self.state.head();
        let listens = self.state.subscriber_count() > 0;
        self.mailbox.sleep(deadline, listens, || self.around.tail.next() == head);
    }

    /// Reads for those whose turn it is, a round of them: what is live goes first.
    fn take_turns(&mut self) {
        for _ in 0..ROUND_TURNS_MAX {
            self.follow_tail();
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
        let next = self.around.tail.next();
        if self.state.subscriber_count() == 0 {
            return self.state.handle_skipped(next, |_| None);
        }
        while self.state.head() < next {
            match self.around.tail.from(self.state.head(), ROUND_EVENTS_MAX) {
                Ok(entries) => self.state.handle_appended(&entries),
                // More was published since the last round than the tail holds.
                Err(_) => {
                    let (next, log) = (self.around.tail.next(), &self.around.log);
                    self.state.handle_skipped(next, |topic| log.finished(topic));
                }
            }
            self.perform_effects();
        }
    }

    fn perform_command(&mut self, command: Command) {
        let now = self.around.clock.now();
        match command {
            Command::Subscribe(subscribe) => self.subscribe(*subscribe),
            Command::Unsubscribe(key) => {
                self.state.unsubscribe(key);
                self.forget(key);
            }
            Command::Writable(key) => self.state.handle_writable(key, now),
            Command::Taken(key) => self.turns.end(key),
            Command::Read(key, outcome) => {
                self.turns.end(key);
                self.state.handle_read(key, outcome, now);
            }
            Command::Sought(key, outcome) => self.state.handle_sought(key, outcome, now),
            Command::Shutdown { retry_ms, drain_ms } => {
                self.state.shutdown(retry_ms, drain_ms, now);
            }
            Command::Stop => {}
        }
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { interest, start, gap, stream, backlog } = subscribe;
        let now = self.around.clock.now();
        let finished = self.finished_topics(&interest);
        let key = self.state.subscribe(interest, &finished, start, gap, stream, now);
        if Backlog::attach(&backlog, key) {
            let (outlet, presence) = (Box::new(backlog), Arc::new(()));
            let connection = Connection { outlet, control: stream.control, presence };
            self.outlets.insert(key, connection);
        } else {
            self.state.unsubscribe(key);
        }
    }

    fn finished_topics(&self, interest: &Interest) -> Vec<(Topic, u64)> {
        let topics = interest.exact_topics().into_iter().flatten();
        topics.filter_map(|it| Some((it.clone(), self.around.log.finished(it)?))).collect()
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.state.poll_effect() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect<Delivery>) {
        let now = self.around.clock.now();
        match effect {
            Effect::Write(write) => {
                let Some(connection) = self.outlets.get_mut(write.subscriber) else { return };
                let taken = connection.outlet.offer(&write.batch.entries, write.live, now);
                if taken.wakes && !write.live {
                    self.turns.begin(write.subscriber, now);
                }
                self.state.handle_written(&write, taken.accepted, taken.writable, now);
            }
            Effect::Announce { subscriber, notice } => self.announce(subscriber, &notice),
            Effect::Heartbeat { subscriber, is_silent } => {
                let Some(connection) = self.outlets.get_mut(subscriber) else { return };
                if let Beat::Waiting(since) = connection.outlet.heartbeat(is_silent, now) {
                    self.state.handle_backlog(subscriber, since, now);
                }
            }
            Effect::Read { subscriber, interest, from, until } => {
                self.turns.wait(Request { key: subscriber, interest, from, until });
                // Without a queue it is its turn at once.
                if self.turns.waiting_count() == 1 {
                    self.take_turn();
                }
            }
            Effect::Seek { subscriber, interest, before, wanted } => {
                self.seek(subscriber, interest, before, wanted);
            }
            Effect::Close { subscriber, reason, cursor } => self.close(subscriber, reason, cursor),
        }
    }

    fn announce(&mut self, key: SubscriberKey, notice: &Notice) {
        let Some(connection) = self.outlets.get_mut(key) else { return };
        self.around.meter.count_notice(notice);
        let bytes = encode_notice(self.around.log.epoch(), notice, connection.control);
        connection.outlet.announce(bytes, self.around.clock.now());
    }

    /// Answers at once from the tail, or from what another subscriber has read lately, or leaves
    /// it to the log readers.
    fn read(&mut self, request: Request) {
        let Request { key, interest, from, until } = request;
        let Surroundings { tail, replay, log, read_limit, .. } = &self.around;
        let read = tail.read(from, until, &interest, &**log, *read_limit);
        match read.or_else(|| replay.recall(from, until, &interest)) {
            Some(outcome) => {
                self.turns.end(key);
                self.state.handle_read(key, outcome, self.around.clock.now());
            }
            None => self.ask(key, interest, Wish::Read { from, until }),
        }
    }

    /// Searches the tail, or leaves it to the log readers; what the log no longer keeps is not
    /// found, even if it is still in the tail.
    fn seek(&mut self, key: SubscriberKey, interest: Arc<Interest>, before: u64, wanted: u32) {
        let Surroundings { tail, log, read_limit, .. } = &self.around;
        match tail.seek(before, wanted, &interest, &**log, *read_limit) {
            Some(step) => {
                let now = self.around.clock.now();
                self.state.handle_sought(key, seek_outcome(step), now);
            }
            None => self.ask(key, interest, Wish::Seek { before, wanted }),
        }
    }

    fn ask(&self, key: SubscriberKey, interest: Arc<Interest>, wish: Wish) {
        let Some(connection) = self.outlets.get(key) else { return };
        let from = Arc::clone(&self.mailbox);
        let asker = Arc::downgrade(&connection.presence);
        let question = Question { from, asker, key, interest, wish };
        // The readers outlive the shards; at the very end nobody needs the answer.
        let _ = self.log_readers.send(question);
    }

    fn forget(&mut self, key: SubscriberKey) -> Option<Connection> {
        self.turns.end(key);
        self.outlets.remove(key)
    }

    fn close(&mut self, key: SubscriberKey, reason: CloseReason, cursor: u64) {
        let Some(mut connection) = self.forget(key) else { return };
        let reason = match reason {
            CloseReason::PollDone | CloseReason::PollElapsed => EndReason::Poll,
            CloseReason::WriteTimeout => EndReason::WriteTimeout,
            CloseReason::Shutdown => EndReason::Shutdown,
            CloseReason::Finished => EndReason::Finished,
        };
        let settled = Position { epoch: self.around.log.epoch(), offset: cursor.saturating_sub(1) };
        connection.outlet.close(End { reason, settled });
    }
}

/// How long to leave a log alone that could not be read.
const LOG_RETRY_MS: u64 = 1_000;
/// Bounds what one round matches and how long a new subscriber waits for it.
const ROUND_EVENTS_MAX: usize = 256;
/// Turns between two looks at the mailbox.
const ROUND_TURNS_MAX: usize = 32;
