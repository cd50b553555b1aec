//! A bounded backlog between a shard and the task that owns a connection.
//!
//! The way of all streams whose bytes are pulled: by a hyper body, or by a program.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidings_core::{Millis, SubscriberKey};

use crate::delivery::Encoded;
use crate::meter::EndReason;
use crate::outlet::{Beat, End, Taken};
use crate::replay::ReplayBudget;

/// One thing to send.
#[derive(Debug)]
pub(crate) enum Piece {
    Event { entry: Arc<Encoded>, live: bool },
    Control(Bytes),
    Heartbeat,
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Event { entry, .. } => entry.payload.frame.len(),
            Self::Control(bytes) => bytes.len(),
            Self::Heartbeat => tidings_sse::HEARTBEAT.len(),
        }
    }

    /// Its bytes on the wire, to be copied.
    pub(crate) fn sse(&self) -> Bytes {
        match self {
            Self::Event { entry, .. } => entry.payload.frame.sse(),
            Self::Control(bytes) => bytes.clone(),
            Self::Heartbeat => Bytes::from_static(tidings_sse::HEARTBEAT),
        }
    }

    /// Its bytes on the wire, to be kept for as long as a connection needs.
    pub(crate) fn into_sse(self) -> Bytes {
        match self {
            Self::Event { entry, .. } if entry.payload.held.is_some() => {
                Bytes::from_owner(HeldBytes { bytes: entry.payload.frame.sse(), _entry: entry })
            }
            piece => piece.sse(),
        }
    }
}

/// The bytes of an event that was read back; what it holds of the budget is held as long.
struct HeldBytes {
    bytes: Bytes,
    _entry: Arc<Encoded>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What waits for one connection.
pub(crate) struct Backlog {
    state: Mutex<State>,
    bytes_max: usize,
    replay: Arc<ReplayBudget>,
    abort: Option<Abort>,
}

/// All that waited.
pub(crate) struct Take {
    pub(crate) pieces: VecDeque<Piece>,
    /// Whose turn is over with it; its shard is to be told.
    pub(crate) turn_of: Option<SubscriberKey>,
}

/// Breaks a connection whose client has stopped reading.
pub type Abort = Box<dyn Fn() + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Bytes of `pieces` and of what the reader took and has not released.
    bytes: usize,
    /// When the reader last passed something on, or since when there is something; `None` if there
    /// is nothing.
    waiting_since: Option<Millis>,
    /// The shard waits to be told that no more than so many bytes are left.
    room_at: Option<usize>,
    /// The shard waits to be told that the reader has taken something.
    is_turn: bool,
    end: Option<End>,
    reader: Option<Waker>,
    reader_gone: bool,
    /// The place in the shard, once there is one.
    key: Option<SubscriberKey>,
}

impl Backlog {
    pub(crate) fn new(bytes_max: usize, replay: Arc<ReplayBudget>, abort: Option<Abort>) -> Self {
        Self { state: Mutex::new(State::default()), bytes_max, replay, abort }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds a backlog")
    }

    /// Notes the place in the shard; false if the reader has gone already.
    pub(crate) fn attach(&self, key: SubscriberKey) -> bool {
        let mut state = self.state();
        state.key = Some(key);
        !state.reader_gone
    }

    /// Notes that the reader is gone; gives the place in the shard, if it has one.
    pub(crate) fn detach(&self) -> Option<SubscriberKey> {
        let mut state = self.state();
        state.reader_gone = true;
        state.pieces = VecDeque::new();
        state.key
    }

    /// How the stream ended, if the hub ended it.
    pub(crate) fn end(&self) -> Option<End> {
        self.state().end
    }

    /// Lets go of bytes that the reader has passed on; gives the place in the shard if that is to be
    /// told that there is room, which it is once half of the bound is free, or, when memory for what
    /// was read back is scarce, all of it.
    ///
    /// What the reader has taken and what waits count together.
    pub(crate) fn release(&self, bytes: usize, now: Millis) -> Option<SubscriberKey> {
        let mut state = self.state();
        state.bytes -= bytes;
        state.waiting_since = (state.bytes > 0).then_some(now);
        let bytes = state.bytes;
        state.room_at.take_if(|room_at| bytes <= *room_at)?;
        state.key
    }

    /// Takes all that waits, or says how the stream ended.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Result<Take, End>> {
        let mut state = self.state();
        if state.pieces.is_empty() {
            return match state.end {
                Some(end) => Poll::Ready(Err(end)),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let is_turn = std::mem::take(&mut state.is_turn);
        let pieces = std::mem::take(&mut state.pieces);
        Poll::Ready(Ok(Take { pieces, turn_of: state.key.filter(|_| is_turn) }))
    }

    fn push(state: &mut State, piece: Piece, now: Millis) {
        state.bytes += piece.len();
        state.waiting_since.get_or_insert(now);
        state.pieces.push_back(piece);
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Offers entries in order; takes at least one unless bytes wait.
    pub(crate) fn offer(&self, entries: &[Arc<Encoded>], live: bool, now: Millis) -> Taken {
        let is_read_back = entries.first().is_some_and(|entry| entry.payload.held.is_some());
        let is_scarce = is_read_back && self.replay.is_used_up();
        // One event goes over either bound.
        let (bytes_max, room_at) =
            if is_scarce { (1, 0) } else { (self.bytes_max, self.bytes_max / 2) };
        let mut state = self.state();
        let mut accepted = 0;
        for entry in entries {
            if state.bytes >= bytes_max {
                break;
            }
            Backlog::push(&mut state, Piece::Event { entry: Arc::clone(entry), live }, now);
            accepted += 1;
        }
        let writable = state.bytes < bytes_max;
        state.room_at = (!writable).then_some(room_at);
        let wakes = accepted > 0 && state.reader.is_some();
        state.is_turn |= wakes && !live;
        Backlog::wake(state);
        Taken { accepted, writable, wakes }
    }

    pub(crate) fn announce(&self, bytes: Bytes, now: Millis) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state();
        Backlog::push(&mut state, Piece::Control(bytes), now);
        Backlog::wake(state);
    }

    pub(crate) fn heartbeat(&self, is_silent: bool, now: Millis) -> Beat {
        let mut state = self.state();
        if let Some(since) = state.waiting_since {
            return Beat::Waiting(since);
        }
        if is_silent {
            Backlog::push(&mut state, Piece::Heartbeat, now);
            Backlog::wake(state);
        }
        Beat::Fine
    }

    /// Ends the stream once what was taken is sent.
    pub(crate) fn close(&self, end: End) {
        let mut state = self.state();
        state.end = Some(end);
        if end.reason != EndReason::WriteTimeout {
            return Backlog::wake(state);
        }
        // Nobody reads it: let go of it now, and of the connection without waiting for its end.
        state.pieces = VecDeque::new();
        Backlog::wake(state);
        if let Some(abort) = &self.abort {
            abort();
        }
    }
}
