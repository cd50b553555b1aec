//! The Server-Sent Events wire format: bytes to events and events to bytes.
//!
//! This crate knows the format of section 9.2 of the WHATWG HTML standard and nothing else: no
//! HTTP, no time, no IO. What it guarantees:
//!
//! - [`Decoder`] accepts any bytes, cut into chunks anywhere, and gives the same items for every
//!   way of cutting. Its time is linear in the input and its memory is bounded by
//!   [`DecoderLimits`].
//! - [`EventFields::encode`] writes what every decoder of the standard reads back as exactly one
//!   event. No text in a field can forge another field or another event.
//! - [`Frame`] is an event encoded once. It cannot be changed, and a clone costs a reference count.
//!
//! ```
//! use tidings_sse::{Decoder, EventFields, Item};
//!
//! let mut wire = Vec::new();
//! let fields = EventFields { id: Some("7"), data: "two\nlines", ..EventFields::default() };
//! fields.encode(&mut wire)?;
//! assert_eq!(wire, b"id: 7\ndata: two\ndata: lines\n\n");
//!
//! let mut decoder = Decoder::default();
//! let mut input = &wire[..];
//! while let Some(item) = decoder.decode(&mut input)? {
//!     let Item::Event(event) = item else { continue };
//!     assert_eq!((&*event.id, &*event.event, &*event.data), ("7", "message", "two\nlines"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod error;
mod event;
mod frame;
mod line;

pub use decode::{Decoder, DecoderLimits};
pub use encode::{HEARTBEAT, encode_comment, encode_retry};
pub use error::{DecodeError, EncodeError};
pub use event::{Event, EventFields, Item};
pub use frame::{Frame, HEARTBEAT_CHUNK};
