//! Time and chance, as arguments.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Condvar, MutexGuard};
use std::time::{Duration, Instant};

use super::state::State;
use crate::random::random_bits;

/// Where a log takes time and chance from.
pub(super) trait Environment: Send + Sync + Debug {
    fn now(&self) -> Instant;

    fn random_bits(&self) -> u64;

    /// Waits until `changed` is signalled, at most for `timeout`.
    fn wait<'a>(
        &self,
        changed: &Condvar,
        state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State>;

    /// From 0.0 to below 1.0.
    fn jitter(&self) -> f64 {
        (self.random_bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Those of the machine.
#[derive(Debug)]
pub(super) struct Machine;

impl Environment for Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random_bits(&self) -> u64 {
        // What seeds the maps of the standard library is as good, for those who have nothing better.
        random_bits().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
    }

    fn wait<'a>(
        &self,
        changed: &Condvar,
        state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State> {
        changed.wait_timeout(state, timeout).expect(super::UNPOISONED).0
    }
}
