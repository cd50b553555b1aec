//! Appending: one write and one sync for everything that waits.
//!
//! What fails before the sync is undone by cutting the file, and can be tried again. A sync that fails
//! cannot: the system may have thrown away what it could not write, and a second sync would not
//! say so.

use std::io;
use std::sync::Arc;

use super::files::{File, Files, NoFile};
use super::index::{Footer, Frame, OpenIndex, Posting};
use super::segment::{HEADER_BYTES, Header, Sealed, current_boot, segment_name};
use super::spare::Spare;
use super::stored::{Checksum, padded, room_for, write_carried_keys, write_record};
use super::{DiskLog, Durability, Open, State};
use crate::keys::{HashSeed, KeyRun};
use crate::ledger::Plan;
use crate::memory::entry;
use crate::random::random_bits;
use crate::{AppendError, Appended, Record, UnixMillis};

/// What the one who writes has at hand.
#[derive(Debug)]
pub(super) struct Writer {
    condition: Condition,
    /// The number of the last batch of the open segment; `None` until that has a file.
    batch: Option<u32>,
    /// Makes the next file ready.
    spare: Option<Spare>,
    /// How much room a segment is given.
    capacity: u64,
    buffer: Vec<u8>,
    /// The open segment has its index, or a part of it: nothing more can be written to it.
    must_roll: bool,
}

/// Whether the log can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Ready,
    /// Behind the end of the open segment may stand parts of what was not acknowledged.
    Unclean,
    /// Nobody knows what the disk has.
    Dead(String),
    Closed,
}

/// Why nothing was written.
#[derive(Debug)]
enum WriteError {
    /// It can be tried again.
    Refused(String),
    /// It cannot.
    Fatal(String),
}

impl Writer {
    pub(super) fn new(batch: Option<u32>, capacity: u64) -> Self {
        let condition = Condition::Ready;
        Self { condition, batch, spare: None, capacity, buffer: Vec::new(), must_roll: false }
    }

    /// Has the file of each segment made ready before it is needed.
    pub(super) fn keep_spare(&mut self, files: Arc<dyn Files>) {
        let mut spare = Spare::new(files, self.capacity);
        // The first append waits for it.
        spare.make(FIRST_FILLED_BYTES);
        self.spare = Some(spare);
    }
}

/// Where the records of a batch came to stand.
struct Written {
    positions: Vec<u32>,
    end: u64,
}

impl DiskLog {
    pub(super) fn append_all(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        let mut writer = self.writer();
        let mut plan = self.plan(publishes, now);
        if plan.records.is_empty() && writer.condition != Condition::Closed {
            return Ok(Appended {
                epoch: self.identity.epoch,
                entries: Vec::new(),
                outcomes: plan.outcomes,
            });
        }
        let records = std::mem::take(&mut plan.records);
        let outcome = self.write_records(&mut writer, &records, now);
        let written = self.noted(&mut writer, outcome)?;
        let mut state = self.state_mut();
        let state = &mut *state;
        let next = state.open.next;
        let entries: Vec<_> = (next..).zip(records).map(|(at, it)| entry(at, it, now)).collect();
        for (entry, &position) in entries.iter().zip(&written.positions) {
            let posting = Posting { delta: state.open.delta(entry.offset), position };
            state.open.index.add(posting, now, entry.topics.iter(), entry.is_final);
            entry.topics.iter().for_each(|topic| state.ruled.count(topic, 1));
        }
        for &(id, offset) in &plan.keys {
            state.open.index.add_key(id, offset, now);
        }
        state.open.next = next + entries.len() as u64;
        state.open.end = written.end;
        state.ledger.settle(&plan, now);
        state.keep_count(self.options.retention.events_max);
        Ok(Appended { epoch: self.identity.epoch, entries, outcomes: plan.outcomes })
    }

    fn plan(&self, publishes: Vec<Vec<Record>>, now: UnixMillis) -> Plan {
        let state = self.state();
        let is_kept =
            |offset, topic: &_| offset >= state.oldest && state.ruled.keeps(offset, topic);
        state.ledger.plan(publishes, state.open.next, now, is_kept)
    }

    /// Makes keys durable anew whose records are about to leave. They are remembered already.
    pub(super) fn carry_keys(&self, runs: &[KeyRun], now: UnixMillis) -> Result<(), AppendError> {
        for runs in runs.chunks(CARRIED_RUNS_MAX) {
            let mut writer = self.writer();
            let room = padded((runs.len() + 1) as u64 * 64);
            let outcome = self.write(&mut writer, room, |checksum, batch, next, buffer| {
                write_carried_keys(runs, next, now, batch, checksum, buffer);
                Vec::new()
            });
            let written = self.noted(&mut writer, outcome)?;
            let mut state = self.state_mut();
            state.open.index.add_key_runs(runs);
            state.open.end = written.end;
        }
        Ok(())
    }

