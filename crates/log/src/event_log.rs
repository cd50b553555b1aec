//! What a log must do.

use std::fmt::Debug;

use tidings_core::{Bounds, Entry, Epoch, Interest, Topic};

use crate::{Appended, Body, Record, UnixMillis};

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
pub struct ReadStep<E> {
    /// The interesting entries, in order.
    pub entries: Vec<E>,
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
/// The log lets go of its oldest events, and of those that a
/// [`RetentionRule`](crate::RetentionRule) drops: then the middle of the log has holes.
///
/// All methods may block for as long as the storage takes and may be called from several threads;
/// a hub calls [`append`](Self::append) from one. [`conformance::check`](crate::conformance::check)
/// says in tests what is said here in words.
pub trait EventLog: Send + Sync + Debug {
    /// Which life of the log this is: another than that of any log that gave out other ids.
    fn epoch(&self) -> Epoch;

    /// What can be read now.
    fn bounds(&self) -> Bounds;

    /// Appends the records of each publish, in order and without a hole; each publish is appended
    /// as a whole or not at all.
    ///
    /// A record whose key was appended before is not appended again: its offset is the first
    /// one's. A publish with a record, not a repeated one, under a topic that is finished is
    /// refused.
    ///
    /// When it returns, the entries are as durable as the log promises and can be read.
    ///
    /// # Errors
    ///
    /// [`AppendError`]: nothing was appended.
    fn append(&self, publishes: Vec<Vec<Record>>, now: UnixMillis)
    -> Result<Appended, AppendError>;

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
    ) -> Result<ReadStep<Entry<Body>>, ReadError>;

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

    /// Whether an event is kept as far as retention rules go, for those who hold a copy of it.
    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool;

    /// The highest offset from `from` on at which a retention rule may have dropped what would
    /// interest someone; `None` if nothing of it was dropped.
    ///
    /// Ask after reading: then nothing that is missing in what was read goes unnoticed.
    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64>;

    /// The offset of the last event of a topic that is finished.
    ///
    /// A topic is finished for as long as that event is kept.
    fn finished(&self, topic: &Topic) -> Option<u64>;

    /// Lets go of what is too old, or too much, at `now`.
    fn trim(&self, now: UnixMillis);

    /// Why the log cannot be written, as far as it is known now; `None` if it can.
    fn failure(&self) -> Option<String>;

    /// Ends writing in good order: later appends are refused, reading goes on.
    fn close(&self);
}
