//! What the fuzz targets `log_damage` and `log_forged` check. The stable tests replay their corpus
//! through the same functions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;
use tidings_core::{Bounds, Entry, Epoch, Interest, Topic};
use tidings_log::disk::{CheckReport, check, repair};
use tidings_log::{Body, DiskLog, DiskLogOptions, EventLog, Record};

use crate::kept::{Kept, NO_LIMIT, described, interest, write_files};
use crate::layout::mend;

/// Checks what a damaged log answers: nothing that was not published, and everything if nothing is told to be
/// wrong with it.
///
/// The first byte says how the log is opened. Each eight that follow are one damage, see
/// [`Damage::read`].
pub(crate) fn check_damage(input: &[u8]) {
    let Some((&way, damages)) = input.split_first() else { return };
    let original = &ORIGINALS[usize::from(way >> 4) % ORIGINALS.len()];
    let damages: Vec<Damage> =
        damages.as_chunks::<8>().0.iter().take(8).map(Damage::read).collect();
    let mut files = original.files.clone();
    damages.iter().for_each(|damage| damage.befall(&mut files));
    let is_small = damages.len() <= 2 && damages.iter().all(|it| it.kind == Kind::Flip);

    let directory = write_files(&files);
    let is_told = !check(directory.path()).unwrap().damages.is_empty();
    match DiskLog::open(directory.path(), original.options(way)) {
        Ok(log) => {
            let outcome = read_in_every_way(&log, original);
            assert!(is_told || outcome.is_ok(), "check says nothing of {outcome:?}");
            if let (Ok(events), true) = (&outcome, is_small && log.epoch() == original.epoch) {
                assert_eq!(events, &original.events, "a flipped bit does harm in silence");
                assert_eq!(log.bounds().next, original.next);
            }
            check_append(&log, outcome.is_ok());
        }
        Err(error) => assert!(is_told, "check says nothing of {error}"),
    }
    assert!(is_told || check(directory.path()).unwrap().damages.is_empty());

    let directory = write_files(&files);
    let repaired = repair(directory.path()).unwrap();
    assert_eq!(!repaired.damages.is_empty(), is_told);
    assert_eq!(check(directory.path()).unwrap().damages, []);
    let log = DiskLog::open(directory.path(), original.options(way)).unwrap();
    read_in_every_way(&log, original).unwrap();
    assert!(repaired.lost.is_empty() || log.epoch() != original.epoch);
    check_append(&log, true);
}

/// Checks that a file whose sums are right, and that says anything, makes nothing panic or grow without
/// bound.
///
/// The first byte says how the log is opened, the second which file is put in place of one; the file
/// follows.
pub(crate) fn check_forged(input: &[u8]) {
    let [way, place, forged @ ..] = input else { return };
    let original = &ORIGINALS[usize::from(way >> 4) % ORIGINALS.len()];
    let mut files = original.files.clone();
    let place = usize::from(*place) % files.len();
    let (name, bytes) = &mut files[place];
    *bytes = forged.to_vec();
    mend(name, bytes);
    // Only what stands behind the forged file may be left out.
    files.truncate(if way & 4 == 0 { files.len() } else { place + 1 });
    if !files.iter().any(|(name, _)| name == "identity") {
        files.push(original.files[original.files.len() - 1].clone());
    }
    let directory = write_files(&files);
    let _ = check(directory.path());
    exercise(&directory, &original.options(*way));
    let directory = write_files(&files);
    if repair(directory.path()).is_ok() {
        exercise(&directory, &original.options(*way));
        let _: Option<CheckReport> = check(directory.path()).ok();
    }
}

/// A kept log, and all that is in its files.
struct Original {
    kept: Kept,
    files: Vec<(String, Vec<u8>)>,
    epoch: Epoch,
    next: u64,
    events: BTreeMap<u64, Value>,
    topics: Vec<Topic>,
}

