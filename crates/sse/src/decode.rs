//! Bytes to events.
//!
//! A line that lies in one chunk is handled where it lies. A line cut by the edge of a chunk is
//! carried over as little as possible: a few bytes of the name, then the value goes straight to
//! where it belongs. Both ways give the same items and the same errors.
//!
//! Bytes are decoded as UTF-8 when a value is complete. That equals decoding the whole stream,
//! because CR, LF and colon are never part of a longer sequence: a sequence cut by one of them is
//! malformed on either side of it.

use std::{borrow::Cow, mem, sync::Arc};

use bytes::Buf;

use crate::{
    error::DecodeError,
    event::{Event, Item},
    line::find_line_end,
};

/// What a decoder accepts; together it bounds the memory a stream can claim.
///
/// A decoder buffers at most one event and one line: `event_bytes_max + 3 * line_bytes_max` bytes,
/// and twice as much while a buffer grows. Lengths are counted as received; a malformed byte takes
/// three bytes once it has become U+FFFD, on dispatch. Lines that are not kept (comments unless asked for, and
/// unknown fields) are not buffered and have no limit.
///
/// ```
/// use tidings_sse::{Decoder, DecoderLimits};
///
/// let limits = DecoderLimits { event_bytes_max: 64 * 1024, ..DecoderLimits::default() };
/// let decoder = Decoder::new(limits);
/// # drop(decoder);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderLimits {
    /// The longest value of a field, or text of a comment, on one line, in bytes. Default 16 MiB.
    pub line_bytes_max: usize,
    /// The longest data of one event, with the LFs between its lines, in bytes. Default 16 MiB.
    pub event_bytes_max: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self { line_bytes_max: BYTES_MAX_DEFAULT, event_bytes_max: BYTES_MAX_DEFAULT }
    }
}

/// An incremental decoder of one event stream, after section 9.2.6 of the WHATWG HTML standard.
///
/// Any bytes are accepted: malformed UTF-8 becomes U+FFFD and unknown fields are skipped. The
/// only errors are the limits. Time is linear in the input, however it is cut into chunks.
///
/// ```
/// use tidings_sse::{Decoder, Item};
///
/// let mut decoder = Decoder::default();
/// let mut data = Vec::new();
/// for mut chunk in [&b"data: he"[..], b"llo\r", b"\n\r", b"data: wor"] {
///     while let Some(item) = decoder.decode(&mut chunk)? {
///         if let Item::Event(event) = item {
///             data.push(event.data);
///         }
///     }
/// }
/// decoder.finish(); // the connection ended: the second event is incomplete and discarded
/// assert_eq!(data, ["hello"]);
/// # Ok::<(), tidings_sse::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    limits: DecoderLimits,
    comments_kept: bool,
    /// Set once a limit was exceeded; answers every call until `finish`.
    failed: Option<DecodeError>,
    place: Place,
    /// The last byte was a CR that ended a line, so an LF now belongs to it.
    after_cr: bool,
    /// How many bytes the value of the current line may still have, and what it breaks otherwise.
    room: usize,
    room_error: DecodeError,
    /// The value of the current line so far, if the line is cut and is not data.
    value: Vec<u8>,
    comment: String,
    /// The data of the current block, without the LF after its last line.
    data: Vec<u8>,
    data_seen: bool,
    /// The type of the current block is `named_type`, not `message`.
    type_seen: bool,
    /// The newest type that was named, kept so that it is shared while it repeats.
    named_type: Arc<str>,
    message_type: Arc<str>,
    /// The id of the current block, if it is not `last_id`.
    next_id: Option<Arc<str>>,
    last_id: Arc<str>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DecoderLimits::default())
    }
}

impl Decoder {
    /// Creates a decoder for a stream from its first byte.
    ///
    /// ```
    /// use tidings_sse::{Decoder, DecoderLimits};
    ///
    /// let decoder = Decoder::new(DecoderLimits::default());
    /// assert_eq!(decoder.last_event_id(), "");
    /// ```
    #[must_use]
    pub fn new(limits: DecoderLimits) -> Self {
        let empty: Arc<str> = Arc::from("");
        Self {
            limits,
            comments_kept: false,
            failed: None,
            place: Place::Bom { matched: 0 },
            after_cr: false,
            room: 0,
            room_error: DecodeError::LineTooLong { line_bytes_max: limits.line_bytes_max },
            value: Vec::new(),
            comment: String::new(),
            data: Vec::new(),
            data_seen: false,
            type_seen: false,
            named_type: Arc::clone(&empty),
            message_type: Arc::from("message"),
            next_id: None,
            last_id: empty,
        }
    }

