//! Logs that were written once and are kept in `conformance/log`: each can be opened for good, and
//! holds what was put into it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tidings_core::{Bounds, Entry, EventType, Interest, Rights, Selector, Topic};
use tidings_log::disk::{SegmentState, check};
use tidings_log::{
    Body, DiskLog, DiskLogOptions, Durability, EventLog, Key, ReadLimit, Record, Retention,
    RetentionRule,
};

/// A folder of `conformance/log`.
pub(crate) struct Kept {
    folder: PathBuf,
    pub(crate) expected: Value,
}

impl Kept {
    /// All of them, oldest version first.
    pub(crate) fn all() -> Vec<Self> {
        // The fuzz targets, which are another package, use this file too.
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = above.map(|it| it.join("conformance/log")).find(|it| it.is_dir()).unwrap();
        let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
        folders.sort();
        assert!(!folders.is_empty());
        folders.into_iter().map(Self::read).collect()
    }

    fn read(folder: PathBuf) -> Self {
        let expected = fs::read(folder.join("expected.json")).unwrap();
        Self { expected: serde_json::from_slice(&expected).unwrap(), folder }
    }

    /// The names and the contents of its files, in the order of the names.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.join("log")).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        let mut files: Vec<_> = entries.map(read).collect();
        files.sort();
        files
    }

    /// What a log must be told to answer as it did.
    pub(crate) fn options(&self) -> DiskLogOptions {
        let rule = |rule: &Value| RetentionRule {
            topics: Selector::parse(rule["topics"].as_str().unwrap()).unwrap(),
            events_max: rule["events_max"].as_u64(),
            age_max_ms: None,
        };
        let options = &self.expected["options"];
        let retention = Retention {
            events_max: u64::MAX,
            bytes_max: 1 << 30,
            age_max_ms: options["age_max_ms"].as_u64().unwrap(),
            rules: options["rules"].as_array().unwrap().iter().map(rule).collect(),
        };
        // The tests ask what was read and written, not what a power cut leaves.
        DiskLogOptions { retention, durability: Durability::Os, ..DiskLogOptions::default() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.expected["now"].as_u64().unwrap()
    }

    fn copy(&self) -> tempfile::TempDir {
        write_files(&self.files())
    }
}

