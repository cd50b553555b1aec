//! A client that knows HTTP/1.1 heads and chunks.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::server::PATIENCE;

/// A connection, and what has come on it and was not looked at.
pub(crate) struct Client<S> {
    pub(crate) connection: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(connection: S) -> Self {
        Self { connection, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.connection.write_all(bytes.as_bytes()).await.unwrap();
        self.connection.flush().await.unwrap();
    }

    /// Asks for a stream, with more lines of the head.
    pub(crate) async fn subscribe(&mut self, query: &str, lines: &str) {
        self.send(&format!("GET /events?{query} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")).await;
    }

    /// One read; 0 at the end.
    pub(crate) async fn receive(&mut self) -> usize {
        let mut piece = [0; 64 << 10];
        let received = timeout(PATIENCE, self.connection.read(&mut piece)).await;
        let length = received.expect("something comes in time").unwrap();
        self.received.extend_from_slice(&piece[..length]);
        length
    }

    /// Everything up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut seen = 0;
        loop {
            let rest = &self.received[seen..];
            if let Some(at) = rest.windows(end.len()).position(|part| part == end.as_bytes()) {
                let taken = self.received.drain(..seen + at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            seen = self.received.len().saturating_sub(end.len());
            let text = String::from_utf8_lossy(&self.received);
            assert!(self.received.len() < 64 << 20, "{}", &text[..1000]);
            let length = self.receive().await;
            assert!(length > 0, "no {end:?} in {}", String::from_utf8_lossy(&self.received));
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// The next chunk; empty for the last one.
    pub(crate) async fn chunk(&mut self) -> String {
        let length = self.until("\r\n").await;
        let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
        let chunk = self.exactly(length + 2).await;
        chunk.strip_suffix("\r\n").unwrap().to_owned()
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> String {
        while self.received.len() < length {
            assert!(self.receive().await > 0, "the end is missing");
        }
        String::from_utf8(self.received.drain(..length).collect()).unwrap()
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        while self.receive().await > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// Everything up to the end of the connection, which may be abrupt: what is closed while there is
    /// something unread is reset.
    pub(crate) async fn rest_or_reset(&mut self) -> String {
        let mut piece = [0; 4 << 10];
        loop {
            let received = timeout(PATIENCE, self.connection.read(&mut piece)).await;
            match received.expect("the end comes in time") {
                Ok(0) => break,
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// What has come and was not looked at.
    pub(crate) fn received(&self) -> &str {
        std::str::from_utf8(&self.received).unwrap()
    }
}
