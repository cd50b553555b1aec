//! What is known to go wrong with logs in Postgres, and does not here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidings_log::shared::{Engine, Outcome};

use crate::calls::{LIMIT, Node, record};
use crate::server::{Server, Sql, eventually};

/// A transaction that notifies takes a lock of the whole server to commit, so appends must not.
#[test]
fn appends_do_not_notify_each() {
    const APPENDS: usize = 1_000;
    // Without waiting for the disk, so that many of them fall between two notifications.
    let server = Server::start_with(&["fsync=off"]);
    let heard = std::sync::Arc::new(AtomicUsize::new(0));
    let listener = Sql::listening(&server.url("postgres"), "tidings_tidings", heard.clone());
    let node = Node::open(&server.url("postgres"));
    let begun = Instant::now();
    for _ in 0..APPENDS {
        node.append("a", "data");
    }
    let took = begun.elapsed();
    let most = usize::try_from(took.as_millis() / 2).unwrap() + 5;
    node.engine.kick();
    eventually("others were told", || heard.load(Ordering::SeqCst) > 0);
    assert!(heard.load(Ordering::SeqCst) <= most, "{heard:?} in {took:?}");
    // Within the transaction of an append there is no word of it.
    let naming = listener.run(
        "select proname from pg_proc where pronamespace = 'tidings'::regnamespace and prosrc ~* 'notify'",
    );
    assert!(!naming.iter().any(|name| name == "append"), "{naming:?}");
}

/// Identity columns and sequences become visible out of order; offsets must not.
#[test]
fn offsets_become_visible_in_their_order() {
    const NODES: usize = 4;
    const APPENDS: usize = 150;
    let server = Server::start();
    let url = server.url("postgres");
    let reader = Node::open(&url);
    let seen = Mutex::new(Vec::new());
    let are_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let life = &reader.opened.life;
            let mut from = 1;
            loop {
                // Asked before, so that what was appended until then is read.
                let is_last = are_done.load(Ordering::SeqCst);
                let read = reader.engine.wait(life, from, LIMIT, Duration::from_millis(5)).unwrap();
                for entry in &read.entries {
                    assert_eq!(entry.offset, from, "nothing becomes visible behind a reader");
                    from += 1;
                }
                seen.lock().unwrap().extend(read.entries);
                if is_last && from as usize > NODES * APPENDS * 3 {
                    return;
                }
            }
        });
        let writers: Vec<_> = (0..NODES)
            .map(|number| {
                let url = &url;
                scope.spawn(move || {
                    let node = Node::open(url);
                    for turn in 0..APPENDS {
                        let group = vec![record(&format!("{number}"), &format!("{turn}")); 3];
                        let outcomes = node.publish(&[group]).unwrap();
                        assert!(
                            matches!(&outcomes[0], Outcome::Appended(placed) if placed.len() == 3)
                        );
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|it| it.join().unwrap());
        are_done.store(true, Ordering::SeqCst);
        reading.join().unwrap();
    });
    // Each writer's own order is kept.
    let mut last = HashMap::new();
    for entry in seen.into_inner().unwrap() {
        let turn: usize = entry.payload.data.parse().unwrap();
        let before = last.insert(entry.topics[0].to_string(), turn).unwrap_or(0);
        assert!(before == turn || before + 1 == turn);
    }
}
