//! What tidings decides, apart from how it talks: topics and selectors, positions in the log,
//! rights, and the state machine that says which subscriber receives which event.
//!
//! **A subscriber is a cursor in a log.** This crate holds that idea and nothing else: it does not
//! know sockets, clocks, randomness, where events are stored or what they contain.
//!
//! - [`Position`] is a place in the log and the one spelling of it as an event id.
//! - [`Topic`], [`EventType`] and [`Selector`] are text that has been checked.
//! - [`Interest`] says whether an event is for a subscriber, [`Rights`] whether it may have it.
//! - [`resume_after`] says where a returning subscriber begins and what it has missed for good.
//! - [`HubState`] does the rest; what it causes comes out as [`Effect`]s.

mod position;
mod topic;
mod selector;
mod template;
mod rights;
mod identity;
mod entry;
mod interest;
mod resume;
mod short_vec;
mod topic_index;
mod timer_wheel;
mod effect;
mod subscriber;
mod conflation;
mod finished_topics;
mod hub_state;

pub use effect::{
    Batch, CloseReason, ConfirmOutcome, Effect, ExpiryReason, Notice, ReadOutcome, SeekOutcome,
    SubscriberKey, Write,
};
pub use entry::Entry;
pub use hub_state::{HubState, StateOptions};
pub use identity::Identity;
pub use interest::Interest;
pub use position::{Epoch, Position, PositionError};
pub use resume::{Bounds, Gap, GapReason, Start, resume_after};
pub use rights::Rights;
pub use selector::{Selector, SelectorError};
pub use subscriber::StreamOptions;
pub use template::Template;
pub use topic::{EventType, EventTypeError, Topic, TopicError};
pub use topic_index::TopicIndex;

/// Milliseconds since a moment that the shell chose, such as its own start.
pub type Millis = u64;
