//! Fills the log of a hub over HTTP, by NDJSON.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bench_stand::data_of;
use serde_json::Value;
use ureq::SendBody;

/// The topic of an event, one of a thousand in no order.
pub fn topic_of(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) % TOPICS
}

/// What an import came to.
#[derive(Debug)]
pub struct Imported {
    /// The epoch of the ids.
    pub epoch: String,
    pub events_per_second: f64,
}

/// Publishes events 1 to `events` to an empty hub: event n gets offset n.
pub fn import(address: SocketAddr, events: u64) -> Result<Imported> {
    let agent = ureq::agent();
    let begin = Instant::now();
    let mut epoch = String::new();
    for first in (1..=events).step_by(EVENTS_PER_REQUEST as usize) {
        let numbers = first..(first + EVENTS_PER_REQUEST).min(events + 1);
        let mut lines = Lines { numbers: numbers.clone(), line: Vec::new(), read: 0 };
        let mut response = agent
            .post(format!("http://{address}/events"))
            .content_type("application/x-ndjson")
            .send(SendBody::from_reader(&mut lines))?;
        let answer = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
        let answer: Value = serde_json::from_str(&answer)?;
        let ids = answer["ids"].as_array().context("an answer with ids")?;
        ensure!(ids.len() as u64 == numbers.end - numbers.start, "{} ids", ids.len());
        let last = ids.last().and_then(Value::as_str).and_then(|id| id.rsplit_once('-'));
        let (found, offset) = last.context("an id has a hyphen")?;
        ensure!(offset == (numbers.end - 1).to_string(), "event {} got {offset}", numbers.end - 1);
        found.clone_into(&mut epoch);
    }
    let events_per_second = events as f64 / begin.elapsed().as_secs_f64();
    Ok(Imported { epoch, events_per_second })
}

/// A line for each event, made as it is read.
struct Lines {
    numbers: Range<u64>,
    line: Vec<u8>,
    read: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            if self.read == self.line.len() {
                let Some(number) = self.numbers.next() else { break };
                self.fill(number);
            }
            let bytes = (buffer.len() - length).min(self.line.len() - self.read);
            buffer[length..length + bytes].copy_from_slice(&self.line[self.read..][..bytes]);
            self.read += bytes;
            length += bytes;
        }
        Ok(length)
    }
}

impl Lines {
    fn fill(&mut self, number: u64) {
        self.read = 0;
        self.line.clear();
        self.line.extend(format!(r#"{{"topic":"orders/{}","data":""#, topic_of(number)).bytes());
        self.line.extend(data_of(number));
        self.line.extend(b"\"}\n");
    }
}

const TOPICS: u64 = 1_000;

/// Few enough that an answer, which names every id, is no burden.
const EVENTS_PER_REQUEST: u64 = 500_000;
