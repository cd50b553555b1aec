use super::*;
use crate::conformance::{everything, record};

fn open(directory: &Path, options: DiskLogOptions) -> DiskLog {
    DiskLog::open(directory, options).unwrap()
}

#[test]
fn the_disk_log_conforms() {
    for segment_bytes in [Some(8 << 10), None] {
        let directories = tempfile::tempdir().unwrap();
        let mut count = 0;
        let count = std::cell::RefCell::new(&mut count);
        crate::conformance::check(|retention, keys| {
            **count.borrow_mut() += 1;
            let directory = directories.path().join(count.borrow().to_string());
            let durability = Durability::Os;
            let options = DiskLogOptions { retention, keys, durability, segment_bytes };
            Box::new(open(&directory, options))
        });
    }
}

#[test]
fn a_directory_is_open_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), DiskLogOptions::default());
    let second = DiskLog::open(directory.path(), DiskLogOptions::default());
    assert!(matches!(second, Err(OpenError::Locked)), "{second:?}");
    assert!(matches!(check(directory.path()), Err(OpenError::Locked)));
    drop(log);
    open(directory.path(), DiskLogOptions::default());
}

#[test]
fn a_log_whose_directory_is_gone_is_read_and_not_written() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let log = open(&directory, small_segments());
    publish(&log, 20).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let error = publish(&log, 1).unwrap_err();
    assert!(error.to_string().contains("removed"), "{error}");
    assert!(log.failure().is_some());
    assert_eq!(count(&log), 20);
    assert!(publish(&log, 1).is_err());
}

#[test]
fn a_log_whose_directory_comes_back_is_written_again() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, away) = (parent.path().join("log"), parent.path().join("away"));
    let log = open(&directory, small_segments());
    publish(&log, 20).unwrap();
    std::fs::rename(&directory, &away).unwrap();
    let mut taken = 20;
    // What fits into the open segment is taken; the next segment has no place.
    let error = loop {
        match publish(&log, 1) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000);
    };
    assert!(error.to_string().contains("is the directory still there?"), "{error}");
    assert_eq!(count(&log), taken);
    std::fs::rename(&away, &directory).unwrap();
    publish(&log, 10).unwrap();
    assert_eq!((log.failure(), count(&log)), (None, taken + 10));
    drop(log);
    assert_eq!(count(&open(&directory, small_segments())), taken + 10);
}

#[test]
fn a_file_of_a_later_version_is_refused_with_its_version() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), small_segments());
    publish(&log, 1).unwrap();
    drop(log);
    let segment = directory.path().join(segment::segment_name(1));
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] = 2;
    let sum = crc32fast::hash(&bytes[..56]).to_le_bytes();
    bytes[56..60].copy_from_slice(&sum);
    std::fs::write(&segment, bytes).unwrap();
    let error = DiskLog::open(directory.path(), small_segments()).unwrap_err();
    assert!(error.to_string().contains("later version of tidings (format 2)"), "{error}");
}

#[test]
fn room_is_given_back_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = small_segments();
    options.retention.bytes_max = 64 << 10;
    let log = open(directory.path(), options);
    publish(&log, 5_000).unwrap();
    let on_disk = || -> u64 {
        let files = std::fs::read_dir(directory.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    assert!(on_disk() > 300_000);
    log.trim(0);
    assert!(on_disk() <= (64 << 10) + 2 * 4_096, "{}", on_disk());
    assert!(log.bounds().oldest > 4_000);
    assert_eq!(count(&log), log.bounds().next - log.bounds().oldest);
    log.trim(u64::MAX);
    assert_eq!((count(&log), log.bounds().oldest), (0, 5_001));
    assert!(on_disk() <= 2 * 4_096 + 100, "{}", on_disk());
}

fn small_segments() -> DiskLogOptions {
    DiskLogOptions { segment_bytes: Some(4_096), ..DiskLogOptions::default() }
}

fn publish(log: &DiskLog, events: usize) -> Result<(), AppendError> {
    for _ in 0..events {
        log.append(vec![vec![record("a", "some data")]], 1_000)?;
    }
    Ok(())
}

/// How many events can be read.
fn count(log: &DiskLog) -> u64 {
    let (Bounds { oldest, next }, mut count, mut from) = (log.bounds(), 0, log.bounds().oldest);
    let limit = ReadLimit {
        events_max: 100,
        bytes_max: 1 << 20,
        candidates_max: 1_000,
        comparisons_max: 1_000,
    };
    while from < next {
        let step = log.read(from, next, &everything(), limit).unwrap();
        count += step.entries.len() as u64;
        from = step.next;
    }
    assert!(from.max(oldest) == next);
    count
}

mod faults;