static ORIGINALS: LazyLock<Vec<Original>> =
    LazyLock::new(|| Kept::all().into_iter().map(Original::new).collect());

impl Original {
    fn new(kept: Kept) -> Self {
        let files = kept.files();
        let directory = write_files(&files);
        let log = DiskLog::open(directory.path(), options_without_bounds(&kept)).unwrap();
        let Bounds { oldest, next } = log.bounds();
        let entries = log.read(oldest, next, &interest(&["*"]), NO_LIMIT).unwrap().entries;
        let events = entries.iter().map(|it| (it.offset, described(it))).collect();
        let mut topics: Vec<Topic> =
            entries.iter().flat_map(|entry| entry.topics.iter().cloned()).collect();
        topics.sort();
        topics.dedup();
        let epoch = log.epoch();
        Self { kept, files, epoch, next, events, topics }
    }

    /// With the rules of the log or without, and so small segments that it soon begins others.
    fn options(&self, way: u8) -> DiskLogOptions {
        let mut options = options_without_bounds(&self.kept);
        if way & 1 != 0 {
            options.retention.rules = self.kept.options().retention.rules;
        }
        options.segment_bytes = Some(if way & 2 != 0 { 2_048 } else { 64 << 10 });
        options
    }
}

fn options_without_bounds(kept: &Kept) -> DiskLogOptions {
    let mut options = kept.options();
    options.retention.age_max_ms = u64::MAX;
    options.retention.rules = Vec::new();
    options
}

/// What can happen to the files of a log.
#[derive(Debug, Clone, Copy)]
struct Damage {
    kind: Kind,
    file: u8,
    other_file: u8,
    place: u16,
    length: u16,
    value: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A bit is another.
    Flip,
    /// Bytes are zeros, or all the same.
    Fill,
    /// The end is missing.
    Cut,
    /// There is more, and all the same.
    Extend,
    /// Bytes of one file stand in another as well.
    Misplace,
    /// A file is a copy of another.
    Replace,
    Remove,
    /// Bytes are missing, and what follows has moved up.
    Close,
}

impl Damage {
    fn read(bytes: &[u8; 8]) -> Self {
        let [kind, file, other_file, place, place_high, length, length_high, value] = *bytes;
        let kinds = [
            Kind::Flip,
            Kind::Fill,
            Kind::Cut,
            Kind::Extend,
            Kind::Misplace,
            Kind::Replace,
            Kind::Remove,
            Kind::Close,
        ];
        Self {
            kind: kinds[usize::from(kind) % kinds.len()],
            file,
            other_file,
            place: u16::from_le_bytes([place, place_high]),
            length: u16::from_le_bytes([length, length_high]),
            value,
        }
    }

    fn befall(self, files: &mut Vec<(String, Vec<u8>)>) {
        if files.is_empty() {
            return;
        }
        let file = usize::from(self.file) % files.len();
        let other = files[usize::from(self.other_file) % files.len()].1.clone();
        let bytes = &mut files[file].1;
        let place = usize::from(self.place) % (bytes.len() + 1);
        let end = (place + usize::from(self.length)).min(bytes.len());
        match self.kind {
            Kind::Flip => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (self.value % 8);
                }
            }
            Kind::Fill => bytes[place..end].fill(self.value),
            Kind::Cut => bytes.truncate(place),
            Kind::Extend => bytes.resize(bytes.len() + usize::from(self.length), self.value),
            Kind::Misplace => {
                let from = (usize::from(self.value) * 8).min(other.len());
                let length = (end - place).min(other.len() - from);
                bytes[place..place + length].copy_from_slice(&other[from..from + length]);
            }
            Kind::Replace => *bytes = other,
            Kind::Remove => drop(files.remove(file)),
            Kind::Close => drop(bytes.drain(place..end)),
        }
    }
}

