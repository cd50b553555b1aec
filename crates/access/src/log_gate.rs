//! Says something that may happen a thousand times a second at most once in a while.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets one line pass every [`PERIOD`].
#[derive(Debug, Default)]
pub(crate) struct LogGate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    passed_at: Option<Instant>,
    withheld: u64,
}

impl LogGate {
    /// How many lines were withheld since the last that passed; `None` withholds this one as well.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.passed_at.is_some_and(|at| now.duration_since(at) < PERIOD) {
            state.withheld += 1;
            return None;
        }
        state.passed_at = Some(now);
        Some(std::mem::take(&mut state.withheld))
    }
}

const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_much_it_withheld() {
        let gate = LogGate::default();
        let start = Instant::now();
        assert_eq!(gate.pass_at(start), Some(0));
        assert_eq!(gate.pass_at(start + PERIOD / 2), None);
        assert_eq!(gate.pass_at(start), None);
        assert_eq!(gate.pass_at(start + PERIOD), Some(2));
        assert_eq!(gate.pass_at(start + PERIOD * 3), Some(0));
    }
}
