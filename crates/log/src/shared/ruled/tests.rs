use std::time::Duration;

use fastrand::Rng;
use tidings_core::{Epoch, Rights, Selector};

use super::super::{InMemoryEngine, InMemoryStore, SharedLog, SharedLogOptions};
use super::*;
use crate::conformance::record;
use crate::{
    EventLog, KeyWindow, MemoryLog, MemoryLogOptions, ReadLimit, Record, Retention, RetentionRule,
};

const TOPICS: [&str; 7] = ["one/a", "one/b", "three/a", "young/a", "young/b", "both/a", "free"];
const LIMIT: ReadLimit = ReadLimit {
    events_max: 1_000,
    bytes_max: 1 << 20,
    candidates_max: 1_000,
    comparisons_max: 10_000,
};

fn retention() -> Retention {
    let rule = |(selector, events_max, age_max_ms)| RetentionRule {
        topics: Selector::parse(selector).unwrap(),
        events_max,
        age_max_ms,
    };
    let rules = [
        ("one/{x}", Some(1), None),
        ("three/{x}", Some(3), None),
        ("young/{x}", None, Some(3_000)),
        ("both/{x}", Some(2), Some(5_000)),
    ];
    Retention {
        events_max: 60,
        bytes_max: u64::MAX,
        age_max_ms: 40_000,
        rules: rules.map(rule).into(),
    }
}

fn interest(topic: &str) -> Interest {
    Interest::new(vec![Selector::parse(topic).unwrap()], Vec::new(), Rights::everything())
}

fn publish(random: &mut Rng) -> Vec<Record> {
    let topics = (0..random.usize(1..3)).map(|_| TOPICS[random.usize(..TOPICS.len())]);
    let mut topics: Vec<Topic> = topics.map(|topic| Topic::parse(topic).unwrap()).collect();
    topics.sort_unstable();
    topics.dedup();
    vec![Record { topics: topics.into(), ..record("x", "") }; random.usize(1..4)]
}

fn offsets(log: &dyn EventLog, interest: &Interest) -> Vec<u64> {
    let bounds = log.bounds();
    let step = log.read(bounds.oldest, bounds.next, interest, LIMIT).unwrap();
    assert_eq!(step.next, bounds.next);
    step.entries.iter().map(|entry| entry.offset).collect()
}

fn trim(memory: &MemoryLog, nodes: &[SharedLog<InMemoryEngine>], now: UnixMillis) {
    memory.trim(now);
    for node in nodes {
        while node.bounds().next < memory.bounds().next {
            node.follow(Duration::ZERO);
        }
        node.trim(now);
    }
}

/// The log in memory keeps what rules say; so do nodes of a shared log, whoever of them trims, and those that start
/// later.
#[test]
fn what_rules_keep_is_the_same_on_every_node_as_in_one_process() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let keys = KeyWindow::default();
        let memory = MemoryLog::new(
            Epoch::from_random(1),
            MemoryLogOptions { retention: retention(), keys },
        );
        let store = InMemoryStore::new(false);
        let open = || {
            let options =
                SharedLogOptions { retention: retention(), ..SharedLogOptions::default() };
            SharedLog::open(store.engine(), options).unwrap()
        };
        let mut nodes = [open(), open()];
        let mut now = 0;
        for _ in 0..120 {
            now += random.u64(..400);
            let records = publish(&mut random);
            memory.append(vec![records.clone()], now).unwrap();
            nodes[random.usize(..2)].append(vec![records], now).unwrap();
            if random.u8(..4) > 0 {
                continue;
            }
            if random.u8(..4) == 0 {
                nodes[random.usize(..2)] = open();
            }
            trim(&memory, &nodes, now);
            for node in &nodes {
                assert_eq!(node.bounds(), memory.bounds(), "seed {seed}");
                for topic in TOPICS.into_iter().chain(["*", "one/{x}", "young/{x}"]) {
                    let interest = interest(topic);
                    assert_eq!(
                        offsets(node, &interest),
                        offsets(&memory, &interest),
                        "seed {seed}, {topic}"
                    );
                    // What it says to be dropped may be more.
                    let from = memory.bounds().oldest;
                    let (told, exact) =
                        (node.dropped(&interest, from), memory.dropped(&interest, from));
                    let is_ruled = topic.starts_with("one") || topic.starts_with("three");
                    assert!(told >= exact || !is_ruled, "seed {seed}, {topic}: {told:?} {exact:?}");
                }
            }
        }
        // When nothing is held back any more for nodes that are slow.
        trim(&memory, &nodes, now + 10_000);
        let stored: Vec<u64> = store.entries().iter().map(|entry| entry.offset).collect();
        assert_eq!(
            stored,
            offsets(&memory, &interest("*")),
            "seed {seed}: nothing stays in the store"
        );
    }
}
