//! Opening the store: at the start, and whenever it was lost or doubted.

use std::time::Instant;

use tidings_core::Epoch;

use super::engine::{Engine, EngineError, Life, Opened, StepLimit, Wish};
use super::mirror::Mirror;
use super::ruled::RuledEvents;
use super::state::{Link, State};
use super::{SharedLog, SharedLogError};

/// A store that was opened, and what rules have to know of what is in it.
struct Found {
    opened: Opened,
    /// `None` if there are no rules, or they know already.
    ruled: Option<RuledEvents>,
}

impl<E: Engine> SharedLog<E> {
    /// Opens the store for the first time. One that is not there is no error.
    pub(super) fn open_first(&self) -> Result<(), SharedLogError> {
        let found = self.find();
        let store = self.engine.name();
        match found {
            Err(EngineError::Refused(reason)) => Err(SharedLogError::Refused { store, reason }),
            Err(EngineError::Damaged(reason)) => Err(SharedLogError::Damaged { store, reason }),
            found => {
                self.settle(found, false);
                Ok(())
            }
        }
    }

    /// Waits until the store can be used, and opens it when it is time to, until `deadline` at the latest. `is_enough`
    /// ends that before.
    pub(super) fn await_up(
        &self,
        deadline: Instant,
        is_enough: impl Fn(&State) -> bool,
    ) -> Option<Life> {
        let mut state = self.lock();
        loop {
            let Link::Down { trouble, is_opening, .. } = &state.link else {
                return state.mirror.life().cloned();
            };
            let (retry_at, is_opening) = (trouble.retry_at, *is_opening);
            if is_enough(&state) {
                return None;
            }
            let now = self.environment.now();
            if !is_opening && retry_at <= now {
                state.begin_opening();
                drop(state);
                let found = self.find();
                self.settle(found, true);
                state = self.lock();
                continue;
            }
            if now >= deadline {
                return None;
            }
            let until = if is_opening { deadline } else { retry_at.min(deadline) };
            state = self.environment.wait(&self.changed, state, until - now);
        }
    }

    /// Takes note of what went wrong, for calls that say by it that the store has to be opened anew.
    pub(super) fn went_wrong(&self, life: &Life, error: &EngineError) {
        let mut state = self.lock();
        // Whoever opened the store since has dealt with it.
        if !state.is_up() || state.mirror.life() != Some(life) {
            return;
        }
        match error {
            EngineError::OtherLife => state.doubt(error.to_string(), &*self.environment),
            error => {
                tracing::warn!(store = self.engine.name(), %error, "the store is lost for now");
                state.went_down(error.to_string(), &*self.environment);
            }
        }
        drop(state);
        self.changed.notify_all();
        self.engine.kick();
    }

    fn find(&self) -> Result<Found, EngineError> {
        let seen = self.lock().mirror.seen();
        let fresh = Epoch::from_random(self.environment.random_bits());
        let opened = self.engine.open(seen.as_ref(), fresh)?;
        let is_known = seen.is_some_and(|seen| seen.life.epoch == opened.life.epoch);
        if is_known || self.options.retention.rules.is_empty() {
            return Ok(Found { opened, ruled: None });
        }
        let ruled = self.rule(&opened)?;
        Ok(Found { opened, ruled: Some(ruled) })
    }

    /// Reads all that is kept, as far as rules have to know it.
    fn rule(&self, opened: &Opened) -> Result<RuledEvents, EngineError> {
        let rules = self.options.retention.rules.clone();
        let bounds = opened.bounds;
        let mut ruled = RuledEvents::new(rules, bounds.oldest, &opened.dropped);
        let mut from = bounds.oldest;
        while from < bounds.next {
            let wish = Wish { from, until: bounds.next, topics: None, limit: SCAN_LIMIT };
            let fetched = self.engine.read(&opened.life, &wish)?;
            fetched.entries.iter().for_each(|entry| ruled.note(entry));
            from = progress(from, fetched.end.max(fetched.bounds.oldest))?;
        }
        Ok(ruled)
    }

    fn settle(&self, found: Result<Found, EngineError>, is_news: bool) {
        let mut state = self.lock();
        match found {
            Ok(Found { opened, ruled }) => {
                let (store, next) = (self.engine.name(), opened.bounds.next);
                state.came_up(next, self.environment.now());
                if state.mirror.is_of(&opened.life) {
                    tracing::info!(store, next, "the log goes on");
                    state.mirror.go_on(&opened);
                } else {
                    tracing::info!(store, next, epoch = %opened.life.epoch, "the log was opened");
                    state.mirror = Mirror::new(opened, ruled, is_news);
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if state.failure() != Some(&reason) {
                    tracing::warn!(store = self.engine.name(), reason, "the store is not there");
                }
                state.went_down(reason, &*self.environment);
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// The next place to read at, if it is one.
pub(super) fn progress(from: u64, end: u64) -> Result<u64, EngineError> {
    if end > from {
        return Ok(end);
    }
    Err(EngineError::Unavailable(format!("the log ends at offset {from}, before where it should")))
}

/// What is read at once when all is read.
pub(super) const SCAN_LIMIT: StepLimit = StepLimit { events_max: 4_096, bytes_max: 8 << 20 };
