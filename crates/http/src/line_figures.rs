//! What is counted of connections before they get to a request.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a server, written by all its connections.
#[derive(Debug, Default)]
pub(crate) struct LineFigures {
    /// Connections without a request under way; not a total.
    waiting: AtomicU64,
    turned_out: AtomicU64,
    head_timeouts: AtomicU64,
    handshakes_failed: AtomicU64,
}

impl LineFigures {
    pub(crate) fn set_waiting(&self, count: usize) {
        self.waiting.store(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_turned_out(&self) {
        self.turned_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_head_timeout(&self) {
        self.head_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Each total with its name and what it says.
    pub(crate) fn totals(&self) -> [(&'static str, &'static str, u64); 3] {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (
                "tidings_waiting_dropped",
                "Connections without a request that were closed for others",
                total(&self.turned_out),
            ),
            (
                "tidings_head_timeouts",
                "Connections closed because a handshake or a request head did not come in time",
                total(&self.head_timeouts),
            ),
            (
                "tidings_handshakes_failed",
                "Connections that ended before they got to a request, over TLS or the PROXY protocol",
                total(&self.handshakes_failed),
            ),
        ]
    }
}
