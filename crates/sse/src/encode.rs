//! Events to bytes.
//!
//! Lines end with LF, every colon of a field is followed by one space, and the fields of a block
//! come in the order id, event, retry, data.

use crate::{error::EncodeError, event::EventFields, line::Lines};

/// The bytes to send between two events when nothing else was sent for a while: an empty comment.
///
/// It is one line and no blank line, because naive receivers take a blank line for an event.
///
/// ```
/// use tidings_sse::{Decoder, HEARTBEAT};
///
/// assert_eq!(Decoder::default().decode(&mut &HEARTBEAT[..])?, None);
/// # Ok::<(), tidings_sse::DecodeError>(())
/// ```
pub const HEARTBEAT: &[u8] = b":\n";

impl EventFields<'_> {
    /// Appends the event to `out`: its fields and the blank line that dispatches it.
    ///
    /// Each CR, LF or CRLF in `data` begins a new `data` line. Empty data is written as
    /// `data: \n`, which receivers see as an event with empty data. Reserves the space once.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the id or the type holds CR, LF or NUL; `out` is then unchanged.
    ///
    /// ```
    /// use tidings_sse::EventFields;
    ///
    /// let mut out = Vec::new();
    /// EventFields { retry_ms: Some(500), data: "a\r\nb", ..Default::default() }.encode(&mut out)?;
    /// assert_eq!(out, b"retry: 500\ndata: a\ndata: b\n\n");
    /// # Ok::<(), tidings_sse::EncodeError>(())
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.check()?;
        // Amortised, so that appending event after event stays linear; exact if `out` is empty.
        out.reserve(self.encoded_bytes());
        self.write(out);
        Ok(())
    }

    /// Tells whether the event can be encoded.
    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        if let Some((at, byte)) = self.id.and_then(find_forbidden) {
            return Err(EncodeError::IdForbidden { byte, at });
        }
        if let Some((at, byte)) = self.event.and_then(find_forbidden) {
            return Err(EncodeError::TypeForbidden { byte, at });
        }
        Ok(())
    }

    /// The exact number of bytes that `write` appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let id = self.id.map_or(0, |id| "id: \n".len() + id.len());
        let event = self.event_type().map_or(0, |event| "event: \n".len() + event.len());
        let retry = self.retry_ms.map_or(0, |ms| "retry: \n".len() + decimal_digits(ms));
        let data = Lines::new(self.data).map(|line| "data: \n".len() + line.len()).sum::<usize>();
        id + event + retry + data + "\n".len()
    }

    /// Appends the event, which `check` has accepted.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Some(id) = self.id {
            write_line(out, b"id: ", id.as_bytes());
        }
        if let Some(event) = self.event_type() {
            write_line(out, b"event: ", event.as_bytes());
        }
        if let Some(ms) = self.retry_ms {
            encode_retry(ms, out);
        }
        for line in Lines::new(self.data) {
            write_line(out, b"data: ", line);
        }
        out.push(b'\n');
    }

    fn event_type(&self) -> Option<&str> {
        self.event.filter(|event| !event.is_empty())
    }
}

/// Appends a comment, which receivers ignore; each line of `text` becomes a line of comment.
///
/// A space is put between the colon and a line that is not empty. The empty text is written as
/// [`HEARTBEAT`]. No blank line follows, so the comment may stand before or within a block.
///
/// ```
/// use tidings_sse::encode_comment;
///
/// let mut out = Vec::new();
/// encode_comment("see\n\nyou", &mut out);
/// assert_eq!(out, b": see\n:\n: you\n");
/// ```
pub fn encode_comment(text: &str, out: &mut Vec<u8>) {
    for line in Lines::new(text) {
        write_line(out, if line.is_empty() { b":" } else { b": " }, line);
    }
}

/// Appends the line that sets the receiver's reconnection time to `ms` milliseconds.
///
/// No blank line follows. Put it directly before the fields of an event that has data: some
/// receivers take a block without data for an event.
///
/// ```
/// use tidings_sse::encode_retry;
///
/// let mut out = Vec::new();
/// encode_retry(2000, &mut out);
/// assert_eq!(out, b"retry: 2000\n");
/// ```
pub fn encode_retry(ms: u64, out: &mut Vec<u8>) {
    let mut digits = [0; DECIMAL_DIGITS_MAX];
    let mut start = digits.len();
    let mut rest = ms;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write_line(out, b"retry: ", &digits[start..]);
}

fn write_line(out: &mut Vec<u8>, head: &[u8], value: &[u8]) {
    out.extend_from_slice(head);
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn find_forbidden(value: &str) -> Option<(usize, u8)> {
    let at = memchr::memchr3(b'\r', b'\n', b'\0', value.as_bytes())?;
    Some((at, value.as_bytes()[at]))
}

fn decimal_digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// `u64::MAX` has 20 digits.
const DECIMAL_DIGITS_MAX: usize = 20;
