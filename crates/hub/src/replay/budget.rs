//! Bounds what is held of events that were read back from the log, wherever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the bytes of all events that were read back and that somebody still holds: the shared
/// steps, the backlogs of subscribers, and connections that write one.
#[derive(Debug)]
pub(crate) struct ReplayBudget {
    held: AtomicUsize,
    bytes_max: usize,
}

/// What one event holds of the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<ReplayBudget>,
    bytes: usize,
}

impl ReplayBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { held: AtomicUsize::new(0), bytes_max }
    }

    /// Counts an event. Never refuses: who sees that the budget is used up reads and takes one
    /// event at a time.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Relaxed);
        Held { budget: Arc::clone(self), bytes }
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.held_bytes() >= self.bytes_max
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held.load(Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Relaxed);
    }
}
