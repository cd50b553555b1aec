//! Takes bodies apart: chunks, lines of event streams, frames of WebSockets.
//!
//! Nothing is copied and nothing allocated but for what a read cuts in two. What is malformed is
//! an error.

use anyhow::{Result, bail, ensure};

use crate::event::{Event, Finder};

/// What was found in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A published event, its framing complete.
    Event(Event),
    /// An event, message or comment of the server itself.
    Other,
    /// A ping that has to be answered.
    Ping,
}

/// Where in a chunked body a connection is (RFC 9112 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunks {
    /// In the line that tells the size of a chunk.
    Size { size: usize, digits: u8, is_past_digits: bool },
    /// In its data.
    Data { left: usize },
    /// In the line end after its data.
    DataEnd { is_past_cr: bool },
    /// After the last chunk.
    Over,
}

impl Chunks {
    pub const NEXT: Self = Self::Size { size: 0, digits: 0, is_past_digits: false };

    /// Gives the data in `bytes` to `take`, piece by piece.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data { left } = *self {
                let length = left.min(bytes.len() - at);
                take(&bytes[at..at + length])?;
                at += length;
                *self = match left - length {
                    0 => Self::DataEnd { is_past_cr: false },
                    left => Self::Data { left },
                };
                continue;
            }
            *self = self.after(bytes[at])?;
            at += 1;
        }
        Ok(())
    }

    fn after(self, byte: u8) -> Result<Self> {
        Ok(match (self, byte) {
            (Self::Size { size: 0, digits: 1.., .. }, b'\n') => Self::Over,
            (Self::Size { size, digits: 1.., .. }, b'\n') => Self::Data { left: size },
            (Self::Size { size, digits: digits @ 1.., .. }, b'\r' | b';') => {
                Self::Size { size, digits, is_past_digits: true }
            }
            (Self::Size { is_past_digits: true, .. }, _) => self,
            (Self::Size { size, digits, .. }, _) if digits < 8 => {
                match char::from(byte).to_digit(16) {
                    Some(digit) => Self::Size {
                        size: size << 4 | digit as usize,
                        digits: digits + 1,
                        is_past_digits: false,
                    },
                    None => bail!("a chunk begins with byte {byte:#x}"),
                }
            }
            (Self::DataEnd { is_past_cr: false }, b'\r') => Self::DataEnd { is_past_cr: true },
            (Self::DataEnd { is_past_cr: true }, b'\n') => Self::NEXT,
            (Self::Over, _) => Self::Over,
            _ => bail!("byte {byte:#x} is not where chunks have one"),
        })
    }
}

/// The lines of an event stream.
#[derive(Debug, Default)]
pub struct Lines {
    /// The begin of a line that was cut in two.
    rest: Vec<u8>,
    /// The event of the block that has begun.
    event: Option<Event>,
    has_data: bool,
    /// The id of the block that has begun; kept only where ids are noted.
    pub last_id: Option<String>,
}

impl Lines {
    /// Gives what is in `bytes` to `take`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        finder: &mut Finder,
        mut take: impl FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = bytes;
        if !self.rest.is_empty() {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.rest.extend_from_slice(bytes);
                ensure!(self.rest.len() < LINE_BYTES_MAX, "a line does not end");
                return Ok(());
            };
            let mut line = std::mem::take(&mut self.rest);
            line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.line(&line, finder, &mut take)?;
            line.clear();
            self.rest = line;
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.line(&bytes[begin..end], finder, &mut take)?;
            begin = end + 1;
        }
        self.rest.extend_from_slice(&bytes[begin..]);
        Ok(())
    }

    fn line(
        &mut self,
        line: &[u8],
        finder: &mut Finder,
        take: &mut impl FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.first() {
            None => {
                let event = self.event.take();
                let found = event.map_or(Found::Other, Found::Event);
                if std::mem::take(&mut self.has_data) { take(found) } else { Ok(()) }
            }
            Some(b':') => take(Found::Other),
            _ if line.starts_with(b"data:") => {
                ensure!(self.event.is_none(), "data after the data of an event");
                self.event = finder.find(line);
                self.has_data = true;
                Ok(())
            }
            _ if line.starts_with(b"id:") => {
                if let Some(id) = &mut self.last_id {
                    id.clear();
                    id.push_str(String::from_utf8_lossy(&line[3..]).trim());
                }
                Ok(())
            }
            _ if line.starts_with(b"event:") || line.starts_with(b"retry:") => Ok(()),
            _ => bail!("not a line of an event stream: {}", String::from_utf8_lossy(line)),
        }
    }
}

/// The frames of a WebSocket, from a server (RFC 6455 section 5.2).
#[derive(Debug, Default)]
pub struct Frames {
    /// The begin of a frame that was cut in two.
    rest: Vec<u8>,
}

