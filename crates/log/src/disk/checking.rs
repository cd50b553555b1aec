//! Looking at every byte of a log, and saving what can be saved.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidings_core::Epoch;

use super::damage::{Damage, Fault};
use super::files::{Directory, File, Files};
use super::identity::{IDENTITY_NAME, Identity};
use super::index::{Footer, Frame, OpenIndex};
use super::opening::{
    DRAFT_SUFFIX, Found, OpenError, Place, Unsealed, add_stored, hole, missing_identity,
    open_segment, segment_bases,
};
use super::segment::{HEADER_BYTES, Header, Records, Sealed, segment_name};
use super::stored::{ALIGNMENT, Checksum, HEAD_BYTES, Stored, TopicMemory};
use crate::keys::HashSeed;
use crate::random::{random_bits, random_epoch};

/// What a log holds, and what is wrong with it.
#[derive(Debug)]
pub struct CheckReport {
    /// Which life of the log it is; `None` if that cannot be read.
    pub epoch: Option<Epoch>,
    /// The segments, oldest first.
    pub segments: Vec<CheckedSegment>,
    /// Everything that is wrong; empty for a log that is whole.
    pub damages: Vec<Damage>,
}

/// What is known of one segment.
#[derive(Debug)]
pub struct CheckedSegment {
    /// Its file, by its name in the directory of the log.
    pub file: String,
    /// The offset of the first event it may hold.
    pub base: u64,
    /// The offset after its last event.
    pub next: u64,
    /// How many events it holds.
    pub events: u64,
    /// The size of its file.
    pub bytes: u64,
    /// How it was left.
    pub state: SegmentState,
}

/// How a segment was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// With its index: nothing more is written to it.
    Sealed,
    /// Without: a process ended without closing the log. Opening the log mends that.
    Unsealed,
    /// In a way in which no process leaves it.
    Damaged,
}

/// What a repair did.
#[derive(Debug)]
pub struct RepairReport {
    /// What was wrong.
    pub damages: Vec<Damage>,
    /// Events that were lost.
    pub lost: Vec<LostRange>,
    /// The files as they were, by their new names in the directory of the log.
    pub set_aside: Vec<String>,
    /// The new life of the log, if events may have been lost: clients are told of a gap.
    pub epoch: Option<Epoch>,
}

/// Offsets of events that could not be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRange {
    /// The first of them.
    pub first: u64,
    /// The last of them; `None` if it is not known.
    pub last: Option<u64>,
}

/// Reads the whole log in a directory and holds everything against its checksum. Changes nothing.
///
/// # Errors
///
/// If the directory or a file in it cannot be read, or a process has the log open. Damage is no error,
/// it is reported.
pub fn check(directory: &Path) -> Result<CheckReport, OpenError> {
    check_files(&*lock(directory)?)
}

/// Makes a damaged log fit to be opened: what is whole is kept, the files as they were are set aside
/// beside it. Does nothing to a log that is whole.
///
/// # Errors
///
/// If the directory or a file in it cannot be read or written, or a process has the log open.
pub fn repair(directory: &Path) -> Result<RepairReport, OpenError> {
    repair_files(&*lock(directory)?)
}

fn lock(directory: &Path) -> Result<Arc<dyn Files>, OpenError> {
    if !directory.is_dir() {
        let what = format!("there is no log in {}", directory.display());
        return Err(OpenError::Io(io::Error::new(io::ErrorKind::NotFound, what)));
    }
    Ok(Arc::new(Directory::lock(directory).map_err(|error| OpenError::directory(&error))?))
}

