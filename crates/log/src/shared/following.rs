//! Following what all nodes append, and taking up the store again when it was lost.

use std::time::Duration;

use super::SharedLog;
use super::engine::{Engine, EngineError};
use super::reopening::SCAN_LIMIT;
use crate::Followed;

impl<E: Engine> SharedLog<E> {
    pub(super) fn follow_on(&self, timeout: Duration) -> Followed {
        self.note_follower();
        self.news().or_else(|| self.wait(timeout)).unwrap_or(Followed::Nothing)
    }

    fn news(&self) -> Option<Followed> {
        self.lock().mirror.take_news()
    }

    fn wait(&self, timeout: Duration) -> Option<Followed> {
        let deadline = self.environment.now() + timeout;
        let Some(life) = self.await_up(deadline, |_| false) else { return self.news() };
        self.try_writing(&life);
        let (from, until) = {
            let state = self.lock();
            if !state.mirror.is_of(&life) {
                return None;
            }
            (state.mirror.followed(), state.retry_at().map_or(deadline, |at| at.min(deadline)))
        };
        let now = self.environment.now();
        // Whoever writes just now finds out whether that can be done.
        let until = if until > now { until } else { deadline };
        let left = until.saturating_duration_since(now);
        match self.engine.wait(&life, from, SCAN_LIMIT, left) {
            // What was there is gone without another life: whoever opens the store decides.
            Ok(fetched) if fetched.bounds.next < from => {
                self.went_wrong(&life, &EngineError::OtherLife);
            }
            Ok(fetched) => {
                let mut state = self.lock();
                if state.is_up() && state.mirror.is_of(&life) {
                    state.went_well(self.environment.now());
                    state.figures.next = state.figures.next.max(fetched.bounds.next);
                    state.mirror.fetched(fetched);
                }
            }
            Err(error) => self.went_wrong(&life, &error),
        }
        self.news()
    }
}
