//! What is stored, and what is made of what somebody else has stored.

use std::time::{Duration, Instant};

use tidings_core::{Epoch, Topic};
use tidings_log::KeyWindow;
use tidings_log::shared::{Cut, Engine, EngineError, Outcome, Placed, StepLimit, Wish};
use tidings_log_redis::RedisEngine;

use crate::node::{LIMIT, NOW, Node, ample, data, ended, keyed, offsets, record};
use crate::server::Server;

#[test]
fn an_event_can_be_read_by_hand() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    let typed = tidings_log::Record {
        event_type: Some(tidings_core::EventType::parse("created").unwrap()),
        private: true,
        retry_ms: Some(500),
        ..record("orders/1", "{}")
    };
    node.publish(vec![typed, record("orders/2", "x")]).unwrap();
    type Entries = Vec<(String, Vec<(String, String)>)>;
    let mut command = redis::cmd("XRANGE");
    let read: Entries = command
        .arg("{tidings:tidings}:events")
        .arg("-")
        .arg("+")
        .query(&mut server.client())
        .unwrap();
    let shown: Vec<String> = read.iter().map(|(id, fields)| format!("{id} {fields:?}")).collect();
    assert_eq!(
        shown,
        [
            r#"1-0 [("t", "orders/1"), ("d", "{}"), ("a", "1760000000000 0"), ("m", "p 500 created")]"#,
            r#"2-0 [("t", "orders/2"), ("d", "x"), ("a", "1760000000000 0")]"#,
        ]
    );
}

#[test]
fn an_append_has_one_effect_however_often_it_is_sent() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    assert_eq!(node.append(&["a", "b"]), Ok(vec![1, 2]));
    let again = node.repeat(&[vec![record("t", "a"), record("t", "b")]]).unwrap();
    let placed = |offset| Placed { offset, is_repeated: false };
    assert_eq!(again, [Outcome::Appended(vec![placed(1), placed(2)])]);
    // Also with keys, whose second append would be told that it is repeated.
    node.sequence += 1;
    let publishes =
        [vec![keyed("k:1"), record("x", "")], vec![ended("job")], vec![record("job", "")]];
    let first = node.repeat(&publishes).unwrap();
    assert_eq!(first, node.repeat(&publishes).unwrap());
    assert_eq!(first[0], Outcome::Appended(vec![placed(3), placed(4)]));
    let topic = Topic::parse("job").unwrap();
    assert_eq!(first[2], Outcome::Finished { topic, offset: 5 });
    // One that was given up and comes late.
    node.sequence -= 1;
    assert!(matches!(node.repeat(&[vec![record("t", "late")]]), Err(EngineError::Unavailable(_))));
    assert_eq!(node.data(), ["a", "b", "k:1", "", ""]);
    // Nothing at all is written by an append of nothing.
    node.sequence += 2;
    assert_eq!(node.repeat(&[]), Ok(Vec::new()));
    assert_eq!(node.engine.bounds(&node.life).unwrap().next, 6);
}

#[test]
fn the_server_may_forget_the_scripts() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.client()).unwrap();
    assert_eq!(node.append(&["b"]), Ok(vec![2]));
    node.trim(&ample()).unwrap();
}

#[test]
fn logs_of_other_names_are_apart() {
    let server = Server::start(&[]);
    let mut one = Node::open(&format!("{}?name=one", server.url()));
    let mut two = Node::open(&format!("{}?name=two", server.url()));
    one.append(&["a"]).unwrap();
    two.append(&["b"]).unwrap();
    assert_eq!((one.data(), two.data()), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert_ne!(one.life.epoch, two.life.epoch);
    assert_eq!(Node::open(&format!("{}?name=one", server.url())).life, one.life);
}

#[test]
fn steps_stay_within_their_bytes() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    let small = vec![record("t", "small"); 100];
    let large = vec![record("t", &"x".repeat(3 << 20)); 20];
    node.publish(small).unwrap();
    node.publish(large).unwrap();
    let limit = StepLimit { events_max: 1_000, bytes_max: 4 << 20 };
    let (mut from, mut read) = (1, Vec::new());
    while from < 121 {
        let wish = Wish { from, until: 121, topics: None, limit };
        let step = node.engine.read(&node.life, &wish).unwrap();
        let bytes: usize = step.entries.iter().map(|entry| entry.payload.data.len()).sum();
        assert!(bytes <= 4 << 20 && step.end > from);
        read.extend(offsets(&step));
        from = step.end;
    }
    assert_eq!(read, (1..121).collect::<Vec<u64>>());
    // What waits has the same bounds, and goes on.
    let step = node.engine.wait(&node.life, 101, limit, Duration::from_secs(1)).unwrap();
    assert_eq!((offsets(&step), step.end), (vec![101], 102));
    let wish = Wish { from: 1, until: 121, topics: None, limit };
    let back = node.engine.read_backwards(&node.life, &wish).unwrap();
    assert_eq!((offsets(&back), back.end), (vec![120], 120));
}

