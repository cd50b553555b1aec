//! Bytes to events.
//!
//! A line that lies in one chunk is handled where it lies. A line cut by the edge of a chunk is
//! carried over as little as possible: a few bytes of the name, then the value goes straight to
//! where it belongs. Both ways give the same items and the same errors.
//!
//! Bytes are decoded as UTF-8 only when a value is complete. That equals decoding the whole stream,
//! because CR, LF and colon are never part of a longer sequence: a sequence cut by one of them is
//! malformed on either side of it.

use std::{mem, sync::Arc};

use bytes::Buf;

use crate::{
    error::DecodeError,
    event::{Event, Item},
    line::find_line_end,
};

/// What a decoder accepts; together it bounds the memory a stream can claim.
///
/// A decoder buffers at most one event, so about `event_bytes_max + 2 * line_bytes_max` bytes.
/// Lines that are not kept (comments unless asked for, and unknown fields) are not buffered and
/// have no limit.
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
    /// The value of the current line so far, if it is cut and is not data.
    value: Vec<u8>,
    /// The data of the current block, without the LF after its last line.
    data: Vec<u8>,
    data_seen: bool,
    /// The type of the current block is `named_type`, not `message`.
    type_seen: bool,
    /// The newest type that was named, kept so that it is shared while it repeats.
    named_type: Arc<str>,
    message_type: Arc<str>,
    /// The id that the next dispatch commits.
    next_id: Arc<str>,
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
            data: Vec::new(),
            data_seen: false,
            type_seen: false,
            named_type: Arc::clone(&empty),
            message_type: Arc::from("message"),
            next_id: Arc::clone(&empty),
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
        self.next_id = Arc::clone(&self.last_id);
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
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<Item>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while input.has_remaining() {
            let (taken, outcome) = self.decode_slice(input.chunk());
            input.advance(taken);
            match outcome {
                Ok(None) => {}
                Ok(item) => return Ok(item),
                Err(error) => {
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
        self.next_id = Arc::clone(&self.last_id);
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
    fn decode_slice(&mut self, bytes: &[u8]) -> (usize, Result<Option<Item>, DecodeError>) {
        let mut at = usize::from(mem::take(&mut self.after_cr) && bytes[0] == b'\n');
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(end) = find_line_end(rest) else {
                return (bytes.len(), self.handle_part(rest).map(|()| None));
            };
            at += end + 1;
            if rest[end] == b'\r' {
                match rest.get(end + 1) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let outcome = if matches!(self.place, Place::LineStart) {
                self.handle_line(&rest[..end])
            } else {
                self.handle_part(&rest[..end]).and_then(|()| self.handle_line_end())
            };
            if !matches!(outcome, Ok(None)) {
                return (at, outcome);
            }
        }
        (at, Ok(None))
    }

    /// Handles a line that is not cut.
    fn handle_line(&mut self, line: &[u8]) -> Result<Option<Item>, DecodeError> {
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let Some((field, value)) = self.split(line) else { return Ok(None) };
        self.make_room(field)?;
        if value.len() > self.room {
            return Err(self.room_error);
        }
        Ok(self.handle_field(field, value))
    }

    /// Handles a part of a line that is cut, without its end.
    fn handle_part(&mut self, mut part: &[u8]) -> Result<(), DecodeError> {
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
                // Part of a BOM is no known name.
                Place::Bom { .. } => self.place = Place::Skipped,
                Place::LineStart => self.place = Place::Name(Name::default()),
                Place::Name(mut name) => {
                    self.place = if byte == b':' {
                        match self.field(name.as_bytes()) {
                            Some(field) => {
                                self.make_room(field)?;
                                Place::ValueStart(field)
                            }
                            None => Place::Skipped,
                        }
                    } else if name.push(byte) {
                        Place::Name(name)
                    } else {
                        Place::Skipped
                    };
                    part = after;
                }
                Place::ValueStart(field) => {
                    self.place = Place::Value(field);
                    if byte == b' ' && field != Field::Comment {
                        part = after;
                    }
                }
                Place::Value(field) => {
                    let room = self.room.checked_sub(part.len()).ok_or(self.room_error)?;
                    self.room = room;
                    if field == Field::Data { &mut self.data } else { &mut self.value }
                        .extend_from_slice(part);
                    return Ok(());
                }
                Place::Skipped => return Ok(()),
            }
        }
        Ok(())
    }

    /// Handles the end of a line that was cut.
    fn handle_line_end(&mut self) -> Result<Option<Item>, DecodeError> {
        match mem::replace(&mut self.place, Place::LineStart) {
            Place::Bom { matched: 0 } | Place::LineStart => Ok(self.dispatch()),
            Place::Bom { .. } | Place::Skipped => Ok(None),
            Place::Name(name) => self.handle_line(name.as_bytes()),
            // The data is where it belongs already.
            Place::ValueStart(Field::Data) | Place::Value(Field::Data) => Ok(None),
            Place::ValueStart(field) | Place::Value(field) => {
                let value = mem::take(&mut self.value);
                let item = self.handle_field(field, &value);
                Ok(item)
            }
        }
    }

    /// Splits a line into a known field and its value.
    fn split<'a>(&self, line: &'a [u8]) -> Option<(Field, &'a [u8])> {
        let name_max = line.len().min(NAME_BYTES_MAX + 1);
        let Some(colon) = line[..name_max].iter().position(|&byte| byte == b':') else {
            return Some((self.field(line)?, b""));
        };
        let field = self.field(&line[..colon])?;
        let value = &line[colon + 1..];
        Some((
            field,
            match value {
                [b' ', value @ ..] if field != Field::Comment => value,
                value => value,
            },
        ))
    }

    fn field(&self, name: &[u8]) -> Option<Field> {
        match name {
            b"data" => Some(Field::Data),
            b"event" => Some(Field::Event),
            b"id" => Some(Field::Id),
            b"retry" => Some(Field::Retry),
            b"" if self.comments_kept => Some(Field::Comment),
            _ => None,
        }
    }

    /// Sets how long the value of this line may be, and begins a line of data.
    fn make_room(&mut self, field: Field) -> Result<(), DecodeError> {
        let DecoderLimits { line_bytes_max, event_bytes_max } = self.limits;
        self.room = line_bytes_max;
        self.room_error = DecodeError::LineTooLong { line_bytes_max };
        if field == Field::Data {
            let too_long = DecodeError::EventTooLong { event_bytes_max };
            let before = self.data.len() + usize::from(self.data_seen);
            let event_room = event_bytes_max.checked_sub(before).ok_or(too_long)?;
            if mem::replace(&mut self.data_seen, true) {
                self.data.push(b'\n');
            }
            if event_room < line_bytes_max {
                self.room = event_room;
                self.room_error = too_long;
            }
        }
        Ok(())
    }

    fn handle_field(&mut self, field: Field, value: &[u8]) -> Option<Item> {
        match field {
            Field::Data => self.data.extend_from_slice(value),
            Field::Event => {
                self.type_seen = !value.is_empty();
                if self.type_seen && self.named_type.as_bytes() != value {
                    self.named_type = String::from_utf8_lossy(value).into();
                }
            }
            Field::Id => {
                if !value.contains(&0) && self.next_id.as_bytes() != value {
                    self.next_id = String::from_utf8_lossy(value).into();
                }
            }
            Field::Retry => return retry_ms(value).map(Item::Retry),
            Field::Comment => {
                return Some(Item::Comment(String::from_utf8_lossy(value).into_owned()));
            }
        }
        None
    }

    /// Ends the block: commits its id, and gives the event if it has data.
    fn dispatch(&mut self) -> Option<Item> {
        if !Arc::ptr_eq(&self.last_id, &self.next_id) {
            self.last_id = Arc::clone(&self.next_id);
        }
        let event =
            if mem::take(&mut self.type_seen) { &self.named_type } else { &self.message_type };
        if !mem::take(&mut self.data_seen) {
            return None;
        }
        let data = String::from_utf8(mem::take(&mut self.data))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Some(Item::Event(Event { id: Arc::clone(&self.last_id), event: Arc::clone(event), data }))
    }
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

const BOM: &[u8; 3] = b"\xef\xbb\xbf";

/// `event` and `retry` are the longest names.
const NAME_BYTES_MAX: usize = 5;

/// Far above what servers commonly send, and small enough for a client to hold.
const BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;
