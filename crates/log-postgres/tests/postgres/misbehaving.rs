//! A server, or what is between, that does not do what it should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_log::shared::{Engine, EngineError};
use tracing_subscriber::fmt::MakeWriter;

use crate::calls::{LIMIT, Node, offsets, record};
use crate::server::{Server, Sql, eventually, postgres_user, send};

/// A frozen server takes connections, and what it is sent is done when it goes on.
#[test]
fn a_server_that_is_frozen_is_noticed_and_nothing_is_doubled() {
    let server = Server::start();
    let node = Node::open(&format!("{}?timeout=2&connect_timeout=2", server.url("postgres")));
    node.append("a", "1");
    let processes = server.processes();
    processes.iter().for_each(|&id| send("STOP", id));
    let begun = Instant::now();
    let publishes = [vec![record("a", "2")]];
    let frozen = node.repeat(2, &publishes);
    let again = node.reopen(2);
    let took = begun.elapsed();
    processes.iter().for_each(|&id| send("CONT", id));
    assert!(matches!(&frozen, Err(EngineError::Unavailable(words)) if words.contains("in time")));
    assert!(matches!(again, Err(EngineError::Unavailable(_))), "{again:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    eventually("it goes on", || node.reopen(2).is_ok());
    node.repeat(2, &publishes).unwrap();
    assert_eq!(node.append_after(2, "a", "3"), 3);
    assert_eq!(node.read_all().len(), 3);
}

/// Somebody holds the log's lock, as a transaction that hangs does.
#[test]
fn a_log_that_is_locked_is_given_up_in_time() {
    let server = Server::start();
    let node = Node::open(&format!("{}?timeout=2", server.url("postgres")));
    let other = Sql::connect(&server.url("postgres"));
    other.run("begin; select pg_advisory_xact_lock(1953064033, 1)");
    let outcome = node.repeat(1, &[vec![record("a", "1")]]);
    let Err(EngineError::Unavailable(words)) = outcome else { panic!("{outcome:?}") };
    assert!(words.contains("in time"), "{words}");
    other.run("commit");
    node.repeat(1, &[vec![record("a", "1")]]).unwrap();
    assert_eq!(node.read_all().len(), 1);
}

/// Behind pgbouncer with `pool_mode=transaction` LISTEN is answered, and no notification ever comes.
#[test]
fn without_notifications_the_log_is_polled_and_it_is_said() {
    let server = Server::start();
    let port = without_notifications(server.port);
    let words = Words::default();
    let subscriber = tracing_subscriber::fmt().with_writer(words.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let node = Node::open(&format!("postgres://postgres@127.0.0.1:{port}/postgres"));
        let other = Node::open(&server.url("postgres"));
        for turn in 1..=20 {
            other.append("a", "1");
            let begun = Instant::now();
            let fetched =
                node.engine.wait(&node.life(), turn, LIMIT, Duration::from_secs(20)).unwrap();
            assert_eq!(offsets(&fetched), [turn]);
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        eventually("it is said", || {
            let _ = node.wait(21, Duration::from_millis(100));
            words.text().contains("LISTEN needs a direct connection")
        });
        assert_eq!(words.text().matches("pool_mode=transaction").count(), 1);
    });
}

/// The connection that listens is lost, and what is appended meanwhile is found.
#[test]
fn a_lost_listen_connection_misses_nothing() {
    let server = Server::start();
    let node = Node::open(&format!("{}?application_name=listener", server.url("postgres")));
    let other = Node::open(&server.url("postgres"));
    assert!(node.wait(1, Duration::from_millis(50)).entries.is_empty());
    let ended = server.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listener'",
    );
    assert!(ended.len() > 1, "{ended:?}");
    other.append("a", "1");
    eventually("it is read", || {
        let waited = node.engine.wait(&node.life(), 1, LIMIT, Duration::from_secs(5));
        waited.is_ok_and(|fetched| offsets(&fetched) == [1])
    });
}

/// On a tablespace of its own, which is a file system of a few megabytes.
#[test]
fn a_full_disk_is_said_and_mended() {
    if postgres_user().is_none() {
        eprintln!("NOT TESTED: a full disk, for which root has to mount a small file system");
        return;
    }
    let server = Server::start();
    let small = SmallDisk::mount(server.data().parent().unwrap().join("small"));
    server.sql(&format!("create tablespace small location '{}'", small.path.display()));
    server.sql("create database app tablespace small");
    let node = Node::open(&server.url("app"));
    let mut count = 0;
    let words = loop {
        // Of a kind that cannot be compressed.
        let data: String = (0..500_000).map(|_| fastrand::alphanumeric()).collect();
        match node.publish(&[vec![record("a", &data)]]) {
            Ok(_) => count += 1,
            Err(EngineError::Unwritable(words)) => break words,
            Err(error) => panic!("{error:?} after {count}"),
        }
        assert!(count < 200, "the disk is never full");
    };
    assert!(words.contains("disk") && words.contains("full") && words.contains("53100"), "{words}");
    assert!(matches!(node.publish(&[]), Err(EngineError::Unwritable(_))), "a probe tells as well");
    assert_eq!(node.engine.bounds(&node.life()).unwrap().next, count + 1);
    assert_eq!(offsets(&node.read(count, count + 1)), [count]);
    small.grow();
    eventually("it can be written", || node.publish(&[]).is_ok());
    assert_eq!(node.append("a", "more"), count + 1);
}

struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let options = match postgres_user() {
            Some((user, group)) => format!("size=48m,uid={user},gid={group},mode=700"),
            None => panic!("this test mounts a small file system, which needs root"),
        };
        let disk = Self { path };
        disk.run(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
        disk
    }

    fn grow(&self) {
        self.run(&["-o", "remount,size=96m"]);
    }

    fn run(&self, arguments: &[&str]) {
        let status = Command::new("mount").args(arguments).arg(&self.path).status().unwrap();
        assert!(status.success(), "a small file system is mounted: {arguments:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server still has files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// What is logged, as text.
#[derive(Debug, Clone, Default)]
struct Words(Arc<Mutex<Vec<u8>>>);

impl Words {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Words {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Words {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A way to a server on which no notification comes through; its port.
fn without_notifications(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || drop(pass_on(server, client)));
        }
    });
    own
}

/// Passes on what a server says, but for notifications.
fn pass_on(mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
    // It is asked for TLS first, and answers with one byte that it has none.
    let mut byte = [0];
    server.read_exact(&mut byte)?;
    client.write_all(&byte)?;
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        server.read_exact(&mut body)?;
        if head[0] != b'A' {
            client.write_all(&head)?;
            client.write_all(&body)?;
        }
    }
}
