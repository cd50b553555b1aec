//! What is appended, and what an append answers.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytestring::ByteString;
use tidings_core::{Entry, Epoch, EventType, Topic};

/// Milliseconds since the beginning of 1970.
pub type UnixMillis = u64;

/// An event that is to be appended.
#[derive(Debug, Clone)]
pub struct Record {
    /// The topics it is published under, at least one.
    pub topics: Arc<[Topic]>,
    /// Its type, if it has one.
    pub event_type: Option<EventType>,
    /// Whether only subscribers with rights to one of its topics may receive it.
    pub private: bool,
    /// Its data, as published.
    pub data: ByteString,
    /// The reconnection time it tells clients to use, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Makes repeating it harmless: a second record with the key is not appended again.
    pub key: Option<Key>,
    /// Whether it is the last event of its topics: none may follow it.
    pub is_final: bool,
}

impl Record {
    /// A public record under `topics`, without type, key or anything else.
    pub fn new(topics: impl Into<Arc<[Topic]>>, data: impl Into<ByteString>) -> Self {
        Self {
            topics: topics.into(),
            event_type: None,
            private: false,
            data: data.into(),
            retry_ms: None,
            key: None,
            is_final: false,
        }
    }
}

/// What a log keeps of an event besides its place and whom it may reach.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its data, as published.
    pub data: ByteString,
    /// The reconnection time it tells clients to use, in milliseconds.
    pub retry_ms: Option<u64>,
    /// When it was appended.
    pub appended_at: UnixMillis,
}

/// An idempotency key: 1 to [`Key::BYTES_MAX`] bytes without control characters.
///
/// A key that ends in a colon and a decimal number, such as `import-7:41`, is cheap to remember
/// beside its neighbours: keys that count up over events that follow each other take one place
/// together. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

/// Why a string is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The string is empty.
    #[error("a key has at least one character; leave it out for none")]
    Empty,
    /// The string is longer than [`Key::BYTES_MAX`].
    #[error("a key has at most {} bytes, this one has {bytes}", Key::BYTES_MAX)]
    TooLong {
        /// The length of the string.
        bytes: usize,
    },
    /// The string contains a character of C0 or C1, or DEL.
    #[error("a key has no control characters")]
    Control,
}

impl Key {
    /// The greatest length of a key: a UUID and a name beside it, several times over.
    pub const BYTES_MAX: usize = 256;

    /// Checks that `text` may be a key.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that says what a key may be.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match text.len() {
            0 => Err(KeyError::Empty),
            bytes if bytes > Self::BYTES_MAX => Err(KeyError::TooLong { bytes }),
            _ if text.chars().any(char::is_control) => Err(KeyError::Control),
            _ => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The offsets of the records of one publish, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    runs: Vec<Range<u64>>,
    repeated: u64,
}

impl Offsets {
    /// A run of `count` offsets that were given just now.
    pub fn new(first: u64, count: u64) -> Self {
        let mut offsets = Self::default();
        if count > 0 {
            offsets.runs.push(first..first + count);
        }
        offsets
    }

    /// Adds the next record's offset, which was given just now.
    pub fn push(&mut self, offset: u64) {
        match self.runs.last_mut() {
            Some(run) if run.end == offset => run.end += 1,
            _ => self.runs.push(offset..offset + 1),
        }
    }

    /// Adds the next record's offset, which was given to the first record with its key.
    pub fn push_repeated(&mut self, offset: u64) {
        self.repeated += 1;
        self.push(offset);
    }

    /// Adds the offsets of what was published after this.
    pub fn extend(&mut self, next: Self) {
        self.repeated += next.repeated;
        let mut next = next.runs.into_iter();
        if let Some(first) = next.next() {
            match self.runs.last_mut() {
                Some(run) if run.end == first.start => run.end = first.end,
                _ => self.runs.push(first),
            }
        }
        self.runs.extend(next);
    }

    /// The offsets, one for each record.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().cloned().flatten()
    }

    /// The offsets as runs without a hole, in the order of the records.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// How many of them were given before, for the same key.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

/// What an append answers.
#[derive(Debug)]
pub struct Appended {
    /// The life of the log that the offsets belong to.
    pub epoch: Epoch,
    /// The entries that were appended, in order; what was refused or repeated is not among them.
    pub entries: Vec<Entry<Body>>,
    /// What became of each publish.
    pub outcomes: Vec<Result<Offsets, Refusal>>,
}

/// Why a publish was not appended although the log can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A topic of one of the records has had its last event; publish under another one.
    #[error("the topic {topic} is finished")]
    Finished {
        /// The topic.
        topic: Topic,
        /// The offset of its last event.
        offset: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_text() {
        assert_eq!(Key::parse("order-42").unwrap().as_str(), "order-42");
        assert_eq!(Key::parse(""), Err(KeyError::Empty));
        assert_eq!(Key::parse(&"x".repeat(257)), Err(KeyError::TooLong { bytes: 257 }));
        assert_eq!(Key::parse("a\nb"), Err(KeyError::Control));
    }

    #[test]
    fn offsets_that_follow_each_other_are_one_run() {
        let mut offsets = Offsets::new(5, 2);
        offsets.push(7);
        offsets.push_repeated(3);
        let mut next = Offsets::default();
        next.push_repeated(4);
        next.push(8);
        offsets.extend(next);
        assert_eq!(offsets.runs(), [5..8, 3..5, 8..9]);
        assert_eq!(offsets.iter().collect::<Vec<_>>(), [5, 6, 7, 3, 4, 8]);
        assert_eq!((offsets.count(), offsets.repeated()), (6, 2));
    }
}
