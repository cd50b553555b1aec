//! One event as the core sees it: where it stands, whom it may reach, and an opaque payload.

use std::sync::Arc;

use crate::{EventType, Topic};

/// An event that has its place in the log.
///
/// The core never looks into `payload`; shells put the encoded event there.
#[derive(Debug, Clone)]
pub struct Entry<P> {
    /// Its place in the log, dense and counted from 1.
    pub offset: u64,
    /// The topics it was published under, at least one.
    pub topics: Arc<[Topic]>,
    /// Its type; `None` is what `EventSource` calls `message`.
    pub event_type: Option<EventType>,
    /// Whether only subscribers with rights to one of its topics may receive it.
    pub private: bool,
    /// Whether it is the last event of its topics.
    pub is_final: bool,
    /// What the shell delivers.
    pub payload: P,
}
