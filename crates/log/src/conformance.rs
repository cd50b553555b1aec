//! The suite that every log must pass.
//!
//! A log's own tests call [`check`] with a way to make an empty log that keeps at least 10,000
//! small events for as long as the suite runs.

use std::sync::Arc;

use tidings_core::{Bounds, Entry, EventType, Interest, Rights, Selector, Topic};

use crate::{Body, EventLog, ReadLimit, ReadStep, Record};

/// Runs every case on a new log of its own.
///
/// # Panics
///
/// If the log does not do what [`EventLog`] says.
pub fn check(make: impl Fn() -> Box<dyn EventLog>) {
    for case in CASES {
        case(make().as_ref());
    }
}

/// A public record under one topic.
pub fn record(topic: &str, data: &str) -> Record {
    record_of(&[topic], None, false, data)
}

/// What is interested in everything.
pub fn everything() -> Interest {
    interest(&["*"], &[])
}

const CASES: [fn(&dyn EventLog); 10] = [
    an_empty_log_has_nothing_to_read,
    offsets_are_dense_and_begin_with_one,
    what_was_appended_is_read_back_unchanged,
    a_read_stays_within_its_limits_and_moves_on,
    a_read_ends_where_it_is_told,
    a_large_event_is_returned_alone,
    a_rare_topic_is_found_among_many,
    the_last_events_are_found_backwards,
    reading_goes_on_while_others_append,
    every_read_and_search_agrees_with_a_naive_one,
];

const NO_LIMIT: ReadLimit = ReadLimit {
    events_max: usize::MAX,
    bytes_max: usize::MAX,
    candidates_max: usize::MAX,
    comparisons_max: usize::MAX,
};

fn an_empty_log_has_nothing_to_read(log: &dyn EventLog) {
    assert_eq!(log.bounds(), Bounds { oldest: 1, next: 1 });
    let step = log.read(1, 1, &everything(), NO_LIMIT).unwrap();
    assert!(step.entries.is_empty());
    let step = log.seek(1, 5, &everything(), NO_LIMIT).unwrap();
    assert_eq!((step.found, step.lowest, step.complete), (0, None, true));
}

fn offsets_are_dense_and_begin_with_one(log: &dyn EventLog) {
    let first = log.append(vec![record("a", "1"), record("b", "2")], 0).unwrap();
    let second = log.append(vec![record("a", "3")], 0).unwrap();
    assert_eq!(offsets(&first), [1, 2]);
    assert_eq!(offsets(&second), [3]);
    assert!(log.append(Vec::new(), 0).unwrap().is_empty());
    assert_eq!(log.bounds(), Bounds { oldest: 1, next: 4 });
}

fn what_was_appended_is_read_back_unchanged(log: &dyn EventLog) {
    let data = "line\r\nline\u{0}\u{1F600}\u{FEFF}";
    let mut appended = record_of(&["a", "b/ü"], Some("created"), true, data);
    appended.retry_ms = Some(5_000);
    log.append(vec![appended, record("a", "")], 77).unwrap();
    let entries = read_all(log, &everything());
    assert_eq!(offsets(&entries), [1, 2]);
    let first = &entries[0];
    assert_eq!(first.topics.iter().map(Topic::as_str).collect::<Vec<_>>(), ["a", "b/ü"]);
    assert_eq!(first.event_type.as_ref().map(EventType::as_str), Some("created"));
    assert!(first.private);
    let Body { data: read, retry_ms, appended_at } = &first.payload;
    assert_eq!((read.as_ref(), *retry_ms, *appended_at), (data, Some(5_000), 77));
    assert_eq!((entries[1].payload.data.as_ref(), entries[1].payload.retry_ms), ("", None));
}

