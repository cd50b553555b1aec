//! Finding out what a directory holds, and what a crash left in its last segment.
//!
//! A batch was acknowledged only after it was synced, and the next one was written only after that.
//! So what a crash can leave is one batch at the very end of which parts are missing, and missing
//! parts read as zeros, for the room was reserved. Whatever else does not match its checksum was
//! whole once and is damaged: then nothing is touched, and nothing is guessed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use super::damage::{Damage, Fault};
use super::files::{File, Files};
use super::identity::Identity;
use super::index::{Footer, OpenIndex, Posting, marker};
use super::segment::{HEADER_BYTES, Header, Records, Sealed, base_of, current_boot, segment_name};
use super::stored::{ALIGNMENT, Checksum, HEAD_BYTES, Head, Stored, TopicMemory};
use super::writing::{Writer, seal};
use super::{DiskLog, DiskLogOptions, Durability, Open, State};
use crate::keys::HashSeed;
use crate::ledger::Ledger;
use crate::random::random_epoch;
use crate::retention::RuledTopics;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it; stop that one, or choose another directory.
    #[error("another process has the log open")]
    Locked,
    /// Something in it was whole once and is not any more. `check` finds all of it, `repair` saves what
    /// can be saved.
    #[error("the log is damaged: {}", first_of(.0))]
    Damaged(Vec<Damage>),
    /// A later version of this program wrote it; use that one.
    #[error("{file} was written by a later version of tidings (format {version})")]
    Newer {
        /// The file.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// The directory or a file in it cannot be used; see to its rights and to the disk.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn first_of(damages: &[Damage]) -> String {
    damages.first().map(ToString::to_string).unwrap_or_default()
}

impl OpenError {
    pub(super) fn directory(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Locked,
            kind => Self::Io(io::Error::new(kind, error.to_string())),
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => Self::Io(error),
            Fault::Damaged(damage) => Self::Damaged(vec![damage]),
            Fault::Newer { file, version } => Self::Newer { file, version },
        }
    }
}

impl DiskLog {
    pub(super) fn open_files(
        files: Arc<dyn Files>,
        options: DiskLogOptions,
    ) -> Result<Self, OpenError> {
        let bases = segment_bases(&*files)?;
        let mut identity = match Identity::read(&*files)? {
            Some(identity) => identity,
            None if bases.is_empty() => begin(&*files)?,
            None => return Err(missing_identity().into()),
        };
        let mut sealed = Vec::with_capacity(bases.len());
        for (place, &base) in bases.iter().enumerate() {
            let is_last = place + 1 == bases.len();
            let place = Place { is_last, is_only: bases.len() == 1 };
            match open_segment(&*files, base, place)? {
                Found::Sealed(segment) => sealed.push(segment),
                Found::Empty => {}
                Found::Unsealed(unsealed) => {
                    let is_uncertain = unsealed.is_uncertain();
                    if let Some(before) = sealed.last().filter(|before| before.next() != base) {
                        return Err(hole(before.next(), base).into());
                    }
                    let recovered = unsealed.recover(identity.seed, is_uncertain)?;
                    if !is_uncertain {
                        tracing::info!(
                            "the log was not closed; all that was acknowledged is there"
                        );
                    } else {
                        identity.epoch = random_epoch()?;
                        identity.write(&*files)?;
                        tracing::warn!(
                            epoch = %identity.epoch,
                            "the machine stopped while the log was left to the operating system \
                             to write: events may be lost, so ids begin anew and clients are \
                             told of a gap"
                        );
                    }
                    sealed.push(recovered.seal(identity.seed)?);
                }
            }
            if let [.., before, last] = &sealed[..]
                && before.next() != last.base()
            {
                return Err(hole(before.next(), last.base()).into());
            }
        }
        remove_drafts(&*files)?;
        Self::assemble(files, identity, options, sealed)
    }

