use super::*;
use crate::conformance::record;

const AMPLE: Retention =
    Retention { events_max: 9, bytes_max: u64::MAX, age_max_ms: 1_000, rules: Vec::new() };

fn log(retention: Retention) -> MemoryLog {
    let options = MemoryLogOptions { retention, keys: KeyWindow::default() };
    MemoryLog::new(Epoch::from_random(1), options)
}

fn check(retention: Retention, appended: &[(&str, UnixMillis)], expected: Bounds) {
    let log = log(retention);
    for &(data, now) in appended {
        log.append(vec![vec![record("a", data)]], now).unwrap();
    }
    log.trim(appended.last().map_or(0, |&(_, now)| now));
    assert_eq!(log.bounds(), expected);
}

#[test]
fn the_memory_log_conforms() {
    crate::conformance::check(|retention, keys| {
        let options = MemoryLogOptions { retention, keys };
        Box::new(MemoryLog::new(Epoch::from_random(1), options))
    });
}

#[test]
fn events_max_keeps_the_newest() {
    let retention = Retention { events_max: 2, ..AMPLE };
    check(retention, &[("x", 0), ("y", 0), ("z", 0)], Bounds { oldest: 2, next: 4 });
}

#[test]
fn bytes_max_keeps_the_newest_even_if_it_alone_is_larger() {
    let one = entry_bytes(&entry(1, record("a", "x"), 0), 1) as u64;
    let retention = Retention { bytes_max: 2 * one, ..AMPLE };
    check(retention.clone(), &[("x", 0), ("y", 0), ("z", 0)], Bounds { oldest: 2, next: 4 });
    let large = "x".repeat(10_000);
    check(retention, &[("x", 0), ("y", 0), (&large, 0)], Bounds { oldest: 3, next: 4 });
}

#[test]
fn age_max_lets_go_of_what_is_older() {
    check(AMPLE, &[("x", 0), ("y", 500), ("z", 1_001)], Bounds { oldest: 2, next: 4 });
    check(AMPLE, &[("x", 1_000), ("y", 0)], Bounds { oldest: 1, next: 3 });
}

#[test]
fn what_a_rule_drops_takes_no_room() {
    let topics = tidings_core::Selector::parse("a").unwrap();
    let rule = crate::RetentionRule { topics, events_max: Some(1), age_max_ms: None };
    let log = log(Retention { rules: vec![rule], ..AMPLE });
    let large = "x".repeat(10_000);
    log.append(vec![vec![record("a", &large), record("a", "y")]], 0).unwrap();
    assert!(log.state().ring.bytes() > 10_000);
    log.trim(0);
    assert!(log.state().ring.bytes() < 1_000);
}
