//! The signals that the process answers to.

use std::io;

/// Waits for a signal that asks the process to end, SIGTERM or SIGINT.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// Waits for the signal that asks the process to read its configuration again, SIGHUP.
#[cfg(unix)]
pub(super) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    /// Begins to wait: from now on neither signal ends the process by itself.
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends with the next signal.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost when it is dropped.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(unix)]
impl Hangups {
    /// Begins to wait: from now on the signal does not end the process.
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        signal(SignalKind::hangup()).map(Self)
    }

    /// Ends with the next signal; several may be one.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost when it is dropped.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Nothing is needed here.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Ends with the next Ctrl-C.
    pub(super) async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// There is no such signal.
#[cfg(not(unix))]
pub(super) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    /// Nothing is needed here.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Never ends.
    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}
