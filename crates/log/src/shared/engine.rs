//! What a store has to do for the logs that are kept in it.

use std::fmt::Debug;
use std::time::Duration;

use tidings_core::{Bounds, Entry, Epoch, Topic};

use crate::{Body, KeyWindow, Record, UnixMillis};

/// One log in a store that several nodes share: Redis, Postgres.
///
/// An engine stores, orders and finds. What of it a node remembers, what interests a subscriber, when a
/// connection is tried again: that is not for it.
///
/// All methods may block, each no longer than the engine's own timeouts allow, and may be called from
/// several threads at once; of [`wait`](Self::wait), [`append`](Self::append) and [`open`](Self::open) no two
/// calls overlap that are of the same one.
/// All but [`open`](Self::open) name the life of the log that the caller knows, and answer
/// [`EngineError::OtherLife`] without any effect if the log has another one by now, or if the store may be another
/// one: for instance because a connection leads to a server that was restarted or took over.
pub trait Engine: Send + Sync + Debug + 'static {
    /// What the store is, for messages, such as `Redis at cache.internal:6379`; without secrets.
    fn name(&self) -> String;

    /// Connects; makes what the log needs in the store, or brings it to this version; decides by
    /// [`judge`](super::judge) whether the life of the log goes on, or begins another one with the epoch
    /// `fresh`; and says what is there. `seen` is what this node knew before. No other node decides between what
    /// is read for that and what is remembered.
    ///
    /// What other calls still wait for on older connections may fail by it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] if no time will mend it: wrong password, wrong version, no right.
    fn open(&self, seen: Option<&Seen>, fresh: Epoch) -> Result<Opened, EngineError>;

    /// Appends publishes as [`EventLog::append`](crate::EventLog::append) says, at once for all nodes, and
    /// answers when they are as durable as the engine promises. What is new of one append has offsets without a
    /// hole.
    ///
    /// If the writer's number and sequence are those of its last append that had an effect, it has no second
    /// one, and answers as the first did: an append whose answer was lost can be repeated, for an hour at least. If the
    /// sequence is lower, it is an append that was given up and comes late: it has no effect, and nobody waits for
    /// its answer.
    ///
    /// Without publishes it writes nothing that can be read, and finds out whether the log can be written.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unavailable`]: it may have had an effect. All others: it had none.
    fn append(&self, append: &Append<'_>) -> Result<Vec<Outcome>, EngineError>;

    /// Reads entries from `from` on, below `until`, in one step. With `topics` it may leave out what is
    /// under none of them, if it finds those faster.
    ///
    /// Makes progress unless `from` is not below `until` or the end of the log.
    fn read(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError>;

    /// As [`read`](Self::read), from the newest entry below `until` backwards, down to `from`;
    /// [`Fetched::entries`] come newest first and [`Fetched::end`] is the offset from which on all was
    /// looked at.
    fn read_backwards(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError>;

    /// Waits for entries from `from` on, at most for `timeout`, and reads at most so many; without topics.
    /// Nothing after `timeout` is no error; no time at all reads what is there. Who waits has seen
    /// everything below `from`: bounds that end below it say that events are lost.
    fn wait(
        &self,
        life: &Life,
        from: u64,
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Fetched, EngineError>;

    /// Has a [`wait`](Self::wait) that is under way return soon, if it would not do so by itself because
    /// of what this node has appended.
    fn kick(&self) {}

    /// What can be read now, asked afresh.
    fn bounds(&self, life: &Life) -> Result<Bounds, EngineError>;

    /// Lets go of entries. To do so twice, or from several nodes, is as good as once.
    fn trim(&self, life: &Life, cut: &Cut<'_>) -> Result<Bounds, EngineError>;

    /// Puts a note up for other nodes, in place of the one under this name, for at most `ttl`. Notes need
    /// not outlive the store's restart. At most [`NOTE_BYTES_MAX`] bytes.
    fn put_note(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), EngineError>;

    /// All notes that are up whose names begin with `prefix`, in the order of their names.
    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, EngineError>;
}

/// The length of a note at most.
pub const NOTE_BYTES_MAX: usize = 16 << 20;

/// A life of a log, and the server that it was last known to be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which life.
    pub epoch: Epoch,
    /// What names one run of the server that cannot have lost anything: changes at each restart or
    /// takeover at which it might have.
    pub server: String,
}

/// What a node knows of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its life.
    pub life: Life,
    /// The offset after the last that the node has seen, or that it was told is appended.
    pub next: u64,
}

/// What [`Engine::open`] has found.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The life that all else names from now on.
    pub life: Life,
    /// What can be read.
    pub bounds: Bounds,
    /// The topics that are finished, with the offsets of their last events.
    pub finished: Vec<(Topic, u64)>,
    /// What retention rules have dropped: of each topic the highest offset, as told to [`Engine::trim`].
    pub dropped: Vec<(Topic, u64)>,
}

/// What is to be appended.
#[derive(Debug)]
pub struct Append<'a> {
    /// The life it is for.
    pub life: &'a Life,
    /// Names the node; drawn at random when it starts.
    pub writer: u64,
    /// The number of the append, greater than those of the writer's earlier ones.
    pub sequence: u64,
    /// Each as a whole or not at all, in order.
    pub publishes: &'a [Vec<Record>],
    /// The time by the node's clock.
    pub now: UnixMillis,
    /// How long keys are remembered, and how many.
    pub keys: KeyWindow,
}

