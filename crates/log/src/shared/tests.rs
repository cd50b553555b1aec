//! The suites, and what the other tests need.

mod faults;
mod simulation;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::environment::Environment;
use super::state::State;
use super::*;

#[test]
fn the_engine_in_memory_conforms() {
    crate::conformance::check_engine(|| {
        let store = InMemoryStore::new(false);
        move || store.engine()
    });
}

#[test]
fn the_shared_log_conforms() {
    let node = |retention, keys| {
        let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
        SharedLog::open(InMemoryStore::new(false).engine(), options).unwrap()
    };
    crate::conformance::check(|retention, keys| Box::new(node(retention, keys)));
}

#[test]
fn the_shared_log_conforms_between_nodes() {
    crate::conformance::check_shared(|retention, keys| {
        let store = InMemoryStore::new(false);
        let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
        move || {
            let log = SharedLog::open(store.engine(), options.clone()).unwrap();
            Box::new(log) as Box<dyn EventLog>
        }
    });
}

/// Time that passes when somebody waits, and chance that can be had again.
#[derive(Debug, Clone)]
struct Virtual(Arc<Mutex<(Instant, fastrand::Rng)>>);

impl Virtual {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), fastrand::Rng::with_seed(seed)))))
    }

    fn advance(&self, time: Duration) {
        self.0.lock().unwrap().0 += time;
    }
}

impl Environment for Virtual {
    fn now(&self) -> Instant {
        self.0.lock().unwrap().0
    }

    fn random_bits(&self) -> u64 {
        self.0.lock().unwrap().1.u64(..)
    }

    fn wait<'a>(
        &self,
        _changed: &Condvar,
        state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State> {
        self.advance(timeout);
        state
    }
}