    fn assemble(
        files: Arc<dyn Files>,
        identity: Identity,
        options: DiskLogOptions,
        mut sealed: Vec<Sealed>,
    ) -> Result<Self, OpenError> {
        let seed = identity.seed;
        let capacity = options.segment_bytes();
        let next = sealed.last().map_or(1, Sealed::next);
        let oldest = sealed.first().map_or(next, Sealed::base);
        let mut ledger = Ledger::new(seed, options.keys);
        let mut ruled = RuledTopics::new(options.retention.rules.clone());
        for segment in &sealed {
            let remembered = segment.footer.remembered(&*segment.file)?;
            remembered.keys.into_iter().for_each(|run| ledger.insert_key_run(run));
            for (topic, offset) in remembered.finals {
                ledger.finish(topic, offset);
            }
            for (topic, offset) in remembered.dropped {
                ruled.note_dropped(&topic, offset);
            }
        }
        // Only once all is known that was dropped, what is kept can be counted.
        if !ruled.is_empty() {
            sealed.iter().try_for_each(|segment| count_kept(segment, seed, &mut ruled))?;
        }
        let is_unsynced = options.durability == Durability::Os;
        let small = sealed.pop_if(|last| is_worth_reopening(last, is_unsynced, capacity));
        let (open, batch) = match small {
            Some(last) => {
                let (open, batch) = reopen(last, seed, is_unsynced, capacity)?;
                (open, Some(batch))
            }
            None => (Open::unborn(next), None),
        };
        let state = State {
            sealed: sealed.into_iter().map(Arc::new).collect::<VecDeque<_>>(),
            open,
            oldest,
            ledger,
            ruled,
            looked_at: 0,
            failure: None,
            owed_keys: Vec::new(),
            carried_from: 0,
            trim_failure: None,
        };
        let writer = Mutex::new(Writer::new(batch, capacity));
        let (state, memories) = (RwLock::new(state), Mutex::default());
        Ok(Self { files, identity, options, writer, state, memories })
    }
}

/// Counts the events of a segment for the rules that count: those that were not dropped, even where what
/// was dropped still stands in the file.
fn count_kept(segment: &Sealed, seed: HashSeed, ruled: &mut RuledTopics) -> Result<(), Fault> {
    let file = &*segment.file;
    for (topic, _) in segment.footer.topics(file)? {
        let first = ruled.surplus_of(&topic) + 1;
        let events = segment.count_from(seed.topic_hash(&topic), first)?;
        ruled.count(&topic, events);
    }
    Ok(())
}

/// What a file of the log turns out to be.
pub(super) enum Found {
    Sealed(Sealed),
    Unsealed(Unsealed),
    /// It was begun, and nothing was written.
    Empty,
}

/// Where a segment stands among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) is_last: bool,
    pub(super) is_only: bool,
}

/// Looks at a segment. Only the last one may be without its index, or begun and no more.
pub(super) fn open_segment(files: &dyn Files, base: u64, place: Place) -> Result<Found, Fault> {
    let Place { is_last, is_only } = place;
    let name = segment_name(base);
    let file = files.open(&name)?;
    let file_bytes = file.len()?;
    let header = match Header::read(&*file, &name) {
        // A header is written and synced before anything else is, and before the others leave.
        Err(Fault::Damaged(_)) if is_last && (!is_only || base == 1) && is_unused(&*file)? => {
            files.remove(&name)?;
            files.sync()?;
            return Ok(Found::Empty);
        }
        header => header?,
    };
    if header.base != base {
        return Err(Fault::damaged(&name, 24, "the file has the name of another segment"));
    }
    let mut footer = Footer::read(&*file, &name, header.salt)?;
    if is_last && let Some(found) = &footer {
        // Its writing may have been interrupted. The records say all that it says.
        match found.check(&*file) {
            Err(Fault::Damaged(_)) => footer = None,
            checked => checked?,
        }
    }
    match footer {
        Some(footer) if footer.frame().base == base => {
            Ok(Found::Sealed(Sealed { file, name, header, footer, file_bytes }))
        }
        Some(_) => Err(Fault::damaged(&name, 24, "the index is that of another segment")),
        // What was written anew was whole before it had its name.
        None if is_last && !header.is_rewritten => {
            Ok(Found::Unsealed(Unsealed { file, name, header, file_bytes }))
        }
        None => Err(Fault::damaged(&name, file_bytes, "the segment does not end with its index")),
    }
}

