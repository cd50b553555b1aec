//! Where a shard puts what a connection is to be sent.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Millis, Position, Write};

use crate::backlog::Backlog;
use crate::delivery::Delivery;
use crate::joined::Joined;
use crate::meter::EndReason;
use crate::socket::Socket;

/// One connection, as its shard sees it. No method blocks.
pub(crate) enum Outlet {
    /// Pulled by the task that owns the connection.
    Backlog(Arc<Backlog>),
    /// Owned by the shard.
    Socket(Socket),
}

/// How much of a batch an outlet took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) accepted: usize,
    /// Whether it would take more. If not, the shard is told when it will.
    pub(crate) writable: bool,
    /// Whether a task was made ready to run by it. If the events are not live, the shard is told
    /// when it has.
    pub(crate) wakes: bool,
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beat {
    /// Nothing waits; one was sent if it was due.
    Fine,
    /// Bytes have been waiting since this time without any being passed on; none was sent.
    Waiting(Millis),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) reason: EndReason,
    /// Everything up to here is settled: an id to resume after. `None` if nobody knows.
    pub(crate) settled: Option<Position>,
}

impl Taken {
    pub(crate) fn nothing() -> Self {
        Self { accepted: 0, writable: false, wakes: false }
    }
}

impl Outlet {
    /// Offers events in order; at least one is taken unless bytes wait.
    pub(crate) fn offer(
        &mut self,
        write: &Write<Delivery>,
        joined: &mut Joined,
        now: Millis,
    ) -> Taken {
        match self {
            Self::Backlog(backlog) => backlog.offer(&write.batch.entries, write.live, now),
            Self::Socket(socket) => {
                joined.prepare(&write.batch);
                socket.offer(joined, now)
            }
        }
    }

    /// Sends bytes that belong to no event. Few and small, so always taken.
    pub(crate) fn announce(&mut self, bytes: Bytes, now: Millis) {
        match self {
            Self::Backlog(backlog) => backlog.announce(bytes, now),
            Self::Socket(socket) => socket.announce(&bytes, now),
        }
    }

    /// Sends a heartbeat if the stream is silent and nothing waits.
    pub(crate) fn heartbeat(&mut self, is_silent: bool, now: Millis) -> Beat {
        match self {
            Self::Backlog(backlog) => backlog.heartbeat(is_silent, now),
            Self::Socket(socket) => socket.heartbeat(is_silent, now),
        }
    }

    /// Ends the stream once what was taken is sent. A socket that must be waited for is given back:
    /// it is flushed when it is writable, and then closed.
    pub(crate) fn end(self, end: End, now: Millis) -> Option<Socket> {
        match self {
            Self::Backlog(backlog) => {
                backlog.close(end);
                None
            }
            Self::Socket(mut socket) => {
                if !socket.end(end.reason, now) {
                    return Some(socket);
                }
                socket.close();
                None
            }
        }
    }
}
