//! An event encoded once, to be written to any number of receivers.

use bytes::Bytes;

use crate::{error::EncodeError, event::EventFields};

/// [`HEARTBEAT`](crate::HEARTBEAT) as one chunk of an HTTP/1.1 body.
///
/// ```
/// assert_eq!(tidings_sse::HEARTBEAT_CHUNK, b"2\r\n:\n\r\n");
/// ```
pub const HEARTBEAT_CHUNK: &[u8] = b"2\r\n:\n\r\n";

/// One encoded event, immutable and shared.
///
/// It holds the event both bare and as one chunk of an HTTP/1.1 body (RFC 9112, section 7.1), in
/// the same bytes. A clone and a view cost a reference count. Encoding makes one allocation of
/// the exact size; the count itself, a few words, is added when the frame is first shared.
///
/// ```
/// use tidings_sse::{EventFields, Frame};
///
/// let frame = Frame::encode(&EventFields { data: "hello", ..EventFields::default() })?;
/// assert_eq!(frame.sse(), "data: hello\n\n");
/// assert_eq!(frame.chunk(), "d\r\ndata: hello\n\n\r\n");
/// assert_eq!(frame.len(), 13);
/// # Ok::<(), tidings_sse::EncodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Chunk size in hex, CRLF, the event, CRLF.
    chunk: Bytes,
    /// The number of bytes before the event.
    head_bytes: usize,
}

impl Frame {
    /// Encodes an event.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the id or the type holds CR, LF or NUL.
    ///
    /// ```
    /// use tidings_sse::{EventFields, Frame};
    ///
    /// assert!(Frame::encode(&EventFields { id: Some("a\nb"), ..Default::default() }).is_err());
    /// ```
    pub fn encode(fields: &EventFields<'_>) -> Result<Self, EncodeError> {
        fields.check()?;
        let event_bytes = fields.encoded_bytes();
        let head_bytes = hex_digits(event_bytes) + CRLF.len();
        let mut chunk = Vec::with_capacity(head_bytes + event_bytes + CRLF.len());
        for digit in (0..hex_digits(event_bytes)).rev() {
            chunk.push(HEX_DIGITS[event_bytes >> (4 * digit) & 0xf]);
        }
        chunk.extend_from_slice(CRLF);
        fields.write(&mut chunk);
        chunk.extend_from_slice(CRLF);
        Ok(Self { chunk: Bytes::from(chunk), head_bytes })
    }

    /// The event alone, as it is sent over HTTP/2 or to a receiver without chunk framing. Shares
    /// the frame's bytes.
    ///
    /// ```
    /// # use tidings_sse::{EventFields, Frame};
    /// let frame = Frame::encode(&EventFields::default())?;
    /// assert_eq!(frame.sse(), "data: \n\n");
    /// # Ok::<(), tidings_sse::EncodeError>(())
    /// ```
    #[must_use]
    pub fn sse(&self) -> Bytes {
        self.chunk.slice(self.head_bytes..self.chunk.len() - CRLF.len())
    }

    /// The event as one chunk of an HTTP/1.1 body. Shares the frame's bytes.
    ///
    /// ```
    /// # use tidings_sse::{EventFields, Frame};
    /// let frame = Frame::encode(&EventFields::default())?;
    /// assert_eq!(frame.chunk(), "8\r\ndata: \n\n\r\n");
    /// # Ok::<(), tidings_sse::EncodeError>(())
    /// ```
    #[must_use]
    pub fn chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// The event as one chunk of an HTTP/1.1 body, borrowed, without touching the count.
    ///
    /// ```
    /// # use tidings_sse::{EventFields, Frame};
    /// let frame = Frame::encode(&EventFields::default())?;
    /// assert_eq!(frame.chunk_bytes(), frame.chunk());
    /// # Ok::<(), tidings_sse::EncodeError>(())
    /// ```
    #[must_use]
    pub fn chunk_bytes(&self) -> &[u8] {
        &self.chunk
    }

    /// The size of the event without chunk framing, in bytes. It is never 0.
    ///
    /// ```
    /// # use tidings_sse::{EventFields, Frame};
    /// let frame = Frame::encode(&EventFields::default())?;
    /// assert_eq!(frame.len(), frame.sse().len());
    /// # Ok::<(), tidings_sse::EncodeError>(())
    /// ```
    #[expect(clippy::len_without_is_empty, reason = "a frame always has bytes")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunk.len() - self.head_bytes - CRLF.len()
    }
}

fn hex_digits(number: usize) -> usize {
    number.checked_ilog2().map_or(1, |log| log as usize / 4 + 1)
}

const CRLF: &[u8] = b"\r\n";
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