#[test]
fn what_is_too_old_or_too_much_goes() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    for group in 0..10_u64 {
        node.sequence += 1;
        let records = vec![record("t", &"x".repeat(680)); 50];
        node.repeat_at(&[records], NOW + group * 1_000, KeyWindow::default()).unwrap();
    }
    // 1,001 bytes each.
    let oldest = |cut: Cut<'_>| node.trim(&cut).unwrap().oldest;
    assert_eq!(oldest(ample()), 1);
    assert_eq!(oldest(Cut { appended_before: NOW, ..ample() }), 1);
    assert_eq!(oldest(Cut { appended_before: NOW + 1_001, ..ample() }), 101);
    assert_eq!(oldest(Cut { events_max: 370, ..ample() }), 131);
    assert_eq!(oldest(Cut { bytes_max: 300 * 1_001, ..ample() }), 201);
    assert_eq!(oldest(Cut { bytes_max: 120 * 1_001 + 500, ..ample() }), 381);
    // What rules drop does not count, and is not dropped twice.
    let topic = Topic::parse("t").unwrap();
    let offsets: Vec<u64> = (390..480).collect();
    let dropped = [(topic.clone(), 479)];
    let cut = Cut { offsets: &offsets, dropped: &dropped, ..ample() };
    assert_eq!((oldest(cut), oldest(cut)), (381, 381));
    assert_eq!(oldest(Cut { bytes_max: 30 * 1_001, ..ample() }), 381);
    let left: u64 =
        redis::cmd("XLEN").arg("{tidings:tidings}:events").query(&mut server.client()).unwrap();
    assert_eq!(left, 30);
    let opened =
        RedisEngine::new(&server.url()).unwrap().open(None, Epoch::from_random(1)).unwrap();
    assert_eq!(opened.dropped, [(topic, 479)]);
    assert_eq!(oldest(Cut { appended_before: u64::MAX, ..ample() }), 501);
    assert_eq!(oldest(Cut { events_max: 0, ..ample() }), 501);
    let opened =
        RedisEngine::new(&server.url()).unwrap().open(None, Epoch::from_random(1)).unwrap();
    assert_eq!((opened.bounds.next, opened.dropped), (501, Vec::new()));
    // The newest stays, whatever its size.
    node.append(&["x", "y"]).unwrap();
    assert_eq!(node.trim(&Cut { bytes_max: 1, ..ample() }).unwrap().oldest, 502);
}

#[test]
fn a_finished_topic_opens_when_a_rule_drops_its_last_event() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.publish(vec![ended("job/1")]).unwrap();
    node.publish(vec![ended("job/2")]).unwrap();
    let open =
        || RedisEngine::new(&server.url()).unwrap().open(None, Epoch::from_random(1)).unwrap();
    let topic = |text| Topic::parse(text).unwrap();
    assert_eq!(open().finished, [(topic("job/1"), 1), (topic("job/2"), 2)]);
    node.trim(&Cut { offsets: &[1], ..ample() }).unwrap();
    assert_eq!(open().finished, [(topic("job/2"), 2)]);
    assert_eq!(node.publish(vec![record("job/1", "")]), Ok(vec![3]));
    node.trim(&Cut { appended_before: u64::MAX, ..ample() }).unwrap();
    assert_eq!(open().finished, []);
}

