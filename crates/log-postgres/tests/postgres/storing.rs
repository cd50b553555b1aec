//! What is appended is there, in order, for every node.

use std::time::{Duration, Instant};

use tidings_core::{Bounds, Topic};
use tidings_log::shared::{Engine, EngineError, Outcome, Placed, StepLimit, Wish};
use tidings_log::{Record, entry_bytes};

use crate::calls::{LIMIT, Node, appended, keyed, offsets, record, texts, topic, wish};
use crate::server::Server;

#[test]
fn what_one_node_appends_another_reads() {
    let server = Server::start();
    let one = Node::open(&server.url("postgres"));
    let other = Node::open(&server.socket_url("postgres"));
    assert_eq!(one.opened.life.epoch, other.opened.life.epoch);
    assert_eq!(one.opened.bounds, Bounds { oldest: 1, next: 1 });
    let outcomes = one.publish(&[vec![record("a", "1")], vec![], vec![record("b", "2"); 2]]);
    assert_eq!(outcomes.unwrap(), [appended(&[1]), appended(&[]), appended(&[2, 3])]);
    assert_eq!(other.append("c", "4"), 4);
    let texts = texts(&one.read(1, 9));
    let texts: Vec<_> = texts.iter().map(|(offset, text)| (*offset, text.as_str())).collect();
    assert_eq!(texts, [(1, "1"), (2, "2"), (3, "2"), (4, "4")]);
    assert_eq!(one.read(1, 9).bounds, Bounds { oldest: 1, next: 5 });
}

#[test]
fn an_event_comes_back_as_it_was() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let data = format!("line\r\nline\u{0}\u{1F600}{}", "x".repeat(1 << 20));
    let topics: Vec<Topic> = ["a", r#"b/"ü"\,{}"#, "null"].map(topic).into();
    let full = Record {
        event_type: Some(tidings_core::EventType::parse("created").unwrap()),
        private: true,
        retry_ms: Some(u64::MAX),
        is_final: true,
        ..Record::new(topics.clone(), data.clone())
    };
    node.publish(&[vec![full, record("c", "")]]).unwrap();
    let read = node.read(1, 9).entries;
    assert_eq!(read[0].topics.as_ref(), topics);
    assert_eq!(read[0].event_type.as_ref().unwrap().as_str(), "created");
    assert!(read[0].private && read[0].is_final);
    assert_eq!(read[0].payload.data, data);
    assert_eq!((read[0].payload.retry_ms, read[0].payload.appended_at), (Some(u64::MAX), 1_000));
    assert_eq!(offsets(&node.read(2, 9)), [2]);
    assert_eq!(node.engine.read(&node.life(), &wish(2, 9)).unwrap().entries[0].payload.data, "");
}

#[test]
fn a_repeated_append_has_one_effect_and_one_answer() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let plain = [vec![record("a", "1")], vec![record("a", "2")]];
    let first = node.repeat(5, &plain).unwrap();
    assert_eq!(node.repeat(5, &plain).unwrap(), first);
    let ended = Record { is_final: true, ..keyed("job", "k") };
    let mixed = [vec![ended], vec![record("job", "")], vec![keyed("b", "k")]];
    let first = node.repeat(6, &mixed).unwrap();
    let repeated = Placed { offset: 3, is_repeated: true };
    assert_eq!(
        first,
        [
            appended(&[3]),
            Outcome::Finished { topic: topic("job"), offset: 3 },
            Outcome::Appended(vec![repeated])
        ]
    );
    assert_eq!(node.repeat(6, &mixed).unwrap(), first);
    // One that was given up and comes late.
    assert!(matches!(node.repeat(4, &plain), Err(EngineError::Unavailable(_))));
    assert_eq!(node.engine.bounds(&node.life()).unwrap().next, 4);
}

