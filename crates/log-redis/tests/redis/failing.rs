//! What becomes of a log when its server is slow, gone, emptied, full, or another one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings_log::shared::{Engine, EngineError, Outcome};

use crate::node::{Node, ample, record};
use crate::server::{Server, eventually, free_port};

fn run(server: &Server, words: &[&str]) {
    let _: redis::Value =
        redis::cmd(words[0]).arg(&words[1..]).query(&mut server.client()).unwrap();
}

#[test]
fn a_log_that_was_emptied_has_another_life() {
    let mut server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    let first = node.life.epoch;
    // While it runs.
    run(&server, &["FLUSHALL"]);
    assert_eq!(node.wait(2, 1_000).unwrap_err(), EngineError::OtherLife);
    assert_eq!(node.append(&["b"]), Err(EngineError::OtherLife));
    assert_eq!(node.engine.trim(&node.life, &ample()), Err(EngineError::OtherLife));
    let opened = node.reopen().unwrap();
    assert_ne!(opened.life.epoch, first);
    assert_eq!((opened.bounds.oldest, opened.bounds.next), (1, 1));
    node.append(&["b"]).unwrap();
    // By a restart.
    let second = node.life.epoch;
    server.restart();
    assert_eq!(node.append(&["c"]), Err(EngineError::OtherLife));
    assert!(matches!(node.read(), Err(EngineError::OtherLife)));
    node.reopen().unwrap();
    assert_ne!(node.life.epoch, second);
    assert_eq!(node.append(&["c"]), Ok(vec![1]));
    // Only the events, so that what is next stays.
    let third = node.life.epoch;
    run(&server, &["DEL", "{tidings:tidings}:events"]);
    let opened = node.reopen().unwrap();
    assert_ne!(opened.life.epoch, third);
    assert_eq!((opened.bounds.oldest, opened.bounds.next), (2, 2));
    assert_eq!(node.append(&["d"]), Ok(vec![2]));
}

#[test]
fn a_restart_that_lost_nothing_goes_on() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut node = Node::open(&server.url());
    node.append(&["a", "b"]).unwrap();
    let epoch = node.life.epoch;
    // Nobody has seen it, but its disk has all.
    server.restart();
    let other = Node::open(&server.url());
    assert_eq!((other.life.epoch, other.data()), (epoch, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(node.append(&["c"]), Err(EngineError::OtherLife));
    assert_eq!(node.reopen().unwrap().life.epoch, epoch);
    assert_eq!(node.append(&["c"]), Ok(vec![3]));
}

#[test]
fn a_restart_that_may_have_lost_something_needs_a_witness() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut node = Node::open(&server.url());
    node.append(&["a", "b"]).unwrap();
    let epoch = node.life.epoch;
    server.restart();
    node.reopen().unwrap();
    assert_eq!((node.life.epoch, node.data()), (epoch, vec!["a".to_owned(), "b".to_owned()]));
    server.restart();
    let stranger = Node::open(&server.url());
    assert_ne!(stranger.life.epoch, epoch);
    assert_eq!(stranger.data(), ["a", "b"]);
}