/// Whether nothing was written behind the header.
fn is_unused(file: &dyn File) -> io::Result<bool> {
    let mut bytes = vec![0; 64 << 10];
    let mut position = HEADER_BYTES as u64;
    loop {
        let read = file.read_at(&mut bytes, position)?;
        if bytes[..read].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if read < bytes.len() {
            return Ok(true);
        }
        position += read as u64;
    }
}

/// The last segment of a log that was not closed.
#[derive(Debug)]
pub(super) struct Unsealed {
    pub(super) file: Arc<dyn File>,
    pub(super) name: String,
    pub(super) header: Header,
    pub(super) file_bytes: u64,
}

/// What can be read of it.
#[derive(Debug)]
pub(super) struct Recovered {
    unsealed: Unsealed,
    pub(super) index: OpenIndex,
    pub(super) next: u64,
    pub(super) end: u64,
}

impl Unsealed {
    /// Whether the machine may have lost some of it, as it was not synced.
    pub(super) fn is_uncertain(&self) -> bool {
        let boot = current_boot();
        self.header.is_unsynced && (boot == 0 || boot != self.header.boot)
    }

    /// Reads all batches up to the one that is not whole.
    ///
    /// # Errors
    ///
    /// If that one is damaged rather than unfinished. Where the machine may have lost any part
    /// (`is_uncertain`), that cannot be told, and whatever is not whole was lost.
    pub(super) fn recover(self, seed: HashSeed, is_uncertain: bool) -> Result<Recovered, Fault> {
        let mut scan = Scan::new(&self, seed);
        let stopped_at = scan.run()?;
        if !is_uncertain && let Some(damage) = self.damage(&scan, stopped_at)? {
            return Err(Fault::Damaged(damage));
        }
        let Scan { index, next, end, .. } = scan;
        Ok(Recovered { unsealed: self, index, next, end })
    }

    /// What is wrong where reading stopped; `None` if nothing was there that was ever whole.
    fn damage(&self, scan: &Scan<'_>, stopped_at: u64) -> Result<Option<Damage>, Fault> {
        let told = |what: &str| {
            let what = what.to_owned();
            Some(Damage { file: self.name.clone(), position: stopped_at, what })
        };
        // Room that was reserved and never used is most of it.
        let end = self.end_of_use(stopped_at)?.max(stopped_at + HEAD_BYTES as u64);
        let mut rest = vec![0; end.min(self.file_bytes).saturating_sub(stopped_at) as usize];
        let read = self.file.read_at(&mut rest, stopped_at)?;
        rest.truncate(read);
        let checksum = Checksum::new(self.header.salt);
        // A later batch was written only after this one was synced.
        let mut records = self.records(stopped_at);
        for position in (0..rest.len()).step_by(ALIGNMENT as usize) {
            let Some(head) = rest[position..].first_chunk() else { break };
            let is_later = Head::read(head, &checksum).is_some_and(|it| it.batch > scan.batch + 1);
            if is_later && records.valid_at(stopped_at + position as u64)?.is_some() {
                return Ok(told("a record does not match its checksum, and later ones do"));
            }
        }
        let is_unfinished = is_unfinished(&rest, stopped_at, &checksum)
            || rest.starts_with(&marker(self.header.salt));
        Ok(if is_unfinished { None } else { told("a record does not match its checksum") })
    }

    /// Where only zeros follow, at or after a position.
    fn end_of_use(&self, from: u64) -> Result<u64, Fault> {
        let mut bytes = vec![0; 64 << 10];
        let (mut position, mut end) = (from, from);
        loop {
            let read = self.file.read_at(&mut bytes, position)?;
            if let Some(last) = bytes[..read].iter().rposition(|&byte| byte != 0) {
                end = position + last as u64 + 1;
            }
            if read < bytes.len() {
                return Ok(end);
            }
            position += read as u64;
        }
    }

