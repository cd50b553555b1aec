//! The log on a disk that fails, tears, loses power and flips bits, at every place of a scripted run.

use std::collections::HashMap;

use super::super::checking::{check_files, repair_files};
use super::super::files::tests::{FaultyDisk, Mishap};
use super::*;
use crate::conformance::{everything, record};
use crate::{Key, RetentionRule};

const NO_LIMIT: ReadLimit = ReadLimit {
    events_max: usize::MAX,
    bytes_max: usize::MAX,
    candidates_max: usize::MAX,
    comparisons_max: usize::MAX,
};

fn options() -> DiskLogOptions {
    let retention = Retention {
        events_max: u64::MAX,
        bytes_max: 1 << 40,
        age_max_ms: u64::MAX,
        rules: Vec::new(),
    };
    DiskLogOptions { retention, segment_bytes: Some(2_000), ..DiskLogOptions::default() }
}

fn mount(disk: &FaultyDisk) -> Result<DiskLog, OpenError> {
    DiskLog::open_files(Arc::new(disk.clone()), options())
}

/// What is in a log: offset and data of each event.
fn contents(log: &DiskLog) -> Vec<(u64, String)> {
    let Bounds { oldest, next } = log.bounds();
    let mut from = oldest;
    let mut all = Vec::new();
    while from < next {
        let step = log.read(from, next, &everything(), NO_LIMIT).unwrap();
        all.extend(step.entries.iter().map(|it| (it.offset, it.payload.data.to_string())));
        from = step.next;
    }
    all
}

/// A client that publishes numbered events, some in arrays, each with a key, and tries each again
/// until it is acknowledged; it remembers what was.
#[derive(Debug, Default)]
struct Publisher {
    acknowledged: Vec<(u64, String)>,
    tried: usize,
}

/// The number of publishes in a scripted run.
const PUBLISHES: usize = 30;

impl Publisher {
    fn publish(number: usize) -> Vec<Record> {
        (0..1 + number % 4)
            .map(|place| {
                let data = format!("{number}/{place} {}", "x".repeat(number * 11 % 90));
                let key = Key::parse(&format!("key:{number}:{place}")).unwrap();
                Record { key: Some(key), ..record(&format!("topic/{place}"), &data) }
            })
            .collect()
    }

    /// Publishes what is left until something fails.
    fn run(&mut self, log: &DiskLog) -> Result<(), AppendError> {
        while self.tried < PUBLISHES {
            let records = Self::publish(self.tried);
            let data: Vec<String> = records.iter().map(|it| it.data.to_string()).collect();
            let appended = log.append(vec![records], 1_000)?;
            let offsets = appended.outcomes[0].clone().unwrap();
            self.acknowledged.extend(offsets.iter().zip(data));
            self.tried += 1;
        }
        Ok(())
    }

    /// Everything acknowledged is there once, in order, and nothing else but what was tried last.
    #[track_caller]
    fn check(&self, log: &DiskLog, context: &str) {
        let found = contents(log);
        let expected: HashMap<u64, &str> =
            self.acknowledged.iter().map(|(offset, data)| (*offset, data.as_str())).collect();
        assert_eq!(expected.len(), self.acknowledged.len(), "{context}: an id was given twice");
        for (place, (offset, data)) in found.iter().enumerate() {
            assert_eq!(*offset, place as u64 + 1, "{context}: a hole");
            let told = expected.get(offset);
            assert!(told.is_none_or(|told| told == data), "{context}: {offset} is another event");
        }
        assert!(found.len() >= expected.len(), "{context}: {} lost", expected.len() - found.len());
        let unacknowledged = Self::publish(self.tried).len();
        let more = found.len() - expected.len();
        assert!(more == 0 || more == unacknowledged, "{context}: a part of a publish");
    }
}

/// Runs the script once without anything that goes wrong; answers how many operations it takes.
fn undisturbed() -> u64 {
    let disk = FaultyDisk::with_seed(1);
    let log = mount(&disk).unwrap();
    let mut publisher = Publisher::default();
    publisher.run(&log).unwrap();
    drop(log);
    let log = mount(&disk).unwrap();
    publisher.check(&log, "undisturbed");
    assert!(disk.names().unwrap().len() > 5, "the script seals segments");
    disk.operations()
}

