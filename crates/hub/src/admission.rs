//! A subscription that may begin.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use tidings_core::{
    Bounds, Epoch, Gap, Identity, Interest, Position, Start, StreamOptions, resume_after,
};

use crate::Session;
use crate::backlog::{Abort, Backlog};
use crate::census::Admitted;
use crate::client::{Client, OnEnd};
use crate::hub::Begin;
use crate::mailbox::{Command, Mailbox, Subscribe};
use crate::outlet::Outlet;
use crate::shared::Shared;
use crate::socket::Socket;
use crate::subscription::Subscription;

/// A subscription that may begin: its start is known, and its place among the connections taken.
/// Dropping it gives the place back.
pub struct Admission {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) interest: Interest,
    pub(crate) beginning: Beginning,
    pub(crate) stream: StreamOptions,
    pub(crate) abort: Option<Abort>,
    pub(crate) admitted: Admitted,
    pub(crate) owner: Option<Box<Owner>>,
}

/// Where a subscription begins, as it was found in one life of the log.
pub(crate) struct Beginning {
    /// What was asked for, in case that another life begins before a shard takes it up.
    pub(crate) wanted: Begin,
    pub(crate) epoch: Epoch,
    pub(crate) start: Start,
    pub(crate) gap: Option<Gap>,
}

/// What is kept of a [`Client`] with its connection.
pub(crate) struct Owner {
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) address: Option<IpAddr>,
}

impl Beginning {
    /// Finds out where to begin in the life of `epoch`, of which `bounds` can be read.
    pub(crate) fn find(wanted: Begin, epoch: Epoch, bounds: Bounds, is_shared: bool) -> Self {
        let (start, gap) = match &wanted {
            Begin::Now => (Start::At(bounds.next), None),
            Begin::Earliest => (Start::At(bounds.oldest), None),
            Begin::Last(wanted) => (Start::Last { wanted: *wanted, before: bounds.next }, None),
            Begin::After(id) => resume_after(id, epoch, bounds, is_shared),
        };
        Self { wanted, epoch, start, gap }
    }
}

impl Owner {
    /// The owner, unless nobody knows it, and what is to be called at the end.
    pub(crate) fn of(client: Client) -> (Option<Box<Self>>, Option<OnEnd>) {
        let Client { identity, address, on_end } = client;
        let is_known = identity.is_some() || address.is_some();
        (is_known.then(|| Box::new(Self { identity, address })), on_end)
    }
}

impl Admission {
    /// The position after which it begins: every later matching event is received. `None` if it
    /// begins with the last events, which are only known once they are found, or after an id that another
    /// node has to have given out.
    pub fn begins_after(&self) -> Option<Position> {
        let offset = match self.beginning.start {
            Start::After(offset) => offset,
            Start::At(offset) => offset.saturating_sub(1),
            Start::Last { .. } | Start::Ahead(_) => return None,
        };
        Some(Position { epoch: self.beginning.epoch, offset })
    }

    /// Begins it, for a reader that pulls what it receives.
    pub fn pull(self) -> Subscription {
        let begins_after = self.begins_after();
        let Self { shared, mailbox, interest, beginning, stream, abort, admitted, owner } = self;
        let backlog_bytes_max = shared.options.limits.backlog_bytes_max;
        let budget = Arc::clone(shared.around.replay.budget());
        let backlog = Arc::new(Backlog::new(backlog_bytes_max, budget, abort));
        let outlet = Outlet::Backlog(Arc::clone(&backlog));
        let subscribe = Subscribe { interest, beginning, stream, outlet, owner };
        mailbox.send(Command::Subscribe(Box::new(subscribe)));
        Subscription::new(shared, mailbox, backlog, begins_after, admitted)
    }

    /// Begins it on a socket, which the hub owns from now on.
    ///
    /// The head of an HTTP/1.1 response and the first lines of the stream, if any, have been
    /// written; the hub writes events as chunks of its body (RFC 9112, section 7.1), ends it with the
    /// last chunk, and closes the socket. What the client sends is dropped, and its end of
    /// the connection ends the stream.
    ///
    /// The socket must be non-blocking. The option `abort` is not used. When the last clone of the hub is
    /// dropped, the stream ends.
    pub fn serve(self, socket: TcpStream, session: Option<Box<dyn Session>>) {
        let Self { mailbox, interest, beginning, stream, admitted, owner, .. } = self;
        let outlet = Outlet::Socket(Socket::new(socket, session, admitted));
        let subscribe = Subscribe { interest, beginning, stream, outlet, owner };
        mailbox.send(Command::Subscribe(Box::new(subscribe)));
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("interest", &self.interest).finish_non_exhaustive()
    }
}
