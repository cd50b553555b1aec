//! Where the hub is now, for clients that have lost it, and how much they have done, for the one that
//! kills it.

use std::net::SocketAddr;
use std::panic;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Whereabouts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct State {
    address: Option<SocketAddr>,
    /// How often it has moved.
    life: u64,
    sent: u64,
    acknowledged: u64,
    /// Nothing new is to be published.
    is_ending: bool,
    /// A client has panicked: nobody needs to wait for it.
    has_failed: bool,
}

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    Sent,
    Acknowledged,
}

impl Whereabouts {
    /// Says where the hub is from now on.
    pub(crate) fn announce(&self, address: SocketAddr) {
        let mut state = self.state.lock().unwrap();
        state.address = Some(address);
        state.life += 1;
        self.changed.notify_all();
    }

    /// Where the hub is and in which life, as soon as that is another than the last one known.
    pub(crate) fn after(&self, life: u64) -> (SocketAddr, u64) {
        let state = self.wait_while(|state| state.life <= life);
        match state {
            Some(State { address: Some(address), life, .. }) => (address, life),
            _ => panic!("the hub does not come back, or has lost a client"),
        }
    }

    pub(crate) fn count(&self, what: Count) {
        let mut state = self.state.lock().unwrap();
        *state.counter(what) += 1;
        self.changed.notify_all();
    }

    /// Waits until so much more was done.
    pub(crate) fn wait_for(&self, what: Count, more: u64) {
        let wanted = *self.state.lock().unwrap().counter(what) + more;
        let state = self.wait_while(|state| *state.counter(what) < wanted);
        assert!(state.is_some(), "clients wait for what the hub does not do");
    }

    /// Answers `None` if it takes too long, or a client has failed.
    fn wait_while(&self, mut condition: impl FnMut(&mut State) -> bool) -> Option<State> {
        let state = self.state.lock().unwrap();
        let is_not_yet = |state: &mut State| !state.has_failed && condition(state);
        let (state, waited) = self.changed.wait_timeout_while(state, PATIENCE, is_not_yet).unwrap();
        (!waited.timed_out() && !state.has_failed).then_some(*state)
    }

    /// Runs a client; if it panics, nobody waits for it any longer.
    pub(crate) fn run(&self, client: impl FnOnce()) {
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(client));
        if let Err(panic) = outcome {
            self.state.lock().unwrap().has_failed = true;
            self.changed.notify_all();
            panic::resume_unwind(panic);
        }
    }

    /// Waits until the hub has another life than the last one known, or the end has come.
    pub(crate) fn rest(&self, life: u64) {
        let state = self.wait_while(|state| state.life <= life && !state.is_ending);
        assert!(state.is_some(), "the hub does not come back");
    }

    pub(crate) fn end(&self) {
        self.state.lock().unwrap().is_ending = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state.lock().unwrap().is_ending
    }
}

impl State {
    fn counter(&mut self, what: Count) -> &mut u64 {
        match what {
            Count::Sent => &mut self.sent,
            Count::Acknowledged => &mut self.acknowledged,
        }
    }
}

/// How long something may take before the test gives up: only ever waited for in full by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
