//! A connection that its shard writes to directly.
//!
//! Events go out as chunks of an HTTP/1.1 body (RFC 9112, section 7.1), which all receivers share.
//! Nothing is kept for a socket but what it left of an event that it had begun to take: what it does
//! not take is read from the log again when it is writable.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::Millis;
use tidings_sse::HEARTBEAT_CHUNK;

use crate::Session;
use crate::census::Admitted;
use crate::delivery::{Encoded, chunk_of};
use crate::joined::Joined;
use crate::meter::EndReason;
use crate::outlet::{Beat, Taken};

/// A socket, and what its client has not been sent of what was taken for it.
pub(crate) struct Socket {
    stream: TcpStream,
    session: Option<Box<dyn Session>>,
    /// `None` while all that was taken is in the hands of the kernel.
    unsent: Option<Box<Unsent>>,
    admitted: Admitted,
}

struct Unsent {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that have been sent.
    sent: usize,
    /// When the socket last took something.
    since: Millis,
}

enum Piece {
    Event(Arc<Encoded>),
    Bytes(Bytes),
}

/// What a socket made of bytes it was given.
struct Sent {
    bytes: usize,
    /// It has taken them all, and none is held back.
    is_all: bool,
}

/// Whether the other side is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    Gone,
}

impl Socket {
    pub(crate) fn new(
        stream: TcpStream,
        session: Option<Box<dyn Session>>,
        admitted: Admitted,
    ) -> Self {
        Self { stream, session, unsent: None, admitted }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes events in order; accepts none while something is unsent.
    pub(crate) fn offer(&mut self, joined: &Joined, now: Millis) -> Taken {
        if self.unsent.is_some() {
            return Taken::nothing();
        }
        let mut accepted = 0;
        for run in joined.runs() {
            let sent = self.send(run.bytes());
            let (whole, rest_from) = run.whole_in(sent.bytes);
            accepted += whole;
            if sent.is_all {
                continue;
            }
            let begun = rest_from.map(|from| (Piece::Event(run.event(whole)), from));
            accepted += usize::from(begun.is_some());
            self.hold(begun, now);
            return Taken { accepted, writable: false, wakes: false };
        }
        Taken { accepted, writable: true, wakes: false }
    }

    /// Sends bytes that belong to no event.
    pub(crate) fn announce(&mut self, bytes: &[u8], now: Millis) {
        if !bytes.is_empty() {
            self.push(chunk_of(bytes).into(), now);
        }
    }

    pub(crate) fn heartbeat(&mut self, is_silent: bool, now: Millis) -> Beat {
        if let Some(unsent) = &self.unsent {
            return Beat::Waiting(unsent.since);
        }
        if is_silent {
            self.push(Bytes::from_static(HEARTBEAT_CHUNK), now);
        }
        Beat::Fine
    }

    /// Goes on with what is unsent; true if that is nothing any more.
    pub(crate) fn flush(&mut self, now: Millis) -> bool {
        let Some(mut unsent) = self.unsent.take() else { return true };
        while let Some(piece) = unsent.pieces.front() {
            let rest = &piece.bytes()[unsent.sent..];
            let (rest_bytes, sent) = (rest.len(), self.send(rest));
            unsent.sent += sent.bytes;
            if sent.bytes > 0 || self.session.is_some() {
                // A session does not tell what it got rid of, but that the socket was writable does.
                unsent.since = now;
            }
            if sent.bytes == rest_bytes {
                unsent.pieces.pop_front();
                unsent.sent = 0;
            }
            if !sent.is_all {
                self.unsent = Some(unsent);
                return false;
            }
        }
        if self.flush_session().is_err() {
            self.unsent = Some(unsent);
            return false;
        }
        true
    }

    /// Takes in, and drops, what the client has sent.
    pub(crate) fn discard(&mut self) -> Presence {
        let mut scratch = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            let read = match &mut self.session {
                None => (&self.stream).read(&mut scratch),
                Some(session) => session.read(&self.stream),
            };
            match read {
                Ok(0) => return Presence::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What it said may want an answer below the stream.
                    return match self.flush_session() {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => Presence::Gone,
                        _ => Presence::Here,
                    };
                }
                Err(_) => return Presence::Gone,
            }
        }
        // Who sends that much is no reader of an event stream.
        Presence::Gone
    }

    /// Says how the stream ends: no more is taken for it. True if it can be dropped now, else when
    /// [`flush`](Self::flush) says so.
    pub(crate) fn end(&mut self, reason: EndReason, now: Millis) -> bool {
        self.admitted.reason = reason;
        if reason == EndReason::WriteTimeout {
            // Nobody reads it: the kernel is to let go of what it holds as well.
            let _ =
                socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
            return true;
        }
        self.push(Bytes::from_static(LAST_CHUNK), now);
        self.unsent.is_none()
    }

    /// Closes what has been flushed.
    pub(crate) fn close(mut self) {
        if let Some(session) = &mut self.session {
            session.close(&self.stream);
        }
        // What is unread when it is dropped would reset the connection before all has arrived.
        self.discard();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn push(&mut self, bytes: Bytes, now: Millis) {
        if let Some(unsent) = &mut self.unsent {
            return unsent.pieces.push_back(Piece::Bytes(bytes));
        }
        let sent = self.send(&bytes);
        if !sent.is_all {
            let rest = (sent.bytes < bytes.len()).then_some((Piece::Bytes(bytes), sent.bytes));
            self.hold(rest, now);
        }
    }

    fn hold(&mut self, rest: Option<(Piece, usize)>, now: Millis) {
        let sent = rest.as_ref().map_or(0, |&(_, sent)| sent);
        let pieces = rest.into_iter().map(|(piece, _)| piece).collect();
        self.unsent = Some(Box::new(Unsent { pieces, sent, since: now }));
    }

    /// Gives bytes to the socket until it has all or takes no more. A connection that fails takes no
    /// more: the reactor tells of its end.
    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let written = match &mut self.session {
                None => (&self.stream).write(rest),
                // Once nothing is held back it takes something.
                Some(session) => session
                    .flush(&self.stream)
                    .and_then(|()| session.write_vectored(&self.stream, &[IoSlice::new(rest)])),
            };
            match written {
                Ok(0) => return Sent { bytes: sent, is_all: false },
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Sent { bytes: sent, is_all: false },
            }
        }
        Sent { bytes: sent, is_all: self.flush_session().is_ok() }
    }

    fn flush_session(&mut self) -> io::Result<()> {
        self.session.as_mut().map_or(Ok(()), |session| session.flush(&self.stream))
    }
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Event(entry) => entry.payload.frame.chunk_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Ends a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const READ_BYTES: usize = 4 << 10;
/// Reads for one readiness, after which a client has sent more than any request that it might have
/// sent in error.
const READS_MAX: usize = 16;