pub(super) fn check_files(files: &dyn Files) -> Result<CheckReport, OpenError> {
    let mut damages = Vec::new();
    let bases = segment_bases(files)?;
    let identity = look(Identity::read(files), &mut damages)?.flatten();
    if identity.is_none() && damages.is_empty() && !bases.is_empty() {
        damages.extend(damage_of(missing_identity())?);
    }
    let seed = identity.map(|identity| identity.seed);
    let mut segments: Vec<CheckedSegment> = Vec::new();
    // Where the segment before ends, if that is known.
    let mut next = None;
    for (place, &base) in bases.iter().enumerate() {
        let place = Place { is_last: place + 1 == bases.len(), is_only: bases.len() == 1 };
        let found = look(open_segment(&ReadOnly(files), base, place), &mut damages)?;
        let is_there = matches!(found, Some(Found::Sealed(_) | Found::Unsealed(_)));
        if let Some(next) = next.take().filter(|&next| is_there && next != base) {
            damages.extend(damage_of(hole(next, base))?);
        }
        let checked = match found {
            Some(Found::Empty) => continue,
            Some(Found::Sealed(sealed)) => {
                damages.extend(check_sealed(&sealed, seed)?);
                next = Some(sealed.next());
                checked_segment(&sealed.name, &sealed.footer, sealed.file_bytes)
            }
            Some(Found::Unsealed(unsealed)) => check_unsealed(unsealed, seed, &mut damages)?,
            None => {
                let name = segment_name(base);
                let bytes = files.open(&name)?.len()?;
                let state = SegmentState::Damaged;
                CheckedSegment { file: name, base, next: base, events: 0, bytes, state }
            }
        };
        segments.push(checked);
    }
    for segment in &mut segments {
        if damages.iter().any(|damage| damage.file == segment.file) {
            segment.state = SegmentState::Damaged;
        }
    }
    Ok(CheckReport { epoch: identity.map(|identity| identity.epoch), segments, damages })
}

/// Passes reading on and leaves everything else.
#[derive(Debug)]
struct ReadOnly<'a>(&'a dyn Files);

impl Files for ReadOnly<'_> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name)
    }
    fn create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn is_same(&self) -> io::Result<bool> {
        self.0.is_same()
    }
}

fn checked_segment(name: &str, footer: &Footer, bytes: u64) -> CheckedSegment {
    let Frame { base, next, .. } = footer.frame();
    let (file, events, state) = (name.to_owned(), footer.events(), SegmentState::Sealed);
    CheckedSegment { file, base, next, events, bytes, state }
}

/// Reads all records of a sealed segment and makes its index anew, which must be the one it has.
fn check_sealed(sealed: &Sealed, seed: Option<HashSeed>) -> Result<Vec<Damage>, OpenError> {
    let frame = sealed.footer.frame();
    let mut damages = Vec::new();
    let mut index = OpenIndex::default();
    let mut memory = TopicMemory::default();
    let mut records = sealed.records(HEADER_BYTES as u64);
    loop {
        let position = records.position();
        match records.next() {
            Ok(None) => break,
            Ok(Some(stored)) => {
                let is_within = (frame.base..=frame.next).contains(&stored.head.offset);
                let index = &mut index;
                let is_sound = is_within
                    && add_stored(index, &stored, position, frame.base, seed, &mut memory);
                if !is_sound {
                    let what = "a record holds what no record holds here".to_owned();
                    damages.push(Damage { file: sealed.name.clone(), position, what });
                }
            }
            Err(fault) => {
                damages.extend(damage_of(fault)?);
                return Ok(damages);
            }
        }
    }
    let Some(seed) = seed.filter(|_| damages.is_empty()) else { return Ok(damages) };
    match sealed.footer.remembered(&*sealed.file) {
        Ok(remembered) => {
            // Keys and what was dropped outlive the events of a segment that was written anew.
            index.set_keys(remembered.keys);
            remembered.dropped.into_iter().for_each(|(topic, at)| index.add_dropped(topic, at));
        }
        Err(fault) => {
            damages.extend(damage_of(fault)?);
            return Ok(damages);
        }
    }
    let mut expected = Vec::new();
    index.write_footer(frame, seed, &mut expected);
    let mut found = vec![0; expected.len()];
    let read = sealed.file.read_at(&mut found, frame.data_end)?;
    let is_whole = sealed.file_bytes == frame.data_end + expected.len() as u64;
    if found[..read] != expected[..] || !is_whole {
        let place = found.iter().zip(&expected).position(|(one, other)| one != other);
        let position = frame.data_end + place.unwrap_or(read) as u64;
        let what = "the index is not that of the records".to_owned();
        damages.push(Damage { file: sealed.name.clone(), position, what });
    }
    Ok(damages)
}

