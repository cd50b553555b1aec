//! Why an event could not be encoded or a stream not be decoded.

use thiserror::Error;

/// An event that has no encoding. Nothing was written.
///
/// ```
/// use tidings_sse::{EncodeError, EventFields};
///
/// let forged = EventFields { id: Some("1\ndata: x"), ..EventFields::default() };
/// let error = forged.encode(&mut Vec::new()).unwrap_err();
/// assert_eq!(error, EncodeError::IdForbidden { byte: b'\n', at: 1 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The id holds a byte that would end or void the field. Choose an id without CR, LF and NUL.
    #[error("event id has the forbidden byte {byte:#04x} at {at}; leave out CR, LF and NUL")]
    IdForbidden {
        /// The byte found: CR, LF or NUL.
        byte: u8,
        /// Where it was found, in bytes from the start of the id.
        at: usize,
    },
    /// The event type holds a byte that would end the field. Choose a type without CR, LF and NUL.
    #[error("event type has the forbidden byte {byte:#04x} at {at}; leave out CR, LF and NUL")]
    TypeForbidden {
        /// The byte found: CR, LF or NUL.
        byte: u8,
        /// Where it was found, in bytes from the start of the type.
        at: usize,
    },
}

/// A stream that exceeds the limits of the decoder.
///
/// Close the connection: what follows cannot be decoded any more. To accept such a stream, decode
/// it anew with larger [`DecoderLimits`](crate::DecoderLimits).
///
/// ```
/// use tidings_sse::{DecodeError, Decoder, DecoderLimits};
///
/// let limits = DecoderLimits { line_bytes_max: 4, ..DecoderLimits::default() };
/// let error = Decoder::new(limits).decode(&mut &b"data: 12345\n"[..]).unwrap_err();
/// assert_eq!(error, DecodeError::LineTooLong { line_bytes_max: 4 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// One line has a longer value than allowed.
    #[error(
        "a line has more than {line_bytes_max} bytes; \
         close the connection, or raise line_bytes_max to accept it"
    )]
    LineTooLong {
        /// The limit that was exceeded, in bytes.
        line_bytes_max: usize,
    },
    /// The data of one event is longer than allowed.
    #[error(
        "an event has more than {event_bytes_max} bytes of data; \
         close the connection, or raise event_bytes_max to accept it"
    )]
    EventTooLong {
        /// The limit that was exceeded, in bytes.
        event_bytes_max: usize,
    },
}
