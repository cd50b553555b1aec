//! Events that applications publish inside their own transactions.

use std::time::Duration;

use tidings_log::shared::Engine;

use crate::calls::{LIMIT, Node, record, texts};
use crate::server::{Server, Sql, eventually};

/// Waits until so many events are in the log, and gives all of them.
fn wait_for(node: &Node, count: usize) -> Vec<String> {
    eventually("the outbox is moved", || {
        node.engine.bounds(&node.life()).unwrap().next > count as u64
    });
    let all = node.read_all();
    let dense: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), dense);
    all.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn what_is_committed_appears_and_what_is_rolled_back_never_does() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let app = Sql::connect(&server.url("postgres"));
    app.run("begin; select tidings_publish('a', 'created', 'never'); rollback");
    app.run("begin; select tidings_publish('a', 'created', '1'); select tidings_publish('b', null, '2')");
    app.run("savepoint s; select tidings_publish('a', null, 'never'); rollback to s");
    app.run("select tidings.publish(array['a', 'c'], 'x', '3', private => true)");
    // Another one commits meanwhile and is not held up.
    let other = Sql::connect(&server.url("postgres"));
    other.run("select tidings_publish('a', 'x', 'other')");
    assert_eq!(wait_for(&node, 1), ["other"]);
    app.run("select tidings_publish('a', 'x', json_build_object('n', 4)); commit");
    let all = wait_for(&node, 5);
    assert_eq!(all, ["other", "1", "2", "3", r#"{"n" : 4}"#]);
    let entries = node.read(1, 9).entries;
    assert!(entries[3].private && entries[3].topics.len() == 2);
    assert_eq!(entries[1].event_type.as_ref().unwrap().as_str(), "created");
    assert!(app.run("select 1 from tidings.outbox").is_empty());
}

#[test]
fn several_nodes_move_each_event_once_and_in_order() {
    const WRITERS: usize = 3;
    const EVENTS: usize = 400;
    let server = Server::start();
    let url = server.url("postgres");
    let nodes = [Node::open(&url), Node::open(&url), Node::open(&url)];
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let url = &url;
            scope.spawn(move || {
                let app = Sql::connect(url);
                for turn in 0..EVENTS / 4 {
                    let first = turn * 4;
                    app.run(&format!(
                        "begin; select tidings_publish('w{writer}', null, '{first}'); \
                         select tidings_publish('w{writer}', null, g::text) \
                         from generate_series({}, {}) g; {}",
                        first + 1,
                        first + 3,
                        if turn % 10 == 9 { "rollback" } else { "commit" }
                    ));
                }
            });
        }
        // They append as well.
        for turn in 0..50 {
            nodes[turn % 3].append("own", "own");
        }
    });
    let expected: Vec<String> =
        (0..EVENTS).filter(|it| it / 4 % 10 != 9).map(|it| it.to_string()).collect();
    let count = WRITERS * expected.len() + 50;
    wait_for(&nodes[0], count);
    let last = nodes[0].engine.bounds(&nodes[0].life()).unwrap().next;
    assert_eq!(last, count as u64 + 1, "nothing is moved twice");
    let mut entries = Vec::new();
    let mut from = 1;
    while from < last {
        let fetched = nodes[1].read(from, last);
        from = fetched.end;
        entries.extend(fetched.entries);
    }
    for writer in 0..WRITERS {
        let topic = format!("w{writer}");
        let of_writer = entries.iter().filter(|it| it.topics[0].as_str() == topic);
        let texts: Vec<String> = of_writer.map(|it| it.payload.data.to_string()).collect();
        assert_eq!(texts, expected);
    }
}

