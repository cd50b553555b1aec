//! Clients that connect and ask for nothing.

use std::io::ErrorKind;
use std::time::Instant;

use rustls::version::TLS13;
use tidings::HubOptions;
use tidings_http::HttpOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::http2::Http2;
use crate::server::{PATIENCE, Served};

const WAITING_MAX: usize = 10;
const FLOOD: usize = 300;

fn bounded() -> HttpOptions {
    HttpOptions { waiting_max: WAITING_MAX, ..HttpOptions::default() }
}

/// Opens connections that say this and nothing more. Those that are left may stay.
async fn flood(served: &Served, says: &[u8]) -> Vec<Client<TcpStream>> {
    let mut silent = Vec::new();
    for _ in 0..FLOOD {
        let mut client = served.connect().await;
        // It may be turned out by now.
        let _ = client.connection.write_all(says).await;
        silent.push(client);
    }
    let deadline = Instant::now() + PATIENCE;
    while silent.len() > WAITING_MAX {
        assert!(Instant::now() < deadline, "{} are left", silent.len());
        silent.retain(|client| is_open(&client.connection));
        tokio::task::yield_now().await;
    }
    silent
}

fn is_open(connection: &TcpStream) -> bool {
    let received = connection.try_read(&mut [0; 100]);
    received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_served_however_many_are_silent() {
    let served = Served::start(bounded(), HubOptions::default()).await;
    let mut stream = served.connect().await;
    stream.subscribe("topic=a", "").await;
    stream.until("\n:\n\r\n").await;
    let mut http2 = Http2::connect_plain(&served).await;
    let mut http2_stream = http2.subscribe("a").await;
    let mut poll = served.connect().await;
    poll.subscribe("topic=a&mode=poll", "").await;
    poll.until("\n:\n\r\n").await;
    for (round, says) in
        ["", "G", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n"].iter().enumerate()
    {
        let silent = flood(&served, says.as_bytes()).await;
        let mut good = served.connect().await;
        good.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        let text = good.rest().await;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse::<usize>().unwrap()
        };
        assert!(figure("tidings_waiting_connections ") <= WAITING_MAX, "{text}");
        let dropped = figure("tidings_waiting_dropped_total ");
        assert!(dropped >= (round + 1) * (FLOOD - WAITING_MAX), "{text}");
        drop(silent);
    }
    served.publish("a", "1").await;
    assert!(stream.chunk().await.ends_with("data: 1\n\n"));
    assert!(poll.chunk().await.ends_with("data: 1\n\n"));
    assert!(http2_stream.until("\n\n").await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_give_way_to_others() {
    let served = Served::start(bounded(), HubOptions::default()).await;
    let mut idle = served.connect().await;
    idle.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    idle.until("}").await;
    let mut http2 = Http2::connect_plain(&served).await;
    drop(http2.subscribe("a").await);
    served.wait_for_subscribers(0).await;
    let silent = flood(&served, b"").await;
    assert_eq!(idle.rest_or_reset().await, "");
    http2.ended().await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_handshakes_give_way_to_others() {
    let served = Served::start_encrypted(bounded(), HubOptions::default()).await;
    let mut stream = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    stream.subscribe("topic=a", "").await;
    stream.until("\n:\n\r\n").await;
    for says in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let silent = flood(&served, says).await;
        let mut http2 = Http2::connect(&served).await;
        http2.subscribe("a").await;
        drop(silent);
    }
    served.publish("a", "1").await;
    assert!(stream.chunk().await.ends_with("data: 1\n\n"));
}