/// What became of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Where its records are, in order.
    Appended(Vec<Placed>),
    /// It was refused: a topic of one of its records had its last event.
    Finished {
        /// The topic.
        topic: Topic,
        /// The offset of that event, or 0 if it is in the same publish.
        offset: u64,
    },
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its offset.
    pub offset: u64,
    /// Whether that was given before, for the same key.
    pub is_repeated: bool,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The lowest offset.
    pub from: u64,
    /// The offset to stay below.
    pub until: u64,
    /// If not `None`, only entries under one of these topics are wanted.
    pub topics: Option<&'a [Topic]>,
    /// How much one step may read.
    pub limit: StepLimit,
}

/// How much one step may read: at least one entry, whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct StepLimit {
    /// Entries.
    pub events_max: usize,
    /// Bytes, as [`entry_bytes`](crate::entry_bytes) counts them, roughly.
    pub bytes_max: usize,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// In order; offsets between them that are missing are gone, or not under the topics.
    pub entries: Vec<Entry<Body>>,
    /// Everything below this was looked at; backwards, everything from it on.
    pub end: u64,
    /// What could be read at that time: where `oldest` is above what was asked for, the rest is gone.
    pub bounds: Bounds,
}

/// What is to be let go of.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// Events to keep at most.
    pub events_max: u64,
    /// Bytes to keep at most, as [`entry_bytes`](crate::entry_bytes) counts them, roughly; the newest entry is
    /// kept in any case.
    pub bytes_max: u64,
    /// What was appended before this time is too old.
    pub appended_before: UnixMillis,
    /// Entries from the middle that retention rules drop. Topics that end with one of them are open again.
    pub offsets: &'a [u64],
    /// Of topics that lose events by that: the highest offset that is dropped. What is below what is kept
    /// need not be remembered.
    pub dropped: &'a [(Topic, u64)],
    /// The time by the node's clock, and how long keys are remembered.
    pub now: UnixMillis,
    /// Keys that are to be remembered.
    pub keys: KeyWindow,
}

/// Why an engine did not do what it was asked to. The words are for whoever runs the hub: they say what is wrong and
/// what to do, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It is not reached, or does not answer in time. To try again later is worth it.
    #[error("{0}")]
    Unavailable(String),
    /// It answers, and cannot be written now: full, read-only, a replica. Reading may go on.
    #[error("{0}")]
    Unwritable(String),
    /// It refuses this hub: wrong password, wrong version, no right, a schema of a later version. To try
    /// again is worth it for when somebody has changed that.
    #[error("{0}")]
    Refused(String),
    /// The log has another life, or the server may be another one: [`Engine::open`] has to decide.
    #[error("the log may have begun anew")]
    OtherLife,
    /// What is stored is not what a hub has stored.
    #[error("{0}")]
    Damaged(String),
}