fn a_read_stays_within_its_limits_and_moves_on(log: &dyn EventLog) {
    append_many(log, 100, |_| "a");
    for limit in [
        ReadLimit { events_max: 7, ..NO_LIMIT },
        ReadLimit { candidates_max: 7, ..NO_LIMIT },
        ReadLimit { comparisons_max: 7, ..NO_LIMIT },
        ReadLimit { comparisons_max: 0, ..NO_LIMIT },
        ReadLimit { bytes_max: 1, ..NO_LIMIT },
    ] {
        for wanted in [everything(), interest(&["a"], &[])] {
            let mut from = 1;
            let mut read = Vec::new();
            while from < 101 {
                let ReadStep { entries, next } = log.read(from, 101, &wanted, limit).unwrap();
                assert!(from < next && next <= 101, "a step from {from} led to {next}");
                assert!(entries.len() <= limit.events_max);
                assert!(limit.bytes_max != 1 || entries.len() <= 1);
                read.extend(offsets(&entries));
                from = next;
            }
            assert_eq!(read, (1..=100).collect::<Vec<_>>());
        }
    }
}

fn a_read_ends_where_it_is_told(log: &dyn EventLog) {
    append_many(log, 10, |_| "a");
    for wanted in [everything(), interest(&["a"], &[]), interest(&["other"], &[])] {
        let step = log.read(3, 6, &wanted, NO_LIMIT).unwrap();
        assert_eq!(step.next, 6);
        assert!(step.entries.iter().all(|entry| (3..6).contains(&entry.offset)));
        let beyond = log.read(8, 1_000, &wanted, NO_LIMIT).unwrap();
        assert_eq!(beyond.next, 11);
    }
}

fn a_large_event_is_returned_alone(log: &dyn EventLog) {
    let large = "x".repeat(100_000);
    log.append(vec![record("a", "1"), record("a", &large), record("a", "3")], 0).unwrap();
    let limit = ReadLimit { bytes_max: 2_000, ..NO_LIMIT };
    let step = log.read(2, 4, &everything(), limit).unwrap();
    assert_eq!((offsets(&step.entries), step.next), (vec![2], 3));
}

fn a_rare_topic_is_found_among_many(log: &dyn EventLog) {
    append_many(log, 5_000, |offset| if offset % 1_000 == 1 { "rare" } else { "common" });
    let rare = interest(&["rare"], &[]);
    assert_eq!(offsets(&read_all(log, &rare)), [1, 1_001, 2_001, 3_001, 4_001]);
    let both = interest(&["rare", "absent"], &["message"]);
    assert_eq!(offsets(&read_all(log, &both)), [1, 1_001, 2_001, 3_001, 4_001]);
    assert!(read_all(log, &interest(&["rare"], &["created"])).is_empty());
}

fn the_last_events_are_found_backwards(log: &dyn EventLog) {
    append_many(log, 1_000, |offset| if offset % 100 == 1 { "rare" } else { "common" });
    for candidates_max in [7, 150, usize::MAX] {
        for selector in ["rare", "r{x}re", "{x}are"] {
            let found = seek_all(log, &interest(&[selector], &[]), 951, 3, candidates_max);
            assert_eq!(found, (3, Some(701)), "{selector} by {candidates_max}");
            let found = seek_all(log, &interest(&[selector], &[]), 1_001, 99, candidates_max);
            assert_eq!(found, (10, Some(1)), "{selector} by {candidates_max}");
        }
        assert_eq!(seek_all(log, &interest(&["absent"], &[]), 1_001, 3, candidates_max), (0, None));
    }
}

fn reading_goes_on_while_others_append(log: &dyn EventLog) {
    const COUNT: u64 = 2_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..COUNT / 10 {
                append_many(log, 10, |_| "a");
            }
        });
        for wanted in [everything(), interest(&["a"], &[])] {
            scope.spawn(move || {
                let mut from = 1;
                while from <= COUNT {
                    let until = log.bounds().next;
                    let step = log.read(from, until, &wanted, NO_LIMIT).unwrap();
                    let expected: Vec<u64> = (from..step.next).collect();
                    assert_eq!(offsets(&step.entries), expected);
                    from = step.next;
                    std::thread::yield_now();
                }
            });
        }
    });
}

