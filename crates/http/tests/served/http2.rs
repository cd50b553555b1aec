//! Streams over HTTP/2.

use std::time::Duration;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{self, SendRequest};
use rustls::version::TLS13;
use tidings::HubOptions;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{PATIENCE, Served, TLS_VERSIONS};
use crate::tls::Trickle;

/// A connection over which HTTP/2 is spoken.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

/// What comes on one of its streams.
pub(crate) struct Http2Body {
    body: RecvStream,
    received: String,
}

impl Http2 {
    pub(crate) async fn connect(served: &Served) -> Self {
        Self::over(served.connect_encrypted(&TLS13, &[b"h2", b"http/1.1"]).await).await
    }

    /// In plain, without asking first.
    pub(crate) async fn connect_plain(served: &Served) -> Self {
        Self::over(TcpStream::connect(served.address).await.unwrap()).await
    }

    async fn over(
        connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (requests, connection) = client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(64 << 20)
            .handshake(connection)
            .await
            .unwrap();
        Self { requests, ended: tokio::spawn(connection) }
    }

    /// Opens a stream, and reads its first lines.
    pub(crate) async fn subscribe(&mut self, topic: &str) -> Http2Body {
        let uri = format!("https://localhost/events?topic={topic}");
        let request = Request::get(uri).body(()).unwrap();
        let (response, _) =
            self.requests.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        for absent in ["connection", "transfer-encoding", "content-length"] {
            assert!(!response.headers().contains_key(absent), "{absent}");
        }
        let mut body = Http2Body { body: response.into_body(), received: String::new() };
        assert_eq!(body.until(":\n").await, "retry: 2000\n:\n");
        body
    }

    /// Waits until it may not ask for more here.
    pub(crate) async fn check_is_told_to_go(&mut self) {
        let refused = async {
            while let Ok(mut requests) = self.requests.clone().ready().await {
                let request = Request::get("https://localhost/health/live").body(()).unwrap();
                let Ok((response, _)) = requests.send_request(request, true) else { return };
                if response.await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, refused).await.unwrap();
    }

    /// Waits for the end of the connection. That its own farewell comes too late is no error.
    pub(crate) async fn ended(self) {
        let ended = timeout(PATIENCE, self.ended).await.unwrap().unwrap();
        assert!(ended.as_ref().err().is_none_or(h2::Error::is_io), "{ended:?}");
    }
}

impl Http2Body {
    /// Everything up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.received.find(end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(self.receive().await.unwrap(), "no {end:?} in {}", self.received);
        }
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> String {
        while self.receive().await.unwrap() {}
        std::mem::take(&mut self.received)
    }

    async fn receive(&mut self) -> Result<bool, h2::Error> {
        let data = timeout(PATIENCE, self.body.data()).await.expect("something comes in time");
        let Some(data) = data.transpose()? else { return Ok(false) };
        self.body.flow_control().release_capacity(data.len())?;
        self.received.push_str(std::str::from_utf8(&data).unwrap());
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_250_streams() {
    let served = Served::encrypted(HubOptions::default()).await;
    for version in TLS_VERSIONS {
        let connection = served.connect_encrypted(version, &[b"h2"]).await;
        let mut http2 = Http2::over(connection).await;
        let mut streams = Vec::new();
        for number in 0..250 {
            streams.push(http2.subscribe(&format!("all&topic={number}")).await);
        }
        served.wait_for_subscribers(250).await;
        served.publish("all", "one for all").await;
        served.publish("7", "one for one").await;
        for stream in &mut streams {
            assert!(stream.until("\n\n").await.ends_with("data: one for all\n\n"));
        }
        assert!(streams[7].until("\n\n").await.ends_with("data: one for one\n\n"));
        drop((streams, http2));
        served.wait_for_subscribers(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_ends_alone() {
    let write_timeout = Duration::from_millis(300);
    let served = Served::encrypted(HubOptions { write_timeout, ..HubOptions::default() }).await;
    let mut http2 = Http2::connect(&served).await;
    let mut stalled = http2.subscribe("much").await;
    let mut other = http2.subscribe("little").await;
    served.wait_for_subscribers(2).await;
    for _ in 0..8 {
        served.publish("much", "x".repeat(WINDOW_BYTES as usize)).await;
    }
    served.wait_for_subscribers(1).await;
    served.publish("little", "1").await;
    assert!(other.until("\n\n").await.ends_with("data: 1\n\n"));
    let end = loop {
        match stalled.receive().await {
            Ok(true) => {}
            Ok(false) => panic!("it was cut, and says that it is whole"),
            Err(error) => break error,
        }
    };
    assert!(end.is_reset(), "{end}");
    let mut again = http2.subscribe("much").await;
    served.publish("much", "2").await;
    assert!(again.until("\n\n").await.ends_with("data: 2\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_spoken_in_plain_by_prior_knowledge() {
    let served = Served::plain().await;
    let mut http2 = Http2::connect_plain(&served).await;
    let mut stream = http2.subscribe("a").await;
    served.publish("a", "1").await;
    assert!(stream.until("\n\n").await.ends_with("data: 1\n\n"));
    let mut client = served.connect().await;
    client.subscribe("topic=a", "").await;
    client.until("\n:\n\r\n").await;
    served.publish("a", "2").await;
    assert!(stream.until("\n\n").await.ends_with("data: 2\n\n"));
    assert!(client.chunk().await.ends_with("data: 2\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_preface_may_come_byte_by_byte() {
    let served = Served::plain().await;
    let connection = TcpStream::connect(served.address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    let mut http2 = Http2::over(Trickle(connection)).await;
    let mut stream = http2.subscribe("a").await;
    served.publish("a", "1").await;
    assert!(stream.until("\n\n").await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_begins_like_the_preface_is_http_1() {
    let served = Served::plain().await;
    for (begins, status) in [
        ("PRI * HTTP/1.1\r\nhost: localhost\r\n\r\n", "404"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "400"),
        ("PRIVATE / HTTP/1.1\r\nhost: localhost\r\n\r\n", "405"),
        ("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", "4"),
    ] {
        for step in [1, 7, begins.len()] {
            let mut client = served.connect().await;
            client.connection.set_nodelay(true).unwrap();
            for piece in begins.as_bytes().chunks(step) {
                client.send(std::str::from_utf8(piece).unwrap()).await;
                tokio::task::yield_now().await;
            }
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{begins:?}: {head}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_preface_ends() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends() {
    let served = Served::encrypted(HubOptions::default()).await;
    Http2::connect(&served).await.ended().await;
}

const WINDOW_BYTES: u32 = 32 << 10;
