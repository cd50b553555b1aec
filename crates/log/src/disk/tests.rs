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
fn a_log_whose_directory_was_made_anew_is_not_written() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let log = open(&directory, small_segments());
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
    let error = publish(&log, 1).unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
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

/// Whatever is published, trimmed and opened anew, both logs keep, drop, remember and refuse the same.
#[test]
fn the_disk_log_keeps_what_the_memory_log_keeps() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().unwrap();
        let rule = |topics: &str, events_max, age_max_ms| crate::RetentionRule {
            topics: tidings_core::Selector::parse(topics).unwrap(),
            events_max,
            age_max_ms,
        };
        let retention = Retention {
            events_max: random.u64(20..400),
            bytes_max: u64::MAX,
            age_max_ms: random.u64(50..2_000),
            rules: vec![
                rule("a/{n}", Some(random.u64(1..9)), None),
                rule("b/{n}", None, Some(random.u64(1..300))),
                rule("c/{n}", Some(random.u64(1..30)), Some(random.u64(1..300))),
            ],
        };
        let keys = KeyWindow { age_max_ms: 300, runs_max: 1_000 };
        let disk_options = DiskLogOptions {
            retention: retention.clone(),
            keys,
            durability: Durability::Os,
            segment_bytes: Some(random.u32(600..6_000)),
        };
        let memory_options = crate::MemoryLogOptions { retention, keys };
        let memory = crate::MemoryLog::new(Epoch::from_random(1), memory_options);
        let mut disk = open(directory.path(), disk_options.clone());
        let mut now = 10_000;
        for round in 0..150 {
            now += random.u64(0..40);
            memory.trim(now);
            disk.trim(now);
            for _ in 0..random.usize(0..12) {
                let records = random_publish(&mut random);
                let one = memory.append(vec![records.clone()], now).unwrap();
                let other = disk.append(vec![records], now).unwrap();
                assert_eq!(one.outcomes, other.outcomes, "seed {seed}, round {round}");
            }
            memory.trim(now);
            disk.trim(now);
            if random.u32(..10) == 0 {
                drop(disk);
                disk = open(directory.path(), disk_options.clone());
                disk.trim(now);
            }
            // A segment that was written anew does not know where what was too old ended.
            let (one, other) = (memory.bounds(), disk.bounds());
            assert_eq!(one.next, other.next, "seed {seed}, round {round}");
            assert!(one.oldest <= other.oldest, "seed {seed}, round {round}");
            for wanted in ["*", "a/1", "b/2", "c/1", "c/2", "d/1"] {
                let wanted = interest(wanted);
                let oldest = other.oldest;
                assert_eq!(
                    offsets(&memory, &wanted),
                    offsets(&disk, &wanted),
                    "{wanted:?}, seed {seed}, round {round}"
                );
                for from in [oldest, oldest + 5, memory.bounds().next] {
                    let (one, other) = (memory.dropped(&wanted, from), disk.dropped(&wanted, from));
                    assert!(one <= other, "{wanted:?} from {from}, seed {seed}, round {round}");
                }
            }
            let topic = Topic::parse("d/1").unwrap();
            assert_eq!(memory.finished(&topic), disk.finished(&topic));
        }
        drop(disk);
        assert_eq!(check(directory.path()).unwrap().damages, [], "seed {seed}");
    }
}

fn random_publish(random: &mut fastrand::Rng) -> Vec<Record> {
    (0..random.usize(1..4))
        .map(|_| {
            let mut topic = || {
                let name = ["a", "b", "c", "d"][random.usize(..4)];
                Topic::parse(&format!("{name}/{}", random.u32(..3))).unwrap()
            };
            let mut topics = vec![topic()];
            if topic().as_str() == "a/0" {
                topics.push(topic());
                topics.dedup();
            }
            let data = "x".repeat(random.usize(..60));
            let key = crate::Key::parse(&format!("k:{}", random.u32(..500))).unwrap();
            let is_final = random.u32(..100) == 0 && topics[0].as_str().starts_with('d');
            Record { key: random.bool().then_some(key), is_final, ..Record::new(topics, data) }
        })
        .collect()
}

fn interest(selector: &str) -> Interest {
    let selector = tidings_core::Selector::parse(selector).unwrap();
    Interest::new(vec![selector], Vec::new(), tidings_core::Rights::everything())
}

fn offsets(log: &dyn EventLog, wanted: &Interest) -> Vec<u64> {
    let Bounds { oldest, next } = log.bounds();
    let limit = ReadLimit {
        events_max: 1_000,
        bytes_max: usize::MAX,
        candidates_max: 1_000_000,
        comparisons_max: 1_000_000,
    };
    let step = log.read(oldest, next, wanted, limit).unwrap();
    assert_eq!(step.next, next);
    let sought = log.seek(next, u32::MAX, wanted, limit).unwrap();
    assert_eq!(sought.found as usize, step.entries.len());
    step.entries.iter().map(|entry| entry.offset).collect()
}

/// Without a thread that makes files ready while a test removes them.
fn small_segments() -> DiskLogOptions {
    let durability = Durability::Os;
    DiskLogOptions { segment_bytes: Some(4_096), durability, ..DiskLogOptions::default() }
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