    pub(super) fn records(&self, position: u64) -> Records {
        let file = Arc::clone(&self.file);
        Records::new(file, &self.name, self.header.salt, position, self.file_bytes)
    }
}

/// Whether a part of the record at the start of `rest` was never written: nothing of it is there, its
/// end is not, or a whole sector of it is missing. `position` is that of `rest` in its file.
fn is_unfinished(rest: &[u8], position: u64, checksum: &Checksum) -> bool {
    let Some(head) = rest.first_chunk::<HEAD_BYTES>() else { return true };
    if head == &[0; HEAD_BYTES] {
        return true;
    }
    let length = Head::read(head, checksum).map_or(HEAD_BYTES as u64, Head::total_bytes) as usize;
    let Some(record) = rest.get(..length) else { return true };
    let first_sector = (SECTOR_BYTES - position % SECTOR_BYTES) as usize;
    let (first, others) = record.split_at(first_sector.min(record.len()));
    let is_missing = |part: &[u8]| !part.is_empty() && part.iter().all(|&byte| byte == 0);
    // The last byte of a head is no zero, nor is that of a record.
    let ends_early = head.ends_with(&[0]) || record.ends_with(&[0]);
    ends_early || is_missing(first) || others.chunks(SECTOR_BYTES as usize).any(is_missing)
}

/// Reads a segment from its start.
#[derive(Debug)]
struct Scan<'a> {
    unsealed: &'a Unsealed,
    seed: HashSeed,
    index: OpenIndex,
    /// What of the batch that is being read is known so far.
    pending: Vec<(Stored, u64)>,
    /// The offset after the last whole batch, where it ends, and its number.
    next: u64,
    end: u64,
    batch: u32,
}

impl<'a> Scan<'a> {
    fn new(unsealed: &'a Unsealed, seed: HashSeed) -> Self {
        Self {
            unsealed,
            seed,
            index: OpenIndex::default(),
            pending: Vec::new(),
            next: unsealed.header.base,
            end: HEADER_BYTES as u64,
            batch: 0,
        }
    }

    /// Reads until something is no whole record; answers where.
    fn run(&mut self) -> Result<u64, Fault> {
        let mut topics = TopicMemory::default();
        let mut records = self.unsealed.records(self.end);
        let mut position = self.end;
        let mut offset = self.next;
        while let Some(stored) = records.valid_at(position)? {
            if stored.head.offset != offset || stored.head.batch != self.batch + 1 {
                break;
            }
            let head = stored.head;
            self.pending.push((stored, position));
            position += head.total_bytes();
            offset += u64::from(!head.holds_keys());
            if head.is_commit() {
                for (stored, position) in std::mem::take(&mut self.pending) {
                    let base = self.unsealed.header.base;
                    let seed = Some(self.seed);
                    let index = &mut self.index;
                    if !add_stored(index, &stored, position, base, seed, &mut topics) {
                        let what = "a record holds what no record holds";
                        return Err(Fault::damaged(&self.unsealed.name, position, what));
                    }
                }
                (self.next, self.end, self.batch) = (offset, position, head.batch);
            }
        }
        Ok(position)
    }
}

/// Adds a record to an index, and its keys if there is a seed to hash them with; false if it makes no
/// sense.
pub(super) fn add_stored(
    index: &mut OpenIndex,
    stored: &Stored,
    position: u64,
    base: u64,
    seed: Option<HashSeed>,
    topics: &mut TopicMemory,
) -> bool {
    let head = stored.head;
    if head.holds_keys() {
        let Some(runs) = stored.carried_keys() else { return false };
        index.add_key_runs(&runs);
        return true;
    }
    let Some(entry) = stored.entry(topics) else { return false };
    let posting = Posting { delta: (head.offset - base) as u32, position: position as u32 };
    index.add(posting, head.appended_at, entry.topics.iter(), entry.is_final);
    if let Some(seed) = seed
        && let Some(key) = stored.key()
    {
        index.add_key(seed.key_id(&key), head.offset, head.appended_at);
    }
    true
}

