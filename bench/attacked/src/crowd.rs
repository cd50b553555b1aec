//! The good clients: streams of private events, one publisher, and how long each event takes.
//!
//! One thread publishes and receives, as it does whether the hub is attacked or not: what it takes
//! itself is part of each delay, alone and attacked alike.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{DATA_BYTES, EventStream, Samples, data_of};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::tokens::Tokens;

/// Clients of one hub.
pub struct Crowd {
    poll: Poll,
    streams: Vec<Stream>,
    publisher: TcpStream,
    authorization: String,
    /// When each event was sent, and its data, from event 1.
    sent: Vec<(Instant, [u8; DATA_BYTES])>,
    /// Requests of the publisher that are not answered.
    unanswered: usize,
    answers: Vec<u8>,
}

struct Stream {
    events: EventStream,
    received: usize,
}

impl Crowd {
    /// Opens the streams, each with a token of its own, and the publisher's connection.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub fn open(address: SocketAddr, tokens: &Tokens, streams: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut open = Vec::new();
        for index in 0..streams {
            let headers = format!("authorization: Bearer {}\r\n", tokens.subscriber(index));
            let events = EventStream::open(address, "/events?topic=good/1", &headers)?;
            events.set_nonblocking()?;
            let mut source = SourceFd(&events.as_raw_fd());
            poll.registry().register(&mut source, Token(index), Interest::READABLE)?;
            open.push(Stream { events, received: 0 });
        }
        let publisher = std::net::TcpStream::connect(address)?;
        publisher.set_nodelay(true)?;
        publisher.set_nonblocking(true)?;
        let mut publisher = TcpStream::from_std(publisher);
        poll.registry().register(&mut publisher, PUBLISHER, Interest::READABLE)?;
        Ok(Self {
            poll,
            streams: open,
            publisher,
            authorization: tokens.publisher(),
            sent: Vec::new(),
            unanswered: 0,
            answers: Vec::new(),
        })
    }

    /// Publishes so many events a second for this time, and waits until all streams have all.
    ///
    /// Returns the delay of each delivery from before its publish was sent, in milliseconds.
    ///
    /// # Errors
    ///
    /// If an event is missing, doubled, out of order or changed, a stream ends, or a publish fails.
    pub fn measure(&mut self, per_second: u32, time: Duration) -> Result<Samples> {
        let mut delays_ms = Vec::new();
        let mut events = Events::with_capacity(1024);
        let count = (f64::from(per_second) * time.as_secs_f64()).max(1.0) as usize;
        let goal = self.sent.len() + count;
        let wanted = count * self.streams.len();
        let begin = Instant::now();
        let mut published: u32 = 0;
        let mut heard = begin;
        while delays_ms.len() < wanted || self.unanswered > 0 {
            let due = begin + Duration::from_secs(1) * published / per_second;
            let mut until_due = due.saturating_duration_since(Instant::now());
            if self.sent.len() == goal {
                until_due = SILENCE_MAX;
            } else if until_due.is_zero() {
                self.publish()?;
                published += 1;
                continue;
            }
            match self.poll.poll(&mut events, Some(until_due)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                heard = Instant::now();
                if event.token() == PUBLISHER {
                    self.read_answers()?;
                } else {
                    let stream = &mut self.streams[event.token().0];
                    stream.receive(&self.sent, &mut delays_ms)?;
                }
            }
            let missing = wanted - delays_ms.len();
            ensure!(heard.elapsed() < SILENCE_MAX, "{missing} of {wanted} deliveries are missing");
        }
        Ok(Samples::new(delays_ms))
    }

    fn publish(&mut self) -> Result<()> {
        let data = data_of(self.sent.len() as u64 + 1);
        let text = std::str::from_utf8(&data)?;
        let body = format!(r#"{{"topic":"good/1","data":"{text}","private":true}}"#);
        let request = format!(
            "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        self.sent.push((Instant::now(), data));
        self.unanswered += 1;
        let bytes = self.publisher.write(request.as_bytes()).context("the publisher")?;
        ensure!(bytes == request.len(), "only a part of a publish was sent");
        Ok(())
    }

    fn read_answers(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.publisher.read(&mut buffer) {
                Ok(0) => bail!("the publisher's connection ended"),
                Ok(bytes) => self.answers.extend(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        // `{"id":"..."}` ends each answer, and nothing else in it has a brace.
        while let Some(end) = self.answers.iter().position(|byte| *byte == b'}') {
            let answer = String::from_utf8_lossy(&self.answers[..end]).into_owned();
            ensure!(answer.starts_with("HTTP/1.1 200 "), "a publish was answered {answer}");
            self.answers.drain(..=end);
            self.unanswered -= 1;
        }
        Ok(())
    }
}

impl Stream {
    /// Reads what has come, which has to be the next events.
    fn receive(
        &mut self,
        sent: &[(Instant, [u8; DATA_BYTES])],
        delays_ms: &mut Vec<f64>,
    ) -> Result<()> {
        let now = Instant::now();
        let mut wrong = None;
        self.events.for_each_ready(|event| match sent.get(self.received) {
            Some((sent_at, data)) if event.data.as_bytes() == data => {
                delays_ms.push((now - *sent_at).as_secs_f64() * 1e3);
                self.received += 1;
                ControlFlow::Continue(())
            }
            _ => {
                wrong = Some(format!("event {} was to come, not {event:?}", self.received + 1));
                ControlFlow::Break(())
            }
        })?;
        wrong.map_or(Ok(()), |wrong| bail!(wrong))
    }
}

const PUBLISHER: Token = Token(usize::MAX);

/// After which nothing more is expected to come.
const SILENCE_MAX: Duration = Duration::from_secs(20);
