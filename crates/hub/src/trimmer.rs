//! The thread that lets go of what is no longer to be kept.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tidings_log::EventLog;

use crate::clock::unix_now;
use crate::replay::Replay;

/// Trims until the other end of `hub` is dropped.
pub(crate) fn run(log: &dyn EventLog, replay: &Replay, hub: &Receiver<Infallible>) {
    while let Err(RecvTimeoutError::Timeout) = hub.recv_timeout(INTERVAL) {
        log.trim(unix_now());
        replay.forget_idle();
    }
}

/// How long an event may outlive its age.
const INTERVAL: Duration = Duration::from_secs(1);
