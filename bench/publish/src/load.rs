//! Publishers on kept-alive connections, all on one thread.
//!
//! Each connection sends its next request as soon as the last is answered. A request costs this
//! side one `write`, one `read`, and little beside: the load is made on the cores it measures.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::request::{Answer, Template, body_of};

/// What is sent, how, and for how long.
#[derive(Debug)]
pub struct Plan {
    pub address: SocketAddr,
    pub connections: usize,
    pub template: Template,
    pub answer: Answer,
    /// How long to send before anything counts.
    pub warm_up: Duration,
    /// How long what is answered counts.
    pub measured: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// From the first answer that counts to the end.
    pub elapsed: Duration,
    /// How long each request that counts took.
    pub latencies_us: Vec<u32>,
    /// The offset that answered each event, from event 1, those of the warm-up included.
    pub offsets: Vec<u64>,
}

/// Publishes events 1, 2, 3, … until the time is over, and waits for the last answer.
///
/// `mark` is called when the first answer counts, and when none does any more.
///
/// # Errors
///
/// At the first answer that is wrong, and if there is none for ten seconds.
pub fn run(plan: &Plan, mut mark: impl FnMut() -> Result<()>) -> Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut publishers = Vec::new();
    for index in 0..plan.connections {
        publishers.push(Publisher::connect(plan, &poll, Token(index))?);
    }
    let mut offsets = Vec::new();
    let mut latencies_us = Vec::new();
    let mut sent = 0;
    for publisher in &mut publishers {
        sent += 1;
        publisher.send(sent)?;
    }
    let mut events = Events::with_capacity(plan.connections);
    let begin = Instant::now();
    let mut counts_since = None;
    let mut elapsed = None;
    let mut waiting = plan.connections;
    while waiting > 0 {
        poll.poll(&mut events, Some(SILENCE_MAX))?;
        ensure!(!events.is_empty(), "{waiting} requests are not answered");
        let mut now = Instant::now();
        if counts_since.is_none() && now - begin >= plan.warm_up {
            mark()?;
            now = Instant::now();
            counts_since = Some(now);
        }
        if let Some(since) = counts_since
            && elapsed.is_none()
            && now - since >= plan.measured
        {
            mark()?;
            elapsed = Some(now - since);
        }
        for event in &events {
            let publisher = &mut publishers[event.token().0];
            let Some(offset) = publisher.receive(plan.answer)? else { continue };
            let now = Instant::now();
            if counts_since.is_some() && elapsed.is_none() {
                latencies_us.push((now - publisher.sent_at).as_micros() as u32);
            }
            let index = publisher.number as usize - 1;
            offsets.resize(offsets.len().max(index + 1), 0);
            offsets[index] = offset;
            if elapsed.is_none() {
                sent += 1;
                publisher.send(sent)?;
            } else {
                waiting -= 1;
            }
        }
    }
    Ok(Outcome { elapsed: elapsed.context("the time is over")?, latencies_us, offsets })
}

/// One connection, with at most one request that is not answered.
struct Publisher {
    socket: TcpStream,
    template: Template,
    response: Box<[u8]>,
    received: usize,
    /// The event that is being published.
    number: u64,
    sent_at: Instant,
}

impl Publisher {
    fn connect(plan: &Plan, poll: &Poll, token: Token) -> Result<Self> {
        let socket = std::net::TcpStream::connect(plan.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        poll.registry().register(&mut socket, token, Interest::READABLE)?;
        Ok(Self {
            socket,
            template: plan.template.clone(),
            response: vec![0; RESPONSE_BYTES_MAX].into(),
            received: 0,
            number: 0,
            sent_at: Instant::now(),
        })
    }

    fn send(&mut self, number: u64) -> Result<()> {
        self.number = number;
        let request = self.template.fill(number);
        self.sent_at = Instant::now();
        // It fits any send buffer, which is empty: the last request was answered.
        let bytes = self.socket.write(request)?;
        ensure!(bytes == request.len(), "only a part of a request was sent");
        Ok(())
    }

    /// Reads what is there; returns the offset answered if the response is whole.
    fn receive(&mut self, answer: Answer) -> Result<Option<u64>> {
        loop {
            match self.socket.read(&mut self.response[self.received..]) {
                Ok(0) => bail!("a connection ended, or a response is too long"),
                Ok(bytes) => self.received += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let response = &self.response[..self.received];
            if let Some(body) = body_of(response)? {
                ensure!(body.end == self.received, "more came than one response");
                self.received = 0;
                return answer.check(&self.response[body], &self.template).map(Some);
            }
        }
    }
}

const RESPONSE_BYTES_MAX: usize = 4096;

const SILENCE_MAX: Duration = Duration::from_secs(10);