#[test]
fn whatever_operation_fails_nothing_acknowledged_is_lost() {
    let operations = undisturbed();
    for mishap in [Mishap::Fails, Mishap::IsTorn] {
        for place in 0..operations {
            let context = format!("{mishap:?} at {place} of {operations}");
            let disk = FaultyDisk::with_seed(place);
            disk.plan(place, mishap);
            let mut publisher = Publisher::default();
            // The log may fail to open, or to write once, or for good; then it is opened anew.
            let mut attempts = 0;
            while publisher.tried < PUBLISHES {
                attempts += 1;
                assert!(attempts < 5, "{context}: it does not recover");
                let Ok(log) = mount(&disk) else { continue };
                publisher.check(&log, &context);
                for _ in 0..3 {
                    if let Err(error) = publisher.run(&log) {
                        assert_eq!(log.failure().map(AppendError::Unavailable), Some(error));
                    }
                    publisher.check(&log, &context);
                }
            }
            disk.kill();
            let log = mount(&disk).unwrap();
            publisher.check(&log, &context);
            drop(log);
            assert!(check_files(&disk).unwrap().damages.is_empty(), "{context}");
        }
    }
}

#[test]
fn what_fails_and_is_no_sync_is_tried_again_without_opening_anew() {
    let disk = FaultyDisk::with_seed(1);
    let log = mount(&disk).unwrap();
    let mut publisher = Publisher::default();
    disk.plan(0, Mishap::IsTorn);
    assert!(publisher.run(&log).is_err());
    assert!(log.failure().is_some());
    publisher.run(&log).unwrap();
    assert_eq!(log.failure(), None);
    publisher.check(&log, "after a torn write");
}

#[test]
fn a_log_that_can_be_written_again_says_so_without_a_publisher() {
    // The first segment cannot be begun, then a write is torn.
    for place in [0, 5] {
        let disk = FaultyDisk::with_seed(1);
        let log = mount(&disk).unwrap();
        let mut publisher = Publisher::default();
        disk.plan(place, Mishap::IsTorn);
        assert!(publisher.run(&log).is_err());
        assert!(log.failure().is_some_and(|reason| !reason.contains("did not confirm")), "{place}");
        log.trim(0);
        assert_eq!(log.failure(), None, "{place}");
        publisher.run(&log).unwrap();
        publisher.check(&log, "after mending");
    }
}

