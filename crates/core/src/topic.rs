//! Names that publishers give: topics and event types.
//!
//! Both are checked once, when they enter; whoever holds one need not check again. Cloning either
//! shares the text.

use std::{borrow::Borrow, fmt, sync::Arc};

use thiserror::Error;

/// A topic: what an event is about, compared byte for byte and never normalised.
///
/// Holds 1 to [`Topic::BYTES_MAX`] bytes without control characters, and is not the bare `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a string is not a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The string is empty.
    #[error("a topic has at least one character")]
    Empty,
    /// The string is longer than [`Topic::BYTES_MAX`].
    #[error("a topic has at most {} bytes, this one has {bytes}", Topic::BYTES_MAX)]
    TooLong {
        /// The length of the string.
        bytes: usize,
    },
    /// The string contains a character of C0 or C1, or DEL.
    #[error("a topic has no control characters")]
    Control,
    /// The string is `*`, which selects all topics and names none.
    #[error("a topic is a name, `*` alone selects all topics")]
    Wildcard,
    /// The string names a topic of the hub's own, see [`Topic::PRESENCE`].
    #[error(
        "choose a topic other than `{}` and what lies below it, which are the hub's own",
        Topic::PRESENCE
    )]
    Reserved,
}

/// The type of an event, which becomes the SSE `event` field.
///
/// Holds 1 to [`EventType::BYTES_MAX`] bytes without CR, LF and NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// Why a string is not an event type, or not one that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EventTypeError {
    /// The string is empty.
    #[error("an event type has at least one character; leave it out for none")]
    Empty,
    /// The string is longer than [`EventType::BYTES_MAX`].
    #[error("an event type has at most {} bytes, this one has {bytes}", EventType::BYTES_MAX)]
    TooLong {
        /// The length of the string.
        bytes: usize,
    },
    /// The string contains CR, LF or NUL.
    #[error("an event type has no CR, LF or NUL")]
    Control,
    /// The string begins with [`EventType::RESERVED_PREFIX`].
    #[error(
        "choose an event type that does not begin with `{}`, as the hub's own do",
        EventType::RESERVED_PREFIX
    )]
    Reserved,
}

impl Topic {
    /// The greatest length of a topic.
    ///
    /// Long enough for a URL with an encoded URL inside; the cost of matching templates grows
    /// with it.
    pub const BYTES_MAX: usize = 1024;

    /// The topic of all events that tell who joined and left, which only the hub publishes. Those
    /// about one topic are besides under [`presence`](Self::presence) of it.
    pub const PRESENCE: &str = "tidings.presence";

    /// Checks that `text` may name a topic, the hub's own included.
    ///
    /// # Errors
    ///
    /// A [`TopicError`] that says what a topic may be, never [`Reserved`](TopicError::Reserved).
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text == "*" {
            return Err(TopicError::Wildcard);
        }
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(TopicError::TooLong { bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(TopicError::Control);
        }
        Ok(Self(text.into()))
    }

    /// Checks that `text` may name the topic of a published event.
    ///
    /// # Errors
    ///
    /// As [`Topic::parse`], and [`Reserved`](TopicError::Reserved) for the hub's own topics.
    pub fn parse_published(text: &str) -> Result<Self, TopicError> {
        if is_reserved(text) {
            return Err(TopicError::Reserved);
        }
        Self::parse(text)
    }

    /// Returns the topic that tells who joined and left this one; `None` if it would be too long.
    #[must_use]
    pub fn presence(&self) -> Option<Self> {
        Self::parse(&format!("{}/{self}", Self::PRESENCE)).ok()
    }

    /// Tells whether only the hub publishes under it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }

    /// Returns the text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Copies the text.
    pub(crate) fn compact(&self) -> Self {
        Self(self.as_str().into())
    }
}

fn is_reserved(text: &str) -> bool {
    text.strip_prefix(Topic::PRESENCE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl EventType {
    /// The greatest length of an event type.
    pub const BYTES_MAX: usize = 256;

    /// The beginning of the types of control events, which nobody may publish.
    pub const RESERVED_PREFIX: &str = "tidings.";

    /// Checks that `text` may be an event type, the hub's own included.
    ///
    /// # Errors
    ///
    /// An [`EventTypeError`] that says what an event type may be, never
    /// [`Reserved`](EventTypeError::Reserved).
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        if text.is_empty() {
            return Err(EventTypeError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(EventTypeError::TooLong { bytes: text.len() });
        }
        if text.contains(['\r', '\n', '\0']) {
            return Err(EventTypeError::Control);
        }
        Ok(Self(text.into()))
    }

    /// Checks that `text` may be the type of a published event.
    ///
    /// # Errors
    ///
    /// As [`EventType::parse`], and [`Reserved`](EventTypeError::Reserved) for the hub's own types.
    pub fn parse_published(text: &str) -> Result<Self, EventTypeError> {
        if text.starts_with(Self::RESERVED_PREFIX) {
            return Err(EventTypeError::Reserved);
        }
        Self::parse(text)
    }

    /// Returns the text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Copies the text.
    pub(crate) fn compact(&self) -> Self {
        Self(self.as_str().into())
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