/// Reads everything by all ways there are, and checks that all of it was published. `Err` says what cannot
/// be read.
fn read_in_every_way(log: &DiskLog, original: &Original) -> Result<BTreeMap<u64, Value>, String> {
    let mut failure = None;
    let events = match read(log, &interest(&["*"])) {
        Ok(events) => events,
        Err(error) => {
            failure = Some(error);
            BTreeMap::new()
        }
    };
    for (offset, event) in &events {
        assert_eq!(original.events.get(offset), Some(event), "nobody published that");
    }
    for topic in &original.topics {
        let of_topic = interest(&[topic.as_str()]);
        let has_topic = |event: &&Value| {
            event["topics"].as_array().is_some_and(|it| it.iter().any(|it| it == topic.as_str()))
        };
        match read(log, &of_topic) {
            Ok(found) if failure.is_none() => {
                assert!(found.values().eq(events.values().filter(has_topic)), "{topic}");
            }
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
        match log.seek(log.bounds().next, 1, &of_topic, NO_LIMIT) {
            Ok(step) if failure.is_none() => {
                let last = events.iter().rev().find(|(_, event)| has_topic(event));
                assert_eq!(step.lowest, last.map(|(offset, _)| *offset), "{topic}");
            }
            Ok(_) => {}
            Err(error) => failure = Some(error.to_string()),
        }
        if let Some(offset) = log.finished(topic) {
            assert_eq!(original.events[&offset]["final"], true);
        }
    }
    failure.map_or(Ok(events), Err)
}

fn read(log: &DiskLog, interest: &Interest) -> Result<BTreeMap<u64, Value>, String> {
    let entries = read_entries(log, interest)?;
    let offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
    assert!(offsets.is_sorted_by(|one, other| one < other), "out of order: {offsets:?}");
    Ok(entries.iter().map(|entry| (entry.offset, described(entry))).collect())
}

/// Reads on to the end, which is reached.
fn read_entries(log: &DiskLog, interest: &Interest) -> Result<Vec<Entry<Body>>, String> {
    let Bounds { oldest, next } = log.bounds();
    let (mut from, mut entries) = (oldest, Vec::new());
    while from < next {
        let step = log.read(from, next, interest, NO_LIMIT).map_err(|it| it.to_string())?;
        assert!(step.next > from, "no progress");
        entries.extend(step.entries);
        from = step.next;
    }
    Ok(entries)
}

/// Checks that what is appended stands behind everything else, and can be read.
#[track_caller]
fn check_append(log: &DiskLog, is_readable: bool) {
    let next = log.bounds().next;
    let topic = Topic::parse("appended").unwrap();
    let record = || Record::new([topic.clone()], "x".repeat(900));
    for offset in next..next + 3 {
        let appended = log.append(vec![vec![record()]], NOW).unwrap();
        assert_eq!(appended.entries[0].offset, offset);
    }
    log.trim(NOW);
    let found = read(log, &interest(&["appended"]));
    if is_readable {
        assert!(found.unwrap().into_keys().eq(next..next + 3));
    }
}

/// Asks a log everything, whatever it answers.
fn exercise(directory: &TempDir, options: &DiskLogOptions) {
    for _ in 0..2 {
        let Ok(log) = DiskLog::open(directory.path(), options.clone()) else { return };
        let Bounds { oldest, next } = log.bounds();
        for texts in [&["*"][..], &["imports"], &["states/a", "jobs/7"], &["orders/{number}"]] {
            let interest = interest(texts);
            let _ = read_entries(&log, &interest);
            let _ = log.read(oldest.midpoint(next), next, &interest, NO_LIMIT);
            let _ = log.seek(next, 3, &interest, NO_LIMIT);
            let _ = log.dropped(&interest, oldest);
        }
        let topic = Topic::parse("jobs/7").unwrap();
        let _ = log.finished(&topic);
        for _ in 0..2 {
            let _ = log.append(vec![vec![Record::new([topic.clone()], "x".repeat(900))]], NOW);
            log.trim(NOW);
        }
    }
}

/// Later than anything in the kept logs.
const NOW: u64 = 1_800_000_000_000;
