//! 10,000 idle subscribers and one that never reads, while 1 GiB is published: the memory of the
//! process stays bounded, and the others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;

use crate::hub::Hub;
use crate::stream::Stream;

const IDLE: u64 = 10_000;
const READERS: u64 = 4;
const EVENT_BYTES: usize = 64 << 10;
const EVENTS: u64 = (1 << 30) / EVENT_BYTES as u64;
const LOG_BYTES_MAX: u64 = 32 << 20;
/// What the log, the tail, 10,000 sockets and what is on its way may take together.
const RESIDENT_BYTES_MAX: u64 = 160 << 20;
/// How far the publisher may be ahead of the readers, so that none falls behind what is kept.
const AHEAD_MAX: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_while_one_never_reads_and_the_others_do_not_notice() {
    let log_bytes_max = LOG_BYTES_MAX.to_string();
    let hub = Hub::start(&["--log-bytes-max", &log_bytes_max, "--write-timeout", "5s"]);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(Stream::open(hub.address, "topic=idle", "").await);
    }
    let with_idle = hub.resident_bytes();
    let never_reads = open_and_never_read(&hub).await;

    let room = Arc::new(Semaphore::new(AHEAD_MAX));
    let received = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let stream = Stream::open(hub.address, "topic=large", "").await;
        readers.push(tokio::spawn(read_all(stream, Arc::clone(&received), Arc::clone(&room))));
    }
    hub.wait_for_metric("tidings_active_connections", |open| open == IDLE + READERS + 1);

    let runtime = tokio::runtime::Handle::current();
    let (hub, peak) = tokio::task::spawn_blocking(move || {
        let mut peak = 0;
        let data = "x".repeat(EVENT_BYTES);
        for number in 0..EVENTS {
            runtime.block_on(room.acquire()).unwrap().forget();
            hub.publish(&format!(
                "{{\"topic\":\"large\",\"event\":\"{number}\",\"data\":\"{data}\"}}"
            ));
            if number % 64 == 0 {
                peak = peak.max(hub.resident_bytes());
            }
        }
        (hub, peak)
    })
    .await
    .unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    println!("resident: {} MiB with idle subscribers, {} MiB at most", with_idle >> 20, peak >> 20);
    assert!(peak < RESIDENT_BYTES_MAX, "{} MiB are resident", peak >> 20);
    hub.wait_for_metric("tidings_connections_closed_total{reason=\"write_timeout\"}", |n| n == 1);
    // The readers have gone, which the hub may notice a little later; the idle are still there.
    hub.wait_for_metric("tidings_active_connections", |open| open == IDLE);
    hub.publish("{\"topic\":\"idle\",\"data\":\"all\"}");
    for stream in &mut idle {
        assert_eq!(stream.next().await.unwrap().data, "all");
    }
    drop(never_reads);
}

/// A subscriber with a small window that sends its request and nothing more.
async fn open_and_never_read(hub: &Hub) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut connection = socket.connect(hub.address).await.unwrap();
    connection
        .write_all(b"GET /events?topic=large HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    connection
}

/// Receives every event once, in order, each without undue delay; each event that all readers have
/// received makes room for another.
async fn read_all(mut stream: Stream, received: Arc<AtomicU64>, room: Arc<Semaphore>) {
    for number in 0..EVENTS {
        let event =
            tokio::time::timeout(STALL_MAX, stream.next()).await.expect("no stall").unwrap();
        assert_eq!((&*event.event, event.data.len()), (number.to_string().as_str(), EVENT_BYTES));
        if received.fetch_add(1, Ordering::Relaxed) % READERS == READERS - 1 {
            room.add_permits(1);
        }
    }
}

/// Far above what a busy machine needs, far below what a reader would lose to a stalled neighbour.
const STALL_MAX: Duration = Duration::from_secs(20);