#[test]
fn reading_stays_within_its_limits_in_both_directions() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let records = (1..=100).map(|number| match number % 10 {
        0 => Record::new([topic("common"), topic("second")], "x".repeat(100)),
        1 => record("rare", &"x".repeat(100)),
        _ => record("common", &"x".repeat(100)),
    });
    node.publish(&[records.collect()]).unwrap();
    let life = node.life();
    for topics in [None, Some(vec![topic("rare"), topic("second"), topic("absent")])] {
        let expected: Vec<u64> =
            (1..=100).filter(|number| topics.is_none() || number % 10 < 2).collect();
        for (events_max, bytes_max) in [(7, usize::MAX), (usize::MAX, 1), (usize::MAX, 2_000)] {
            let limit = StepLimit { events_max, bytes_max };
            let (mut from, mut read) = (1, Vec::new());
            while from < 101 {
                let wish = Wish { from, until: 101, topics: topics.as_deref(), limit };
                let step = node.engine.read(&life, &wish).unwrap();
                assert!(step.end > from && step.end <= 101);
                let bytes: usize = step.entries.iter().map(|it| entry_bytes(it, 100)).sum();
                assert!(step.entries.len() <= events_max);
                assert!(step.entries.len() == 1 || bytes <= bytes_max);
                read.extend(offsets(&step));
                from = step.end;
            }
            assert_eq!(read, expected);
            let (mut until, mut read) = (101, Vec::new());
            while until > 3 {
                let wish = Wish { from: 3, until, topics: topics.as_deref(), limit };
                let step = node.engine.read_backwards(&life, &wish).unwrap();
                assert!(step.end < until && step.end >= 3);
                read.extend(offsets(&step));
                until = step.end;
            }
            read.reverse();
            assert_eq!(read, expected.iter().copied().filter(|&it| it >= 3).collect::<Vec<_>>());
        }
    }
}

#[test]
fn waiting_ends_with_what_others_append() {
    let server = Server::start();
    let one = Node::open(&server.url("postgres"));
    let other = Node::open(&server.url("postgres"));
    assert!(one.wait(1, Duration::from_millis(50)).entries.is_empty());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let engine = &one.engine;
            engine.wait(&one.opened.life, 1, LIMIT, Duration::from_secs(20)).unwrap()
        });
        other.append("a", "1");
        assert_eq!(offsets(&waiting.join().unwrap()), [1]);
    });
    // What this node appends does not end it, but a kick does.
    one.append("a", "2");
    let begun = Instant::now();
    one.engine.kick();
    let kicked = one.wait(3, Duration::from_secs(20));
    assert!(kicked.entries.is_empty() && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(kicked.bounds.next, 3);
}

#[test]
fn many_logs_live_in_one_database() {
    let server = Server::start();
    let one = Node::open(&format!("{}?name=one", server.url("postgres")));
    let two = Node::open(&format!("{}?name=two", server.url("postgres")));
    assert_ne!(one.life().epoch, two.life().epoch);
    one.append("a", "1");
    assert_eq!(two.append("a", "1"), 1);
    two.trim(u64::MAX, u64::MAX, u64::MAX);
    assert_eq!(one.read_all().len(), 1);
    assert_eq!(two.read_all().len(), 0);
    assert_eq!(two.append("a", "2"), 2);
}

#[test]
fn trimming_goes_by_events_bytes_and_age() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    for round in 1..=3 {
        node.set_now(round * 1_000);
        node.publish(&[(0..10).map(|_| record("a", &"x".repeat(100))).collect()]).unwrap();
    }
    assert_eq!(node.trim(u64::MAX, u64::MAX, 1_000), Bounds { oldest: 1, next: 31 });
    assert_eq!(node.trim(25, u64::MAX, 0), Bounds { oldest: 6, next: 31 });
    let size = entry_bytes(&node.read(6, 7).entries[0], 100) as u64;
    assert_eq!(node.trim(u64::MAX, 22 * size, 0), Bounds { oldest: 9, next: 31 });
    assert_eq!(node.trim(u64::MAX, 22 * size - 1, 0).oldest, 10);
    assert_eq!(node.trim(u64::MAX, u64::MAX, 2_000).oldest, 11);
    // Holes in the middle do not count.
    let gone = tidings_log::shared::Cut {
        offsets: &[20, 22, 30],
        dropped: &[(topic("a"), 22)],
        ..crate::calls::ample(3_000)
    };
    assert_eq!(node.cut(gone).oldest, 11);
    assert_eq!(node.cut(gone).oldest, 11);
    assert_eq!(node.trim(17, 17 * size, 0).oldest, 11);
    assert_eq!(node.trim(8, u64::MAX, 0).oldest, 20);
    assert_eq!(offsets(&node.read(1, 99)), [21, 23, 24, 25, 26, 27, 28, 29]);
    // The newest is gone, and its offset is not given out again.
    assert_eq!(node.append("a", ""), 31);
    let again = node.reopen(32).unwrap();
    assert_eq!(again.dropped, [(topic("a"), 22)]);
    // Of whatever size, the newest stays; not if it is too old.
    assert_eq!(node.trim(u64::MAX, 1, 0), Bounds { oldest: 30, next: 32 });
    assert_eq!(offsets(&node.read(30, 32)), [31]);
    assert_eq!(node.trim(u64::MAX, u64::MAX, 9_000), Bounds { oldest: 32, next: 32 });
    assert_eq!(node.append("a", ""), 32);
}