fn check_unsealed(
    unsealed: Unsealed,
    seed: Option<HashSeed>,
    damages: &mut Vec<Damage>,
) -> Result<CheckedSegment, OpenError> {
    let (file, base, bytes) = (unsealed.name.clone(), unsealed.header.base, unsealed.file_bytes);
    let is_uncertain = unsealed.is_uncertain();
    let recovered = unsealed.recover(seed.unwrap_or(HashSeed(0, 0)), is_uncertain);
    let (next, events) =
        look(recovered, damages)?.map_or((base, 0), |it| (it.next, it.index.events()));
    Ok(CheckedSegment { file, base, next, events, bytes, state: SegmentState::Unsealed })
}

/// Puts damage on the list; other faults are errors.
fn look<T>(found: Result<T, Fault>, damages: &mut Vec<Damage>) -> Result<Option<T>, OpenError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault) => {
            damages.extend(damage_of(fault)?);
            Ok(None)
        }
    }
}

fn damage_of(fault: Fault) -> Result<Option<Damage>, OpenError> {
    match fault {
        Fault::Damaged(damage) => Ok(Some(damage)),
        Fault::Io(error) => Err(OpenError::Io(error)),
        Fault::Newer { file, version } => Err(OpenError::Newer { file, version }),
    }
}

pub(super) fn repair_files(files: &dyn Files) -> Result<RepairReport, OpenError> {
    let found = check_files(files)?;
    let mut report = RepairReport {
        damages: found.damages,
        lost: Vec::new(),
        set_aside: Vec::new(),
        epoch: None,
    };
    if report.damages.is_empty() {
        return Ok(report);
    }
    let is_damaged = |name: &str| report.damages.iter().any(|damage: &Damage| damage.file == name);
    let identity = Identity::read(files).ok().flatten();
    // Without the seed, the remembered keys mean nothing.
    let fresh = Identity::new()?;
    let seed = identity.map_or(fresh.seed, |identity| identity.seed);
    let mut next_base = None;
    let damaged: Vec<bool> = found
        .segments
        .iter()
        .map(|segment| is_damaged(&segment.file) || identity.is_none())
        .collect();
    // From the newest on, so that each knows where the one after it begins.
    for (segment, is_damaged) in found.segments.iter().zip(damaged).rev() {
        let meets_next = next_base.is_none_or(|next| next == segment.next);
        if is_damaged || (!meets_next && segment.state == SegmentState::Sealed) {
            let end = next_base;
            save_segment(files, segment, end, seed, identity.is_none(), &mut report)?;
        }
        next_base = Some(segment.base);
    }
    report.lost.reverse();
    if !report.lost.is_empty() || identity.is_none() {
        let epoch = random_epoch()?;
        if files.names()?.iter().any(|name| name == IDENTITY_NAME) && identity.is_none() {
            set_aside(files, IDENTITY_NAME, &mut report)?;
        }
        Identity { epoch, seed }.write(files)?;
        report.epoch = Some(epoch);
    }
    Ok(report)
}