    /// Seals the open segment and begins another, so that the old one can leave.
    pub(super) fn roll(&self) -> Result<(), AppendError> {
        let mut writer = self.writer();
        let outcome = self.ready(&mut writer).and_then(|()| self.roll_segment(&mut writer));
        self.noted(&mut writer, outcome)
    }

    pub(super) fn close_writing(&self) {
        let mut writer = self.writer();
        if matches!(writer.condition, Condition::Closed) {
            return;
        }
        // A log that failed is left as it is: opening it finds out what the disk has.
        if let Some(spare) = &mut writer.spare {
            spare.clear();
        }
        let has_file = writer.batch.is_some();
        let outcome = self
            .ready(&mut writer)
            .and_then(|()| if has_file { self.seal_open().map(drop) } else { Ok(()) });
        if let Err(error) = self.noted(&mut writer, outcome) {
            tracing::warn!(%error, "the log was not closed in good order; opening it takes longer");
        }
        writer.condition = Condition::Closed;
        self.state_mut().failure = Some("it is closed".to_owned());
    }

    fn write_records(
        &self,
        writer: &mut Writer,
        records: &[Record],
        now: UnixMillis,
    ) -> Result<Written, WriteError> {
        let room = records.iter().map(room_for).sum();
        self.write(writer, room, |checksum, batch, next, buffer| {
            let mut lengths = Vec::with_capacity(records.len());
            for (place, record) in records.iter().enumerate() {
                let is_last = place + 1 == records.len();
                let offset = next + place as u64;
                lengths.push(write_record(record, offset, now, batch, is_last, checksum, buffer));
            }
            lengths
        })
    }

    /// Writes a batch that takes at most so much room, and makes it durable. `encode` answers the
    /// lengths of its events.
    fn write(
        &self,
        writer: &mut Writer,
        room: u64,
        encode: impl FnOnce(&Checksum, u32, u64, &mut Vec<u8>) -> Vec<usize>,
    ) -> Result<Written, WriteError> {
        self.ready(writer)?;
        if room > BATCH_BYTES_MAX {
            let reason = format!("{room} bytes at once are too much; publish them in parts");
            return Err(WriteError::Refused(reason));
        }
        // A segment without events cannot be followed by another: both would have the same name.
        let (end, is_used) = {
            let state = self.state();
            (state.open.end, state.open.index.events() > 0)
        };
        let is_full = end + room > writer.capacity || self.index_is_full();
        if writer.must_roll || (is_used && is_full) {
            self.roll_segment(writer)?;
        }
        let batch = match writer.batch {
            Some(batch) => batch + 1,
            None => {
                self.begin_segment(writer)?;
                1
            }
        };
        let (file, checksum, next, end) = {
            let open = &self.state().open;
            (Arc::clone(&open.file), Checksum::new(open.header.salt), open.next, open.end)
        };
        writer.buffer.clear();
        let lengths = encode(&checksum, batch, next, &mut writer.buffer);
        writer.condition = Condition::Unclean;
        file.write_at(&writer.buffer, end).map_err(|error| refused("write to its file", &error))?;
        if self.options.durability == Durability::Fsync {
            file.sync().map_err(|error| {
                // What is not known to be there must not be found later.
                let _ = file.set_len(end);
                fatal(&error)
            })?;
        }
        if !file.has_name().map_err(|error| refused("look at its file", &error))? {
            return Err(WriteError::Refused("its file was removed; restart the hub".to_owned()));
        }
        writer.condition = Condition::Ready;
        writer.batch = Some(batch);
        let mut position = end;
        let positions = lengths.into_iter().map(|length| {
            let start = position as u32;
            position += length as u64;
            start
        });
        let positions = positions.collect();
        let end = end + writer.buffer.len() as u64;
        // Early enough to be ready in time, late enough for a log that is hardly written to do without.
        if end > writer.capacity / 4
            && let Some(spare) = &mut writer.spare
        {
            spare.make(writer.capacity);
        }
        writer.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(Written { positions, end })
    }

    /// Whether the open segment's index takes as much memory as it may.
    fn index_is_full(&self) -> bool {
        self.state().open.index.memory_bytes() > INDEX_BYTES_MAX
    }

