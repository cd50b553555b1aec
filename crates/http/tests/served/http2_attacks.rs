//! What clients do to a server over HTTP/2 that no browser does: frames made by hand. Each such
//! connection is ended or held within bounds, and others go on.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tidings::HubOptions;
use tidings_http::HttpOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Client;
use crate::server::{PATIENCE, Served};

/// A connection without a mind of its own.
struct Raw(TcpStream);

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// How an attack ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The server says why, and goes.
    Ended,
    /// The connection works still.
    Lives,
}

impl Raw {
    async fn connect(served: &Served, settings: &[(u16, u32)]) -> Self {
        let mut connection = TcpStream::connect(served.address).await.unwrap();
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut raw = Self(connection);
        let settings = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let settings = settings.collect::<Vec<u8>>();
        raw.send(&frame(SETTINGS, 0, 0, &settings)).await;
        raw
    }

    /// Sends all of it, unless the server goes meanwhile, and reads what it says beside that.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Sends while it reads and drops what comes: a server that is not read from stops reading.
    async fn flood(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let (mut reading, mut writing) = self.0.split();
        let mut received = Vec::new();
        let sending = async {
            let _ = writing.write_all(bytes).await;
            // An answer to this says that all else was taken in.
            let _ = writing.write_all(&frame(PING, 0, 0, MARK)).await;
        };
        let mut sending = std::pin::pin!(sending);
        let mut is_sent = false;
        loop {
            tokio::select! {
                () = sending.as_mut(), if !is_sent => is_sent = true,
                next = timeout(PATIENCE, read_frame(&mut reading)) => {
                    match next.expect("an answer or the end comes in time") {
                        Some(frame) => {
                            let is_mark = frame.kind == PING && frame.payload == MARK;
                            received.push(frame);
                            if is_mark {
                                return received;
                            }
                        }
                        None => return received,
                    }
                }
            }
        }
    }
}

/// The next frame; `None` at the end, however it comes.
async fn read_frame(reading: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    reading.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; length];
    reading.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head in HPACK without a table (RFC 7541, sections 6.1 and 6.2.2).
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut head = vec![method, SCHEME_HTTP];
    for (name, value) in [(4, path), (1, "localhost")] {
        head.extend([name, value.len() as u8]);
        head.extend(value.bytes());
    }
    head
}

fn subscribe(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(GET, "/events?topic=a"))
}

fn publish(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(POST, "/events"))
}

/// A field of 4,000 bytes goes into the table, and is named again in a byte, so many times.
fn bomb(times: usize) -> Vec<u8> {
    let field = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4_000]].concat();
    let head = [head(GET, "/events?topic=a"), field, vec![0xbe; times]].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)
}

/// Numbers of a client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Runs an attack beside a stream that has nothing to do with it; tells how it ended.
async fn attack(name: &str, served: &Served, bytes: &[u8]) -> (End, Vec<Frame>) {
    let mut witness = served.connect().await;
    witness.subscribe("topic=witness", "").await;
    witness.until("\n:\n\r\n").await;
    served.wait_for_subscribers(1).await;
    let mut raw = Raw::connect(served, &[]).await;
    let received = raw.flood(bytes).await;
    served.publish("witness", name).await;
    assert!(witness.chunk().await.ends_with(&format!("data: {name}\n\n")), "{name}");
    let mut asks = served.connect().await;
    asks.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(asks.head().await.starts_with("HTTP/1.1 200 OK\r\n"), "{name}");
    let is_alive = received.last().is_some_and(|last| last.kind == PING && last.payload == MARK);
    drop(raw);
    served.wait_for_subscribers(1).await;
    drop(witness);
    served.wait_for_subscribers(0).await;
    (if is_alive { End::Lives } else { End::Ended }, received)
}

