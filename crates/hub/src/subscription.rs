//! One open subscription, as its reader sees it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tidings_core::{Position, Topic};
use tidings_sse::{Decoder, DecoderLimits, Item};

use crate::backlog::{Backlog, Piece, Take};
use crate::census::Admitted;
use crate::delivery::Encoded;
use crate::mailbox::{Command, Mailbox};
use crate::meter::Tally;
use crate::outlet::End;
use crate::shared::Shared;

/// An event as it was published, with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id: resumes after it.
    pub id: Position,
    /// The topics it was published under.
    pub topics: Arc<[Topic]>,
    /// Its type, if it has one.
    pub event_type: Option<String>,
    /// Its data; each CR, LF and CRLF of what was published is an LF here.
    pub data: String,
    /// Whether it is the last event of its topics.
    pub is_final: bool,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// An event of the log.
    Event(Event),
    /// Something about this stream: `tidings.gap`, `tidings.lagged`, `tidings.conflated`,
    /// `tidings.shutdown`, `tidings.expired` or `tidings.finished`, and its JSON.
    Control {
        /// Which.
        event_type: String,
        /// Its JSON.
        data: String,
    },
}

/// An open subscription. Dropping it ends it.
pub struct Subscription {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    backlog: Arc<Backlog>,
    taken: VecDeque<Piece>,
    begins_after: Option<Position>,
    end: Option<End>,
    admitted: Admitted,
}

impl Subscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        backlog: Arc<Backlog>,
        begins_after: Option<Position>,
        admitted: Admitted,
    ) -> Self {
        let taken = VecDeque::new();
        Self { shared, mailbox, backlog, taken, begins_after, end: None, admitted }
    }

    /// The position after which it begins: every later matching event is received. `None` if it
    /// began with the last events, which are only known once they are found, or after an id that another
    /// node has to have given out.
    pub fn begins_after(&self) -> Option<Position> {
        self.begins_after
    }

    /// Waits for the next event or control event; `None` once the stream has ended.
    ///
    /// Events come in the order of the log. An event that was published before the subscription
    /// began and is within its start, and every event published later, is received once.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Delivered> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivered>> {
        loop {
            while let Some(piece) = self.pass_on() {
                if let Some(delivered) = decode(&piece) {
                    return Poll::Ready(Some(delivered));
                }
            }
            if !ready!(self.poll_pieces(cx)) {
                return Poll::Ready(None);
            }
        }
    }

    /// Waits for bytes to send, heartbeats included: one or more whole events or lines, in the
    /// form of the event stream. `None` once the stream has ended.
    pub fn poll_sse(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.taken.is_empty() && !ready!(self.poll_pieces(cx)) {
            return Poll::Ready(None);
        }
        // Small pieces leave together; a large one is not copied.
        let is_large = |piece: &Piece| piece.len() >= JOINED_BYTES_MAX;
        if self.taken.len() == 1 || self.taken.front().is_some_and(is_large) {
            return Poll::Ready(Some(self.pass_on().map_or_else(Bytes::new, Piece::into_sse)));
        }
        let mut joined = BytesMut::with_capacity(JOINED_BYTES_MAX);
        while let Some(piece) = self.taken.front()
            && joined.len() + piece.len() <= JOINED_BYTES_MAX
        {
            joined.extend_from_slice(&piece.sse());
            self.taken.pop_front();
        }
        self.release(joined.len());
        Poll::Ready(Some(joined.freeze()))
    }

    /// The position up to which everything is settled, once the stream has ended: where a poll
    /// goes on.
    pub fn settled(&self) -> Option<Position> {
        self.end.and_then(|end| end.settled)
    }

    /// Takes what waits; false once the stream has ended.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.end.is_some() {
            return Poll::Ready(false);
        }
        match ready!(self.backlog.poll_take(cx)) {
            Ok(Take { pieces, turn_of }) => {
                self.taken = pieces;
                if let Some(key) = turn_of {
                    self.mailbox.send(Command::Taken(key));
                }
                self.count_delivered();
                Poll::Ready(true)
            }
            Err(end) => {
                self.end = Some(end);
                Poll::Ready(false)
            }
        }
    }

    /// The next piece, which is out of the hub's hands with that.
    fn pass_on(&mut self) -> Option<Piece> {
        let piece = self.taken.pop_front()?;
        self.release(piece.len());
        Some(piece)
    }

    fn release(&self, bytes: usize) {
        if let Some(key) = self.backlog.release(bytes, self.shared.around.clock.now()) {
            self.mailbox.send(Command::Writable(key));
        }
    }

    fn count_delivered(&self) {
        let mut tally = Tally::default();
        let now_micros = self.shared.around.clock.now_micros();
        for piece in &self.taken {
            tally.count_bytes(piece.len() as u64);
            match piece {
                Piece::Event { entry, live: true } => {
                    let published = std::iter::once(entry.payload.published_micros);
                    tally.count_live(published, now_micros);
                }
                Piece::Event { live: false, .. } => tally.count_replayed(1),
                Piece::Control(_) | Piece::Heartbeat => {}
            }
        }
        tally.settle(&self.shared.around.meter);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(key) = self.backlog.detach() {
            self.mailbox.send(Command::Unsubscribe(key));
        }
        if let Some(end) = self.backlog.end() {
            self.admitted.reason = end.reason;
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("begins_after", &self.begins_after)
            .finish_non_exhaustive()
    }
}

/// Reads a piece back as its client would; `None` for what carries no event.
fn decode(piece: &Piece) -> Option<Delivered> {
    let mut bytes = piece.sse();
    let (line_bytes_max, event_bytes_max) = (bytes.len(), bytes.len());
    let mut decoder = Decoder::new(DecoderLimits { line_bytes_max, event_bytes_max });
    loop {
        match decoder.decode(&mut bytes) {
            Ok(Some(Item::Event(event))) => {
                return Some(match piece {
                    Piece::Event { entry, .. } => {
                        // The log may be in another life by now.
                        let id = event.id.parse().ok()?;
                        Delivered::Event(event_of(id, entry, event.data))
                    }
                    Piece::Control(_) | Piece::Heartbeat => {
                        Delivered::Control { event_type: event.event.to_string(), data: event.data }
                    }
                });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn event_of(id: Position, entry: &Encoded, data: String) -> Event {
    Event {
        id,
        topics: entry.topics.clone(),
        event_type: entry.event_type.as_ref().map(ToString::to_string),
        data,
        is_final: entry.is_final,
    }
}

/// Below this, copying costs less than another write.
const JOINED_BYTES_MAX: usize = 16 << 10;