/// Writes files into a directory of their own.
pub(crate) fn write_files(files: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

pub(crate) fn interest(texts: &[&str]) -> Interest {
    let selectors = texts.iter().map(|text| Selector::parse(text).unwrap()).collect();
    Interest::new(selectors, Vec::new(), Rights::everything())
}

/// An event as `expected.json` describes it.
pub(crate) fn described(entry: &Entry<Body>) -> Value {
    json!({
        "offset": entry.offset,
        "topics": entry.topics.iter().map(Topic::as_str).collect::<Vec<_>>(),
        "type": entry.event_type.as_ref().map(EventType::as_str),
        "private": entry.private,
        "final": entry.is_final,
        "retry_ms": entry.payload.retry_ms,
        "data": &*entry.payload.data,
        "appended_at": entry.payload.appended_at,
    })
}

fn read_all(log: &DiskLog, interest: &Interest) -> Vec<Value> {
    let Bounds { oldest, next } = log.bounds();
    let (mut from, mut all) = (oldest, Vec::new());
    while from < next {
        let step = log.read(from, next, interest, NO_LIMIT).unwrap();
        all.extend(step.entries.iter().map(described));
        from = step.next;
    }
    all
}

/// Compares everything that can be asked of a log with what was put into it.
#[track_caller]
fn check_answers(log: &DiskLog, kept: &Kept) {
    let expected = &kept.expected;
    let bounds = log.bounds();
    assert_eq!(expected["epoch"], log.epoch().to_string());
    assert_eq!(
        (&expected["oldest"], &expected["next"]),
        (&json!(bounds.oldest), &json!(bounds.next))
    );
    let events = expected["events"].as_array().unwrap();
    assert_eq!(&read_all(log, &interest(&["*"])), events);
    let topics = events.iter().flat_map(|event| event["topics"].as_array().unwrap());
    for topic in topics.map(|topic| topic.as_str().unwrap()) {
        let of_topic = |event: &&Value| event["topics"].as_array().unwrap().contains(&json!(topic));
        let of_topic: Vec<Value> = events.iter().filter(of_topic).cloned().collect();
        assert_eq!(read_all(log, &interest(&[topic])), of_topic, "{topic}");
        let step = log.seek(bounds.next, 1, &interest(&[topic]), NO_LIMIT).unwrap();
        assert_eq!(step.lowest, of_topic.last().and_then(|event| event["offset"].as_u64()));
        let is_finished = log.finished(&Topic::parse(topic).unwrap());
        assert_eq!(is_finished, number_of(&expected["finished"], topic), "{topic}");
        let dropped = log.dropped(&interest(&[topic]), 1);
        assert_eq!(dropped, number_of(&expected["dropped"], topic), "{topic}");
    }
    check_keys(log, expected["keys"].as_object().unwrap(), kept.now());
}

/// What was published with a key is not appended again.
#[track_caller]
fn check_keys(log: &DiskLog, keys: &Map<String, Value>, now: u64) {
    let next = log.bounds().next;
    for (key, offset) in keys {
        let again = Record {
            key: Some(Key::parse(key).unwrap()),
            ..Record::new([Topic::parse("again").unwrap()], "")
        };
        let outcome = log.append(vec![vec![again]], now).unwrap().outcomes.remove(0).unwrap();
        let offsets: Vec<u64> = outcome.iter().collect();
        assert_eq!((json!(offsets), outcome.repeated()), (json!([offset]), 1), "{key}");
    }
    assert_eq!(log.bounds().next, next);
}

fn number_of(numbers: &Value, name: &str) -> Option<u64> {
    numbers.get(name).and_then(Value::as_u64)
}

#[test]
fn every_kept_log_holds_what_was_put_into_it() {
    for kept in Kept::all() {
        println!("{}", kept.folder.display());
        let directory = kept.copy();
        let report = check(directory.path()).unwrap();
        assert_eq!(report.damages, []);
        assert_eq!(
            report.epoch.map(|epoch| json!(epoch.to_string())).as_ref(),
            kept.expected.get("epoch")
        );
        let states: Vec<SegmentState> = report.segments.iter().map(|it| it.state).collect();
        assert_eq!(states.last(), Some(&SegmentState::Unsealed), "it was not closed");
        assert!(states.contains(&SegmentState::Sealed));
        for time in ["first", "second", "third"] {
            println!("opened for the {time} time");
            let log = DiskLog::open(directory.path(), kept.options()).unwrap();
            log.trim(kept.now());
            check_answers(&log, &kept);
        }
        assert_eq!(check(directory.path()).unwrap().damages, []);
    }
}

#[test]
fn every_kept_log_is_gone_on_with() {
    for kept in Kept::all() {
        let directory = kept.copy();
        let mut expected = kept.expected["events"].as_array().unwrap().clone();
        for round in 0..3 {
            let log = DiskLog::open(directory.path(), kept.options()).unwrap();
            log.trim(kept.now());
            let record = Record::new([Topic::parse("more").unwrap()], format!("round {round}"));
            let appended = log.append(vec![vec![record]], kept.now()).unwrap();
            expected.extend(appended.entries.iter().map(described));
            assert_eq!(read_all(&log, &interest(&["*"])), expected);
        }
        let offsets: Vec<u64> = expected.iter().filter_map(|it| it["offset"].as_u64()).collect();
        assert!(offsets.is_sorted_by(|one, other| one < other), "{offsets:?}");
    }
}

pub(crate) const NO_LIMIT: ReadLimit = ReadLimit {
    events_max: usize::MAX,
    bytes_max: usize::MAX,
    candidates_max: usize::MAX,
    comparisons_max: usize::MAX,
};
