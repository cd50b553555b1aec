//! A log in a directory of its own, opened again and again.

use std::fs;
use std::path::{Path, PathBuf};

use tidings_core::{Bounds, Selector, Topic};
use tidings_log::{
    DiskLog, DiskLogOptions, Durability, EventLog, Key, KeyWindow, Record, Retention, RetentionRule,
};

use crate::kept::{NO_LIMIT, interest};

/// Where a log is.
pub(crate) struct LogDirectory(tempfile::TempDir);

impl LogDirectory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn open(&self, options: DiskLogOptions) -> DiskLog {
        DiskLog::open(self.path(), options).unwrap()
    }

    /// The files as they are now: what a kill would leave.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for path in self.files() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "log");
        let mut segments: Vec<PathBuf> = self.files().into_iter().filter(is_segment).collect();
        segments.sort();
        segments
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// Keeps events for a second and keys for long.
pub(crate) fn options(segment_bytes: u32) -> DiskLogOptions {
    DiskLogOptions {
        retention: Retention {
            events_max: u64::MAX,
            bytes_max: 1 << 40,
            age_max_ms: 1_000,
            rules: Vec::new(),
        },
        keys: KeyWindow { age_max_ms: 1_000_000, runs_max: 1_000_000 },
        durability: Durability::Os,
        segment_bytes: Some(segment_bytes),
    }
}

pub(crate) fn rule(
    topics: &str,
    events_max: Option<u64>,
    age_max_ms: Option<u64>,
) -> RetentionRule {
    RetentionRule { topics: Selector::parse(topics).unwrap(), events_max, age_max_ms }
}

pub(crate) fn record(topic: &str, data: &(impl ToString + ?Sized)) -> Record {
    Record::new([Topic::parse(topic).unwrap()], data.to_string())
}

pub(crate) fn keyed(key: &str) -> Record {
    Record { key: Some(Key::parse(key).unwrap()), ..record("keyed", "") }
}

/// The offsets of the records of one publish.
pub(crate) fn publish(log: &DiskLog, records: Vec<Record>, now: u64) -> Vec<u64> {
    log.append(vec![records], now).unwrap().outcomes.remove(0).unwrap().iter().collect()
}

/// Offset and data of everything that is kept.
pub(crate) fn contents(log: &DiskLog) -> Vec<(u64, String)> {
    let Bounds { oldest, next } = log.bounds();
    let (mut from, mut all) = (oldest, Vec::new());
    while from < next {
        let step = log.read(from, next, &interest(&["*"]), NO_LIMIT).unwrap();
        all.extend(step.entries.iter().map(|it| (it.offset, it.payload.data.to_string())));
        from = step.next;
    }
    all
}
