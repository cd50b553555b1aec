//! Connections that ask for nothing that they wait for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};

use crate::attack::{Strike, THREADS, Target};

/// Holds thousands of connections, more than may wait, and opens ever new ones.
pub struct SlowHeads {
    target: Target,
    held: VecDeque<TcpStream>,
}

impl SlowHeads {
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone(), held: VecDeque::new() }
    }
}

impl Strike for SlowHeads {
    fn strike(&mut self, number: u64) -> Result<()> {
        let mut connection = self.target.dial(number)?;
        if number.is_multiple_of(2) {
            connection.write_all(b"GET /events?topic=good/1 HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")?;
        }
        self.held.push_back(connection);
        if self.held.len() > HELD_MAX / THREADS as usize {
            self.held.pop_front();
        }
        let one = number as usize % self.held.len();
        // The hub may have ended it.
        let _ = self.held[one].write(b"x");
        Ok(())
    }
}

/// Asks and takes back, without a look at what comes.
pub struct RapidResets {
    target: Target,
    connection: Option<TcpStream>,
    next_stream: u32,
}

impl RapidResets {
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone(), connection: None, next_stream: 1 }
    }
}

impl Strike for RapidResets {
    fn strike(&mut self, number: u64) -> Result<()> {
        let mut frames = Vec::new();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.next_stream = 1;
                frames.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
                write_frame(&mut frames, SETTINGS, 0, 0, &[]);
                let connection = self.target.dial(number)?;
                connection.set_nonblocking(true)?;
                connection
            }
        };
        for _ in 0..RESETS_BATCH {
            write_frame(&mut frames, HEADERS, END_STREAM | END_HEADERS, self.next_stream, REQUEST);
            write_frame(&mut frames, RST_STREAM, 0, self.next_stream, &CANCEL.to_be_bytes());
            self.next_stream += 2;
        }
        // It goes on over a connection for as long as the hub takes all of it.
        let is_taken = connection.write(&frames).is_ok_and(|bytes| bytes == frames.len());
        if is_taken && is_open(&mut connection) {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Connects and ends it at once.
pub struct ConnectResets(Target);

impl ConnectResets {
    pub fn new(target: &Target) -> Self {
        Self(target.clone())
    }
}

impl Strike for ConnectResets {
    fn strike(&mut self, number: u64) -> Result<()> {
        let mut connection = self.0.dial(number)?;
        if number.is_multiple_of(2) {
            connection
                .write_all(b"GET /events?topic=good/1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")?;
        }
        Ok(())
    }
}

/// Sends more than a head may be.
pub struct LargeCookies {
    target: Target,
    request: String,
}

impl LargeCookies {
    pub fn new(target: &Target) -> Self {
        let cookie = "x".repeat(100 * 1024);
        let request =
            format!("GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: a={cookie}\r\n\r\n");
        Self { target: target.clone(), request }
    }
}

impl Strike for LargeCookies {
    fn strike(&mut self, number: u64) -> Result<()> {
        let mut connection = self.target.dial(number)?;
        // The hub answers before it has read all, so that both this and the answer may be cut off.
        let _ = connection.write_all(self.request.as_bytes());
        let mut answer = [0; 12];
        if connection.read_exact(&mut answer).is_ok() {
            let answer = String::from_utf8_lossy(&answer);
            ensure!(answer == "HTTP/1.1 431", "a large cookie was answered {answer}");
        }
        Ok(())
    }
}

/// Reads what is there, and tells whether more may come.
fn is_open(connection: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// RFC 9113, section 4.1.
fn write_frame(frames: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    frames.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    frames.extend([kind, flags]);
    frames.extend(stream.to_be_bytes());
    frames.extend(payload);
}

/// More than the hub takes back for one connection at once, by default.
pub const RESETS_BATCH: u32 = 50;

/// More than may wait by default, and what this process may open beside its streams.
const HELD_MAX: usize = 6_000;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

/// `GET http://127.0.0.1/events?topic=a` in HPACK (RFC 7541), without Huffman codes.
const REQUEST: &[u8] = b"\x82\x86\x04\x0f/events?topic=a\x01\x09127.0.0.1";
