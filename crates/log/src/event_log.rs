//! What a log must do.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Entry, Epoch, Interest, Position, Topic};

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

/// Why an append did not go well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log cannot be written now, and nothing was appended; the caller may try again later.
    #[error("the log cannot be written now: {0}")]
    Unavailable(String),
    /// The log did not answer, and what became of the append is not known. The caller may try again with
    /// records that have keys; others may be there twice then.
    #[error("the log does not answer: {0}")]
    Unknown(String),
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

/// What [`EventLog::follow`] has waited for.
#[derive(Debug, Clone)]
pub enum Followed {
    /// Nothing happened in the time.
    Nothing,
    /// These entries are the next ones: in order, without a hole among them or before them.
    Entries(Vec<Entry<Body>>),
    /// What comes next begins at `next`, which is greater than what was to come: what is left out is not
    /// kept any more, or is better read by those who want it.
    Skipped {
        /// The offset of the next entry.
        next: u64,
    },
    /// The log has begun another life, which [`EventLog::epoch`] says by now. What comes next begins at
    /// `bounds.next`.
    NewLife {
        /// Which life.
        epoch: Epoch,
        /// What can be read of it.
        bounds: Bounds,
    },
}

/// What is known of the store in which a log is that several nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFigures {
    /// Whether it answered the last time.
    pub is_reached: bool,
    /// The offset after the last that it is known to hold in this life of the log.
    pub next: u64,
    /// Calls that it has not answered, or refused.
    pub failures: u64,
    /// When it answered last.
    pub answered_at: Option<Instant>,
}

/// Notes that the nodes of a shared log leave for each other. All methods may block, each for as long as
/// the store's own timeouts allow.
pub trait Board: Send + Sync {
    /// Puts a note up, in place of the one under this name, for at most `ttl`; at most
    /// [`NOTE_BYTES_MAX`](crate::shared::NOTE_BYTES_MAX) bytes.
    ///
    /// # Errors
    ///
    /// In words for whoever runs the hub.
    fn put(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), String>;

    /// All notes that are up whose names begin with `prefix`, in the order of their names.
    ///
    /// # Errors
    ///
    /// In words for whoever runs the hub.
    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, String>;
}

/// A totally ordered, append-only sequence of events with dense offsets from 1.
///
/// The log lets go of its oldest events, and of those that a
/// [`RetentionRule`](crate::RetentionRule) drops: then the middle of the log has holes.
///
/// All methods may block for as long as the storage takes and may be called from several threads;
/// a hub calls [`append`](Self::append) from one and [`follow`](Self::follow) from one.
/// [`conformance::check`](crate::conformance::check) says in tests what is said here in words.
///
/// A log that [is shared](Self::is_shared) may begin another life while it is open. All methods but `append`
/// and `confirm` are about the life that [`epoch`](Self::epoch) names, which does not return to an earlier one: who
/// finds, after a call, the epoch that was there before has been answered about that life.
pub trait EventLog: Send + Sync + Debug {
    /// Which life of the log this is: another than that of any log that gave out other ids.
    fn epoch(&self) -> Epoch;

    /// Whether epoch and bounds are those of the log. False as long as the store of a shared log has never been
    /// reached: then nothing can be read, and [`follow`](Self::follow) tells of the life once it is known.
    fn is_known(&self) -> bool {
        true
    }

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
    /// [`AppendError::Unavailable`]: nothing was appended. Only a log that is shared gives
    /// [`AppendError::Unknown`].
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

    /// Whether other nodes append as well. Then what is new comes by [`follow`](Self::follow) alone, also
    /// what this node has appended.
    fn is_shared(&self) -> bool {
        false
    }

    /// Waits for what is new since the last call, at most for `timeout`; the first call gives what comes
    /// after the [`bounds`](Self::bounds) that there were before anything was appended or followed. What cannot be
    /// reached is tried again meanwhile: that the store does not answer is no error. Called from one thread, and
    /// for a log that is not shared by nobody.
    fn follow(&self, timeout: Duration) -> Followed {
        let _ = timeout;
        Followed::Nothing
    }

    /// Whether a position was given out in the life that the store is in now, as the store itself says: for
    /// those that this node has not seen, as a client has them that comes from a node that was faster. If
    /// the store turns out to be in another life than [`epoch`](Self::epoch) names,
    /// [`follow`](Self::follow) tells of it soon.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] if the store cannot be asked.
    fn confirm(&self, position: Position) -> Result<bool, ReadError> {
        let bounds = self.bounds();
        Ok(position.epoch == self.epoch() && position.offset < bounds.next)
    }

    /// What is known of the store of a shared log; does not block.
    fn store(&self) -> Option<StoreFigures> {
        None
    }

    /// Where nodes leave notes for each other; `None` if the log is not shared.
    fn board(&self) -> Option<&dyn Board> {
        None
    }

    /// Ends writing in good order: later appends are refused, reading goes on.
    fn close(&self);
}