fn said_goodbye(received: &[Frame]) -> Option<u8> {
    received.iter().find(|frame| frame.kind == GOAWAY).map(|frame| frame.payload[7])
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_ended() {
    let served = Served::plain().await;
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let rapid_reset = streams(5_000).flat_map(|stream| [subscribe(stream), reset(stream)].concat());
    // The server has to reset what the client has broken: a body longer than it was said to be.
    let said_length = [head(POST, "/events"), vec![0x0f, 0x0d, 1, b'5']].concat();
    let made_reset = streams(5_000).flat_map(|stream| {
        let head = frame(HEADERS, END_HEADERS, stream, &said_length);
        [head, frame(DATA, END_STREAM, stream, b"0123456789")].concat()
    });
    let no_window = [subscribe(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat();
    let empty_data = publish(1).into_iter().chain(frame(DATA, 0, 1, &[]).repeat(100_000));
    let begun = frame(HEADERS, END_STREAM, 1, &head(GET, "/events?topic=a"));
    let empty_continuation =
        begun.clone().into_iter().chain(frame(CONTINUATION, 0, 1, &[]).repeat(100_000));
    let field = [&[0, 1, b'a', 100][..], &[b'a'; 100]].concat();
    let endless_head =
        begun.into_iter().chain(frame(CONTINUATION, 0, 1, &field.repeat(100)).repeat(1_000));
    let attacks: [(&str, Vec<u8>); 7] = [
        ("rapid reset", rapid_reset.collect()),
        ("made to reset", made_reset.collect()),
        ("windows of nothing", no_window),
        ("a head that unfolds", bomb(10_000)),
        ("empty data", empty_data.collect()),
        ("empty continuation", empty_continuation.collect()),
        ("an endless head", endless_head.collect()),
    ];
    for (name, bytes) in attacks {
        let (end, received) = attack(name, &served, &bytes).await;
        let goodbye = said_goodbye(&received);
        assert_eq!(end, End::Ended, "{name}: {goodbye:?}");
        let why = if name == "windows of nothing" { PROTOCOL_ERROR } else { ENHANCE_YOUR_CALM };
        assert!(goodbye.is_none_or(|said| said == why), "{name}: {goodbye:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_little_is_borne() {
    let served = Served::plain().await;
    let attacks: [(&str, Vec<u8>); 5] = [
        ("pings", frame(PING, 0, 0, &[7; 8]).repeat(50_000)),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]).repeat(50_000)),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(50_000)),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(50_000)),
        ("unknown frames", frame(99, 0, 0, &[0; 100]).repeat(50_000)),
    ];
    for (name, bytes) in attacks {
        let (end, received) = attack(name, &served, &bytes).await;
        assert_eq!(end, End::Lives, "{name}: {:?}", said_goodbye(&received));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_unfolds_a_little_is_refused() {
    let served = Served::plain().await;
    let mut raw = Raw::connect(&served, &[]).await;
    let live = frame(HEADERS, END_STREAM | END_HEADERS, 3, &head(GET, "/health/live"));
    assert!(raw.send(&[bomb(30), live].concat()).await);
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let next = timeout(PATIENCE, read_frame(&mut raw.0)).await.unwrap();
        answers
            .extend(next.filter(|frame| frame.kind == HEADERS).map(|it| (it.stream, it.payload)));
    }
    answers.sort();
    let [(1, refused), (3, answered)] = &answers[..] else { panic!("{answers:?}") };
    // `:status: 431` in Huffman code, and 200 by its number in the table of fields.
    assert!(refused.windows(3).any(|part| part == [0x69, 0x90, 0xff]), "{refused:?}");
    assert_eq!(answered[0], 0x88, "{answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_are_refused() {
    const STREAMS_MAX: u32 = 10;
    let http = HttpOptions { streams_per_connection_max: STREAMS_MAX, ..HttpOptions::default() };
    let served = Served::start(http, HubOptions::default()).await;
    let bytes: Vec<u8> = streams(STREAMS_MAX + 5).flat_map(subscribe).collect();
    let (end, received) = attack("streams", &served, &bytes).await;
    assert_eq!(end, End::Lives);
    let refused = received.iter().filter(|frame| frame.kind == RST_STREAM);
    let refused: Vec<_> = refused.map(|frame| (frame.stream, frame.payload[3])).collect();
    let expected: Vec<_> = streams(STREAMS_MAX + 5)
        .skip(STREAMS_MAX as usize)
        .map(|it| (it, REFUSED_STREAM))
        .collect();
    assert_eq!(refused, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_let_nothing_through_end() {
    let write_timeout = Duration::from_millis(300);
    let served =
        Served::start(HttpOptions::default(), HubOptions { write_timeout, ..Default::default() })
            .await;
    let mut witness = served.connect().await;
    witness.subscribe("topic=witness", "").await;
    witness.until("\n:\n\r\n").await;
    let no_window = (4, 0);
    let mut raw = Raw::connect(&served, &[no_window]).await;
    let bytes: Vec<u8> = streams(200).flat_map(subscribe).collect();
    assert!(raw.send(&bytes).await);
    served.wait_for_subscribers(201).await;
    for _ in 0..20 {
        served.publish("a", "x".repeat(10_000)).await;
    }
    served.wait_for_subscribers(1).await;
    let received = raw.flood(&[]).await;
    let resets = received.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert_eq!(resets, 200);
    served.publish("witness", "1").await;
    assert!(witness.chunk().await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_not_read_from() {
    let served = Served::plain().await;
    let raw = Raw::connect(&served, &[]).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    // Answers fill the sockets, then questions do: nothing piles up in between.
    let deadline = Instant::now() + PATIENCE;
    let (mut sent, mut blocked_since) = (0, None);
    while blocked_since.is_none_or(|since: Instant| since.elapsed() < BLOCKED) {
        assert!(Instant::now() < deadline && sent < 100 << 20, "{sent} bytes were taken in");
        match raw.0.try_write(&pings[sent % pings.len()..]) {
            Ok(length) => (sent, blocked_since) = (sent + length, None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked_since.get_or_insert_with(Instant::now);
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let mut other = served.connect().await;
    other.subscribe("topic=a", "").await;
    other.until("\n:\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let served = Served::plain().await;
    let mut raw = Raw::connect(&served, &[]).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &head(GET, "/events?topic=a"))).await;
    while read_frame(&mut raw.0).await.is_some() {}
    let mut silent: Client<TcpStream> = served.connect().await;
    silent.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    while silent.receive().await > 0 {}
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PROTOCOL_ERROR: u8 = 1;
const REFUSED_STREAM: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;
/// Fields that have a number of their own (RFC 7541, appendix A).
const GET: u8 = 0x82;
const POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const MARK: &[u8] = b"the mark";
/// How long a socket takes nothing before it is taken to be full.
const BLOCKED: Duration = Duration::from_millis(500);
