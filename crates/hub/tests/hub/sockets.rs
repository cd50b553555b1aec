//! Streams on sockets that the hub owns.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tidings::{EndReason, Session};

use super::*;

/// Two ends of a connection, of which the first is non-blocking; both take little at once.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Of a window much smaller than a segment, TCP makes little.
    SockRef::from(&client).set_recv_buffer_size(128 << 10).unwrap();
    let (socket, _) = listener.accept().unwrap();
    SockRef::from(&socket).set_send_buffer_size(16 << 10).unwrap();
    socket.set_nonblocking(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (socket, client)
}

/// Subscribes on a socket, and gives the client's end.
fn serve(hub: &Hub, begin: Begin, session: Option<Box<dyn Session>>) -> TcpStream {
    let (socket, client) = connection();
    let options = SubscribeOptions { begin, ..Default::default() };
    hub.admit(interest("a"), options).unwrap().serve(socket, session);
    client
}

/// The next chunk of a body; empty at its end.
pub(crate) fn next_chunk(body: &mut impl BufRead) -> io::Result<String> {
    let mut size = String::new();
    body.read_line(&mut size)?;
    let size = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; size + 2];
    body.read_exact(&mut chunk)?;
    assert_eq!(&chunk[size..], b"\r\n");
    chunk.truncate(size);
    String::from_utf8(chunk).map_err(io::Error::other)
}

/// The data of the next event, without its last line end.
fn next_data(body: &mut impl BufRead) -> String {
    loop {
        let chunk = next_chunk(body).unwrap();
        if let Some((_, data)) = chunk.split_once("data: ") {
            return data.trim_end().to_owned();
        }
        assert_eq!(chunk, ":\n");
    }
}

/// Waits for something that another thread does soon.
fn until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never came about");
        std::thread::yield_now();
    }
}

fn ended(hub: &Hub, reason: EndReason) -> u64 {
    hub.figures().ended[reason as usize].1
}

#[tokio::test]
async fn events_are_chunks_first_those_that_are_kept() {
    let hub = default_hub();
    publish_numbers(&hub, "a", 0..300).await;
    let mut body = BufReader::new(serve(&hub, Begin::Earliest, None));
    publish_numbers(&hub, "a", 300..600).await;
    hub.publish(vec![record("b", "elsewhere"), record("a", "600")]).await.unwrap();
    for number in 0..=600 {
        assert_eq!(next_data(&mut body), number.to_string());
    }
    until(|| hub.figures().delivered == 601);
}

#[tokio::test]
async fn a_gap_is_announced_in_a_chunk_of_its_own() {
    let hub = default_hub();
    let mut body = BufReader::new(serve(&hub, Begin::After(b"nonsense".into()), None));
    let chunk = next_chunk(&mut body).unwrap();
    assert!(chunk.starts_with("event: tidings.gap\n"), "{chunk}");
}

/// Publishes 30 MB that nobody reads, and then has them read.
async fn stalls_and_goes_on(session: Option<Box<dyn Session>>, decode: fn(Vec<u8>) -> Vec<u8>) {
    let hub = default_hub();
    let client = serve(&hub, Begin::Now, session);
    let events = 3_000;
    let filling = "x".repeat(10_000);
    for number in 0..events {
        hub.publish(vec![record("a", &format!("{number} {filling}"))]).await.unwrap();
    }
    let mut body = BufReader::new(Decoded { client, decode });
    for number in 0..events {
        let data = next_data(&mut body);
        assert!(data == format!("{number} {filling}"), "{number}: {}", &data[..20]);
    }
}

