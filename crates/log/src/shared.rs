//! Logs in a store that several nodes share.
//!
//! [`SharedLog`] is the log as one node sees it: it knows which life of the log it follows and how far it
//! has seen it, takes the store up again when it was lost, and repeats an append of which it is not known what became.
//! An [`Engine`] stores, orders and finds, for all nodes.

mod engine;
mod lives;
mod environment;
mod backoff;
mod queue;
mod ruled;
mod mirror;
mod state;
mod reopening;
mod appending;
mod following;
mod reading;
mod trimming;
mod in_memory;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tidings_core::{Bounds, Entry, Epoch, Interest, Position, Topic};

use appending::Turn;
use environment::{Environment, Machine};
use mirror::Mirror;
use state::State;

use crate::memory::closed;
use crate::{
    AppendError, Appended, Board, Body, EventLog, Followed, KeyWindow, ReadError, ReadLimit,
    ReadStep, Record, Retention, SeekStep, StoreFigures, UnixMillis,
};

pub use engine::{
    Append, Cut, Engine, EngineError, Fetched, Life, NOTE_BYTES_MAX, Opened, Outcome, Placed, Seen,
    StepLimit, Wish,
};
#[doc(hidden)]
pub use in_memory::{Call, Fault, Flaw, InMemoryEngine, InMemoryStore};
pub use lives::{LifeRecord, PAST_MAX, TERMS_MAX, Term, Verdict, judge};

/// What a [`SharedLog`] keeps, and how long it insists.
#[derive(Debug, Clone)]
pub struct SharedLogOptions {
    /// How much is kept. All nodes should be told the same: what one lets go of is gone for all.
    pub retention: Retention,
    /// How long idempotency keys are remembered.
    pub keys: KeyWindow,
    /// How long an append is repeated of which it is not known what became.
    pub append_timeout: Duration,
}

impl Default for SharedLogOptions {
    /// 100,000 events, 64 MiB, 24 hours, no rules; five seconds.
    fn default() -> Self {
        let crate::MemoryLogOptions { retention, keys } = crate::MemoryLogOptions::default();
        Self { retention, keys, append_timeout: Duration::from_secs(5) }
    }
}

/// Why a [`SharedLog`] is not opened. A store that is not reached is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharedLogError {
    /// The store refuses this hub; the reason says what is to be changed.
    #[error("{store} refuses this hub: {reason}")]
    Refused {
        /// Its name.
        store: String,
        /// What it does not like.
        reason: String,
    },
    /// What is in the store is not what a hub has put there.
    #[error("the log in {store} cannot be used: {reason}")]
    Damaged {
        /// Its name.
        store: String,
        /// What is wrong.
        reason: String,
    },
}

/// An [`EventLog`] in a store that other nodes use as well.
///
/// It has no thread of its own: [`follow`](EventLog::follow), which a hub calls from one, also takes up a store
/// that was lost. As long as it is lost, only that call talks to it, and all others fail at once.
#[derive(Debug)]
pub struct SharedLog<E> {
    engine: E,
    options: SharedLogOptions,
    environment: Box<dyn Environment>,
    /// Names this node to the store.
    writer: u64,
    turn: Mutex<Turn>,
    state: Mutex<State>,
    /// Signalled when the link in `state` changes.
    changed: Condvar,
    is_closed: AtomicBool,
    /// Whether somebody follows, who takes up a store that was lost.
    is_followed: AtomicBool,
}

impl<E: Engine> SharedLog<E> {
    /// Opens the log in a store. If the store is not reached now, [`follow`](EventLog::follow) goes on to try.
    /// With retention rules all that is kept is read once.
    ///
    /// # Errors
    ///
    /// [`SharedLogError`] if it is reached, and to try again would not help.
    pub fn open(engine: E, options: SharedLogOptions) -> Result<Self, SharedLogError> {
        Self::open_in(engine, options, Box::new(Machine))
    }

    fn open_in(
        engine: E,
        options: SharedLogOptions,
        environment: Box<dyn Environment>,
    ) -> Result<Self, SharedLogError> {
        let epoch = Epoch::from_random(environment.random_bits());
        let state = State::new(Mirror::unknown(epoch), environment.now());
        let log = Self {
            engine,
            options,
            writer: environment.random_bits(),
            environment,
            turn: Mutex::new(Turn::default()),
            state: Mutex::new(state),
            changed: Condvar::new(),
            is_closed: AtomicBool::new(false),
            is_followed: AtomicBool::new(false),
        };
        log.open_first()?;
        Ok(log)
    }

    /// What the store is, for messages; without secrets.
    pub fn store_name(&self) -> String {
        self.engine.name()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    fn has_rules(&self) -> bool {
        !self.options.retention.rules.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn note_follower(&self) {
        self.is_followed.store(true, Ordering::SeqCst);
    }

    fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::SeqCst)
    }
}

impl<E: Engine> EventLog for SharedLog<E> {
    fn epoch(&self) -> Epoch {
        self.lock().mirror.epoch
    }

    fn is_known(&self) -> bool {
        self.lock().mirror.life().is_some()
    }

    fn bounds(&self) -> Bounds {
        self.lock().mirror.bounds()
    }

    fn append(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        self.append_once(publishes, now)
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        self.read_step(from, until, interest, limit)
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        self.seek_step(before, wanted, interest, limit)
    }

    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        !self.has_rules() || {
            let state = self.lock();
            state.mirror.ruled.as_ref().is_none_or(|ruled| ruled.is_kept(offset, topics))
        }
    }

    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        if !self.has_rules() {
            return None;
        }
        self.lock().mirror.ruled.as_ref()?.dropped(interest, from)
    }

    fn finished(&self, topic: &Topic) -> Option<u64> {
        self.lock().mirror.finished(topic)
    }

    fn trim(&self, now: UnixMillis) {
        self.trim_all(now);
    }

    fn failure(&self) -> Option<String> {
        if self.is_closed() {
            return Some(closed().to_string());
        }
        self.lock().failure().map(str::to_owned)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn follow(&self, timeout: Duration) -> Followed {
        self.follow_on(timeout)
    }

    fn confirm(&self, position: Position) -> Result<bool, ReadError> {
        self.ask(position)
    }

    fn store(&self) -> Option<StoreFigures> {
        Some(self.lock().figures)
    }

    fn board(&self) -> Option<&dyn Board> {
        Some(self)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        self.engine.kick();
    }
}

impl<E: Engine> Board for SharedLog<E> {
    fn put(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), String> {
        self.readable().map_err(|error| error.to_string())?;
        self.engine.put_note(name, note, ttl).map_err(|error| error.to_string())
    }

    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        self.readable().map_err(|error| error.to_string())?;
        self.engine.notes(prefix).map_err(|error| error.to_string())
    }
}

const UNPOISONED: &str = "no thread panics while it holds the log";

#[cfg(test)]
mod tests;
