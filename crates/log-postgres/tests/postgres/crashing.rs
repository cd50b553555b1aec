//! The server stops, crashes and comes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_log::shared::{EngineError, Outcome};

use crate::calls::{Node, record};
use crate::server::Server;

/// Kills the server again and again while a node appends and repeats what it is not sure of.
#[test]
fn a_killed_server_loses_nothing_and_doubles_nothing() {
    const ROUNDS: usize = 3;
    let mut server = Server::start();
    let node = Node::open(&server.url("postgres"));
    let life = node.life();
    let acknowledged = AtomicU64::new(0);
    let wanted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let node = &node;
        let (acknowledged, wanted) = (&acknowledged, &wanted);
        let appending = scope.spawn(move || {
            let mut number = 0;
            while wanted.load(Ordering::SeqCst) < ROUNDS as u64 {
                number += 1;
                insist(node, number);
                acknowledged.store(number, Ordering::SeqCst);
            }
            number
        });
        for _ in 0..ROUNDS {
            let before = acknowledged.load(Ordering::SeqCst);
            crate::server::eventually("it goes on", || {
                acknowledged.load(Ordering::SeqCst) > before + 50
            });
            let processes = server.process_id();
            server.stop("KILL");
            server.start_again();
            assert_ne!(server.process_id(), processes);
            wanted.fetch_add(1, Ordering::SeqCst);
        }
        let count = appending.join().unwrap();
        let expected: Vec<(u64, String)> = (1..=count).map(|it| (it, it.to_string())).collect();
        assert_eq!(node.read_all(), expected);
    });
    assert_eq!(node.life(), life, "nothing was lost, so it is the same life");
}

/// Appends as the hub does: repeated with the same sequence until it is known what became of it.
fn insist(node: &Node, number: u64) {
    let publishes = [vec![record("a", &number.to_string())]];
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match node.repeat(number, &publishes) {
            Ok(outcomes) => {
                assert!(matches!(&outcomes[0], Outcome::Appended(it) if it[0].offset == number));
                return;
            }
            Err(EngineError::Unavailable(_)) if Instant::now() < deadline => {
                let _ = node.reopen(number);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
