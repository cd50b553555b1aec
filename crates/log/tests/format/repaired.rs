//! What a repair leaves behind: a log that opens, that says what it lost, and has no half of a publish.

use std::fs;

use tidings_core::Bounds;
use tidings_log::EventLog;
use tidings_log::disk::{LostRange, check, repair};

use crate::directory::{LogDirectory, contents, keyed, options, publish, record};

#[test]
fn events_of_a_segment_that_is_missing_are_told_as_lost() {
    let directory = LogDirectory::new();
    let log = directory.open(options(2_048));
    (0..100).for_each(|number| drop(publish(&log, vec![record("a", &number)], 0)));
    let (epoch, before) = (log.epoch(), contents(&log));
    drop(log);
    fs::remove_file(&directory.segments()[1]).unwrap();
    assert!(!check(directory.path()).unwrap().damages.is_empty());
    let report = repair(directory.path()).unwrap();
    let log = directory.open(options(2_048));
    let after = contents(&log);
    let is_lost = |offset: u64| {
        let has = |range: &LostRange| {
            range.first <= offset && range.last.is_none_or(|last| offset <= last)
        };
        report.lost.iter().any(has)
    };
    let missing = before.iter().filter(|event| !after.contains(event));
    for (offset, _) in missing {
        assert!(is_lost(*offset), "event {offset} is gone, and lost are {:?}", report.lost);
    }
    assert_ne!(log.epoch(), epoch, "who resumes is told of no gap");
}

#[test]
fn a_repaired_log_opens_and_holds_no_part_of_an_unfinished_array() {
    let directory = LogDirectory::new();
    let log = directory.open(options(8_192));
    (0..5).for_each(|number| drop(publish(&log, vec![record("a", &number)], 0)));
    let [segment] = &directory.segments()[..] else { panic!("one segment") };
    let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let before = end(&fs::read(segment).unwrap());
    let part = |number: u32| record("a", &format!("array {number} {}", "x".repeat(300)));
    publish(&log, (0..6).map(part).collect(), 0);
    let mut bytes = fs::read(segment).unwrap();
    let after = end(&bytes);
    drop(log);
    // Killed within the array, and a bit has flipped before it.
    bytes[before.midpoint(after) / 512 * 512..].fill(0);
    bytes[100] ^= 1;
    fs::write(segment, bytes).unwrap();
    let report = repair(directory.path()).unwrap();
    assert!(!report.lost.is_empty());
    assert_eq!(check(directory.path()).unwrap().damages, []);
    let log = directory.open(options(8_192));
    let contents = contents(&log);
    let Bounds { next, .. } = log.bounds();
    let parts = contents.iter().filter(|(_, data)| data.starts_with("array")).count();
    assert!(parts == 0 || parts == 6, "{parts} of 6 events of an array, up to {next}");
}

#[test]
fn keys_that_were_carried_over_are_remembered_after_a_repair() {
    let directory = LogDirectory::new();
    let log = directory.open(options(4_096));
    publish(&log, (0..10).map(|number| keyed(&format!("key-{number}-"))).collect(), 0);
    log.trim(100_000);
    publish(&log, vec![record("a", "stays"), record("a", "is damaged")], 100_000);
    drop(log);
    let [segment] = &directory.segments()[..] else { panic!("one segment") };
    let mut bytes = fs::read(segment).unwrap();
    let place = bytes.windows(10).position(|window| window == b"is damaged").unwrap();
    bytes[place] ^= 1;
    fs::write(segment, bytes).unwrap();
    let report = repair(directory.path()).unwrap();
    assert_eq!(report.lost, [LostRange { first: 12, last: Some(12) }]);
    let log = directory.open(options(4_096));
    assert_eq!(contents(&log), [(11, "stays".to_owned())]);
    assert_eq!(publish(&log, vec![keyed("key-3-")], 100_000), [4]);
}
