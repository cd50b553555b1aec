//! The suite that every log must pass.
//!
//! A log's own tests call [`check`] with a way to make an empty log of given options. Those of an
//! [`Engine`](crate::shared::Engine) call [`check_engine`] and, with the log on top of it, [`check_shared`].

mod engine;
mod shared;

use std::sync::Arc;

use tidings_core::{Bounds, Entry, EventType, Interest, Rights, Selector, Topic};

use crate::{
    Body, EventLog, Key, KeyWindow, Offsets, ReadError, ReadLimit, ReadStep, Record, Refusal,
    Retention, RetentionRule, UnixMillis,
};

pub use engine::check_engine;
pub use shared::check_shared;

/// Runs every case on a new log of its own.
///
/// # Panics
///
/// If the log does not do what [`EventLog`] says.
pub fn check(make: impl Fn(Retention, KeyWindow) -> Box<dyn EventLog>) {
    for case in CASES {
        case(make(ample(), KeyWindow::default()).as_ref());
    }
    for (case, rules) in RULED_CASES {
        let rules = rules.iter().map(|&rule| rule_of(rule)).collect();
        case(make(Retention { rules, ..ample() }, KeyWindow::default()).as_ref());
    }
    let narrow = Retention { events_max: 10, age_max_ms: 1_000, ..ample() };
    what_left_is_named_as_trimmed(make(narrow.clone(), KeyWindow::default()).as_ref());
    a_finished_topic_opens_once_its_last_event_is_gone(
        make(narrow.clone(), KeyWindow::default()).as_ref(),
    );
    let window = KeyWindow { age_max_ms: 5_000, runs_max: 100 };
    a_key_outlives_its_event_and_ends_with_its_window(make(narrow, window).as_ref());
}

/// A public record under one topic.
pub fn record(topic: &str, data: &str) -> Record {
    record_of(&[topic], None, false, data)
}

/// What is interested in everything.
pub fn everything() -> Interest {
    interest(&["*"], &[])
}

