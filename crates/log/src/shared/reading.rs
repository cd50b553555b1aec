//! Reading and searching what this node has seen.

use std::ops::Range;
use std::sync::Arc;

use tidings_core::{Bounds, Entry, Interest, Position, Topic};

use super::SharedLog;
use super::engine::{Engine, EngineError, Fetched, Life, StepLimit, Wish};
use crate::ring::{Candidate, Candidates, Selection};
use crate::{Body, ReadError, ReadLimit, ReadStep, SeekStep, entry_bytes};

impl<E: Engine> SharedLog<E> {
    pub(super) fn read_step(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        let (life, bounds) = self.readable()?;
        if from < bounds.oldest {
            return Err(ReadError::Trimmed { oldest: bounds.oldest });
        }
        let until = until.min(bounds.next);
        if from >= until {
            return Ok(ReadStep { entries: Vec::new(), next: from });
        }
        let topics = exact(interest);
        // Under exact topics nearly all that is found is wanted.
        let events_max = match &topics {
            Some(_) => limit.events_max,
            None => limit.events_max.max(SCANNED_EVENTS_MIN),
        };
        let events_max = events_max.min(limit.candidates_max);
        let limits = step_limit(events_max, limit.bytes_max);
        let wish = Wish { from, until, topics: topics.as_deref(), limit: limits };
        let fetched = self.engine.read(&life, &wish);
        let fetched = self.usable(&life, until, fetched)?;
        let oldest = fetched.bounds.oldest;
        if oldest > from {
            return Err(ReadError::Trimmed { oldest });
        }
        let mut selection = Selection::new(interest, limit);
        for entry in self.kept(&life, from..fetched.end, topics.as_deref(), fetched.entries) {
            let bytes = bytes_of(&entry);
            if let Err(next) = selection.offer(entry, bytes) {
                return Ok(ReadStep { entries: selection.entries, next });
            }
        }
        Ok(ReadStep { entries: selection.entries, next: fetched.end.min(until) })
    }

    pub(super) fn seek_step(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        let (life, Bounds { oldest, next }) = self.readable()?;
        let before = before.min(next).max(oldest);
        if before == oldest {
            return Ok(SeekStep { found: 0, lowest: None, before, complete: true });
        }
        let topics = exact(interest);
        let events_max = match &topics {
            Some(_) => wanted as usize,
            None => (wanted as usize).max(SCANNED_EVENTS_MIN),
        };
        let limits = step_limit(events_max.min(limit.candidates_max), limit.bytes_max);
        let wish = Wish { from: oldest, until: before, topics: topics.as_deref(), limit: limits };
        let fetched = self.engine.read_backwards(&life, &wish);
        let fetched = self.usable(&life, before, fetched)?;
        let Fetched { entries, end, bounds } = fetched;
        let candidate = |entry| Candidate { bytes: bytes_of(&entry), entry: Arc::new(entry) };
        let kept = self.kept(&life, end.max(bounds.oldest)..before, topics.as_deref(), entries);
        let held = kept.into_iter().map(candidate).collect();
        let candidates = Candidates { held, end };
        Ok(candidates.search(wanted, interest, bounds.oldest.max(oldest), limit.comparisons_max))
    }

    pub(super) fn ask(&self, position: Position) -> Result<bool, ReadError> {
        let mut doubts = 0;
        loop {
            let (life, bounds) = self.readable()?;
            let is_present = position.epoch == life.epoch;
            if is_present && position.offset < bounds.next {
                return Ok(true);
            }
            match self.engine.bounds(&life) {
                Ok(found) if found.next >= bounds.next => {
                    return Ok(is_present && position.offset < found.next);
                }
                Ok(_) => self.went_wrong(&life, &EngineError::OtherLife),
                Err(error) => {
                    self.went_wrong_reading(&life, &error);
                    if error != EngineError::OtherLife {
                        return Err(ReadError::Unavailable(error.to_string()));
                    }
                }
            }
            doubts += 1;
            let deadline = self.environment.now() + self.options.append_timeout;
            let is_there = self.await_up(deadline, |state| !state.is_doubted());
            if is_there.is_none() || doubts == DOUBTS_MAX {
                return Err(self.unavailable());
            }
        }
    }

    /// What can be read, and in which life.
    pub(super) fn readable(&self) -> Result<(Life, Bounds), ReadError> {
        let state = self.lock();
        match state.mirror.life() {
            Some(life) if state.is_up() => Ok((life.clone(), state.mirror.bounds())),
            _ => {
                drop(state);
                Err(self.unavailable())
            }
        }
    }

    /// What was read, if it reaches as far as this node has seen.
    pub(super) fn usable(
        &self,
        life: &Life,
        until: u64,
        fetched: Result<Fetched, EngineError>,
    ) -> Result<Fetched, ReadError> {
        let error = match fetched {
            Ok(fetched) if fetched.bounds.next >= until => return Ok(fetched),
            Ok(_) => EngineError::OtherLife,
            Err(error) => error,
        };
        self.went_wrong_reading(life, &error);
        Err(ReadError::Unavailable(error.to_string()))
    }

    /// A read that fails says nothing of the store but that the log in it may be another one: whoever
    /// follows finds out by itself that the store is lost.
    fn went_wrong_reading(&self, life: &Life, error: &EngineError) {
        if *error == EngineError::OtherLife {
            self.went_wrong(life, error);
        } else {
            self.lock().figures.failures += 1;
        }
    }

    fn unavailable(&self) -> ReadError {
        let state = self.lock();
        ReadError::Unavailable(state.failure().unwrap_or("the log has begun anew").to_owned())
    }

    /// Those of the entries found between two offsets that no rule has dropped.
    fn kept(
        &self,
        life: &Life,
        between: Range<u64>,
        topics: Option<&[Topic]>,
        mut found: Vec<Entry<Body>>,
    ) -> Vec<Entry<Body>> {
        if self.has_rules() {
            let mut state = self.lock();
            if state.mirror.is_of(life)
                && let Some(ruled) = &mut state.mirror.ruled
            {
                ruled.note_found(between, topics, &found);
                found.retain(|entry| ruled.is_kept(entry.offset, &entry.topics));
            }
        }
        found
    }
}

fn exact(interest: &Interest) -> Option<Vec<Topic>> {
    Some(interest.exact_topics()?.cloned().collect())
}

fn step_limit(events_max: usize, bytes_max: usize) -> StepLimit {
    StepLimit {
        events_max: events_max.clamp(1, STEP_EVENTS_MAX),
        bytes_max: bytes_max.clamp(1, STEP_BYTES_MAX),
    }
}

fn bytes_of(entry: &Entry<Body>) -> usize {
    entry_bytes(entry, entry.payload.data.len())
}

/// What one step asks a store for at most, whatever its caller could bear.
const STEP_EVENTS_MAX: usize = 4_096;
const STEP_BYTES_MAX: usize = 8 << 20;
/// What is worth to be read in one step where most of it may not be wanted.
const SCANNED_EVENTS_MIN: usize = 256;
/// How often the store may turn out to be another one while it is asked one question.
const DOUBTS_MAX: u32 = 3;