#[test]
fn keys_are_remembered_in_runs_and_forgotten_for_good() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    let window = KeyWindow { age_max_ms: 10_000, runs_max: 3 };
    let mut append = |records: Vec<tidings_log::Record>, now| {
        node.sequence += 1;
        match node.repeat_at(&[records], now, window).unwrap().remove(0) {
            Outcome::Appended(placed) => {
                placed.iter().map(|it| (it.offset, it.is_repeated)).collect::<Vec<_>>()
            }
            refused @ Outcome::Finished { .. } => panic!("{refused:?}"),
        }
    };
    let import =
        |numbers: std::ops::Range<u64>| numbers.map(|it| keyed(&format!("import:{it}"))).collect();
    append(import(0..500), NOW);
    append(import(500..1_000), NOW);
    let count = |key: &str| -> u64 {
        redis::cmd("HLEN")
            .arg(format!("{{tidings:tidings}}:{key}"))
            .query(&mut server.client())
            .unwrap()
    };
    assert_eq!(count("keys"), 1);
    let again =
        append(vec![keyed("import:0"), keyed("import:999"), keyed("import:1000")], NOW + 10_000);
    assert_eq!(again, [(1, true), (1_000, true), (1_001, false)]);
    // The greatest number, and what only looks like one.
    let odd = ["import:18446744073709551615", "import:00", "import:1x"].map(keyed);
    assert_eq!(append(odd[..1].to_vec(), NOW + 10_001), [(1_002, false)]);
    assert_eq!(append(odd[..1].to_vec(), NOW + 10_001), [(1_002, true)]);
    // The oldest is forgotten for those that come after it.
    append(odd[1..].to_vec(), NOW + 10_002);
    assert_eq!(count("keys"), 3);
    assert_eq!(append(vec![keyed("import:5")], NOW + 10_003), [(1_005, false)]);
    node.trim(&Cut { now: NOW + 99_999, keys: window, ..ample() }).unwrap();
    assert_eq!(count("keys"), 0);
    let left: u64 = redis::cmd("EXISTS")
        .arg("{tidings:tidings}:ages")
        .arg("{tidings:tidings}:runs")
        .query(&mut server.client())
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn notes_are_up_for_their_time() {
    let server = Server::start(&[]);
    let node = Node::open(&server.url());
    let hour = Duration::from_secs(3_600);
    node.engine.put_note("presence/b", b"\0\xff", hour).unwrap();
    node.engine.put_note("presence/a", b"old", hour).unwrap();
    node.engine.put_note("presence/a", b"new", hour).unwrap();
    node.engine.put_note("other", b"x", hour).unwrap();
    node.engine.put_note("presence/short", b"x", Duration::from_millis(1)).unwrap();
    let notes = crate::server::eventually("the short note is down", || {
        let notes = node.engine.notes("presence/").unwrap();
        (notes.len() == 2).then_some(notes)
    });
    assert_eq!(
        notes,
        [("presence/a".into(), b"new".to_vec()), ("presence/b".into(), vec![0, 0xff])]
    );
    // It is gone for good with the next note.
    node.engine.put_note("other", b"y", hour).unwrap();
    let left: u64 =
        redis::cmd("HLEN").arg("{tidings:tidings}:notes").query(&mut server.client()).unwrap();
    assert_eq!(left, 3);
    let ttl: i64 =
        redis::cmd("PTTL").arg("{tidings:tidings}:notes").query(&mut server.client()).unwrap();
    assert!(ttl > 3_590_000, "{ttl}");
}

