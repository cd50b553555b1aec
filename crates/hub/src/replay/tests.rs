use std::collections::HashSet;

use tidings_core::{Epoch, Rights, Selector, Topic};
use tidings_log::{KeyWindow, MemoryLog, MemoryLogOptions, Record, Retention, RetentionRule};

use super::*;

const EPOCH: Epoch = Epoch::from_random(1);

/// A log of one event of `b` and then so many of `a` less one, of which it keeps `kept`.
fn log(count: usize, kept: Option<u64>) -> Arc<MemoryLog> {
    let rule = |events_max| RetentionRule {
        topics: Selector::parse("a").unwrap(),
        events_max: Some(events_max),
        age_max_ms: None,
    };
    let rules = kept.map(rule).into_iter().collect();
    let retention = Retention { rules, ..MemoryLogOptions::default().retention };
    let options = MemoryLogOptions { retention, keys: KeyWindow::default() };
    let log = MemoryLog::new(EPOCH, options);
    let record = |topic| Record::new([Topic::parse(topic).unwrap()], "x".repeat(200));
    log.append(vec![vec![record("b")], vec![record("a"); count - 1]], 0).unwrap();
    Arc::new(log)
}

fn replay(log: &Arc<MemoryLog>, replay_bytes_max: usize) -> Replay {
    let limits = Limits { replay_bytes_max, ..Limits::default() };
    Replay::new(Arc::clone(log) as Arc<dyn EventLog>, log.epoch(), &limits)
}

fn everything() -> Arc<Interest> {
    Arc::new(Interest::new(vec![Selector::All], vec![], Rights::everything()))
}

/// The offsets of an answer, where it ends, and up to where something is gone.
fn told(outcome: ReadOutcome<Delivery>) -> (Vec<u64>, u64, Option<u64>) {
    match outcome {
        ReadOutcome::Entries { entries, next, dropped, .. } => {
            (entries.iter().map(|entry| entry.offset).collect(), next, dropped)
        }
        other => panic!("expected entries, got {other:?}"),
    }
}

#[test]
fn the_roundest_number_is_the_one_with_the_most_trailing_zeros() {
    for lowest in 1..200_u64 {
        for highest in lowest..200 {
            let naive = (lowest..=highest).max_by_key(|number| number.trailing_zeros()).unwrap();
            assert_eq!(roundest(lowest, highest), naive, "{lowest}..={highest}");
        }
    }
    assert_eq!(roundest(u64::MAX, u64::MAX), u64::MAX);
    assert_eq!(roundest(1, u64::MAX), 1 << 63);
}

#[test]
fn readers_that_began_apart_come_to_share_their_steps() {
    let (log, all) = (log(20_000, None), everything());
    let replay = replay(&log, 256 << 20);
    let mut starts = HashSet::new();
    for begin in 1..=100 {
        let mut from = begin;
        while from < 20_001 {
            let is_known = replay.recall(EPOCH, from, 20_001, &all).is_some();
            assert_eq!(is_known, !starts.insert(from), "reader {begin} at {from}");
            let (offsets, next, _) = told(replay.read(EPOCH, from, 20_001, &all));
            assert_eq!(offsets, (from..next).collect::<Vec<_>>());
            from = next;
        }
    }
    let alone: u64 = 20_000 / 64;
    assert!((starts.len() as u64) < 100 + alone, "{} steps for 100 readers", starts.len());
}

#[test]
fn a_step_keeps_at_least_half_and_does_not_stop_short_of_the_end() {
    let (log, all) = (log(1_000, None), everything());
    let limit = Limits::default().read_limit();
    for from in 1..1_000 {
        let full = log.read(from, 1_001, &all, limit).unwrap().entries.len();
        let (offsets, next, _) = told(replay(&log, 64 << 20).read(EPOCH, from, 1_001, &all));
        assert!(offsets.len() * 2 >= full);
        assert!(next == 1_001 || from + (full as u64) < 1_001);
    }
}

#[test]
fn a_step_is_recalled_up_to_where_one_may_read() {
    let (log, all) = (log(100, None), everything());
    let replay = replay(&log, 64 << 20);
    assert!(replay.recall(EPOCH, 1, 11, &all).is_none());
    let (_, next, _) = told(replay.read(EPOCH, 1, 101, &all));
    for until in [2, 11, next, 1_000] {
        let (offsets, end, _) = told(replay.recall(EPOCH, 1, until, &all).unwrap());
        assert_eq!((offsets, end), ((1..until.min(next)).collect(), until.min(next)));
    }
    let other = Interest::new(vec![Selector::All], vec![], Rights::public_only());
    assert!(replay.recall(EPOCH, 1, 11, &other).is_none());
}

#[test]
fn a_used_up_budget_leaves_one_event_at_a_time() {
    let (log, all) = (log(20_000, None), everything());
    let replay = replay(&log, 1_000_000);
    let mut held = Vec::new();
    while !replay.budget().is_used_up() {
        let from = 1 + 200 * held.len() as u64;
        held.push(replay.read(EPOCH, from, 20_001, &all));
    }
    let (several, ..) = told(held.remove(0));
    assert!(several.len() > 1);
    assert_eq!(told(replay.read(EPOCH, 19_901, 20_001, &all)), (vec![19_901], 19_902, None));
    let last = 1 + 200 * held.len() as u64;
    assert_eq!(
        told(replay.recall(EPOCH, last, 20_001, &all).unwrap()),
        (vec![last], last + 1, None)
    );
    drop(held);
    replay.forget_idle();
    replay.forget_idle();
    assert_eq!(replay.budget().held_bytes(), 0);
    assert!(told(replay.read(EPOCH, 1, 20_001, &all)).0.len() > 1);
}

#[test]
fn what_a_rule_drops_later_is_left_out_of_kept_steps() {
    let (log, all) = (log(100, Some(95)), everything());
    let replay = replay(&log, 64 << 20);
    let (before, next, dropped) = told(replay.read(EPOCH, 1, 101, &all));
    assert_eq!((before[0], dropped), (1, None));
    log.trim(0);
    let (after, _, dropped) = told(replay.recall(EPOCH, 1, 101, &all).unwrap());
    let kept: Vec<u64> = std::iter::once(1).chain(6..next).collect();
    assert_eq!((after, dropped), (kept, Some(5)));
    assert_eq!(told(replay.recall(EPOCH, 1, 101, &all).unwrap()).1, next);
}

#[test]
fn what_is_trimmed_is_not_recalled() {
    let all = everything();
    let log = log(100, None);
    let replay = replay(&log, 64 << 20);
    told(replay.read(EPOCH, 1, 101, &all));
    log.trim(u64::MAX);
    assert!(replay.recall(EPOCH, 1, 101, &all).is_none());
    assert!(matches!(replay.read(EPOCH, 1, 101, &all), ReadOutcome::Trimmed { oldest: 101 }));
}
