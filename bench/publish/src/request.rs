//! One publish as bytes, of which only the data of the event changes, and its answer.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{DATA_BYTES, data_of};
use memchr::memmem;

/// A request of which each connection has its own copy.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    body_at: usize,
    data_at: usize,
}

impl Template {
    /// A `POST` of the data between `before` and `after`; `headers` are whole lines.
    pub fn new(target: &str, headers: &str, before: &str, after: &str) -> Self {
        let length = before.len() + DATA_BYTES + after.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {length}\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        let body_at = bytes.len();
        bytes.extend(before.as_bytes());
        let data_at = bytes.len();
        bytes.extend([b' '; DATA_BYTES]);
        bytes.extend(after.as_bytes());
        Self { bytes, body_at, data_at }
    }

    /// The request that publishes event `number`.
    pub fn fill(&mut self, number: u64) -> &[u8] {
        self.bytes[self.data_at..][..DATA_BYTES].copy_from_slice(&data_of(number));
        &self.bytes
    }

    /// The body it has now.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }
}

/// What the body of a right answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// That of the request.
    Echo,
    /// `{"id":"<epoch>-<offset>"}`.
    Position,
    /// An id that says nothing.
    Opaque,
}

impl Answer {
    /// Returns the offset that the answer names, 0 if it names none.
    ///
    /// # Errors
    ///
    /// If the answer is wrong.
    pub fn check(self, answer: &[u8], request: &Template) -> Result<u64> {
        match self {
            Self::Echo => ensure!(answer == request.body(), "the echo is not what was sent"),
            Self::Opaque => ensure!(!answer.is_empty(), "the answer is empty"),
            Self::Position => return offset(answer).with_context(|| text_of(answer)),
        }
        Ok(0)
    }
}

fn offset(answer: &[u8]) -> Option<u64> {
    let id = answer.strip_prefix(b"{\"id\":\"")?.strip_suffix(b"\"}")?;
    let digits = &id[memchr::memrchr(b'-', id)? + 1..];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where the body of a response lies, or `None` if the response is not whole yet.
///
/// # Errors
///
/// If it is not a `200` with a length.
pub fn body_of(response: &[u8]) -> Result<Option<Range<usize>>> {
    let Some(head_length) = memmem::find(response, b"\r\n\r\n") else { return Ok(None) };
    let head = &response[..head_length + 2];
    if !head.starts_with(b"HTTP/1.1 200 ") {
        bail!("answered {}", text_of(response));
    }
    // Servers differ in how they write the first letters.
    let at = memmem::find(head, b"ength: ").with_context(|| text_of(head))? + 7;
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    let body = head_length + 4..head_length + 4 + length;
    Ok((response.len() >= body.end).then_some(body))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
