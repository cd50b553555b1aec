//! The log in Redis beside the log in memory, and beside itself on another node.

use std::time::Duration;

use tidings_core::{Epoch, Topic};
use tidings_log::shared::{SharedLog, SharedLogOptions};
use tidings_log::{
    EventLog, Followed, Key, KeyWindow, MemoryLog, MemoryLogOptions, Record, Retention,
};
use tidings_log_redis::RedisEngine;

use crate::node::record;
use crate::server::{Server, eventually};

/// Keys, runs of keys, last events, windows and retention in random order: both answer the same.
#[test]
fn every_answer_is_that_of_the_log_in_memory() {
    let server = Server::start(&[]);
    for seed in 1..=6_u64 {
        let retention = Retention { events_max: 40, age_max_ms: 300, ..ample() };
        let keys = KeyWindow { age_max_ms: 100, runs_max: 1_000_000 };
        let memory = MemoryLog::new(
            Epoch::from_random(seed),
            MemoryLogOptions { retention: retention.clone(), keys },
        );
        let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
        let shared = open(&format!("{}?name=seed-{seed}", server.url()), options);
        let mut random = Random(seed);
        let mut now = 1_000;
        for step in 0..150 {
            now += random.below(20);
            let publishes: Vec<Vec<Record>> = (0..random.below(5))
                .map(|_| (0..random.below(6)).map(|_| random.record()).collect())
                .collect();
            let expected = memory.append(publishes.clone(), now).unwrap();
            let appended = shared.append(publishes, now).unwrap();
            assert_eq!(appended.outcomes, expected.outcomes, "seed {seed}, step {step}");
            let shown = |entries: &[tidings_core::Entry<tidings_log::Body>]| format!("{entries:?}");
            assert_eq!(shown(&appended.entries), shown(&expected.entries));
            memory.trim(now);
            shared.trim(now);
            assert_eq!(shared.bounds(), memory.bounds(), "seed {seed}, step {step}");
        }
    }
}

#[test]
fn what_one_node_appends_the_other_follows() {
    let server = Server::start(&[]);
    let logs = [(); 2].map(|()| open(&server.url(), SharedLogOptions::default()));
    assert_eq!(logs[0].epoch(), logs[1].epoch());
    let mut followed = [Vec::new(), Vec::new()];
    for round in 0..20 {
        for (number, log) in logs.iter().enumerate() {
            log.append(vec![vec![record("t", &format!("{number} {round}"))]], 1_000).unwrap();
        }
        for (log, seen) in logs.iter().zip(&mut followed) {
            eventually("both events come", || {
                if let Followed::Entries(entries) = log.follow(Duration::from_secs(1)) {
                    seen.extend(entries.into_iter().map(|it| (it.offset, it.payload.data)));
                }
                (seen.len() == 2 * (round + 1)).then_some(())
            });
        }
    }
    assert_eq!(followed[0], followed[1]);
    assert!(followed[0].iter().map(|it| it.0).eq(1..=40));
    // A key and a last event are those of the log, not of the node.
    let keyed = || Record { key: Some(Key::parse("k").unwrap()), ..record("t", "") };
    let first = logs[0].append(vec![vec![keyed()]], 1_000).unwrap().outcomes.remove(0).unwrap();
    let again = logs[1].append(vec![vec![keyed()]], 1_000).unwrap().outcomes.remove(0).unwrap();
    assert_eq!(
        (first.iter().next(), again.iter().next(), again.repeated()),
        (Some(41), Some(41), 1)
    );
    logs[0].append(vec![vec![crate::node::ended("job")]], 1_000).unwrap();
    assert!(logs[1].append(vec![vec![record("job", "")]], 1_000).unwrap().outcomes[0].is_err());
    let board = |number: usize| logs[number].board().unwrap();
    board(0).put("a", b"here", Duration::from_secs(60)).unwrap();
    assert_eq!(board(1).notes("").unwrap(), [("a".to_owned(), b"here".to_vec())]);
}

fn open(url: &str, options: SharedLogOptions) -> SharedLog<RedisEngine> {
    SharedLog::open(RedisEngine::new(url).unwrap(), options).unwrap()
}

fn ample() -> Retention {
    Retention { events_max: 10_000, bytes_max: 64 << 20, age_max_ms: u64::MAX, rules: Vec::new() }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn record(&mut self) -> Record {
        let topics: Vec<Topic> = (0..=self.below(2))
            .map(|_| Topic::parse(&format!("topic/{}", self.below(8))).unwrap())
            .collect();
        let key = match self.below(4) {
            0 => Some(format!("whole-{}", self.below(12))),
            1 => Some(format!("run:{}", self.below(12))),
            2 => Some(format!("run:more:{}", self.below(12))),
            _ => None,
        };
        Record {
            key: key.map(|key| Key::parse(&key).unwrap()),
            is_final: self.below(12) == 0,
            private: self.below(3) == 0,
            retry_ms: (self.below(5) == 0).then_some(7),
            ..Record::new(topics, "data")
        }
    }
}