#[test]
fn a_replica_that_lost_the_tail_begins_another_life() {
    let mut master = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let link = Switch::to(master.port);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &link.port.to_string()]);
    replica.await_output("MASTER <-> REPLICA sync: Finished with success");
    let address = Switch::to(master.port);
    let mut node = Node::open(&address.url());
    node.append(&["a", "b"]).unwrap();
    run(&master, &["SET", "fence", "1"]);
    eventually("the replica has both", || {
        redis::cmd("GET").arg("fence").query::<Option<String>>(&mut replica.client()).unwrap()
    });
    let epoch = node.life.epoch;
    link.lose_answers(true);
    assert_eq!(node.append(&["lost", "lost"]), Ok(vec![3, 4]));
    master.kill();
    run(&replica, &["REPLICAOF", "NO", "ONE"]);
    address.lead_to(replica.port);
    assert_eq!(
        eventually("it is reached", || reached(node.append(&["c"]))),
        EngineError::OtherLife
    );
    let opened = node.reopen().unwrap();
    assert_ne!(opened.life.epoch, epoch);
    assert_eq!((opened.bounds.next, node.data()), (3, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(node.append(&["c"]), Ok(vec![3]));
}

#[test]
fn a_replica_that_has_everything_goes_on_for_a_witness() {
    let mut master = Server::start(&[]);
    let replica = Server::start(&[
        "--replicaof",
        "127.0.0.1",
        &master.port.to_string(),
        "--repl-diskless-sync-delay",
        "0",
    ]);
    replica.await_output("MASTER <-> REPLICA sync: Finished with success");
    let address = Switch::to(master.port);
    let mut node = Node::open(&format!("{}?replicas=1&replica-timeout=5000", address.url()));
    node.append(&["a", "b"]).unwrap();
    let epoch = node.life.epoch;
    master.kill();
    run(&replica, &["REPLICAOF", "NO", "ONE"]);
    address.lead_to(replica.port);
    assert_eq!(
        eventually("it is reached", || reached(node.append(&["c"]))),
        EngineError::OtherLife
    );
    assert_eq!(node.reopen().unwrap().life.epoch, epoch);
    // Now no replica is there to have it: it may have had an effect, and has one.
    let url = format!("{}?replicas=1&replica-timeout=50", address.url());
    let mut strict = Node::open(&url);
    let fault = strict.append(&["c"]).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("0 of 1 replicas")),
        "{fault}"
    );
    assert_eq!(node.data(), ["a", "b", "c"]);
    // The same append again goes on to wait for a replica.
    let fault = strict.repeat(&[vec![record("t", "c")]]).unwrap_err();
    assert!(matches!(fault, EngineError::Unavailable(_)), "{fault}");
    assert_eq!(node.data(), ["a", "b", "c"]);
}

#[test]
fn a_replica_is_not_written_and_says_so() {
    let master = Server::start(&[]);
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    run(&server, &["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    let fault = node.append(&["b"]).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unwritable(words) if words.contains("is a replica")),
        "{fault}"
    );
    let fault = node.append(&["b"]).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("name the master")),
        "{fault}"
    );
    let fault = Node::try_open(&server.url()).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("name the master")),
        "{fault}"
    );
}

#[test]
fn a_master_that_was_a_replica_meanwhile_is_another_server() {
    let master = Server::start(&[]);
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    assert_eq!(node.wait(2, 1).unwrap().end, 2);
    run(&server, &["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    run(&server, &["REPLICAOF", "NO", "ONE"]);
    let fault = eventually("somebody notices", || node.wait(2, 300).err());
    assert_eq!(fault, EngineError::OtherLife);
    assert_eq!(node.reopen().unwrap().bounds.next, 2);
}

#[test]
fn a_full_server_is_read_and_emptied_but_not_written() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    run(&server, &["CONFIG", "SET", "maxmemory", "1mb"]);
    for _ in 0..2 {
        let fault = node.append(&["b"]).unwrap_err();
        assert!(
            matches!(&fault, EngineError::Unwritable(words) if words.contains("maxmemory")),
            "{fault}"
        );
    }
    node.sequence += 1;
    assert!(matches!(node.repeat(&[]), Err(EngineError::Unwritable(_))));
    assert!(matches!(
        node.engine.put_note("n", b"", Duration::from_secs(9)),
        Err(EngineError::Unwritable(_))
    ));
    assert_eq!(node.data(), ["a"]);
    assert_eq!(node.trim(&ample()).unwrap().next, 2);
    run(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(node.append(&["b"]), Ok(vec![2]));
}

#[test]
fn a_server_that_deletes_what_it_likes_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let fault = Node::try_open(&server.url()).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("noeviction")),
        "{fault}"
    );
    run(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    Node::open(&server.url());
}

#[test]
fn a_server_that_cannot_save_is_not_written() {
    let server = Server::start(&["--save", "3600 1000000"]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    // A directory where its file belongs.
    std::fs::create_dir(server.directory().join("dump.rdb")).unwrap();
    run(&server, &["BGSAVE"]);
    server.await_output("Background saving error");
    let fault = node.append(&["b"]).unwrap_err();
    assert!(matches!(&fault, EngineError::Unwritable(words) if words.contains("disk")), "{fault}");
    assert_eq!(node.data(), ["a"]);
}

#[test]
fn a_frozen_server_is_noticed_and_mends() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    node.wait(2, 1).unwrap();
    server.signal("STOP");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.wait(2, 60_000));
        let reading = scope.spawn(|| node.read().map(drop));
        let opening = scope.spawn(|| Node::try_open(&server.url()).map(drop));
        for fault in
            [waiting.join().unwrap().map(drop), reading.join().unwrap(), opening.join().unwrap()]
        {
            let fault = fault.unwrap_err();
            assert!(
                matches!(&fault, EngineError::Unavailable(words) if words.contains("in time")),
                "{fault}"
            );
        }
    });
    let fault = node.append(&["b"]).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("in time")),
        "{fault}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.signal("CONT");
    // It may have had an effect by now; repeated, it has one.
    let outcome = eventually("it mends", || node.repeat(&[vec![record("t", "b")]]).ok());
    assert!(matches!(&outcome[0], Outcome::Appended(placed) if placed[0].offset == 2));
    assert_eq!(node.data(), ["a", "b"]);
    assert_eq!(node.wait(3, 1).unwrap().end, 3);
}

