//! A client of event streams that knows HTTP/1.1 chunks and the event stream format, no more.

use std::io::Write;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tidings_sse::{Decoder, Event, Item};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// An open event stream.
pub(crate) struct Stream {
    connection: TcpStream,
    received: BytesMut,
    /// Bytes of the current chunk that have not been decoded.
    chunk_left: usize,
    decoder: Decoder,
    pub(crate) head: String,
}

impl Stream {
    /// Subscribes with a query such as `topic=a`, resuming after `last_id` if it is not empty.
    pub(crate) async fn open(address: SocketAddr, query: &str, last_id: &str) -> Self {
        let resume = if last_id.is_empty() {
            String::new()
        } else {
            format!("last-event-id: {last_id}\r\n")
        };
        let request = format!("GET /events?{query} HTTP/1.1\r\nhost: localhost\r\n{resume}\r\n");
        let mut connection = connect_and_send(address, request.as_bytes());
        let mut received = BytesMut::new();
        let end = loop {
            assert!(connection.read_buf(&mut received).await.unwrap() > 0, "the head is cut short");
            if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8(received.split_to(end).to_vec()).unwrap();
        received.advance(4);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let decoder = Decoder::default().with_last_event_id(last_id);
        Self { connection, received, chunk_left: 0, decoder, head }
    }

    /// The next event; `None` once the hub has ended the stream or the connection.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decode() {
                return Some(event);
            }
            if self.chunk_ended() {
                continue;
            }
            if self.is_last_chunk() || !self.receive().await {
                return None;
            }
        }
    }

    async fn receive(&mut self) -> bool {
        // Thousands of streams share few threads: none goes on while others wait for their turn.
        tokio::task::yield_now().await;
        self.received.reserve(64 << 10);
        matches!(self.connection.read_buf(&mut self.received).await, Ok(length) if length > 0)
    }

    fn decode(&mut self) -> Option<Event> {
        while self.chunk_left > 0 && !self.received.is_empty() {
            let length = self.chunk_left.min(self.received.len());
            let mut part = &self.received[..length];
            let item = self.decoder.decode(&mut part).unwrap();
            let used = length - part.len();
            self.received.advance(used);
            self.chunk_left -= used;
            if let Some(Item::Event(event)) = item {
                return Some(event);
            }
        }
        None
    }

    /// Begins the next chunk if its head is here.
    fn chunk_ended(&mut self) -> bool {
        if self.chunk_left > 0 {
            return false;
        }
        // Between chunks stands the line end of the last one.
        let start = if self.received.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(end) = self.received[start..].windows(2).position(|two| two == b"\r\n") else {
            return false;
        };
        let digits = std::str::from_utf8(&self.received[start..start + end]).unwrap();
        let length = usize::from_str_radix(digits, 16).unwrap();
        if length == 0 {
            return false;
        }
        self.received.advance(start + end + 2);
        self.chunk_left = length;
        true
    }

    fn is_last_chunk(&self) -> bool {
        self.chunk_left == 0 && (self.received.ends_with(b"0\r\n\r\n"))
    }
}

/// Connects and sends a request head in one go: a task that waited for its turn between the two, among
/// thousands and on a busy machine, could be slower than the hub waits for a head.
fn connect_and_send(address: SocketAddr, head: &[u8]) -> TcpStream {
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.write_all(head).unwrap();
    connection.set_nonblocking(true).unwrap();
    TcpStream::from_std(connection).unwrap()
}