impl Recovered {
    /// Cuts what is not whole and writes the index.
    fn seal(self, seed: HashSeed) -> Result<Sealed, Fault> {
        let Self { unsealed, index, next, end } = self;
        let Unsealed { file, name, header, .. } = unsealed;
        let open = Open { file, name, header, index, next, end };
        Ok(seal(&open, seed)?)
    }
}

/// Whether to go on in the last segment rather than to begin another: it is small enough to be read
/// at once, and written as the next one would be; or it has no events, and so the next one's name.
fn is_worth_reopening(last: &Sealed, is_unsynced: bool, capacity: u64) -> bool {
    if last.next() == last.base() {
        return true;
    }
    let is_small = last.footer.frame().data_end <= (capacity / 4).min(REOPENED_BYTES_MAX);
    let is_same = last.header.is_unsynced == is_unsynced && !last.header.is_rewritten;
    is_small && is_same && (!is_unsynced || last.header.boot == current_boot())
}

/// Goes on in a segment: reads it and removes its index again. Answers the number of its last batch.
fn reopen(
    last: Sealed,
    seed: HashSeed,
    is_unsynced: bool,
    capacity: u64,
) -> Result<(Open, u32), OpenError> {
    let Sealed { file, name, mut header, footer, .. } = last;
    let frame = footer.frame();
    (header.is_unsynced, header.boot) = (is_unsynced, current_boot());
    let unsealed = Unsealed { file, name, header, file_bytes: frame.data_end };
    let mut scan = Scan::new(&unsealed, seed);
    let stopped_at = scan.run()?;
    if (scan.end, scan.next) != (frame.data_end, frame.next) {
        let what = "a record does not match its checksum";
        return Err(Fault::damaged(&unsealed.name, stopped_at, what).into());
    }
    let Scan { mut index, next, end, batch, .. } = scan;
    let Unsealed { file, name, header, .. } = unsealed;
    index.set_keys(footer.keys(&*file)?);
    file.set_len(end)?;
    file.write_at(&header.write(), 0)?;
    file.reserve(capacity)?;
    file.sync()?;
    Ok((Open { file, name, header, index, next, end }, batch))
}

/// Begins a log.
fn begin(files: &dyn Files) -> Result<Identity, OpenError> {
    let identity = Identity::new()?;
    identity.write(files)?;
    Ok(identity)
}

/// The offsets that the segments begin with, ascending.
pub(super) fn segment_bases(files: &dyn Files) -> io::Result<Vec<u64>> {
    let mut bases: Vec<u64> = files.names()?.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Removes what was being made when a process ended.
fn remove_drafts(files: &dyn Files) -> io::Result<()> {
    for name in files.names()? {
        if name.ends_with(DRAFT_SUFFIX) {
            files.remove(&name)?;
        }
    }
    Ok(())
}

pub(super) fn missing_identity() -> Fault {
    Fault::damaged(super::identity::IDENTITY_NAME, 0, "it is missing, and segments are there")
}

/// Says that a segment that begins with `base` does not follow on the one that ends before `next`.
pub(super) fn hole(next: u64, base: u64) -> Fault {
    let what = match base.checked_sub(1) {
        Some(last) if next <= last => {
            format!("events {next} to {last} are missing between this segment and the one before")
        }
        _ => format!("the segment before goes on up to event {}", next.saturating_sub(1)),
    };
    Fault::damaged(&segment_name(base), 0, what)
}

/// What disks write as a whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// How much is read again to go on in a segment.
const REOPENED_BYTES_MAX: u64 = 1 << 20;
/// What ends the names of files that are being made.
pub(super) const DRAFT_SUFFIX: &str = ".tmp";
