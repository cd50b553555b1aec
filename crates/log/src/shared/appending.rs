//! Appending, each publish once, whatever becomes of the answers.

use tidings_core::Entry;

use super::SharedLog;
use super::engine::{Append, Engine, EngineError, Life, Outcome, Placed};
use super::state::State;
use crate::memory::{closed, entry};
use crate::{AppendError, Appended, Body, Offsets, Record, Refusal, UnixMillis};

/// Whose turn it is to append: held as long as that takes.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The number of the append.
    sequence: u64,
    now: UnixMillis,
}

impl<E: Engine> SharedLog<E> {
    pub(super) fn append_once(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        let mut turn = self.turn.lock().expect(super::UNPOISONED);
        if self.is_closed() {
            return Err(closed());
        }
        *turn = Turn { sequence: turn.sequence + 1, now };
        let (life, outcomes) = self.insist(&turn, &publishes)?;
        let given = placed(&outcomes).map(|placed| placed.offset + 1).max();
        let appended = appended(&life, publishes, outcomes, now);
        let mut state = self.lock();
        if state.mirror.is_of(&life) {
            state.mirror.appended(&appended.entries, given.unwrap_or(0));
            let next = state.mirror.bounds().next;
            state.figures.next = state.figures.next.max(next);
        }
        drop(state);
        if !appended.entries.is_empty() {
            self.engine.kick();
        }
        Ok(appended)
    }

    /// Appends, and repeats that for as long as it is not known what became of it.
    fn insist(
        &self,
        turn: &Turn,
        publishes: &[Vec<Record>],
    ) -> Result<(Life, Vec<Outcome>), AppendError> {
        let deadline = self.environment.now() + self.options.append_timeout;
        let (mut life, mut next) = self.writable()?;
        let mut is_unsure = false;
        loop {
            let error = match self.attempt(&life, turn, publishes) {
                Ok(outcomes) if lowest_new(&outcomes).is_none_or(|lowest| lowest >= next) => {
                    self.wrote();
                    return Ok((life, outcomes));
                }
                Ok(_) => {
                    self.went_wrong(&life, &EngineError::OtherLife);
                    return Err(given_up(true, "the store has lost events"));
                }
                Err(error) => error,
            };
            is_unsure |= matches!(error, EngineError::Unavailable(_));
            match &error {
                EngineError::Unwritable(reason) if !is_unsure => {
                    self.lock().became_unwritable(reason.clone(), &*self.environment);
                    return Err(given_up(false, reason));
                }
                error => self.went_wrong(&life, error),
            }
            let is_enough = |state: &State| !is_unsure && !state.is_doubted();
            let Some(again) = self.await_up(deadline, is_enough) else {
                let reason = self.lock().failure().map_or_else(|| error.to_string(), str::to_owned);
                return Err(given_up(is_unsure, &reason));
            };
            if again.epoch != life.epoch {
                if is_unsure {
                    return Err(given_up(true, "the log has begun anew"));
                }
                next = self.lock().mirror.bounds().next;
            }
            if self.is_closed() || self.environment.now() >= deadline {
                return Err(given_up(is_unsure, &error.to_string()));
            }
            life = again;
        }
    }

    fn attempt(
        &self,
        life: &Life,
        turn: &Turn,
        publishes: &[Vec<Record>],
    ) -> Result<Vec<Outcome>, EngineError> {
        self.engine.append(&Append {
            life,
            writer: self.writer,
            sequence: turn.sequence,
            publishes,
            now: turn.now,
            keys: self.options.keys,
        })
    }

    /// The life to append to, or why that is not even tried.
    fn writable(&self) -> Result<(Life, u64), AppendError> {
        let now = self.environment.now();
        let is_followed = self.is_followed();
        let is_enough = |state: &State| is_followed && !state.is_doubted();
        // One that is only doubted is being opened, which takes no time to speak of.
        let deadline = if is_followed { now + self.options.append_timeout } else { now };
        let life = self.await_up(deadline, is_enough);
        let state = self.lock();
        let refused = |reason: &str| AppendError::Unavailable(reason.to_owned());
        let Some(life) = life else {
            return Err(refused(state.failure().unwrap_or("the log has begun anew")));
        };
        match &state.unwritable {
            Some(trouble) if trouble.retry_at > now => Err(refused(&trouble.reason)),
            _ => Ok((life, state.mirror.bounds().next)),
        }
    }

    /// Finds out whether the log can be written again, if it is time to and nobody writes.
    pub(super) fn try_writing(&self, life: &Life) {
        if self.lock().retry_at().is_none_or(|at| at > self.environment.now()) {
            return;
        }
        let Ok(mut turn) = self.turn.try_lock() else { return };
        turn.sequence += 1;
        match self.attempt(life, &turn, &[]) {
            Ok(_) => self.wrote(),
            Err(EngineError::Unwritable(reason)) => {
                self.lock().became_unwritable(reason, &*self.environment);
            }
            Err(error) => self.went_wrong(life, &error),
        }
    }

    fn wrote(&self) {
        let mut state = self.lock();
        state.unwritable = None;
        state.went_well(self.environment.now());
    }
}

fn given_up(is_unsure: bool, reason: &str) -> AppendError {
    let kind = if is_unsure { AppendError::Unknown } else { AppendError::Unavailable };
    kind(reason.to_owned())
}

fn placed(outcomes: &[Outcome]) -> impl Iterator<Item = &Placed> {
    outcomes.iter().flat_map(|outcome| match outcome {
        Outcome::Appended(placed) => &**placed,
        Outcome::Finished { .. } => &[],
    })
}

fn lowest_new(outcomes: &[Outcome]) -> Option<u64> {
    placed(outcomes).filter(|placed| !placed.is_repeated).map(|placed| placed.offset).min()
}

/// Puts together what was published and what became of it.
fn appended(
    life: &Life,
    publishes: Vec<Vec<Record>>,
    outcomes: Vec<Outcome>,
    now: UnixMillis,
) -> Appended {
    let mut entries: Vec<Entry<Body>> = Vec::new();
    let outcomes = publishes.into_iter().zip(outcomes).map(|(records, outcome)| match outcome {
        Outcome::Finished { topic, offset } => Err(Refusal::Finished { topic, offset }),
        Outcome::Appended(placed) => {
            let mut offsets = Offsets::default();
            for (record, placed) in records.into_iter().zip(placed) {
                if placed.is_repeated {
                    offsets.push_repeated(placed.offset);
                } else {
                    offsets.push(placed.offset);
                    entries.push(entry(placed.offset, record, now));
                }
            }
            Ok(offsets)
        }
    });
    let outcomes = outcomes.collect();
    Appended { epoch: life.epoch, entries, outcomes }
}