type Case = fn(&dyn EventLog);
/// A selector, events of each topic, milliseconds; 0 for no bound.
type Rule = (&'static str, u64, u64);

const CASES: [Case; 17] = [
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
    publishes_are_told_their_offsets_apart,
    a_repeated_key_answers_the_first_offset,
    keys_are_repeated_within_one_publish_and_between_waiting_ones,
    nothing_follows_the_last_event_of_a_topic,
    a_refused_publish_leaves_no_trace,
    a_repeated_last_event_is_answered_not_refused,
    a_closed_log_is_read_but_not_written,
];

const RULED_CASES: [(Case, &[Rule]); 4] = [
    (a_rule_keeps_so_many_events_of_each_topic, &[("prices/{name}", 2, 0)]),
    (a_rule_keeps_events_for_a_time, &[("prices/{name}", 0, 1_000)]),
    (an_event_stays_while_one_of_its_topics_keeps_it, &[("prices/{name}", 1, 0), ("note", 2, 0)]),
    (the_first_rule_that_matches_holds, &[("prices/main", 3, 0), ("prices/{name}", 1, 0)]),
];

const NO_LIMIT: ReadLimit = ReadLimit {
    events_max: usize::MAX,
    bytes_max: usize::MAX,
    candidates_max: usize::MAX,
    comparisons_max: usize::MAX,
};

fn ample() -> Retention {
    Retention { events_max: 10_000, bytes_max: 64 << 20, age_max_ms: u64::MAX, rules: Vec::new() }
}

fn an_empty_log_has_nothing_to_read(log: &dyn EventLog) {
    assert_eq!(log.bounds(), Bounds { oldest: 1, next: 1 });
    let step = log.read(1, 1, &everything(), NO_LIMIT).unwrap();
    assert!(step.entries.is_empty());
    let step = log.seek(1, 5, &everything(), NO_LIMIT).unwrap();
    assert_eq!((step.found, step.lowest, step.complete), (0, None, true));
}

fn offsets_are_dense_and_begin_with_one(log: &dyn EventLog) {
    let first = append(log, vec![record("a", "1"), record("b", "2")], 0);
    let second = append(log, vec![record("a", "3")], 0);
    assert_eq!(offsets(&first), [1, 2]);
    assert_eq!(offsets(&second), [3]);
    assert!(append(log, Vec::new(), 0).is_empty());
    assert!(log.append(Vec::new(), 0).unwrap().outcomes.is_empty());
    assert_eq!(log.bounds(), Bounds { oldest: 1, next: 4 });
}

fn what_was_appended_is_read_back_unchanged(log: &dyn EventLog) {
    let data = "line\r\nline\u{0}\u{1F600}\u{FEFF}";
    let mut appended = record_of(&["a", "b/ü"], Some("created"), true, data);
    appended.retry_ms = Some(5_000);
    append(log, vec![appended, record("a", "")], 77);
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
    append(log, vec![record("a", "1"), record("a", &large), record("a", "3")], 0);
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
    let all = append(log, records.collect(), 0);
    for wanted in &interests {
        let admitted = |entry: &&Entry<Body>| {
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

fn publishes_are_told_their_offsets_apart(log: &dyn EventLog) {
    let publishes = vec![vec![record("a", "1")], Vec::new(), vec![record("b", "2"); 3]];
    let appended = log.append(publishes, 0).unwrap();
    assert_eq!(offsets(&appended.entries), [1, 2, 3, 4]);
    let outcomes: Vec<Offsets> = appended.outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [Offsets::new(1, 1), Offsets::new(2, 0), Offsets::new(2, 3)]);
}

fn a_repeated_key_answers_the_first_offset(log: &dyn EventLog) {
    let keys = ["k", "import:1", "import:2", "import:4"];
    let first = publish(log, keys.map(|key| keyed("a", key)).into(), 0).unwrap();
    assert_eq!((first.iter().collect::<Vec<_>>(), first.repeated()), (vec![1, 2, 3, 4], 0));
    let again = ["import:4", "new", "k", "import:3", "import:2"];
    let again = publish(log, again.map(|key| keyed("b", key)).into(), 10).unwrap();
    assert_eq!((again.iter().collect::<Vec<_>>(), again.repeated()), (vec![4, 5, 1, 6, 3], 3));
    let only_repeated = publish(log, vec![keyed("a", "k")], 10).unwrap();
    assert_eq!(only_repeated.iter().collect::<Vec<_>>(), [1]);
    assert_eq!(log.bounds().next, 7);
    let entries = read_all(log, &everything());
    assert_eq!(entries.iter().map(|it| it.topics[0].as_str()).collect::<String>(), "aaaabb");
}

fn keys_are_repeated_within_one_publish_and_between_waiting_ones(log: &dyn EventLog) {
    let publishes = vec![
        vec![keyed("a", "one"), keyed("a", "two"), keyed("a", "one")],
        vec![keyed("a", "two")],
        vec![keyed("a", "three"), record("a", "")],
    ];
    let appended = log.append(publishes, 0).unwrap();
    let told = appended.outcomes.iter().map(|it| it.as_ref().unwrap().iter().collect::<Vec<_>>());
    assert_eq!(told.collect::<Vec<_>>(), [vec![1, 2, 1], vec![2], vec![3, 4]]);
    assert_eq!(offsets(&appended.entries), [1, 2, 3, 4]);
}

fn nothing_follows_the_last_event_of_a_topic(log: &dyn EventLog) {
    let ended = |topic: &str| Record { is_final: true, ..record(topic, "") };
    publish(log, vec![record("job/1", "50 %"), ended("job/1")], 0).unwrap();
    assert_eq!(log.finished(&topic("job/1")), Some(2));
    assert_eq!(log.finished(&topic("job/2")), None);
    let finished = |name: &str, offset| Err(Refusal::Finished { topic: topic(name), offset });
    assert_eq!(publish(log, vec![record("job/1", "")], 0), finished("job/1", 2));
    assert_eq!(
        publish(log, vec![record_of(&["x", "job/1"], None, false, "")], 0),
        finished("job/1", 2)
    );
    assert_eq!(publish(log, vec![ended("job/1")], 0), finished("job/1", 2));
    // Between publishes that wait together, and within one.
    let publishes =
        vec![vec![ended("job/2")], vec![record("job/2", "")], vec![record("job/3", "")]];
    let appended = log.append(publishes, 0).unwrap();
    assert_eq!(appended.outcomes[1], finished("job/2", 3));
    assert_eq!(appended.outcomes[2], Ok(Offsets::new(4, 1)));
    assert!(publish(log, vec![ended("job/4"), record("job/4", "")], 0).is_err());
    let entries = read_all(log, &everything());
    let ends: Vec<u64> = entries.iter().filter(|it| it.is_final).map(|it| it.offset).collect();
    assert_eq!((offsets(&entries), ends), (vec![1, 2, 3, 4], vec![2, 3]));
}

fn a_refused_publish_leaves_no_trace(log: &dyn EventLog) {
    let ended = Record { is_final: true, ..record("job/1", "") };
    publish(log, vec![ended.clone()], 0).unwrap();
    let other = Record { is_final: true, ..keyed("job/2", "k") };
    assert!(publish(log, vec![other, record("job/1", "")], 0).is_err());
    assert_eq!(log.finished(&topic("job/2")), None);
    let later = publish(log, vec![keyed("job/2", "k")], 0).unwrap();
    assert_eq!((later.iter().collect::<Vec<_>>(), later.repeated()), (vec![2], 0));
}

fn a_repeated_last_event_is_answered_not_refused(log: &dyn EventLog) {
    let ended = Record { is_final: true, ..keyed("job/1", "end") };
    publish(log, vec![keyed("job/1", "p:1"), ended.clone()], 0).unwrap();
    let again = publish(log, vec![keyed("job/1", "p:1"), ended], 0).unwrap();
    assert_eq!((again.iter().collect::<Vec<_>>(), again.repeated()), (vec![1, 2], 2));
}

fn a_closed_log_is_read_but_not_written(log: &dyn EventLog) {
    append_many(log, 3, |_| "a");
    assert_eq!(log.failure(), None);
    log.close();
    assert!(log.append(vec![vec![record("a", "")]], 0).is_err());
    assert!(log.failure().is_some());
    assert_eq!(offsets(&read_all(log, &everything())), [1, 2, 3]);
}

fn a_rule_keeps_so_many_events_of_each_topic(log: &dyn EventLog) {
    for _ in 0..3 {
        append(log, ["prices/a", "prices/b", "x"].map(|topic| record(topic, "")).into(), 0);
    }
    append(log, vec![record("prices/a", "")], 0);
    log.trim(0);
    assert_eq!(offsets(&read_all(log, &everything())), [3, 5, 6, 7, 8, 9, 10]);
    for (selector, dropped) in [
        ("prices/a", Some(4)),
        ("prices/b", Some(2)),
        ("x", None),
        ("other", None),
        ("prices/{name}", Some(4)),
        ("orders/{name}", None),
        ("*", Some(4)),
    ] {
        let wanted = interest(&[selector], &[]);
        assert_eq!(log.dropped(&wanted, 1), dropped, "{selector}");
        assert_eq!(log.dropped(&wanted, 5), None, "{selector}");
    }
    assert!(!log.is_kept(4, &[topic("prices/a")]) && log.is_kept(7, &[topic("prices/a")]));
    assert_eq!(seek_all(log, &interest(&["prices/a"], &[]), 11, 9, 100), (2, Some(7)));
    append_many(log, 5, |_| "prices/b");
    log.trim(0);
    assert_eq!(offsets(&read_all(log, &interest(&["prices/b"], &[]))), [14, 15]);
}

fn a_rule_keeps_events_for_a_time(log: &dyn EventLog) {
    append(log, vec![record("prices/a", ""), record("x", "")], 0);
    append(log, vec![record("prices/a", ""), record("x", "")], 500);
    log.trim(1_000);
    assert_eq!(offsets(&read_all(log, &everything())), [1, 2, 3, 4]);
    assert_eq!(log.dropped(&everything(), 1), None);
    log.trim(1_001);
    assert_eq!(offsets(&read_all(log, &everything())), [2, 3, 4]);
    // The first event at least, and nothing that is kept.
    assert!(matches!(log.dropped(&interest(&["prices/a"], &[]), 1), Some(1 | 2)));
    assert_eq!(log.dropped(&interest(&["prices/a"], &[]), 3), None);
    assert_eq!(log.dropped(&interest(&["x"], &[]), 1), None);
    assert!(!log.is_kept(1, &[topic("prices/a")]) && log.is_kept(2, &[topic("x")]));
    log.trim(5_000);
    assert_eq!(offsets(&read_all(log, &everything())), [2, 4]);
}

fn an_event_stays_while_one_of_its_topics_keeps_it(log: &dyn EventLog) {
    append(log, vec![record_of(&["prices/a", "note"], None, false, "")], 0);
    append(log, vec![record_of(&["prices/a", "x"], None, false, "")], 0);
    append(log, vec![record("prices/a", ""), record("prices/a", "")], 0);
    log.trim(0);
    assert_eq!(offsets(&read_all(log, &everything())), [1, 2, 4]);
    append(log, vec![record("note", ""), record("note", "")], 0);
    log.trim(0);
    assert_eq!(offsets(&read_all(log, &everything())), [2, 4, 5, 6]);
}

fn the_first_rule_that_matches_holds(log: &dyn EventLog) {
    append_many(log, 8, |offset| if offset % 2 == 0 { "prices/main" } else { "prices/other" });
    log.trim(0);
    assert_eq!(offsets(&read_all(log, &everything())), [4, 6, 7, 8]);
}

fn what_left_is_named_as_trimmed(log: &dyn EventLog) {
    append_many(log, 25, |_| "a");
    log.trim(0);
    assert_eq!(log.bounds(), Bounds { oldest: 16, next: 26 });
    let error = log.read(15, 26, &everything(), NO_LIMIT).unwrap_err();
    assert_eq!(error, ReadError::Trimmed { oldest: 16 });
    assert_eq!(offsets(&read_all(log, &everything())), (16..26).collect::<Vec<_>>());
    assert_eq!(seek_all(log, &interest(&["a"], &[]), 26, 99, 100), (10, Some(16)));
    append(log, vec![record("a", "")], 700);
    log.trim(1_001);
    assert_eq!(log.bounds(), Bounds { oldest: 26, next: 27 });
    log.trim(9_999);
    assert_eq!(log.bounds(), Bounds { oldest: 27, next: 27 });
    assert!(read_all(log, &everything()).is_empty());
}

fn a_finished_topic_opens_once_its_last_event_is_gone(log: &dyn EventLog) {
    append(log, vec![Record { is_final: true, ..record("job", "") }], 0);
    append_many(log, 9, |_| "a");
    assert!(publish(log, vec![record("job", "")], 0).is_err());
    append_many(log, 1, |_| "a");
    log.trim(0);
    assert_eq!(log.finished(&topic("job")), None);
    assert!(publish(log, vec![record("job", "")], 0).is_ok());
}

fn a_key_outlives_its_event_and_ends_with_its_window(log: &dyn EventLog) {
    append(log, vec![keyed("a", "k")], 0);
    append_many(log, 50, |_| "a");
    log.trim(4_000);
    let again = |now| publish(log, vec![keyed("a", "k")], now).unwrap().iter().next();
    assert_eq!(log.bounds().oldest, 52);
    assert_eq!(again(5_000), Some(1));
    assert_eq!(again(5_001), Some(52));
    assert_eq!(again(5_002), Some(52));
}

fn append(log: &dyn EventLog, records: Vec<Record>, now: UnixMillis) -> Vec<Entry<Body>> {
    log.append(vec![records], now).unwrap().entries
}

fn publish(log: &dyn EventLog, records: Vec<Record>, now: UnixMillis) -> Result<Offsets, Refusal> {
    log.append(vec![records], now).unwrap().outcomes.remove(0)
}

fn append_many(log: &dyn EventLog, count: u64, topic_of: impl Fn(u64) -> &'static str) {
    let first = log.bounds().next;
    let records = (first..first + count).map(|offset| record(topic_of(offset), "data"));
    append(log, records.collect(), 0);
}

fn read_all(log: &dyn EventLog, wanted: &Interest) -> Vec<Entry<Body>> {
    let limit =
        ReadLimit { events_max: 50, bytes_max: 10_000, candidates_max: 100, comparisons_max: 300 };
    let until = log.bounds().next;
    let mut from = log.bounds().oldest;
    let mut read = Vec::new();
    while from < until {
        let step = log.read(from, until, wanted, limit).unwrap();
        assert!(step.next > from);
        let admitted =
            |it: &Entry<Body>| wanted.admits(&it.topics, it.event_type.as_ref(), it.private);
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
    let parse = |text| EventType::parse(text).expect("the suite uses valid types");
    let topics: Arc<[Topic]> = topics.iter().map(|text| topic(text)).collect();
    Record { event_type: event_type.map(parse), private, ..Record::new(topics, data) }
}

fn keyed(topic: &str, key: &str) -> Record {
    Record { key: Some(Key::parse(key).expect("the suite uses valid keys")), ..record(topic, "") }
}

fn rule_of((selector, events_max, age_max_ms): Rule) -> RetentionRule {
    let topics = Selector::parse(selector).expect("the suite uses valid selectors");
    let bound = |number: u64| (number > 0).then_some(number);
    RetentionRule { topics, events_max: bound(events_max), age_max_ms: bound(age_max_ms) }
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("the suite uses valid topics")
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

fn offsets<P>(entries: &[Entry<P>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.offset).collect()
}
