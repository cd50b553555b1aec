//! What a log must do.

use std::fmt::Debug;
use std::sync::Arc;

use tidings_core::{Bounds, Entry, Epoch, EventType, Interest, Topic};

/// Milliseconds since the beginning of 1970.
pub type UnixMillis = u64;

/// An event that is to be appended.
#[derive(Debug, Clone)]
pub struct Record {
    /// The topics it is published under, at least one.
    pub topics: Box<[Topic]>,
    /// Its type, if it has one.
    pub event_type: Option<EventType>,
    /// Whether only subscribers with rights to one of its topics may receive it.
    pub private: bool,
    /// Its data, as published.
    pub data: Box<str>,
    /// The reconnection time it tells clients to use, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// What a log keeps of an event besides its place and whom it may reach.
#[derive(Debug)]
pub struct Body {
    /// Its data, as published.
    pub data: Box<str>,
    /// The reconnection time it tells clients to use, in milliseconds.
    pub retry_ms: Option<u64>,
    /// When it was appended.
    pub appended_at: UnixMillis,
}

/// How much one step of reading may cost.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Entries to return at most.
    pub events_max: usize,
    /// Bytes to return at most, as the log counts them; a single larger event is returned alone.
    pub bytes_max: usize,
    /// Entries to look at at most.
    pub candidates_max: usize,
    /// Comparisons of a topic with a selector after which to stop; at least one entry is looked at.
    pub comparisons_max: usize,
}

/// One step of reading.
#[derive(Debug)]
pub struct ReadStep<P> {
    /// The interesting entries, in order.
    pub entries: Vec<Arc<Entry<P>>>,
    /// Everything before this offset was looked at.
    pub next: u64,
}

/// One step of searching backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekStep {
    /// How many interesting entries were found, at most as many as wanted.
    pub found: u32,
    /// The lowest of their offsets.
    pub lowest: Option<u64>,
    /// Everything from this offset on was looked at.
    pub before: u64,
    /// Whether nothing is kept below `before`.
    pub complete: bool,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log cannot be written now; the caller may try again later.
    #[error("the log cannot be written now: {0}")]
    Unavailable(String),
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The first offset asked for is gone; go on at `oldest`.
    #[error("events before offset {oldest} are no longer kept")]
    Trimmed {
        /// The oldest kept offset, or the next one if nothing is kept.
        oldest: u64,
    },
    /// The log cannot be read now; the caller may try again later.
    #[error("the log cannot be read now: {0}")]
    Unavailable(String),
}

/// A totally ordered, append-only sequence of events with dense offsets from 1.
///
/// All methods may block for as long as the storage takes and may be called from several threads;
/// a hub calls [`append`](Self::append) from one. [`conformance::check`](crate::conformance::check)
/// says in tests what is said here in words.
pub trait EventLog: Send + Sync + Debug {
    /// Which life of the log this is: another than that of any log that gave out other ids.
    fn epoch(&self) -> Epoch;

    /// What can be read now.
    fn bounds(&self) -> Bounds;

    /// Appends all records, in order and without a hole, or none.
    ///
    /// When it returns, the entries are as durable as the log promises and can be read.
    ///
    /// # Errors
    ///
    /// [`AppendError`]: nothing was appended.
    fn append(
        &self,
        records: Vec<Record>,
        now: UnixMillis,
    ) -> Result<Vec<Arc<Entry<Body>>>, AppendError>;

    /// Reads the entries that interest someone, from `from` up to at most `until`.
    ///
    /// Makes progress: `next` is greater than `from` when `until` is, and never beyond `until` or
    /// the end of the log.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] if `from` is no longer kept.
    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Body>, ReadError>;

    /// Looks backwards from `before` for the last `wanted` entries that interest someone, within the
    /// limit's candidates and comparisons. Makes progress: the step's `before` is lower, unless it
    /// is complete.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`]; what is trimmed is simply not found.
    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError>;

    /// Lets go of what is too old at `now`.
    fn trim(&self, now: UnixMillis);
}
