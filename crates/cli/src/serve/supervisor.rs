//! What the process tells the service manager that started it (`sd_notify(3)`), if there is one that
//! wants to know.

use std::time::Duration;

use tidings::Hub;

/// A service manager, or nobody.
pub(super) struct Supervisor;

#[cfg(unix)]
impl Supervisor {
    /// The hub serves, on its own terms or again after a reload.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is read again; [`ready`](Self::ready) follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[
                NotifyState::Reloading,
                now,
                NotifyState::Status("reading the configuration again"),
            ]),
            // Half of it would have the process ended.
            Err(error) => tracing::debug!(%error, "there is no monotonic clock"),
        }
    }

    /// The hub goes away, and takes at most so long for it.
    pub(super) fn stopping(&self, longest: Duration) {
        let micros = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("draining"),
        ]);
    }

    /// Gives a sign of life as often as is wanted, for as long as every thread of the hub does. Never
    /// returns.
    pub(super) async fn watch(&self, hub: &Hub) {
        let Some(timeout) = sd_notify::watchdog_enabled() else { return pending().await };
        // As sd_watchdog_enabled(3) recommends.
        let mut ticks = interval(timeout / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answered = tokio::time::timeout(timeout / 4, hub.check_threads()).await;
            if answered.is_ok() && !hub.has_failed() {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("a thread does not answer, so the watchdog is not told to wait");
            }
        }
    }
}

#[cfg(unix)]
fn tell(states: &[NotifyState<'_>]) {
    // It is no reason not to serve.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}

#[cfg(unix)]
use {
    sd_notify::NotifyState,
    std::future::pending,
    tokio::time::{MissedTickBehavior, interval},
};

#[cfg(not(unix))]
impl Supervisor {
    pub(super) fn ready(&self, _: &str) {}

    pub(super) fn reloading(&self) {}

    pub(super) fn stopping(&self, _: Duration) {}

    pub(super) async fn watch(&self, _: &Hub) {
        std::future::pending().await
    }
}