/// Writes a segment anew with what is whole of it, and notes what is lost.
fn save_segment(
    files: &dyn Files,
    segment: &CheckedSegment,
    next_base: Option<u64>,
    seed: HashSeed,
    is_reborn: bool,
    report: &mut RepairReport,
) -> Result<(), OpenError> {
    let file = files.open(&segment.file)?;
    let bytes = file.len()?;
    let header = Header::read(&*file, &segment.file).ok();
    let footer =
        header.and_then(|header| Footer::read(&*file, &segment.file, header.salt).ok().flatten());
    let data_end = footer.as_ref().map_or(bytes, |footer| footer.frame().data_end);
    let new = Header {
        salt: random_bits()?,
        base: segment.base,
        boot: header.map_or(0, |header| header.boot),
        is_unsynced: header.is_some_and(|header| header.is_unsynced),
        is_rewritten: true,
    };
    let checksum = Checksum::new(new.salt);
    let mut out = new.write().to_vec();
    let mut index = OpenIndex::default();
    let mut memory = TopicMemory::default();
    // Of a segment that was written anew, what is missing may have been dropped by a rule.
    let is_dense = header.is_none_or(|header| !header.is_rewritten);
    let mut expected = segment.base;
    let mut batch = 0;
    if let Some(header) = header {
        let mut records = Records::new(
            Arc::clone(&file),
            &segment.file,
            header.salt,
            HEADER_BYTES as u64,
            data_end,
        );
        let mut salvage = Salvage { records: &mut records, end: data_end };
        for stored in salvage.all(footer.is_some())? {
            let offset = stored.head.offset;
            let is_event = !stored.head.holds_keys();
            let end = next_base.map_or(u64::MAX, |next| next + u64::from(!is_event));
            let is_in_place = (expected..end).contains(&offset);
            if !is_in_place || (is_event && stored.entry(&mut memory).is_none()) {
                continue;
            }
            batch += 1;
            let place = out.len() as u64;
            stored.write_alone(batch, &checksum, &mut out);
            add_stored(&mut index, &stored, place, segment.base, Some(seed), &mut memory);
            if is_event {
                if offset > expected && is_dense {
                    report.lost.push(LostRange { first: expected, last: Some(offset - 1) });
                }
                expected = offset + 1;
            }
        }
    }
    let end = next_base.or(footer.as_ref().map(|footer| footer.frame().next));
    match (&footer, end) {
        (Some(footer), _) => {
            let next = footer.frame().next;
            if is_dense && expected < next {
                report.lost.push(LostRange { first: expected, last: Some(next - 1) });
            } else if !is_dense && footer.events() > index.events() {
                report.lost.push(LostRange { first: segment.base, last: Some(next - 1) });
            }
            if let Some(end) = end.filter(|&end| end > next) {
                report.lost.push(LostRange { first: next, last: Some(end - 1) });
            }
        }
        (None, Some(end)) if expected < end => {
            report.lost.push(LostRange { first: expected, last: Some(end - 1) });
        }
        (None, Some(_)) => {}
        (None, None) => report.lost.push(LostRange { first: expected, last: None }),
    }
    if let Some(footer) = &footer
        && let Ok(remembered) = footer.remembered(&*file)
    {
        // Without the identity they are hashed anew from the records.
        if !is_reborn {
            index.set_keys(remembered.keys);
        }
        remembered.dropped.into_iter().for_each(|(topic, at)| index.add_dropped(topic, at));
    }
    let frame = Frame {
        salt: new.salt,
        base: segment.base,
        next: end.unwrap_or(expected).max(expected),
        data_end: out.len() as u64,
    };
    index.write_footer(frame, seed, &mut out);
    let draft = format!("{}{DRAFT_SUFFIX}", segment.file);
    let saved = files.create(&draft)?;
    saved.write_at(&out, 0)?;
    saved.sync()?;
    set_aside(files, &segment.file, report)?;
    files.rename(&draft, &segment.file)?;
    files.sync()?;
    Ok(())
}

/// Finds valid records wherever they stand.
struct Salvage<'a> {
    records: &'a mut Records,
    end: u64,
}

impl Salvage<'_> {
    /// All valid records, but in a segment that was not closed for those of a batch at the end that is
    /// not there to its end: nobody was told that it was.
    fn all(&mut self, is_sealed: bool) -> Result<Vec<Stored>, OpenError> {
        let mut all = Vec::new();
        let mut position = HEADER_BYTES as u64;
        while let Some((stored, at)) = self.next_valid(position)? {
            position = at + stored.head.total_bytes();
            all.push(stored);
        }
        let is_unfinished = |last: &mut Stored| !is_sealed && !last.head.is_commit();
        while all.pop_if(is_unfinished).is_some() {}
        Ok(all)
    }

    /// The next valid record at or after a position, and where it stands.
    fn next_valid(&mut self, position: u64) -> Result<Option<(Stored, u64)>, OpenError> {
        let mut position = position;
        while position + HEAD_BYTES as u64 <= self.end {
            match self.records.valid_at(position) {
                Ok(Some(stored)) => return Ok(Some((stored, position))),
                Ok(None) => position += ALIGNMENT,
                Err(fault) => {
                    damage_of(fault)?;
                    position += ALIGNMENT;
                }
            }
        }
        Ok(None)
    }
}

/// Keeps a file under another name.
fn set_aside(files: &dyn Files, name: &str, report: &mut RepairReport) -> io::Result<()> {
    let taken = files.names()?;
    let free = (1..).map(|number| format!("{name}.damaged-{number}"));
    let aside = free.into_iter().find(|aside| !taken.contains(aside)).unwrap_or_default();
    files.rename(name, &aside)?;
    report.set_aside.push(aside);
    Ok(())
}