#[test]
fn a_server_that_is_busy_with_a_script_is_noticed_and_mends() {
    let server = Server::start(&["--busy-reply-threshold", "10"]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    std::thread::scope(|scope| {
        let mut client = server.client();
        scope.spawn(move || {
            redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut client)
        });
        let mut client = server.client();
        let fault = eventually("it is busy", || node.append(&["b"]).err());
        assert!(
            matches!(&fault, EngineError::Unavailable(words) if words.contains("SCRIPT KILL")),
            "{fault}"
        );
        let _: () = redis::cmd("SCRIPT").arg("KILL").query(&mut client).unwrap();
    });
    eventually("it mends", || node.repeat(&[vec![record("t", "b")]]).ok());
}

#[test]
fn connections_that_the_server_closed_are_not_missed() {
    let server = Server::start(&[]);
    let mut node = Node::open(&server.url());
    node.append(&["a"]).unwrap();
    node.read().unwrap();
    node.wait(1, 1).unwrap();
    run(&server, &["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(node.append(&["b"]), Ok(vec![2]));
    assert_eq!(node.data(), ["a", "b"]);
    assert_eq!(node.wait(1, 1).unwrap().entries.len(), 2);
    assert_eq!(node.engine.bounds(&node.life).unwrap().next, 3);
}

#[test]
fn an_answer_that_is_lost_after_the_effect_is_given_again() {
    let server = Server::start(&[]);
    let address = Switch::to(server.port);
    let mut node = Node::open(&address.url());
    node.append(&["a"]).unwrap();
    address.lose_answers(true);
    let fault = node.append(&["b"]).unwrap_err();
    assert!(matches!(fault, EngineError::Unavailable(_)), "{fault}");
    address.lose_answers(false);
    let outcome = node.repeat(&[vec![record("t", "b")]]).unwrap();
    assert!(matches!(&outcome[0], Outcome::Appended(placed) if placed[0].offset == 2));
    assert_eq!(node.data(), ["a", "b"]);
}

#[test]
fn nobody_at_the_address_is_said_in_words() {
    let fault = Node::try_open(&format!("redis://127.0.0.1:{}", free_port())).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("refused")),
        "{fault}"
    );
    let fault = Node::try_open("redis+unix:///nowhere/redis.sock").unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("/nowhere/redis.sock")),
        "{fault}"
    );
    // Something else listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let fault = Node::try_open(&url).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("not speak as Redis")),
        "{fault}"
    );
}

fn reached<T>(result: Result<T, EngineError>) -> Option<EngineError> {
    result.err().filter(|fault| !matches!(fault, EngineError::Unavailable(_)))
}

/// An address that leads to one server or another, and can lose what the server answers.
struct Switch {
    port: u16,
    target: Arc<std::sync::Mutex<u16>>,
    loses_answers: Arc<AtomicBool>,
}

impl Switch {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (target, loses_answers) = (Arc::new(port.into()), Arc::new(AtomicBool::new(false)));
        let switch = Self { port: listener.local_addr().unwrap().port(), target, loses_answers };
        let (target, loses) = (switch.target.clone(), switch.loses_answers.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", *target.lock().unwrap())) else {
                    continue;
                };
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(ends.0, ends.1, None));
                let loses = loses.clone();
                std::thread::spawn(move || pass(server, client, Some(&loses)));
            }
        });
        switch
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn lead_to(&self, port: u16) {
        *self.target.lock().unwrap() = port;
    }

    /// Ends connections when something is answered, before it is passed on.
    fn lose_answers(&self, loses: bool) {
        self.loses_answers.store(loses, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, loses: Option<&AtomicBool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if loses.is_some_and(|loses| loses.load(Ordering::SeqCst))
            || to.write_all(&bytes[..count]).is_err()
        {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