#[test]
fn a_key_makes_publishing_again_harmless_also_between_outbox_and_hub() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let app = Sql::connect(&server.url("postgres"));
    // The clock of this machine, as the outbox has it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    node.set_now(now.as_millis() as u64);
    let keyed = tidings_log::Record {
        key: Some(tidings_log::Key::parse("order:1").unwrap()),
        ..record("a", "hub")
    };
    node.publish(&[vec![keyed]]).unwrap();
    app.run("select tidings_publish('a', null, 'again', key => 'order:1')");
    app.run("select tidings_publish('a', null, 'new', key => 'order:2')");
    app.run("select tidings_publish('job', null, 'end', final => true)");
    app.run("select tidings_publish('job', null, 'too late')");
    app.run("select tidings_publish('a', null, 'last')");
    eventually("the outbox is empty", || app.run("select 1 from tidings.outbox").is_empty());
    assert_eq!(wait_for(&node, 4), ["hub", "new", "end", "last"]);
}

#[test]
fn what_no_hub_would_take_fails_in_the_transaction_that_publishes_it() {
    let server = Server::start();
    drop(Node::open(&server.url("postgres")));
    let app = Sql::connect(&server.url("postgres"));
    for (call, expected) in [
        ("''::text, 'x', ''", "an event has topics"),
        ("'*', 'x', ''", "an event has topics"),
        ("E'a\\nb', 'x', ''", "an event has topics"),
        ("null::text, 'x', ''", "an event has topics"),
        ("'a', 'tidings.gap', ''", "event_type"),
        ("'a', E'x\\ny', ''", "event_type"),
        ("'a', 'x', '', key => ''", "key"),
        ("'a', 'x', '', log => 'nowhere'", "there is no log 'nowhere'"),
    ] {
        let error = app.try_run(&format!("select tidings_publish({call})")).unwrap_err();
        let words = error.as_db_error().unwrap().message().to_owned();
        assert!(words.contains(expected), "{call}: {words}");
    }
}

#[test]
fn a_role_may_publish_and_nothing_else() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    server.sql("create role app login; create role other login");
    server.sql("select tidings.allow_publishing('app')");
    let app = Sql::connect(&server.url_of("app", "postgres"));
    app.run("select tidings_publish('a', 'x', '1'); select tidings.publish('a', 'x', '2')");
    assert_eq!(wait_for(&node, 2), ["1", "2"]);
    for denied in [
        "select * from tidings.outbox",
        "insert into tidings.outbox (log, topic, data) values (1, 'a', '')",
        "select * from tidings.events",
        "select tidings.move_outbox(1::smallint, '', 0, 0, 1, 1)",
        "select tidings.allow_publishing('app')",
    ] {
        assert!(app.try_run(denied).is_err(), "{denied}");
    }
    // What stands in its own search path does not get in between.
    let other = Sql::connect(&server.url_of("other", "postgres"));
    assert!(other.try_run("select tidings_publish('a', 'x', '3')").is_err());
}

/// A transaction that notifies takes a lock to commit, so this is only done where it is wished.
#[test]
fn the_outbox_notifies_if_it_is_told_to() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let heard = std::sync::Arc::default();
    let listener = Sql::listening(
        &server.url("postgres"),
        "tidings_outbox_tidings",
        std::sync::Arc::clone(&heard),
    );
    let count = || heard.load(std::sync::atomic::Ordering::SeqCst);
    listener.run("select tidings_publish('a', 'x', 'silent')");
    wait_for(&node, 1);
    assert_eq!(count(), 0);
    server.sql("update tidings.logs set outbox_notify = true where name = 'tidings'");
    listener.run("begin; select tidings_publish('a', 'x', '1'); select tidings_publish('a', 'x', '2'); commit");
    eventually("it was told", || count() == 1);
    let engine = &node.engine;
    let mut from = 2;
    while from < 4 {
        let fetched = engine.wait(&node.life(), from, LIMIT, Duration::from_secs(10)).unwrap();
        assert!(texts(&fetched).iter().all(|(_, text)| text != "silent"));
        from = fetched.end;
    }
    assert_eq!(count(), 1);
}
