//! The log on a disk: nothing that was acknowledged is ever lost.
//!
//! Records stand in segment files in one global order. One writer appends what waits in one write
//! and one sync; sealed segments end with an index, so that opening reads their ends alone and what
//! is held in memory does not grow with what is kept. The layout is drawn in
//! `docs/internals/log-format.md`.
//!
//! - `files`: the little that is asked of a file system
//! - `stored`, `index`, `segment`, `identity`: what stands in the files
//! - `opening`: what is found, and what a crash left
//! - `spare`: the file of the next segment, made ready
//! - `writing`, `reading`, `trimming`: the three things done with an open log
//! - `checking`: looking at everything, and making the best of damage

mod damage;
mod files;
mod stored;
mod index;
mod segment;
mod identity;
mod opening;
mod spare;
mod writing;
mod reading;
mod trimming;
mod checking;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::{Bounds, Entry, Epoch, Interest, Topic};

use self::files::{Directory, File, Files};
use self::identity::Identity;
use self::index::OpenIndex;
use self::segment::{Header, Sealed};
use self::stored::TopicMemory;
use self::writing::Writer;
use crate::keys::KeyRun;
use crate::ledger::Ledger;
use crate::retention::RuledTopics;
use crate::{
    AppendError, Appended, Body, EventLog, KeyWindow, ReadError, ReadLimit, ReadStep, Record,
    Retention, SeekStep, UnixMillis,
};

pub use self::checking::{
    CheckReport, CheckedSegment, LostRange, RepairReport, SegmentState, check, repair,
};
pub use self::damage::Damage;
pub use self::opening::OpenError;

/// How a [`DiskLog`] keeps what it keeps.
#[derive(Debug, Clone)]
pub struct DiskLogOptions {
    /// How much it keeps; bytes are those of its files. A segment leaves as a whole, so up to one segment
    /// more may be there than the bounds on count and age allow; it is not readable.
    pub retention: Retention,
    /// How long it remembers idempotency keys.
    pub keys: KeyWindow,
    /// When an append counts as done.
    pub durability: Durability,
    /// The size of a segment file. `None` chooses a 64th of what is kept, from 1 MiB to 256 MiB.
    pub segment_bytes: Option<u32>,
}

impl Default for DiskLogOptions {
    /// 1 GiB, 7 days, any number of events, no rules, [`Durability::Fsync`].
    fn default() -> Self {
        let retention = Retention {
            events_max: u64::MAX,
            bytes_max: 1 << 30,
            age_max_ms: 7 * 24 * 60 * 60 * 1000,
            rules: Vec::new(),
        };
        let keys = KeyWindow::default();
        Self { retention, keys, durability: Durability::Fsync, segment_bytes: None }
    }
}

impl DiskLogOptions {
    fn segment_bytes(&self) -> u64 {
        match self.segment_bytes {
            Some(bytes) => u64::from(bytes),
            None => (self.retention.bytes_max / 64).clamp(1 << 20, 256 << 20),
        }
    }
}

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the disk has it: it outlives the process and a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it outlives the process, not a power cut. After one, the
    /// log begins a new life, as ids may have been given to events that are gone.
    Os,
}

/// An [`EventLog`] in a directory.
///
/// One process has the directory at a time. What cannot be written is refused and can be tried
/// again, except after a failed sync: then nobody knows what the disk has, and nothing is written any
/// more until the log is opened anew. What is there can be read all the while.
#[derive(Debug)]
pub struct DiskLog {
    files: Arc<dyn Files>,
    identity: Identity,
    options: DiskLogOptions,
    /// Taken before `state` by those who need both.
    writer: Mutex<Writer>,
    /// Never held while a file is read or written.
    state: RwLock<State>,
    /// What readers have parsed, for those who read next; as many as have read at once.
    memories: Mutex<Vec<TopicMemory>>,
}

/// What can be read, and what must be remembered.
#[derive(Debug)]
struct State {
    /// Oldest first, without a hole between them.
    sealed: VecDeque<Arc<Sealed>>,
    open: Open,
    /// The oldest kept offset.
    oldest: u64,
    ledger: Ledger,
    ruled: RuledTopics,
    /// Which sealed segment was looked at last for what rules dropped of it, counted in turns.
    looked_at: usize,
    /// Why the log cannot be written.
    failure: Option<String>,
    /// Keys whose records have left, and that could not be written anew yet.
    owed_keys: Vec<KeyRun>,
    /// The keys of all segments that begin before this offset have been written anew, or are owed.
    carried_from: u64,
    /// Why it could not be trimmed the last time.
    trim_failure: Option<String>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    name: String,
    header: Header,
    index: OpenIndex,
    /// The offset of the next event.
    next: u64,
    /// Where its records end: what lies before is durable and can be read.
    end: u64,
}

impl DiskLog {
    /// Opens the log in a directory, or begins one there.
    ///
    /// After a clean stop it reads the ends of the segments; after a crash also the last segment, of
    /// which it cuts what was not written to its end.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(directory: &Path, options: DiskLogOptions) -> Result<Self, OpenError> {
        let files = Directory::open(directory).map_err(|error| OpenError::directory(&error))?;
        let log = Self::open_files(Arc::new(files), options)?;
        if log.options.durability == Durability::Fsync {
            log.writer().keep_spare(Arc::clone(&log.files));
        }
        Ok(log)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect(UNPOISONED)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect(UNPOISONED)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect(UNPOISONED)
    }

    /// Does something with a memory of parsed topics at hand.
    fn with_memory<T>(&self, read: impl FnOnce(&mut TopicMemory) -> T) -> T {
        let held = || self.memories.lock().expect(UNPOISONED);
        let mut memory = held().pop().unwrap_or_default();
        let answer = read(&mut memory);
        held().push(memory);
        answer
    }

    fn has_rules(&self) -> bool {
        !self.options.retention.rules.is_empty()
    }
}

impl EventLog for DiskLog {
    fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    fn bounds(&self) -> Bounds {
        let state = self.state();
        Bounds { oldest: state.oldest, next: state.open.next }
    }

    fn append(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        self.append_all(publishes, now)
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        self.with_memory(|memory| self.read_step(from, until, interest, limit, memory))
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        self.with_memory(|memory| self.seek_step(before, wanted, interest, limit, memory))
    }

    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        !self.has_rules() || self.state().ruled.is_kept(offset, topics)
    }

    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        if self.has_rules() { self.state().ruled.dropped(interest, from) } else { None }
    }

    fn finished(&self, topic: &Topic) -> Option<u64> {
        let state = self.state();
        let offset = state.ledger.finished(topic)?;
        (offset >= state.oldest && state.ruled.keeps(offset, topic)).then_some(offset)
    }

    fn trim(&self, now: UnixMillis) {
        self.trim_all(now);
    }

    fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    fn close(&self) {
        self.close_writing();
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.close_writing();
    }
}

const UNPOISONED: &str = "no thread panics while it holds the log";

#[cfg(test)]
mod tests;
