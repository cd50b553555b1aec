//! Selectors: which topics a subscriber asks for, or may read.
//!
//! A selector is a string. Whether a topic matches it follows section 1.2 of the Mercure protocol,
//! so both surfaces of the hub share one meaning.

use std::{fmt, sync::Arc};

use thiserror::Error;

use crate::{
    template::{Template, TopicBits},
    topic::{Topic, TopicError},
};

/// A set of topics, written as one string.
///
/// [`Selector::parse`] gives one value for each string, so parsed selectors are equal when their
/// texts are. Cloning shares the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Every topic, written `*`.
    All,
    /// The one topic that equals it byte for byte.
    Exact(Topic),
    /// Every topic that could be an expansion of a URI template, and the template's own text.
    Template(Arc<Template>),
}

/// Why a string is not a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// The string is empty.
    #[error("a selector has at least one character")]
    Empty,
    /// The string is longer than [`Topic::BYTES_MAX`].
    #[error("a selector has at most {} bytes, this one has {bytes}", Topic::BYTES_MAX)]
    TooLong {
        /// The length of the string.
        bytes: usize,
    },
    /// The string contains a character of C0 or C1, or DEL.
    #[error("a selector has no control characters")]
    Control,
    /// The template has more variables than [`Selector::VARIABLES_MAX`].
    #[error("a template has at most {} variables", Selector::VARIABLES_MAX)]
    TooManyVariables,
}

impl Selector {
    /// The most variables a template may have, which bounds what a match costs.
    pub const VARIABLES_MAX: usize = 16;

    /// Reads a selector: `*` selects all topics, a valid URI template (RFC 6570) with at least one
    /// expression those it may expand to, and any other string the topic of that name.
    ///
    /// A `*` inside a longer string means nothing special, and a template that is not valid is a
    /// plain name.
    ///
    /// # Errors
    ///
    /// A [`SelectorError`] that says what a selector may be; the bounds are those of a [`Topic`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let name = match Topic::parse(text) {
            Ok(name) => name,
            Err(TopicError::Wildcard) => return Ok(Self::All),
            Err(TopicError::Empty) => return Err(SelectorError::Empty),
            Err(TopicError::TooLong { bytes }) => return Err(SelectorError::TooLong { bytes }),
            Err(TopicError::Control) => return Err(SelectorError::Control),
            Err(TopicError::Reserved) => unreachable!("any topic may be selected"),
        };
        match Template::parse(&name) {
            Some(template) if template.variable_count() > Self::VARIABLES_MAX => {
                Err(SelectorError::TooManyVariables)
            }
            Some(template) => Ok(Self::Template(Arc::new(template))),
            None => Ok(Self::Exact(name)),
        }
    }

    /// Tells whether the selector contains `topic`.
    ///
    /// The cost is bounded by the two lengths, see [`Template::matches`].
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_bits(&TopicBits::new(topic))
    }

    /// Returns the selector of the topics that tell who joined and left those it contains; `None` if
    /// it would be too long.
    #[must_use]
    pub fn presence(&self) -> Option<Self> {
        match self {
            Self::All => Self::parse(Topic::PRESENCE).ok(),
            other => Self::parse(&format!("{}/{other}", Topic::PRESENCE)).ok(),
        }
    }

    /// Tells whether it names topics of the hub's own, and does not only contain them.
    pub(crate) fn is_reserved(&self) -> bool {
        self.as_str().starts_with(Topic::PRESENCE)
    }

    /// Copies the text.
    pub(crate) fn compact(&self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Exact(name) => Self::Exact(name.compact()),
            Self::Template(template) => Self::Template(Arc::new(template.compact())),
        }
    }

    /// As [`Selector::matches`], for a topic that is held against several selectors.
    pub(crate) fn matches_bits(&self, topic: &TopicBits<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Exact(name) => name == topic.topic(),
            Self::Template(template) => template.matches_bits(topic),
        }
    }

    /// Returns the text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Exact(name) => name.as_str(),
            Self::Template(template) => template.as_str(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