#[test]
fn whatever_fails_while_old_events_are_removed_the_log_opens_and_goes_on() {
    for mishap in [Mishap::Fails, Mishap::PowerCut] {
        for place in 0..20 {
            let context = format!("{mishap:?} at {place}");
            let disk = FaultyDisk::with_seed(place);
            let log = mount(&disk).unwrap();
            let mut publisher = Publisher::default();
            publisher.run(&log).unwrap();
            let all = contents(&log);
            drop(log);
            let mut options = options();
            options.retention.bytes_max = 6_000;
            let narrow = || DiskLog::open_files(Arc::new(disk.clone()), options.clone());
            let log = narrow().unwrap();
            disk.plan(place, mishap);
            log.trim(0);
            log.trim(0);
            drop(log);
            if disk.is_dark() {
                disk.power_cycle();
            } else {
                disk.kill();
            }
            let log = narrow().unwrap_or_else(|error| panic!("{context}: {error}"));
            let left = contents(&log);
            assert_eq!(left, all[all.len() - left.len()..], "{context}");
            log.trim(0);
            assert!(contents(&log).len() < all.len(), "{context}");
            assert_eq!(log.bounds().next as usize, all.len() + 1, "{context}");
            let again = log.append(vec![Publisher::publish(0)], 1_000).unwrap();
            let again = again.outcomes[0].as_ref().unwrap();
            assert_eq!((again.iter().next(), again.repeated()), (Some(1), 1), "{context}");
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_everything_is_read() {
    let disk = FaultyDisk::with_seed(1);
    let log = mount(&disk).unwrap();
    let mut publisher = Publisher::default();
    log.append(vec![vec![record("a", "before")]], 0).unwrap();
    disk.plan(1, Mishap::Fails);
    let error = publisher.run(&log).unwrap_err();
    assert!(error.to_string().contains("did not confirm a write"), "{error}");
    assert_eq!(publisher.run(&log).unwrap_err(), error);
    assert_eq!(contents(&log), [(1, "before".to_owned())]);
    drop(log);
    let log = mount(&disk).unwrap();
    assert_eq!(contents(&log), [(1, "before".to_owned())]);
    assert_eq!(log.failure(), None);
    publisher.run(&log).unwrap();
}

#[test]
fn wherever_the_power_goes_out_nothing_acknowledged_is_lost() {
    let operations = undisturbed();
    for place in 0..operations {
        for seed in 0..8 {
            let context = format!("power cut at {place} of {operations}, seed {seed}");
            let disk = FaultyDisk::with_seed(place * 31 + seed);
            let mut publisher = Publisher::default();
            for round in 0..3 {
                if round == 0 {
                    disk.plan(place, Mishap::PowerCut);
                }
                match mount(&disk) {
                    Ok(log) => {
                        publisher.check(&log, &context);
                        let _ = publisher.run(&log);
                        publisher.check_unless_dark(&log, &disk, &context);
                    }
                    Err(error) => assert!(round == 0, "{context}: {error}"),
                }
                disk.power_cycle();
            }
            let log = mount(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            publisher.check(&log, &context);
            assert_eq!(publisher.tried, PUBLISHES, "{context}");
        }
    }
}

impl Publisher {
    #[track_caller]
    fn check_unless_dark(&self, log: &DiskLog, disk: &FaultyDisk, context: &str) {
        if !disk.is_dark() {
            self.check(log, context);
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_and_leaves_no_trace_of_what_it_did_not_finish() {
    let operations = undisturbed();
    for place in 0..operations {
        let context = format!("killed at {place} of {operations}");
        let disk = FaultyDisk::with_seed(place);
        let mut publisher = Publisher::default();
        disk.plan(place, Mishap::PowerCut);
        if let Ok(log) = mount(&disk) {
            let _ = publisher.run(&log);
        }
        disk.kill();
        let log = mount(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        publisher.check(&log, &context);
        publisher.run(&log).unwrap();
        publisher.check(&log, &context);
    }
}

/// A small log: sealed segments, and one that was not closed.
fn small_log() -> (FaultyDisk, Vec<(u64, String)>) {
    let disk = FaultyDisk::with_seed(1);
    let options = DiskLogOptions { segment_bytes: Some(900), ..options() };
    let log = DiskLog::open_files(Arc::new(disk.clone()), options).unwrap();
    let mut publisher = Publisher { tried: PUBLISHES - 5, ..Publisher::default() };
    publisher.run(&log).unwrap();
    log.append(vec![vec![Record { is_final: true, ..record("job", "done") }]], 0).unwrap();
    let expected = contents(&log);
    disk.kill();
    drop(log);
    (disk, expected)
}

/// Reads everything in every way; `None` if any of it is told to be damaged.
fn read_in_every_way(log: &DiskLog) -> Option<Vec<(u64, String)>> {
    let Bounds { oldest, next } = log.bounds();
    let mut all = Vec::new();
    for interest in [everything(), topics(&["topic/0", "topic/1", "topic/2", "topic/3", "job"])] {
        let mut from = oldest;
        let mut found = Vec::new();
        while from < next {
            let step = log.read(from, next, &interest, NO_LIMIT).ok()?;
            found.extend(step.entries.iter().map(|it| (it.offset, it.payload.data.to_string())));
            from = step.next;
        }
        for at in [oldest, oldest.midpoint(next), next - 1] {
            let limit = ReadLimit { events_max: 1, ..NO_LIMIT };
            let step = log.read(at, next, &interest, limit).ok()?;
            assert_eq!(step.entries.first().map(|it| it.offset), Some(at));
        }
        let sought = log.seek(next, u32::MAX, &interest, NO_LIMIT).ok()?;
        assert_eq!(u64::from(sought.found), found.len() as u64);
        all.push(found);
    }
    assert_eq!(all[0], all[1]);
    all.pop()
}

fn topics(texts: &[&str]) -> Interest {
    let parse = |text: &&str| tidings_core::Selector::parse(text).unwrap();
    let rights = tidings_core::Rights::everything();
    Interest::new(texts.iter().map(parse).collect(), Vec::new(), rights)
}

#[test]
fn every_flipped_bit_is_told_or_does_no_harm() {
    let (disk, expected) = small_log();
    let mut told = 0;
    let mut harmless = 0;
    for name in disk.names().unwrap().into_iter().filter(|name| name != "lock") {
        let length = disk.with_file(&name, |bytes| bytes.len());
        for bit in 0..length * 8 {
            let damaged = disk.copy();
            damaged.with_file(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let context = format!("bit {bit} of {name}");
            let checked = check_files(&damaged).unwrap();
            let Ok(log) = mount(&damaged) else {
                assert!(!checked.damages.is_empty(), "{context}: check says nothing");
                told += 1;
                continue;
            };
            match read_in_every_way(&log) {
                Some(found) => {
                    assert_eq!(found, expected, "{context}");
                    harmless += 1;
                }
                None => {
                    assert!(!checked.damages.is_empty(), "{context}: check says nothing");
                    told += 1;
                }
            }
            // What decides whether a publish is taken is the same as well.
            let job = Topic::parse("job").unwrap();
            let is_finished = log.finished(&job).is_some();
            assert!(is_finished || !checked.damages.is_empty(), "{context}: a topic is open again");
        }
    }
    println!("{told} told, {harmless} harmless");
    assert!(told > 1_000 && harmless > 0, "{told} told, {harmless} harmless");
}

#[test]
fn a_repaired_log_holds_all_that_is_whole() {
    let (disk, expected) = small_log();
    let epoch = mount(&disk.copy()).unwrap().epoch();
    let mut random = fastrand::Rng::with_seed(7);
    for name in disk.names().unwrap().into_iter().filter(|name| name != "lock") {
        let length = disk.with_file(&name, |bytes| bytes.len());
        for _ in 0..40 {
            let damaged = disk.copy();
            let at = random.usize(..length);
            let until = (at + random.usize(1..300)).min(length);
            damaged.with_file(&name, |bytes| {
                bytes[at..until].iter_mut().for_each(|byte| *byte = random.u8(..));
            });
            let context = format!("bytes {at} to {until} of {name}");
            let before = check_files(&damaged).unwrap();
            let report =
                repair_files(&damaged).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(report.damages, before.damages, "{context}");
            let after = check_files(&damaged).unwrap();
            assert_eq!(after.damages, [], "{context}");
            let log = mount(&damaged).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = contents(&log);
            let missing: Vec<u64> = expected
                .iter()
                .filter(|event| !found.contains(event))
                .map(|(offset, _)| *offset)
                .collect();
            assert_eq!(found.len() + missing.len(), expected.len(), "{context}: other events");
            for offset in &missing {
                let is_told = report.lost.iter().any(|range| {
                    range.first <= *offset && range.last.is_none_or(|last| *offset <= last)
                });
                assert!(is_told, "{context}: event {offset} is lost and not told: {report:?}");
            }
            assert!(missing.len() < 12, "{context}: {missing:?} are lost");
            assert!(missing.is_empty() || log.epoch() != epoch, "{context}: ids may repeat");
            if !before.damages.is_empty() {
                assert!(!report.set_aside.is_empty(), "{context}");
            }
        }
    }
}

#[test]
fn rules_and_keys_are_the_same_after_opening_anew() {
    let rule = RetentionRule {
        topics: tidings_core::Selector::parse("prices/{name}").unwrap(),
        events_max: Some(3),
        age_max_ms: None,
    };
    let mut options = options();
    options.retention.rules = vec![rule];
    let disk = FaultyDisk::with_seed(1);
    let mount = || DiskLog::open_files(Arc::new(disk.clone()), options.clone()).unwrap();
    let mut log = mount();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..200_u64 {
        for _ in 0..random.usize(1..8) {
            let topic = ["prices/a", "prices/b", "x"][random.usize(..3)];
            let key = Key::parse(&format!("k:{}", log.bounds().next)).unwrap();
            let one = Record { key: Some(key), ..record(topic, &"y".repeat(random.usize(..200))) };
            log.append(vec![vec![one]], round).unwrap();
        }
        if random.bool() {
            log.trim(round);
            let of = |name: &str| {
                let step = log.read(1, u64::MAX, &topics(&[name]), NO_LIMIT).unwrap();
                step.entries.iter().map(|it| it.offset).collect::<Vec<_>>()
            };
            let kept: Vec<_> = ["prices/a", "prices/b", "x"].map(of).into();
            assert!(kept[0].len() <= 3 && kept[1].len() <= 3, "{kept:?}");
            let dropped =
                ["prices/a", "prices/b", "x", "*"].map(|name| log.dropped(&topics(&[name]), 1));
            if random.bool() {
                disk.kill();
            }
            drop(log);
            log = mount();
            log.trim(round);
            let of = |name: &str| {
                let step = log.read(1, u64::MAX, &topics(&[name]), NO_LIMIT).unwrap();
                step.entries.iter().map(|it| it.offset).collect::<Vec<_>>()
            };
            let kept_now: Vec<_> = ["prices/a", "prices/b", "x"].map(of).into();
            assert_eq!(kept_now, kept, "round {round}");
            let dropped_now =
                ["prices/a", "prices/b", "x", "*"].map(|name| log.dropped(&topics(&[name]), 1));
            assert_eq!(dropped_now, dropped, "round {round}");
            let key = Key::parse(&format!("k:{}", 1 + random.u64(..log.bounds().next - 1)));
            let again = Record { key: Some(key.unwrap()), ..record("x", "") };
            let next = log.bounds().next;
            let outcome = log.append(vec![vec![again]], round).unwrap().outcomes.remove(0).unwrap();
            assert_eq!((outcome.repeated(), log.bounds().next), (1, next), "round {round}");
        }
    }
    assert!(check_files(&disk).unwrap().damages.is_empty());
    let bytes: usize =
        disk.names().unwrap().iter().map(|name| disk.with_file(name, |bytes| bytes.len())).sum();
    println!("{} events, {bytes} bytes", log.bounds().next);
}
