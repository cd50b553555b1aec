//! Letting go of what is too old or too much.

use super::SharedLog;
use super::engine::{Cut, Engine, EngineError, Life, Wish};
use super::reopening::{SCAN_LIMIT, progress};
use super::ruled::Owed;
use crate::UnixMillis;

impl<E: Engine> SharedLog<E> {
    pub(super) fn trim_all(&self, now: UnixMillis) {
        let Ok((life, _)) = self.readable() else { return };
        let outcome = self.catch_up(&life).and_then(|()| self.let_go(&life, now));
        if let Err(error) = outcome {
            tracing::warn!(store = self.engine.name(), %error, "old events are kept for now");
            if error == EngineError::OtherLife {
                self.went_wrong(&life, &error);
            }
        }
    }

    /// Has rules know all that this node knows to be there, also what nobody has followed yet.
    fn catch_up(&self, life: &Life) -> Result<(), EngineError> {
        loop {
            let (from, until) = {
                let state = self.lock();
                if !state.mirror.is_of(life) || state.mirror.ruled.is_none() {
                    return Ok(());
                }
                (state.mirror.absorbed(), state.mirror.bounds().next)
            };
            if from >= until {
                return Ok(());
            }
            let wish = Wish { from, until, topics: None, limit: SCAN_LIMIT };
            let fetched = self.engine.read(life, &wish)?;
            progress(from, fetched.end.max(fetched.bounds.oldest))?;
            let mut state = self.lock();
            if state.mirror.is_of(life) {
                state.mirror.caught_up(&fetched);
            }
        }
    }

    fn let_go(&self, life: &Life, now: UnixMillis) -> Result<(), EngineError> {
        let owed = self.owed(life, now);
        let dropped: Vec<_> = owed.topics.iter().map(|(topic, &at)| (topic.clone(), at)).collect();
        let retention = &self.options.retention;
        let cut = Cut {
            events_max: retention.events_max.max(1),
            bytes_max: retention.bytes_max,
            appended_before: now.saturating_sub(retention.age_max_ms),
            offsets: &owed.offsets,
            dropped: &dropped,
            now,
            keys: self.options.keys,
        };
        let outcome = self.engine.trim(life, &cut);
        let mut state = self.lock();
        if !state.mirror.is_of(life) {
            return Ok(());
        }
        match outcome {
            Ok(bounds) => state.mirror.learn_oldest(bounds),
            Err(error) => {
                if let Some(ruled) = &mut state.mirror.ruled {
                    ruled.postpone(owed);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// What rules drop now, or have dropped before without the store.
    fn owed(&self, life: &Life, now: UnixMillis) -> Owed {
        let mut state = self.lock();
        if !state.mirror.is_of(life) {
            return Owed::default();
        }
        let Some(ruled) = &mut state.mirror.ruled else { return Owed::default() };
        ruled.enforce(now);
        ruled.take_owed()
    }
}
