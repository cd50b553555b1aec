//! One kept-alive connection that publishes, one event at a time.

use std::collections::VecDeque;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

use crate::event::{Event, now_ns};
use crate::load::link::Link;
use crate::plan::{Lanes, Publishers, topic_name};

/// A publisher.
#[derive(Debug)]
pub struct Publisher {
    pub link: Link,
    index: u32,
    lanes: Lanes,
    template: Vec<u8>,
    topics_at: Vec<usize>,
    data_at: Vec<usize>,
    data: Vec<u8>,
    /// The number of the next event of each lane of this publisher.
    numbers: Vec<u32>,
    /// How many it has sent.
    pub published: u64,
    /// How many it is to send.
    pub due: u64,
    sent_ns: u64,
    is_waiting: bool,
    is_connected: bool,
    response: VecDeque<u8>,
}

impl Publisher {
    pub fn new(
        link: Link,
        index: u32,
        lanes: Lanes,
        publishers: &Publishers,
        data_bytes: usize,
    ) -> Self {
        Self {
            link,
            index,
            lanes,
            template: publishers.template.clone().into_bytes(),
            topics_at: publishers.topics_at.clone(),
            data_at: publishers.data_at.clone(),
            data: vec![0; data_bytes],
            numbers: vec![0; lanes.count() as usize],
            published: 0,
            due: 0,
            sent_ns: 0,
            is_waiting: false,
            is_connected: false,
            response: VecDeque::new(),
        }
    }

    pub fn handle_writable(&mut self) -> Result<()> {
        self.is_connected = true;
        self.link.flush()?;
        self.send()
    }

    /// Goes on with a new connection.
    pub fn reconnect(&mut self, link: Link) {
        self.link = link;
        self.is_connected = false;
    }

    /// Whether all that is due has been sent and answered.
    pub fn is_idle(&self) -> bool {
        !self.is_waiting && self.published == self.due
    }

    /// Sends the next event, if one is due and the last is answered.
    pub fn send(&mut self) -> Result<()> {
        if self.is_waiting || self.published >= self.due || !self.is_connected {
            return Ok(());
        }
        let lane = self.lanes.lane_of(self.index, self.published);
        let number = &mut self.numbers[lane as usize];
        let topic = topic_name(self.lanes.topic_of(lane));
        for at in &self.topics_at {
            self.template[*at..*at + topic.len()].copy_from_slice(topic.as_bytes());
        }
        self.sent_ns = now_ns();
        Event { lane, number: *number, sent_ns: self.sent_ns }.write(&mut self.data);
        for at in &self.data_at {
            self.template[*at..*at + self.data.len()].copy_from_slice(&self.data);
        }
        *number += 1;
        self.published += 1;
        self.is_waiting = true;
        Ok(self.link.write(&self.template)?)
    }

    /// Reads what is there.
    pub fn handle_readable(&mut self, buffer: &mut [u8]) -> Result<Answered> {
        loop {
            match self.link.read(buffer) {
                Ok(0) if self.is_waiting => bail!("a publish is not answered"),
                Ok(0) => return Ok(Answered::Over),
                Ok(bytes) => self.response.extend(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Answered::No),
                Err(error) => return Err(error.into()),
            }
            let length = answer_length(self.response.make_contiguous())?;
            if let Some(length) = length {
                ensure!(self.is_waiting, "an answer to nothing");
                ensure!(self.response.len() == length, "more came than one answer");
                self.response.clear();
                self.is_waiting = false;
                return Ok(Answered::After(now_ns() - self.sent_ns));
            }
        }
    }
}

/// What came to a publisher.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    No,
    /// The answer, so many nanoseconds after what was sent.
    After(u64),
    /// The server ended the connection, which had been idle.
    Over,
}

/// How long the answer is that these bytes begin with, if all of it is there.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let head = String::from_utf8_lossy(head).to_lowercase();
    if !head.starts_with("http/1.1 2") {
        bail!("a publish is answered {head}\n{}", String::from_utf8_lossy(body));
    }
    let value = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let length = if head.starts_with("http/1.1 204") {
        0
    } else if value("transfer-encoding") == Some("chunked") {
        match body.strip_suffix(b"0\r\n\r\n") {
            Some(_) => body.len(),
            None => return Ok(None),
        }
    } else {
        value("content-length").context("an answer without a length")?.parse()?
    };
    Ok((body.len() >= length).then_some(end + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_they_say() {
        for (answer, length) in [
            ("HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n", 0),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 2),
            ("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 12),
        ] {
            let whole = answer.len();
            assert_eq!(answer_length(answer.as_bytes()).unwrap(), Some(whole), "{answer}");
            if length > 0 {
                assert_eq!(answer_length(&answer.as_bytes()[..whole - 1]).unwrap(), None);
            }
        }
        assert!(answer_length(b"HTTP/1.1 503 Busy\r\n\r\n").is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