    /// Gives comments as items too. Otherwise they are skipped without being buffered.
    ///
    /// ```
    /// use tidings_sse::{Decoder, Item};
    ///
    /// let mut decoder = Decoder::default().with_comments();
    /// let item = decoder.decode(&mut &b": hi\n"[..])?;
    /// assert_eq!(item, Some(Item::Comment(" hi".to_owned())));
    /// # Ok::<(), tidings_sse::DecodeError>(())
    /// ```
    #[must_use]
    pub fn with_comments(mut self) -> Self {
        self.comments_kept = true;
        self
    }

    /// Begins with the last event id of an earlier stream, which events without an id then carry.
    ///
    /// ```
    /// use tidings_sse::{Decoder, Item};
    ///
    /// let mut decoder = Decoder::default().with_last_event_id("41");
    /// let Some(Item::Event(event)) = decoder.decode(&mut &b"data\n\n"[..])? else { unreachable!() };
    /// assert_eq!(&*event.id, "41");
    /// # Ok::<(), tidings_sse::DecodeError>(())
    /// ```
    #[must_use]
    pub fn with_last_event_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.last_id = id.into();
        self
    }

    /// Takes bytes from the front of `input` up to and including the next item.
    ///
    /// Call it until it answers `None`; `input` is then empty. Bytes after an item stay in
    /// `input`, so nothing is lost if the caller stops in between.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if a limit is exceeded. Every later call answers the same error and takes
    /// nothing, until [`finish`](Self::finish).
    ///
    /// ```
    /// use tidings_sse::{Decoder, Item};
    ///
    /// let mut decoder = Decoder::default();
    /// let mut chunk = &b"data: 1\n\ndata: 2\n\n"[..];
    /// assert!(matches!(decoder.decode(&mut chunk)?, Some(Item::Event(_))));
    /// assert_eq!(chunk, b"data: 2\n\n");
    /// # Ok::<(), tidings_sse::DecodeError>(())
    /// ```
    #[inline]
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<Item>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while input.has_remaining() {
            let (taken, step) = self.handle_bytes(input.chunk());
            input.advance(taken);
            match step {
                Step::Continued => {}
                Step::Dispatched => return Ok(Some(Item::Event(self.take_event()))),
                Step::RetryChanged(ms) => return Ok(Some(Item::Retry(ms))),
                Step::CommentEnded => return Ok(Some(Item::Comment(mem::take(&mut self.comment)))),
                Step::Failed(error) => {
                    self.failed = Some(error);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Ends the stream: discards a block that was not finished, and its id with it.
    ///
    /// The decoder is then ready for the first byte of the next connection. It keeps the last
    /// event id, its limits and whether it gives comments.
    ///
    /// ```
    /// use tidings_sse::Decoder;
    ///
    /// let mut decoder = Decoder::default();
    /// while decoder.decode(&mut &b"id: 1\n\n"[..])?.is_some() {}
    /// while decoder.decode(&mut &b"id: 2\n"[..])?.is_some() {}
    /// decoder.finish();
    /// assert_eq!(decoder.last_event_id(), "1");
    /// # Ok::<(), tidings_sse::DecodeError>(())
    /// ```
    pub fn finish(&mut self) {
        self.failed = None;
        self.place = Place::Bom { matched: 0 };
        self.after_cr = false;
        self.value = Vec::new();
        self.data = Vec::new();
        self.data_seen = false;
        self.type_seen = false;
        self.next_id = None;
    }

    /// The id to resume after: that of the newest finished block, with or without data. Empty if
    /// there is none, in which case no `Last-Event-ID` header is to be sent.
    ///
    /// ```
    /// use tidings_sse::Decoder;
    ///
    /// let mut decoder = Decoder::default();
    /// while decoder.decode(&mut &b"id: 7\n\nid: 8\n"[..])?.is_some() {}
    /// assert_eq!(decoder.last_event_id(), "7");
    /// # Ok::<(), tidings_sse::DecodeError>(())
    /// ```
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// Handles bytes up to the next item, and tells how many it took.
    fn handle_bytes(&mut self, bytes: &[u8]) -> (usize, Step) {
        let mut at = usize::from(mem::take(&mut self.after_cr) && bytes[0] == b'\n');
        if !matches!(self.place, Place::LineStart) {
            let Some(end) = find_line_end(&bytes[at..]) else {
                return (bytes.len(), self.handle_part(&bytes[at..]));
            };
            let step = match self.handle_part(&bytes[at..at + end]) {
                Step::Continued => self.handle_line_end(),
                failed => failed,
            };
            at = self.skip_line_end(bytes, at + end);
            if !matches!(step, Step::Continued) {
                return (at, step);
            }
        }
        while at < bytes.len() {
            let rest = &bytes[at..];
            if matches!(rest[0], b'\n' | b'\r') {
                at = self.skip_line_end(bytes, at);
                if self.dispatch() {
                    return (at, Step::Dispatched);
                }
                continue;
            }
            let Some(end) = find_line_end(rest) else {
                return (bytes.len(), self.handle_part(rest));
            };
            at = self.skip_line_end(bytes, at + end);
            let step = self.handle_line(&rest[..end]);
            if !matches!(step, Step::Continued) {
                return (at, step);
            }
        }
        (at, Step::Continued)
    }

    /// Gives the place after the line end at `at`, and remembers a CR whose LF may follow.
    #[inline]
    fn skip_line_end(&mut self, bytes: &[u8], at: usize) -> usize {
        if bytes[at] == b'\n' {
            return at + 1;
        }
        match bytes.get(at + 1) {
            Some(b'\n') => at + 2,
            Some(_) => at + 1,
            None => {
                self.after_cr = true;
                at + 1
            }
        }
    }

    /// Handles a line that is not cut and not empty.
    #[inline]
    fn handle_line(&mut self, line: &[u8]) -> Step {
        let Some((field, value)) = self.split(line) else { return Step::Continued };
        if let Err(error) = self.begin_value(field) {
            return Step::Failed(error);
        }
        if value.len() > self.room {
            return Step::Failed(self.room_error);
        }
        self.handle_field(field, value)
    }

    /// Handles a part of a line that is cut, without its end.
    fn handle_part(&mut self, mut part: &[u8]) -> Step {
        while let Some((&byte, after)) = part.split_first() {
            match self.place {
                Place::Bom { matched } if byte == BOM[usize::from(matched)] => {
                    let matched = matched + 1;
                    self.place = if usize::from(matched) == BOM.len() {
                        Place::LineStart
                    } else {
                        Place::Bom { matched }
                    };
                    part = after;
                }
                Place::Bom { matched: 0 } => self.place = Place::LineStart,
                // A part of a BOM begins no known name.
                Place::Bom { .. } => self.place = Place::Skipped,
                Place::LineStart => self.place = Place::Name(Name::default()),
                Place::Name(name) => {
                    match self.place_after(name, byte) {
                        Ok(place) => self.place = place,
                        Err(error) => return Step::Failed(error),
                    }
                    part = after;
                }
                Place::ValueStart(field) => {
                    self.place = Place::Value(field);
                    if byte == b' ' && field != Field::Comment {
                        part = after;
                    }
                }
                Place::Value(field) => {
                    let Some(room) = self.room.checked_sub(part.len()) else {
                        return Step::Failed(self.room_error);
                    };
                    self.room = room;
                    let buffer =
                        if field == Field::Data { &mut self.data } else { &mut self.value };
                    buffer.extend_from_slice(part);
                    return Step::Continued;
                }
                Place::Skipped => return Step::Continued,
            }
        }
        Step::Continued
    }

    /// Gives the place after one byte more of a name.
    fn place_after(&mut self, mut name: Name, byte: u8) -> Result<Place, DecodeError> {
        if byte != b':' {
            return Ok(if name.push(byte) { Place::Name(name) } else { Place::Skipped });
        }
        let Some(field) = self.field(name.as_bytes()) else { return Ok(Place::Skipped) };
        self.begin_value(field)?;
        Ok(Place::ValueStart(field))
    }

    /// Handles the end of a line that was cut.
    fn handle_line_end(&mut self) -> Step {
        match mem::replace(&mut self.place, Place::LineStart) {
            Place::Bom { matched: 0 } | Place::LineStart => {
                if self.dispatch() {
                    Step::Dispatched
                } else {
                    Step::Continued
                }
            }
            Place::Bom { .. } | Place::Skipped => Step::Continued,
            Place::Name(name) => self.handle_line(name.as_bytes()),
            // The data is where it belongs already.
            Place::ValueStart(Field::Data) | Place::Value(Field::Data) => Step::Continued,
            Place::ValueStart(field) | Place::Value(field) => {
                let value = mem::take(&mut self.value);
                self.handle_field(field, &value)
            }
        }
    }

    /// Splits a line into a known field and its value.
    #[inline]
    fn split<'a>(&self, line: &'a [u8]) -> Option<(Field, &'a [u8])> {
        let (field, after) = match line {
            [b'd', b'a', b't', b'a', after @ ..] => (Field::Data, after),
            [b'i', b'd', after @ ..] => (Field::Id, after),
            [b'e', b'v', b'e', b'n', b't', after @ ..] => (Field::Event, after),
            [b'r', b'e', b't', b'r', b'y', after @ ..] => (Field::Retry, after),
            [b':', text @ ..] if self.comments_kept => return Some((Field::Comment, text)),
            _ => return None,
        };
        match after {
            [] => Some((field, after)),
            [b':', b' ', value @ ..] | [b':', value @ ..] => Some((field, value)),
            _ => None,
        }
    }

    fn field(&self, name: &[u8]) -> Option<Field> {
        match name {
            b"" if self.comments_kept => Some(Field::Comment),
            b"" => None,
            name => self.split(name).map(|(field, _)| field),
        }
    }

    /// Sets how long the value of this line may be. A further line of data begins with an LF.
    #[inline]
    fn begin_value(&mut self, field: Field) -> Result<(), DecodeError> {
        let DecoderLimits { line_bytes_max, event_bytes_max } = self.limits;
        self.room = line_bytes_max;
        self.room_error = DecodeError::LineTooLong { line_bytes_max };
        if field == Field::Data {
            let too_long = DecodeError::EventTooLong { event_bytes_max };
            if mem::replace(&mut self.data_seen, true) {
                if self.data.len() == event_bytes_max {
                    return Err(too_long);
                }
                self.data.push(b'\n');
            }
            let event_room = event_bytes_max - self.data.len();
            if event_room < line_bytes_max {
                self.room = event_room;
                self.room_error = too_long;
            }
        }
        Ok(())
    }

    /// Handles a complete value.
    #[inline]
    fn handle_field(&mut self, field: Field, value: &[u8]) -> Step {
        match field {
            // An empty buffer would grow in steps; a copy has the exact size.
            Field::Data if self.data.is_empty() => self.data = value.to_vec(),
            Field::Data => self.data.extend_from_slice(value),
            Field::Event => {
                self.type_seen = !value.is_empty();
                if self.type_seen && self.named_type.as_bytes() != value {
                    self.named_type = to_lossy(value).into();
                }
            }
            Field::Id => {
                if value == self.last_id.as_bytes() {
                    self.next_id = None;
                } else if memchr::memchr(0, value).is_none() {
                    self.next_id = Some(to_lossy(value).into());
                }
            }
            Field::Retry => return retry_ms(value).map_or(Step::Continued, Step::RetryChanged),
            Field::Comment => {
                self.comment = to_lossy(value).into_owned();
                return Step::CommentEnded;
            }
        }
        Step::Continued
    }

    /// Ends the block: commits its id, and tells whether it has an event to take.
    #[inline]
    fn dispatch(&mut self) -> bool {
        if let Some(id) = self.next_id.take() {
            self.last_id = id;
        }
        if !self.data_seen {
            self.type_seen = false;
        }
        self.data_seen
    }

    #[inline]
    fn take_event(&mut self) -> Event {
        self.data_seen = false;
        let event =
            if mem::take(&mut self.type_seen) { &self.named_type } else { &self.message_type };
        Event {
            id: Arc::clone(&self.last_id),
            event: Arc::clone(event),
            data: String::from_utf8(mem::take(&mut self.data))
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        }
    }
}

/// What the bytes taken so far came to.
#[derive(Clone, Copy)]
enum Step {
    Continued,
    /// A block ended and its event is to be taken.
    Dispatched,
    RetryChanged(u64),
    /// A comment ended and its text is to be taken.
    CommentEnded,
    Failed(DecodeError),
}

/// Where in the stream the next byte is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At the very start, after so many bytes of a BOM.
    Bom {
        matched: u8,
    },
    LineStart,
    /// In a line whose field is not known yet.
    Name(Name),
    /// After the colon, where one space is not part of the value.
    ValueStart(Field),
    Value(Field),
    /// In a line that means nothing.
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Retry,
    Comment,
}

/// The first bytes of a line that is cut, as long as they may be a known name.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl Name {
    /// Appends a byte, or tells that the name is too long to be known.
    fn push(&mut self, byte: u8) -> bool {
        let Some(slot) = self.bytes.get_mut(usize::from(self.len)) else { return false };
        *slot = byte;
        self.len += 1;
        true
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Reads one or more ASCII digits, and nothing else.
fn retry_ms(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |ms: u64, digit| ms.saturating_mul(10).saturating_add(digit)))
}

/// Replaces what is malformed by U+FFFD, as the WHATWG Encoding standard says.
fn to_lossy(value: &[u8]) -> Cow<'_, str> {
    // This check is several times as fast as `from_utf8_lossy`, and nearly all text passes it.
    str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed)
}

const BOM: &[u8; 3] = b"\xef\xbb\xbf";

/// `event` and `retry` are the longest names.
const NAME_BYTES_MAX: usize = 5;

/// Far above what servers commonly send, and small enough for a client to hold.
const BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;