#[test]
fn what_no_hub_wrote_is_damage_and_says_where() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let events = "{tidings:tidings}:events";
    let run = |client: &mut redis::Connection, words: &[&str]| {
        let _: redis::Value = redis::cmd(words[0]).arg(&words[1..]).query(client).unwrap();
    };
    for (number, words) in [
        vec!["XADD", events, "3-0", "x", "y"],
        vec!["XADD", events, "3-0", "t", "t", "a", "1 0"],
        vec!["XADD", events, "3-0", "t", "", "d", "", "a", "1 0"],
        vec!["XADD", events, "3-0", "t", "t", "d", "\u{fffd}", "a", "x"],
        vec!["XADD", events, "3-0", "t", "t", "d", "", "a", "1 0", "m", "z"],
        vec!["XADD", events, "2-7", "t", "t", "d", "", "a", "1 0"],
        vec!["XADD", events, "*", "t", "t", "d", "", "a", "1 0"],
    ]
    .into_iter()
    .enumerate()
    {
        run(&mut client, &["FLUSHALL"]);
        let mut node = Node::open(&server.url());
        node.append(&["a", "b"]).unwrap();
        run(&mut client, &words);
        // What stands between two offsets does not hinder the next one, but reading.
        if words[2] != "2-7" {
            let fault = node.append(&["c"]).unwrap_err();
            let EngineError::Damaged(told) = &fault else { panic!("{number}: {fault}") };
            assert!(told.contains("XSETID"), "{number}: {told}");
        }
        let fault = node.wait(3, 1_000).unwrap_err();
        assert!(
            matches!(&fault, EngineError::Damaged(words) if words.contains(events)),
            "{number}: {fault}"
        );
        assert!(matches!(node.read(), Err(EngineError::Damaged(_))), "{number}");
        // Trimming looks at no more than it needs: the id, and when it was appended.
        if [0, 3, 5].contains(&number) {
            assert!(matches!(node.trim(&ample()), Err(EngineError::Damaged(_))), "{number}");
        }
        assert!(matches!(node.reopen(), Err(EngineError::Damaged(_))), "{number}");
        // As the words say.
        let id: Vec<(String, redis::Value)> = redis::cmd("XREVRANGE")
            .arg(events)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query(&mut client)
            .unwrap();
        run(&mut client, &["XDEL", events, &id[0].0]);
        run(&mut client, &["XSETID", events, "2-0"]);
        let epoch = node.life.epoch;
        assert_eq!(node.reopen().unwrap().life.epoch, epoch, "{number}");
        assert_eq!(node.append(&["c"]), Ok(vec![3]), "{number}");
    }
    for words in [["SET", events, "x"], ["SET", "{tidings:tidings}:meta", "x"]] {
        run(&mut client, &["FLUSHALL"]);
        run(&mut client, &words);
        let fault = Node::try_open(&server.url()).unwrap_err();
        assert!(matches!(fault, EngineError::Damaged(_)), "{fault}");
    }
    run(&mut client, &["FLUSHALL"]);
    run(&mut client, &["HSET", "{tidings:tidings}:meta", "v", "2"]);
    let fault = Node::try_open(&server.url()).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("later version")),
        "{fault}"
    );
}

#[test]
fn waiting_ends_with_what_is_new_and_begins_where_it_is_told() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    // What was appended before the wait is not missed, however late the wait begins.
    node.append(&["a", "b"]).unwrap();
    assert_eq!(data(&node.wait(1, 1_000).unwrap()), ["a", "b"]);
    assert_eq!(data(&node.wait(2, 1_000).unwrap()), ["b"]);
    let mut other = Node::open(&server.url());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let begun = Instant::now();
            (data(&wait_for_some(&node, 3)), begun.elapsed())
        });
        await_blocked(&server);
        // Others are not behind the wait.
        let begun = Instant::now();
        node.engine.bounds(&node.life).unwrap();
        assert_eq!(node.read().unwrap().entries.len(), 2);
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        other.append(&["c"]).unwrap();
        assert_eq!(waiting.join().unwrap().0, ["c"]);
    });
    // It lasts as long as it is told, beyond any timeout of a client, and is no error.
    let begun = Instant::now();
    let nothing = node.wait(4, 900).unwrap();
    assert!(nothing.entries.is_empty() && begun.elapsed() >= Duration::from_millis(900));
    assert_eq!((nothing.end, nothing.bounds.next), (4, 4));
    // What rules have dropped at the end is looked at all the same.
    node.trim(&Cut { offsets: &[3], ..ample() }).unwrap();
    assert_eq!(node.wait(3, 10).unwrap().end, 4);
}

/// Nobody misses what is appended between any two calls.
#[test]
fn following_meets_each_event_once() {
    const COUNT: u64 = 3_000;
    let server = Server::start(&[]);
    let node = Node::open(&server.url());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut writer = Node::open(&server.url());
                for _ in 0..COUNT / 2 {
                    writer.append(&["x"]).unwrap();
                }
            });
        }
        let mut from = 1;
        while from <= COUNT {
            let step = wait_for_some(&node, from);
            assert_eq!(offsets(&step), (from..step.end).collect::<Vec<_>>());
            from = step.end;
        }
    });
}

fn wait_for_some(node: &Node, from: u64) -> tidings_log::shared::Fetched {
    crate::server::eventually("something is new", || {
        let step = node.engine.wait(&node.life, from, LIMIT, Duration::from_secs(1)).unwrap();
        (!step.entries.is_empty()).then_some(step)
    })
}

fn await_blocked(server: &Server) {
    let mut client = server.client();
    crate::server::eventually("somebody waits", || {
        let info: String = redis::cmd("INFO").arg("clients").query(&mut client).unwrap();
        info.contains("blocked_clients:1").then_some(())
    });
}
