//! What goes into the encoder and what comes out of the decoder.

use std::sync::Arc;

/// The fields of one event to be encoded, borrowed from the caller.
///
/// An absent `id` or `retry_ms` writes no field. An absent or empty `event` writes no field, so
/// the receiver sees the type `message`. `data` is always written, even when it is empty.
///
/// ```
/// use tidings_sse::EventFields;
///
/// let fields = EventFields { event: Some("price"), data: "42", ..EventFields::default() };
/// let mut out = Vec::new();
/// fields.encode(&mut out)?;
/// assert_eq!(out, b"event: price\ndata: 42\n\n");
/// # Ok::<(), tidings_sse::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EventFields<'a> {
    /// The event id. It may not hold CR, LF or NUL. `Some("")` resets the receiver's last event id.
    pub id: Option<&'a str>,
    /// The event type. It may not hold CR, LF or NUL.
    pub event: Option<&'a str>,
    /// The time the receiver is to wait before it reconnects, in milliseconds.
    pub retry_ms: Option<u64>,
    /// The payload. Each CR, LF or CRLF in it is received as one LF.
    pub data: &'a str,
}

/// One event as a receiver sees it.
///
/// The id and the type are shared, so that events which repeat them cost no allocation.
///
/// ```
/// use tidings_sse::{Decoder, Item};
///
/// let mut input = &b"event: price\ndata: 42\n\n"[..];
/// let Some(Item::Event(event)) = Decoder::default().decode(&mut input)? else { unreachable!() };
/// assert_eq!(&*event.id, "");
/// assert_eq!(&*event.event, "price");
/// assert_eq!(event.data, "42");
/// # Ok::<(), tidings_sse::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The last event id: that of this event, or of the newest one before it that had one. Empty
    /// if there was none or if it was reset.
    pub id: Arc<str>,
    /// The event type, `message` if the event names none.
    pub event: Arc<str>,
    /// The payload, its lines joined by LF.
    pub data: String,
}

/// What the decoder found in the stream.
///
/// ```
/// use tidings_sse::{Decoder, Item};
///
/// let mut input = &b"retry: 1500\n"[..];
/// assert_eq!(Decoder::default().decode(&mut input)?, Some(Item::Retry(1500)));
/// # Ok::<(), tidings_sse::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// An event was dispatched.
    Event(Event),
    /// The text of a comment after its colon, unchanged. Only given by a decoder made
    /// [`with_comments`](crate::Decoder::with_comments).
    Comment(String),
    /// A new reconnection time in milliseconds. It holds at once, whether or not the block around
    /// it is ever finished. A number too large for `u64` is given as [`u64::MAX`]; bounding it to
    /// something sensible is up to the caller.
    Retry(u64),
}