    /// Makes the log fit to be written, if it is not.
    fn ready(&self, writer: &mut Writer) -> Result<(), WriteError> {
        match &writer.condition {
            Condition::Ready => Ok(()),
            Condition::Closed => Err(WriteError::Refused("it is closed".to_owned())),
            Condition::Dead(reason) => Err(WriteError::Fatal(reason.clone())),
            Condition::Unclean => {
                let (file, end) = {
                    let open = &self.state().open;
                    (Arc::clone(&open.file), open.end)
                };
                if !file.has_name().map_err(|error| refused("look at its file", &error))? {
                    let reason = "its file was removed; restart the hub".to_owned();
                    return Err(WriteError::Refused(reason));
                }
                file.set_len(end).map_err(|error| refused("cut its file", &error))?;
                file.reserve(writer.capacity)
                    .map_err(|error| refused("reserve room for its file", &error))?;
                writer.condition = Condition::Ready;
                Ok(())
            }
        }
    }

    fn roll_segment(&self, writer: &mut Writer) -> Result<(), WriteError> {
        writer.must_roll = true;
        let sealed = self.seal_open()?;
        let mut state = self.state_mut();
        state.open = Open::unborn(sealed.next());
        state.sealed.push_back(Arc::new(sealed));
        (writer.must_roll, writer.batch) = (false, None);
        Ok(())
    }

    /// Sees to it that the open segment has a file, which says how far ids have gone.
    pub(super) fn begin(&self) -> Result<(), AppendError> {
        let mut writer = self.writer();
        let outcome = self.ready(&mut writer).and_then(|()| match writer.batch {
            Some(_) => Ok(()),
            None => self.begin_segment(&mut writer),
        });
        self.noted(&mut writer, outcome)
    }

    /// Whether nothing is written any more until the log is opened anew.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.writer().condition, Condition::Dead(_))
    }

    /// Tries whether what kept the log from being written is gone, without waiting for a publisher to
    /// try.
    pub(super) fn mend(&self) {
        let mut writer = self.writer();
        if self.state().failure.is_none() || writer.condition == Condition::Closed {
            return;
        }
        let outcome = self.ready(&mut writer).and_then(|()| {
            if writer.must_roll {
                self.roll_segment(&mut writer)?;
            }
            match writer.batch {
                Some(_) => Ok(()),
                None => self.begin_segment(&mut writer),
            }
        });
        // What is still wrong is noted for those who ask.
        let _ = self.noted(&mut writer, outcome);
    }

    /// Gives the open segment its file.
    fn begin_segment(&self, writer: &mut Writer) -> Result<(), WriteError> {
        if !self.files.is_same().map_err(|error| refused("look at its directory", &error))? {
            let reason = "its directory was replaced by another; restart the hub".to_owned();
            return Err(WriteError::Refused(reason));
        }
        let base = self.state().open.header.base;
        let name = segment_name(base);
        let spare = writer.spare.as_mut().and_then(|spare| spare.take(&name));
        let is_unsynced = self.options.durability == Durability::Os;
        let open = create_segment(&*self.files, spare, base, is_unsynced, writer.capacity)
            .map_err(|error| refused("begin another segment", &error))?;
        self.state_mut().open = open;
        writer.batch = Some(0);
        Ok(())
    }

    /// Writes the index of the open segment behind its records.
    fn seal_open(&self) -> Result<Sealed, WriteError> {
        // Only the writer changes the open segment, and its own lock is held.
        let state = self.state();
        let footer = footer_bytes(&state.open, self.identity.seed);
        let open = &state.open;
        let (file, end) = (Arc::clone(&open.file), open.end);
        let (name, header) = (open.name.clone(), open.header);
        drop(state);
        write_footer(&*file, end, &footer)?;
        read_sealed(file, name, header).map_err(|error| refused("read its file", &error))
    }

    /// Notes what became of an attempt to write, for those who ask.
    fn noted<T>(
        &self,
        writer: &mut Writer,
        outcome: Result<T, WriteError>,
    ) -> Result<T, AppendError> {
        let failure = match &outcome {
            Ok(_) => None,
            Err(WriteError::Refused(reason) | WriteError::Fatal(reason)) => Some(reason.clone()),
        };
        if let Err(WriteError::Fatal(reason)) = &outcome
            && !matches!(writer.condition, Condition::Dead(_))
        {
            tracing::error!(reason, "the log is not written any more until the hub is restarted");
            writer.condition = Condition::Dead(reason.clone());
        }
        if failure.is_some() || self.state().failure.is_some() {
            self.state_mut().failure.clone_from(&failure);
        }
        outcome.map_err(|_| AppendError::Unavailable(failure.unwrap_or_default()))
    }
}

