//! How many connections there are, and who may be one more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidings_core::Millis;
use tokio::sync::Notify;

use crate::client::OnEnd;
use crate::clock::Clock;
use crate::meter::{EndReason, Meter};
use crate::presence::Stay;

/// Counts the connections of a hub.
#[derive(Debug)]
pub(crate) struct Census {
    clock: Clock,
    meter: Arc<Meter>,
    connections: AtomicUsize,
    ended: Notify,
}

/// One connection that has been counted in; dropping it counts it out.
pub(crate) struct Admitted {
    census: Arc<Census>,
    pub(crate) opened_at: Millis,
    on_end: Option<OnEnd>,
    /// How it ended; without another word the client has gone.
    pub(crate) reason: EndReason,
}

impl Census {
    pub(crate) fn new(clock: Clock, meter: Arc<Meter>) -> Self {
        Self { clock, meter, connections: AtomicUsize::new(0), ended: Notify::new() }
    }

    /// Counts a connection in, unless `connections_max` are open.
    /// `on_end` is called when it is counted out again.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connections_max: usize,
        on_end: Option<OnEnd>,
    ) -> Option<Admitted> {
        if self.connections.fetch_add(1, Ordering::SeqCst) >= connections_max {
            self.connections.fetch_sub(1, Ordering::SeqCst);
            self.meter.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.meter.subscribers.fetch_add(1, Ordering::Relaxed);
        let opened_at = self.clock.now();
        Some(Admitted { census: Arc::clone(self), opened_at, on_end, reason: EndReason::Client })
    }

    pub(crate) async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.connections.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Admitted {
    /// Is known to be there until the end.
    pub(crate) fn keep(&mut self, stay: Stay) {
        let on_end = self.on_end.take();
        self.on_end = Some(Box::new(move |reason| {
            drop(stay);
            if let Some(on_end) = on_end {
                on_end(reason);
            }
        }));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Census { clock, meter, connections, ended } = &*self.census;
        let lasted = Duration::from_millis(clock.now().saturating_sub(self.opened_at));
        meter.count_end(self.reason, lasted);
        if let Some(on_end) = self.on_end.take() {
            on_end(self.reason);
        }
        meter.subscribers.fetch_sub(1, Ordering::Relaxed);
        if connections.fetch_sub(1, Ordering::SeqCst) == 1 {
            ended.notify_waiters();
        }
    }
}
