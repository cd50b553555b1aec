//! As much of HTTP/2 (RFC 9113) as a client needs that opens streams and reads them.
//!
//! Windows are as large as they can be, so none is ever updated. Of a header block only the
//! status is read.

use anyhow::{Result, bail, ensure};
use bench_stand::Request;

/// What a connection receives.
#[derive(Debug)]
pub struct Http2 {
    /// The head of a frame, or all of one that is not data, as far as it is there.
    head: Vec<u8>,
    /// What is left of the frame of data that has begun: its bytes, its padding, its stream.
    data: Option<Data>,
}

#[derive(Debug, Clone, Copy)]
struct Data {
    stream: usize,
    left: usize,
    padding: usize,
    ends: bool,
}

/// What a frame means to a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The answer of a stream has begun.
    Begun { stream: usize },
    /// Bytes of its body.
    Body { stream: usize, bytes: &'a [u8] },
    /// The stream has ended.
    Ended { stream: usize },
    /// Bytes to be sent.
    Reply(&'a [u8]),
}

impl Http2 {
    pub fn new() -> Self {
        Self { head: Vec::new(), data: None }
    }

    /// What a client sends first.
    pub fn preface(bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut settings = Vec::new();
        for (setting, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW_MAX)] {
            settings.extend_from_slice(&u16::to_be_bytes(setting));
            settings.extend_from_slice(&u32::to_be_bytes(value));
        }
        frame(SETTINGS, 0, 0, &settings, bytes);
        frame(WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes(), bytes);
    }

    /// The request of the n-th stream.
    pub fn request(stream: usize, authority: &str, request: &Request, bytes: &mut Vec<u8>) {
        // Indexed fields of the static table, then literals that are not indexed (RFC 7541).
        let mut block = vec![0x82, 0x87, 0x01];
        string(authority, &mut block);
        block.push(0x04);
        string(&request.path, &mut block);
        let accept = ("accept".to_owned(), "text/event-stream".to_owned());
        for (name, value) in request.headers.iter().chain([&accept]) {
            block.push(0);
            string(name, &mut block);
            string(value, &mut block);
        }
        frame(HEADERS, END_STREAM | END_HEADERS, stream as u32 * 2 + 1, &block, bytes);
    }

    /// Gives what is in `bytes` to `take`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Part<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = bytes;
        loop {
            if let Some(mut data) = self.data.take() {
                let (now, rest) = bytes.split_at(data.left.min(bytes.len()));
                let body = now.len().min(data.left - data.padding.min(data.left));
                if body > 0 {
                    take(Part::Body { stream: data.stream, bytes: &now[..body] })?;
                }
                bytes = rest;
                data.left -= now.len();
                if data.left > 0 {
                    self.data = Some(data);
                    return Ok(());
                }
                if data.ends {
                    take(Part::Ended { stream: data.stream })?;
                }
            }
            let wanted = self.frame_bytes();
            let (now, rest) = bytes.split_at((wanted - self.head.len()).min(bytes.len()));
            self.head.extend_from_slice(now);
            bytes = rest;
            if self.head.len() < wanted {
                return Ok(());
            }
            if self.frame_bytes() == self.head.len() {
                self.whole(&mut take)?;
                self.head.clear();
            }
        }
    }

    /// How long the frame is as far as it is kept: all of it, or without what data it has.
    fn frame_bytes(&self) -> usize {
        let [high, middle, low, kind, flags, ..] = self.head[..] else { return HEAD_BYTES };
        if self.head.len() < HEAD_BYTES {
            return HEAD_BYTES;
        }
        match kind {
            DATA => HEAD_BYTES + usize::from(flags & PADDED > 0),
            _ => HEAD_BYTES + u32::from_be_bytes([0, high, middle, low]) as usize,
        }
    }

    fn whole(&mut self, take: &mut impl FnMut(Part<'_>) -> Result<()>) -> Result<()> {
        let (head, payload) = self.head.split_at(HEAD_BYTES);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize / 2;
        match kind {
            DATA => {
                let padding = payload.first().copied().unwrap_or_default().into();
                let left = length - payload.len();
                ensure!(padding <= left, "a frame has more padding than bytes");
                self.data = Some(Data { stream, left, padding, ends: flags & END_STREAM > 0 });
            }
            HEADERS => {
                let padding = if flags & PADDED > 0 { 1 } else { 0 };
                let priority = if flags & PRIORITY > 0 { 5 } else { 0 };
                let block = payload.get(padding + priority..).unwrap_or_default();
                let field = block.iter().find(|byte| **byte & 0xe0 != 0x20);
                ensure!(field == Some(&0x88), "the status of a stream is not 200: {payload:?}");
                take(Part::Begun { stream })?;
                if flags & END_STREAM > 0 {
                    take(Part::Ended { stream })?;
                }
            }
            RST_STREAM => take(Part::Ended { stream })?,
            SETTINGS if flags & ACK == 0 => {
                let mut reply = Vec::new();
                frame(SETTINGS, ACK, 0, &[], &mut reply);
                take(Part::Reply(&reply))?;
            }
            PING if flags & ACK == 0 => {
                let mut reply = Vec::new();
                frame(PING, ACK, 0, payload, &mut reply);
                take(Part::Reply(&reply))?;
            }
            GOAWAY => bail!("the server goes away: {payload:?}"),
            _ => {}
        }
        Ok(())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A string that is not Huffman-coded (RFC 7541 section 5.2).
fn string(text: &str, block: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        block.push(length as u8);
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push((length % 128 + 128) as u8);
            length /= 128;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

const HEAD_BYTES: usize = 9;
const WINDOW_DEFAULT: u32 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_reads_cut() {
        let mut sent = Vec::new();
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100], &mut sent);
        frame(HEADERS, END_HEADERS, 3, &[0x20, 0x88, 0x40], &mut sent);
        frame(DATA, 0, 3, b"some data", &mut sent);
        frame(DATA, PADDED | END_STREAM, 3, b"\x02more..", &mut sent);
        for cut in 0..sent.len() {
            let (mut http2, mut body, mut parts) = (Http2::new(), Vec::new(), Vec::new());
            for part in [&sent[..cut], &sent[cut..]] {
                let taken = http2.feed(part, |part| {
                    match part {
                        Part::Body { stream: 1, bytes } => body.extend_from_slice(bytes),
                        Part::Body { .. } => bail!("data of another stream"),
                        Part::Begun { stream } => parts.push(format!("begun {stream}")),
                        Part::Ended { stream } => parts.push(format!("ended {stream}")),
                        Part::Reply(bytes) => parts.push(format!("reply {}", bytes[3])),
                    }
                    Ok(())
                });
                assert!(taken.is_ok(), "cut at {cut}: {taken:?}");
            }
            assert_eq!(body, b"some datamore", "cut at {cut}");
            assert_eq!(parts, ["reply 4", "begun 1", "ended 1"], "cut at {cut}");
        }
    }

    #[test]
    fn long_strings_have_long_lengths() {
        let mut block = Vec::new();
        string(&"x".repeat(127 + 128 * 3 + 5), &mut block);
        assert_eq!(block[..3], [127, 128 + 5, 3]);
    }
}
