//! The two clocks of a hub, read at its edges and passed inwards as numbers.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidings_core::Millis;
use tidings_log::UnixMillis;

/// Counts from the start of the hub and never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    pub(crate) fn now_micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// The moment that lies `millis` after the start.
    pub(crate) fn at(&self, millis: Millis) -> Instant {
        self.started + std::time::Duration::from_millis(millis)
    }
}

/// What the clock on the wall says, for the age of events.
pub(crate) fn unix_now() -> UnixMillis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as UnixMillis)
}