/// Random topics, types and rights; a fixed seed, for the naive answer is computed from what was
/// appended and needs no luck.
fn every_read_and_search_agrees_with_a_naive_one(log: &dyn EventLog) {
    const TOPICS: [&str; 4] = ["a", "b", "orders/1", "orders/2"];
    const TYPES: [Option<&str>; 3] = [None, Some("created"), Some("deleted")];
    let interests = [
        everything(),
        interest(&["a"], &[]),
        interest(&["a", "orders/2"], &["created", "message"]),
        interest(&["orders/{id}", "b"], &["deleted"]),
        Interest::new(selectors(&["a", "b", "orders/1"]), Vec::new(), Rights::public_only()),
    ];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let records = (0..600).map(|_| {
        let topics: Vec<&str> = (0..=random(2)).map(|_| TOPICS[random(4)]).collect();
        record_of(&topics, TYPES[random(3)], random(3) == 0, "data")
    });
    let all = log.append(records.collect(), 0).unwrap();
    for wanted in &interests {
        let admitted = |entry: &&Arc<Entry<Body>>| {
            wanted.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
        };
        let naive: Vec<u64> = all.iter().filter(admitted).map(|entry| entry.offset).collect();
        assert_eq!(offsets(&read_all(log, wanted)), naive);
        for _ in 0..20 {
            let (before, count) = (1 + random(601) as u64, 1 + random(40));
            let below: Vec<u64> =
                naive.iter().copied().filter(|&at| at < before).rev().take(count).collect();
            let found = seek_all(log, wanted, before, count as u32, 1 + random(700));
            assert_eq!(found, (below.len() as u32, below.last().copied()));
        }
    }
}

fn append_many(log: &dyn EventLog, count: u64, topic_of: impl Fn(u64) -> &'static str) {
    let first = log.bounds().next;
    let records = (first..first + count).map(|offset| record(topic_of(offset), "data"));
    log.append(records.collect(), 0).unwrap();
}

fn read_all(log: &dyn EventLog, wanted: &Interest) -> Vec<Arc<Entry<Body>>> {
    let limit =
        ReadLimit { events_max: 50, bytes_max: 10_000, candidates_max: 100, comparisons_max: 300 };
    let until = log.bounds().next;
    let mut from = log.bounds().oldest;
    let mut read = Vec::new();
    while from < until {
        let step = log.read(from, until, wanted, limit).unwrap();
        assert!(step.next > from);
        let admitted =
            |it: &Arc<Entry<Body>>| wanted.admits(&it.topics, it.event_type.as_ref(), it.private);
        read.extend(step.entries.into_iter().filter(admitted));
        from = step.next;
    }
    read
}

fn seek_all(
    log: &dyn EventLog,
    wanted: &Interest,
    mut before: u64,
    count: u32,
    candidates_max: usize,
) -> (u32, Option<u64>) {
    let limit = ReadLimit { candidates_max, comparisons_max: candidates_max, ..NO_LIMIT };
    let (mut found, mut lowest) = (0, None);
    loop {
        let step = log.seek(before, count - found, wanted, limit).unwrap();
        assert!(step.before < before || step.complete, "a search moves on");
        found += step.found;
        lowest = step.lowest.or(lowest);
        if found == count || step.complete {
            return (found, lowest);
        }
        before = step.before;
    }
}

fn record_of(topics: &[&str], event_type: Option<&str>, private: bool, data: &str) -> Record {
    let topic = |text: &&str| Topic::parse(text).expect("the suite uses valid topics");
    let parse = |text| EventType::parse(text).expect("the suite uses valid types");
    Record {
        topics: topics.iter().map(topic).collect(),
        event_type: event_type.map(parse),
        private,
        data: data.into(),
        retry_ms: None,
    }
}

fn interest(texts: &[&str], event_types: &[&str]) -> Interest {
    let parse = |text: &&str| EventType::parse(text).expect("the suite uses valid types");
    let event_types = event_types.iter().map(parse).collect();
    Interest::new(selectors(texts), event_types, Rights::everything())
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    let parse = |text: &&str| Selector::parse(text).expect("the suite uses valid selectors");
    texts.iter().map(parse).collect()
}

fn offsets<P>(entries: &[Arc<Entry<P>>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.offset).collect()
}
