//! What holds however a log was left: ids are given once, keys are remembered, nothing is refused.

use std::fs;

use tidings_log::{DiskLog, DiskLogOptions, Durability, EventLog};

use crate::directory::{LogDirectory, contents, keyed, options, publish, record, rule};

/// Later than everything is kept that was published at 0.
const LATER: u64 = 100_000;

#[test]
fn ids_go_on_after_everything_has_left() {
    for is_killed in [false, true] {
        let directory = LogDirectory::new();
        let log = directory.open(options(4_096));
        let epoch = log.epoch();
        publish(&log, (0..10).map(|number| record("a", &number)).collect(), 0);
        log.trim(LATER);
        let killed = directory.copy();
        drop(log);
        let directory = if is_killed { killed } else { directory };
        let log = directory.open(options(4_096));
        let is_same_life = log.epoch() == epoch;
        let given = publish(&log, vec![record("a", "new")], LATER);
        assert!(!is_same_life || given == [11], "{given:?} again, killed: {is_killed}");
    }
}

#[test]
fn keys_that_outlive_all_events_outlive_a_change_of_durability() {
    let directory = LogDirectory::new();
    let log = directory.open(options(4_096));
    publish(&log, (0..10).map(|number| keyed(&format!("key-{number}-"))).collect(), 0);
    log.trim(LATER);
    drop(log);
    let synced = DiskLogOptions { durability: Durability::Fsync, ..options(4_096) };
    drop(directory.open(synced.clone()));
    let log = directory.open(synced);
    assert_eq!(publish(&log, vec![keyed("key-3-")], LATER), [4]);
}

#[test]
fn keys_that_outlive_all_events_may_fill_more_than_one_segment() {
    let directory = LogDirectory::new();
    let log = directory.open(options(8 << 20));
    for part in 0..15 {
        let key = |number: u64| keyed(&format!("key-{}-", part * 10_000 + number));
        publish(&log, (0..10_000).map(key).collect(), 0);
    }
    drop(log);
    let log = directory.open(options(1 << 20));
    log.trim(LATER);
    drop(log);
    let log = directory.open(options(1 << 20));
    for number in (0..150_000).step_by(1_000) {
        let again = publish(&log, vec![keyed(&format!("key-{number}-"))], LATER);
        assert_eq!(again, [number + 1]);
    }
}

#[test]
fn keys_are_remembered_after_a_kill_between_carrying_them_over_and_removing_their_segment() {
    let directory = LogDirectory::new();
    let log = directory.open(options(2_048));
    // One run over two segments, of which the first leaves.
    (1..=40).for_each(|number| drop(publish(&log, vec![keyed(&format!("p:{number}"))], 0)));
    (41..=50).for_each(|number| drop(publish(&log, vec![keyed(&format!("p:{number}"))], 5_000)));
    let [first, _] = &directory.segments()[..] else { panic!("two segments") };
    let bytes = fs::read(first).unwrap();
    log.trim(5_500);
    assert!(!first.exists());
    let killed = directory.copy();
    fs::write(killed.path().join(first.file_name().unwrap()), bytes).unwrap();
    let log = killed.open(options(2_048));
    for number in 1..=50 {
        assert_eq!(publish(&log, vec![keyed(&format!("p:{number}"))], 5_500), [number]);
    }
}

#[test]
fn a_log_opens_whose_last_segment_was_written_anew() {
    let directory = LogDirectory::new();
    let mut options = options(16 << 10);
    options.retention.rules = vec![rule("states/{name}", Some(2), None)];
    let log = directory.open(options.clone());
    publish(&log, vec![record("a", "stays")], 0);
    let state = |number: u32| record("states/a", &format!("{number} {}", "x".repeat(60)));
    publish(&log, (0..100).map(state).collect(), 0);
    drop(log);
    let log = directory.open(options.clone());
    log.trim(0);
    let expected = contents(&log);
    assert_eq!(expected.len(), 3);
    drop(log);
    let log = directory.open(options);
    assert_eq!((contents(&log), log.bounds().next), (expected, 102));
}

#[test]
fn ids_go_on_if_the_index_is_damaged_of_a_last_segment_that_was_written_anew() {
    let directory = LogDirectory::new();
    let mut options = options(16 << 10);
    options.retention.age_max_ms = 1_000_000;
    options.retention.rules = vec![rule("states/{name}", None, Some(1_000))];
    let log = directory.open(options.clone());
    let stays = |number: u32| record("a", &format!("{number} {}", "x".repeat(60)));
    let leaves = |number: u32| record("states/a", &number);
    publish(&log, (0..60).map(stays).chain((0..100).map(leaves)).collect(), 0);
    drop(log);
    let log = directory.open(options.clone());
    log.trim(5_000);
    let (epoch, next) = (log.epoch(), log.bounds().next);
    drop(log);
    let segments = directory.segments();
    let last = segments.last().unwrap();
    let mut bytes = fs::read(last).unwrap();
    let place = bytes.len() - 50;
    bytes[place] ^= 1;
    fs::write(last, bytes).unwrap();
    if let Ok(log) = DiskLog::open(directory.path(), options) {
        assert!(log.epoch() != epoch || log.bounds().next == next, "ids are given again");
    }
}

#[test]
fn ids_go_on_or_damage_is_told_if_the_only_segment_is_unused_and_its_header_damaged() {
    let directory = LogDirectory::new();
    let log = directory.open(options(4_096));
    let epoch = log.epoch();
    publish(&log, (0..10).map(|number| record("a", &number)).collect(), 0);
    log.trim(LATER);
    let killed = directory.copy();
    let [segment] = &killed.segments()[..] else { panic!("one segment") };
    let whole = fs::read(segment).unwrap();
    for bit in (0..64 * 8).step_by(7) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(segment, bytes).unwrap();
        if let Ok(log) = DiskLog::open(killed.path(), options(4_096)) {
            let next = log.bounds().next;
            assert!(log.epoch() != epoch || next == 11, "ids begin anew at {next}, bit {bit}");
        }
    }
}