struct Decoded {
    client: TcpStream,
    decode: fn(Vec<u8>) -> Vec<u8>,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.client.read(buffer)?;
        let decoded = (self.decode)(buffer[..bytes].to_vec());
        buffer[..bytes].copy_from_slice(&decoded);
        Ok(bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_and_reads_again_receives_everything_once() {
    stalls_and_goes_on(None, |bytes| bytes).await;
}

/// Turns all bits around, and holds back up to 1000 bytes.
struct Turned(VecDeque<u8>);

impl Session for Turned {
    fn write_vectored(&mut self, _: &TcpStream, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = 1_000 - self.0.len();
        let bytes: Vec<u8> =
            buffers.iter().flat_map(|it| it.iter()).take(room).map(|byte| !byte).collect();
        self.0.extend(&bytes);
        if bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while !self.0.is_empty() {
            let sent = socket.write(self.0.make_contiguous())?;
            self.0.drain(..sent);
        }
        Ok(())
    }

    fn read(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        socket.read(&mut [0; 100])
    }

    fn close(&mut self, mut socket: &TcpStream) {
        let _ = socket.write_all(b"bye");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_holds_back_what_was_taken_loses_nothing() {
    let turned = |bytes: Vec<u8>| bytes.iter().map(|byte| !byte).collect();
    stalls_and_goes_on(Some(Box::new(Turned(VecDeque::new()))), turned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_leave_after_the_last_chunk() {
    let hub = default_hub();
    let mut client = serve(&hub, Begin::Now, Some(Box::new(Turned(VecDeque::new()))));
    until(|| hub.figures().subscribers == 1);
    hub.shutdown(Duration::ZERO).await;
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    let stream = all.strip_suffix(b"bye").unwrap();
    let stream: Vec<u8> = stream.iter().map(|byte| !byte).collect();
    assert!(stream.ends_with(b"\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&stream));
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_though_nothing_is_sent() {
    let hub = default_hub();
    let clients: Vec<_> = (0..20).map(|_| serve(&hub, Begin::Now, None)).collect();
    assert_eq!(hub.figures().subscribers, 20);
    drop(clients);
    until(|| hub.figures().subscribers == 0);
    assert_eq!(ended(&hub, EndReason::Client), 20);
}

#[tokio::test]
async fn what_a_client_sends_is_dropped_within_reason() {
    let hub = default_hub();
    let mut talker = serve(&hub, Begin::Now, None);
    talker.write_all(b"GET /events?topic=b HTTP/1.1\r\n\r\n").unwrap();
    publish_numbers(&hub, "a", 0..1).await;
    let mut body = BufReader::new(&talker);
    assert_eq!(next_data(&mut body), "0");
    let mut flooder = serve(&hub, Begin::Now, None);
    let flood = vec![0; 64 << 10];
    while flooder.write_all(&flood).is_ok() {}
    until(|| hub.figures().subscribers == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_tells_ends_and_closes() {
    let hub = default_hub();
    let client = serve(&hub, Begin::Now, None);
    publish_numbers(&hub, "a", 0..1).await;
    hub.shutdown(Duration::ZERO).await;
    let mut body = BufReader::new(client);
    assert_eq!(next_data(&mut body), "0");
    assert!(next_chunk(&mut body).unwrap().starts_with("event: tidings.shutdown\nretry: "));
    assert_eq!(next_chunk(&mut body).unwrap(), "");
    assert_eq!(body.read(&mut [0]).unwrap(), 0);
    assert_eq!(ended(&hub, EndReason::Shutdown), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_admitted_and_comes_late_gets_what_it_is_owed_and_is_sent_away() {
    let hub = default_hub();
    let admit = || hub.admit(interest("a"), SubscribeOptions::default()).unwrap();
    let (by_socket, pulled) = (admit(), admit());
    publish_numbers(&hub, "a", 0..1).await;
    let shutdown = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_secs(60)).await }
    });
    while !hub.is_shutting_down() {
        tokio::task::yield_now().await;
    }
    let (socket, client) = connection();
    by_socket.serve(socket, None);
    let mut body = BufReader::new(client);
    assert_eq!(next_data(&mut body), "0");
    assert!(next_chunk(&mut body).unwrap().starts_with("event: tidings.shutdown\nretry: "));
    assert_eq!(next_chunk(&mut body).unwrap(), "");
    let mut pulled = pulled.pull();
    assert_eq!(next_event(&mut pulled).await.data, "0");
    assert_eq!(next_control(&mut pulled).await.0, "tidings.shutdown");
    assert_eq!(pulled.next().await, None);
    drop(pulled);
    shutdown.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_for_the_write_timeout_is_closed() {
    let write_timeout = Duration::from_millis(200);
    let options = HubOptions { write_timeout, ..Default::default() };
    let hub = hub(options, MemoryLogOptions::default());
    let stalled = serve(&hub, Begin::Now, None);
    let reading = subscribe(&hub, "a", Begin::Now);
    let filling = "x".repeat(100_000);
    for _ in 0..100 {
        hub.publish(vec![record("a", &filling)]).await.unwrap();
    }
    until(|| ended(&hub, EndReason::WriteTimeout) >= 1);
    let mut rest = Vec::new();
    let error = (&stalled).read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(rest.len() < 10_000_000);
    drop(reading);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_for_the_end_is_waited_for() {
    let hub = default_hub();
    let client = serve(&hub, Begin::Now, None);
    let filling = "x".repeat(1_000_000);
    hub.publish(vec![Record { is_final: true, ..record("a", &filling) }]).await.unwrap();
    let mut body = BufReader::new(client);
    assert!(next_data(&mut body) == filling);
    assert!(next_chunk(&mut body).unwrap().starts_with("event: tidings.finished\n"));
    assert_eq!(next_chunk(&mut body).unwrap(), "");
    until(|| ended(&hub, EndReason::Finished) == 1);
}

#[tokio::test]
async fn flush_interval_lets_events_of_its_time_leave_together() {
    let flush_interval = Duration::from_millis(300);
    let options = HubOptions { flush_interval, ..Default::default() };
    let hub = hub(options, MemoryLogOptions::default());
    let mut body = BufReader::new(serve(&hub, Begin::Now, None));
    publish_numbers(&hub, "a", 0..1).await;
    assert_eq!(next_data(&mut body), "0");
    let mut flushes = 0;
    let mut number = 1;
    while flushes < 3 {
        let begin = Instant::now();
        publish_numbers(&hub, "a", number..number + 1).await;
        publish_numbers(&hub, "a", number + 1..number + 2).await;
        assert_eq!(next_data(&mut body), number.to_string());
        let took = begin.elapsed();
        assert_eq!(next_data(&mut body), (number + 1).to_string());
        number += 2;
        // The first wait began before `begin`, with what came last.
        flushes += usize::from(took > flush_interval / 2);
    }
    until(|| hub.figures().delivered == u64::from(number));
}
