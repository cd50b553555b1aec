//! What a shard waits for: its sockets, and whoever wants to wake it.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

/// The readiness of many sockets, each under a number of its own.
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

/// What has become of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) number: u64,
    /// Something has come from the client, were it only the end.
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX), waker })
    }

    /// What ends a [`wait`](Self::wait), from any thread.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Begins to look after a socket until it is closed. What it is ready for already counts as new.
    /// `number` is not `u64::MAX`.
    pub(crate) fn register(&self, stream: &TcpStream, number: u64) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(
            &mut SourceFd(&stream.as_raw_fd()),
            Token(number as usize),
            interest,
        )
    }

    /// Waits until a socket has become ready, the waker was used, or the time is over, and appends
    /// what has become ready, or some of it: the rest comes next time.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) {
        // Only a signal or a defect can make it fail; both ways there is nothing to tell.
        if self.poll.poll(&mut self.events, timeout).is_err() {
            return;
        }
        let sockets = self.events.iter().filter(|event| event.token() != WAKER);
        ready.extend(sockets.map(|event| Readiness {
            number: event.token().0 as u64,
            is_readable: event.is_readable() || event.is_read_closed() || event.is_error(),
            is_writable: event.is_writable(),
        }));
    }
}

const WAKER: Token = Token(usize::MAX);
/// Sockets that become ready between two looks at the tail.
const EVENTS_MAX: usize = 256;