impl Frames {
    /// Gives what is in `bytes` to `take`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        finder: &mut Finder,
        mut take: impl FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        if self.rest.is_empty() {
            let used = Self::frames(bytes, finder, &mut take)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let used = Self::frames(&self.rest, finder, &mut take)?;
            self.rest.drain(..used);
        }
        Ok(())
    }

    fn frames(
        bytes: &[u8],
        finder: &mut Finder,
        take: &mut impl FnMut(Found) -> Result<()>,
    ) -> Result<usize> {
        let mut used = 0;
        loop {
            let bytes = &bytes[used..];
            let (length, head) = match bytes {
                [_, 126, high, low, ..] => (u16::from_be_bytes([*high, *low]).into(), 4),
                [_, 127, ..] => bail!("a message is larger than any event"),
                [_, 128..=255, ..] => bail!("a server masks"),
                [_, length @ 0..=125, ..] => (usize::from(*length), 2),
                _ => return Ok(used),
            };
            let Some(payload) = bytes.get(head..head + length) else { return Ok(used) };
            take(match bytes[0] {
                0x81 | 0x82 => finder.find(payload).map_or(Found::Other, Found::Event),
                0x89 => Found::Ping,
                0x8a => Found::Other,
                0x88 => bail!("the server closes: {}", String::from_utf8_lossy(payload)),
                byte => bail!("a frame begins with byte {byte:#x}"),
            })?;
            used += head + length;
        }
    }
}

const LINE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Event = Event { lane: 3, number: 9, sent_ns: 77 };

    /// What is found in `body`, cut in two at each place, is the same.
    fn check(body: &[u8], feed: fn(&[&[u8]]) -> Result<Vec<Found>>, expected: Option<&[Found]>) {
        for cut in 0..body.len() {
            let (one, two) = body.split_at(cut);
            let found = feed(&[one, two]).ok();
            assert_eq!(found.as_deref(), expected, "cut at {cut}");
        }
    }

    fn chunked(parts: &[&[u8]]) -> Result<Vec<Found>> {
        let (mut chunks, mut lines, mut finder) = (Chunks::NEXT, Lines::default(), Finder::new(60));
        let mut all = Vec::new();
        for part in parts {
            chunks.feed(part, |bytes| {
                lines.feed(bytes, &mut finder, |found| {
                    all.push(found);
                    Ok(())
                })
            })?;
        }
        Ok(all)
    }

    fn frames(parts: &[&[u8]]) -> Result<Vec<Found>> {
        let (mut frames, mut finder) = (Frames::default(), Finder::new(60));
        let mut all = Vec::new();
        for part in parts {
            frames.feed(part, &mut finder, |found| {
                all.push(found);
                Ok(())
            })?;
        }
        Ok(all)
    }

    fn data() -> String {
        let mut data = [0; 60];
        EVENT.write(&mut data);
        String::from_utf8(data.to_vec()).unwrap()
    }

    fn chunk(body: &str) -> String {
        format!("{:X}\r\n{body}\r\n", body.len())
    }

    #[test]
    fn events_are_found_wherever_reads_cut() {
        let event = chunk(&format!("id: 7\ndata: {}\n\n", data()));
        let body = chunk("retry: 2000\n:\n") + &event + &chunk("event: x\r\ndata: {}\r\n\r\n");
        check(body.as_bytes(), chunked, Some(&[Found::Other, Found::Event(EVENT), Found::Other]));
        let halves = format!("data: {}\n\n", data());
        let (one, two) = halves.split_at(20);
        let body = chunk(one) + &chunk(two) + "0\r\n\r\n";
        check(body.as_bytes(), chunked, Some(&[Found::Event(EVENT)]));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let event = format!("data: {}\n\n", data());
        for body in [
            format!("{:x}\r\n{event}", event.len() - 1),
            chunk(&format!("x{event}")),
            chunk(&format!("data: {}\n{event}", data())),
            format!("\r\n{}", chunk(&event)),
        ] {
            assert!(chunked(&[body.as_bytes(), b"0\r\n\r\n"]).is_err(), "{body}");
        }
        assert!(frames(&[&[0x81, 0x85, 0, 0, 0, 0]]).is_err());
    }

    #[test]
    fn messages_are_found_wherever_reads_cut() {
        let mut body = vec![0x89, 0, 0x81, 60];
        body.extend(data().as_bytes());
        body.extend([0x82, 126, 0, 130]);
        body.extend([b'x'; 70]);
        body.extend(data().as_bytes());
        let event = Found::Event(EVENT);
        check(&body, frames, Some(&[Found::Ping, event, event]));
    }
}