impl State {
    /// Lets go of what is too much by count.
    pub(super) fn keep_count(&mut self, events_max: u64) {
        self.oldest = self.oldest.max(self.open.next.saturating_sub(events_max.max(1)));
    }
}

impl Open {
    /// A segment that nothing was written to, and that has no file yet.
    pub(super) fn unborn(base: u64) -> Self {
        let header = Header { salt: 0, base, boot: 0, is_unsynced: false, is_rewritten: false };
        let (file, name) = (Arc::new(NoFile), segment_name(base));
        let (index, end) = (OpenIndex::default(), HEADER_BYTES as u64);
        Self { file, name, header, index, next: base, end }
    }

    pub(super) fn delta(&self, offset: u64) -> u32 {
        (offset - self.header.base) as u32
    }
}

/// Begins a segment whose first event will have the offset `base`, in a file that is ready or in a new
/// one.
fn create_segment(
    files: &dyn Files,
    spare: Option<Arc<dyn File>>,
    base: u64,
    is_unsynced: bool,
    capacity: u64,
) -> io::Result<Open> {
    let name = segment_name(base);
    let file = match spare {
        Some(file) => file,
        None => files.create(&name)?,
    };
    let made = (|| {
        file.reserve(capacity)?;
        let header = Header {
            salt: random_bits()?,
            base,
            boot: current_boot(),
            is_unsynced,
            is_rewritten: false,
        };
        file.write_at(&header.write(), 0)?;
        file.sync()?;
        files.sync()?;
        Ok(header)
    })();
    match made {
        Ok(header) => {
            let (next, end) = (base, HEADER_BYTES as u64);
            Ok(Open { file, name, header, index: OpenIndex::default(), next, end })
        }
        Err(error) => {
            let _ = files.remove(&name);
            Err(error)
        }
    }
}

/// Writes the index of a segment that nobody writes any more.
pub(super) fn seal(open: &Open, seed: HashSeed) -> io::Result<Sealed> {
    let footer = footer_bytes(open, seed);
    write_footer(&*open.file, open.end, &footer).map_err(WriteError::into_io)?;
    read_sealed(Arc::clone(&open.file), open.name.clone(), open.header)
}

fn footer_bytes(open: &Open, seed: HashSeed) -> Vec<u8> {
    let Header { salt, base, .. } = open.header;
    let mut bytes = Vec::new();
    let frame = Frame { salt, base, next: open.next, data_end: open.end };
    open.index.write_footer(frame, seed, &mut bytes);
    bytes
}

fn write_footer(file: &dyn File, end: u64, footer: &[u8]) -> Result<(), WriteError> {
    file.write_at(footer, end).map_err(|error| refused("write the index of a segment", &error))?;
    let length = end + footer.len() as u64;
    file.set_len(length).map_err(|error| refused("cut its file", &error))?;
    file.sync().map_err(|error| fatal(&error))
}

fn read_sealed(file: Arc<dyn File>, name: String, header: Header) -> io::Result<Sealed> {
    let file_bytes = file.len()?;
    let footer = Footer::read(&*file, &name, header.salt);
    match footer.map_err(|fault| io::Error::other(fault.to_string()))? {
        Some(footer) => Ok(Sealed { file, name, header, footer, file_bytes }),
        None => Err(io::Error::other("the index of a segment is not as it was written")),
    }
}

impl WriteError {
    fn into_io(self) -> io::Error {
        let (Self::Refused(reason) | Self::Fatal(reason)) = self;
        io::Error::other(reason)
    }
}

fn refused(what: &str, error: &io::Error) -> WriteError {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on the disk",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; see to the rights of the directory"
        }
        io::ErrorKind::NotFound => "; is the directory still there?",
        _ => "",
    };
    WriteError::Refused(format!("cannot {what}: {error}{advice}"))
}

fn fatal(error: &io::Error) -> WriteError {
    let reason = format!("the disk did not confirm a write: {error}; see to it, then restart");
    WriteError::Fatal(reason)
}

/// How much of the first file is filled with zeros beforehand.
const FIRST_FILLED_BYTES: u64 = 1 << 20;
/// What one batch may take; positions in a segment have 32 bits.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// How much of the buffer is kept from one batch to the next.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
/// What the index of the open segment may take in memory before it is sealed.
const INDEX_BYTES_MAX: usize = 64 << 20;
/// Runs of keys that are carried over in one record: 3 MiB.
const CARRIED_RUNS_MAX: usize = 64 << 10;
