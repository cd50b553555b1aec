//! A process of the load: one thread that holds thousands of connections, publishes, and checks
//! all that comes.
//!
//! Reading an event costs one `read` for all that has come to a socket, and some hundred
//! nanoseconds to take it apart; nothing is allocated. Commands come over standard input, answers
//! go to standard output, see [`plan`](crate::plan).

mod frames;
mod http2;
mod link;
mod publisher;
mod subscriber;
mod tally;

use std::io::{self, BufRead, ErrorKind, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench_stand::Request;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{ClockId, clock_gettime};

use crate::event::{Finder, now_ns};
use crate::histogram::Histogram;
use crate::load::link::{Dialer, Link, tls_config};
use crate::load::publisher::{Answered, Publisher};
use crate::load::subscriber::{Progress, Shared, Subscriber};
use crate::load::tally::{StreamState, Tally};
use crate::plan::{Answer, Carrier, Command, Pattern, Plan, Publishers};

/// Does what it is told until standard input ends.
pub fn run() -> Result<()> {
    let mut lines = io::stdin().lock().lines();
    let plan = lines.next().context("a plan comes first")??;
    drop(lines);
    let mut load = Load::new(serde_json::from_str(&plan)?)?;
    let commands = load.commands()?;
    let outcome = load.serve(&commands);
    match &outcome {
        Err(error) => say(&Answer::Failed(format!("{error:#}"))),
        Ok(()) => outcome,
    }
}

struct Load {
    plan: Plan,
    poll: Poll,
    dialers: Vec<Dialer>,
    subscribers: Vec<Subscriber>,
    streams: Vec<StreamState>,
    publishers: Vec<Publisher>,
    finder: Finder,
    tally: Tally,
    buffer: Box<[u8]>,
    connecting: Option<Connecting>,
    publishing: Option<Publishing>,
    is_expecting: bool,
    /// When anything came, for the time after which nothing more is expected.
    cpu_at_begin: f64,
}

/// Connections that are being made.
struct Connecting {
    first_ns: u64,
    begun: usize,
    answered: usize,
    first_byte: Histogram,
}

/// Events that are being published.
struct Publishing {
    pattern: Pattern,
    first_ns: u64,
    until_ns: u64,
    events_max: u64,
    /// How many are due.
    due: u64,
    /// Deliveries before this phase, for windows.
    delivered_before: u64,
    answered: Histogram,
}

impl Load {
    fn new(plan: Plan) -> Result<Self> {
        let protocols: &[&[u8]] =
            if plan.carrier == Carrier::Http2 { &[b"h2"] } else { &[b"http/1.1"] };
        let certificate = plan.certificate.as_deref();
        let tls = match plan.carrier {
            Carrier::Plain => None,
            _ => Some(tls_config(certificate.context("TLS needs a certificate")?, protocols)?),
        };
        let dialers =
            plan.subscribe_at.iter().map(|address| Dialer { address: *address, tls: tls.clone() });
        let (tally, streams) = Tally::new(&plan);
        Ok(Self {
            dialers: dialers.collect(),
            poll: Poll::new()?,
            subscribers: Vec::new(),
            streams,
            publishers: Vec::new(),
            finder: Finder::new(plan.data_bytes),
            tally,
            buffer: vec![0; BUFFER_BYTES].into(),
            connecting: None,
            publishing: None,
            is_expecting: false,
            cpu_at_begin: own_cpu_seconds(),
            plan,
        })
    }

    /// Reads commands on a thread of its own; each wakes this one.
    fn commands(&self) -> Result<Receiver<Command>> {
        let (sender, receiver) = channel();
        let waker = Arc::new(Waker::new(self.poll.registry(), WAKE)?);
        thread::spawn(move || -> Result<()> {
            for line in io::stdin().lock().lines() {
                sender.send(serde_json::from_str(&line?)?)?;
                waker.wake()?;
            }
            // The harness has ended; without it there is nothing to do.
            std::process::exit(0);
        });
        Ok(receiver)
    }

    fn serve(&mut self, commands: &Receiver<Command>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                if event.token() == WAKE {
                    continue;
                }
                if event.token().0 >= FIRST_PUBLISHER {
                    let index = event.token().0 - FIRST_PUBLISHER;
                    self.handle_publisher(index, event.is_writable(), event.is_readable())?;
                } else {
                    let index = event.token().0;
                    self.handle_subscriber(index, event.is_writable(), event.is_readable())
                        .with_context(|| format!("connection {index}"))?;
                }
            }
            while let Ok(command) = commands.try_recv() {
                self.handle_command(command)?;
            }
            self.connect_more()?;
            self.publish_more()?;
            self.answer_if_complete()?;
        }
    }

    /// When there is something to do even if nothing comes.
    fn timeout(&self) -> Option<Duration> {
        let mut at = u64::MAX;
        if let Some(publishing) = &self.publishing {
            at = at.min(publishing.next_at_ns());
        }
        if let Some(connecting) = &self.connecting
            && let Some(rate) = self.plan.connects_per_second
        {
            let due = connecting.begun as f64 / rate * 1e9;
            at = at.min(connecting.first_ns + due as u64);
        }
        if self.is_expecting {
            at = at.min(self.tally.phase.last_ns + SILENCE_MAX_NS);
        }
        (at < u64::MAX).then(|| Duration::from_nanos(at.saturating_sub(now_ns())))
    }

    fn handle_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Connect => {
                self.connecting = Some(Connecting {
                    first_ns: now_ns(),
                    begun: 0,
                    answered: 0,
                    first_byte: Histogram::default(),
                });
            }
            Command::Begin => {
                self.tally.begin();
                self.cpu_at_begin = own_cpu_seconds();
                say(&Answer::Begun)?;
            }
            Command::Publish { pattern, events_max, seconds_max } => {
                // Not before: servers do not wait for long for what is sent first.
                if self.publishers.is_empty() {
                    self.connect_publishers()?;
                }
                let now = now_ns();
                self.publishing = Some(Publishing {
                    pattern,
                    first_ns: now,
                    until_ns: now + (seconds_max * 1e9) as u64,
                    events_max,
                    due: 0,
                    delivered_before: self.tally.total,
                    answered: Histogram::default(),
                });
            }
            Command::Expect { published } => {
                self.tally.expect(&published);
                self.is_expecting = true;
            }
        }
        Ok(())
    }

    fn connect_publishers(&mut self) -> Result<()> {
        let publishers = self.plan.publishers.clone().context("this process has no publishers")?;
        for index in 0..self.plan.lanes.publishers {
            let link = self.dial_publisher(&publishers, index)?;
            let (lanes, data_bytes) = (self.plan.lanes, self.plan.data_bytes);
            self.publishers.push(Publisher::new(link, index, lanes, &publishers, data_bytes));
        }
        Ok(())
    }

    fn dial_publisher(&self, publishers: &Publishers, index: u32) -> Result<Link> {
        let certificate = self.plan.certificate.as_deref();
        let tls = match publishers.is_tls {
            true => Some(tls_config(certificate.context("TLS needs it")?, &[b"http/1.1"])?),
            false => None,
        };
        let dialer = Dialer { address: publishers.address, tls };
        let mut link = dialer.dial(Ipv4Addr::LOCALHOST, None)?;
        let token = Token(FIRST_PUBLISHER + index as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut link.socket, token, interest)?;
        Ok(link)
    }

    /// Begins as many connections as may be begun now.
    fn connect_more(&mut self) -> Result<()> {
        let Some(connecting) = &mut self.connecting else { return Ok(()) };
        let all = self.plan.streams.len().div_ceil(self.plan.streams_each);
        let allowed = match self.plan.connects_per_second {
            Some(rate) => ((now_ns() - connecting.first_ns) as f64 / 1e9 * rate) as usize + 1,
            None => connecting.answered + self.plan.connecting_max,
        };
        while connecting.begun < all.min(allowed) {
            let index = connecting.begun;
            connecting.begun += 1;
            let source = source(self.plan.first_source, index);
            let is_stalled = self.plan.stalled_every.is_some_and(|every| index % every == 0);
            let dialer = &self.dialers[index % self.dialers.len()];
            let receive_bytes = is_stalled.then_some(STALLED_RECEIVE_BYTES);
            let began_ns = now_ns();
            let mut link = dialer.dial(source, receive_bytes)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut link.socket, Token(index), interest)?;
            let first = index * self.plan.streams_each;
            let streams = first..(first + self.plan.streams_each).min(self.plan.streams.len());
            self.subscribers.push(Subscriber::new(link, streams, began_ns, is_stalled));
        }
        if connecting.answered < all {
            return Ok(());
        }
        let answer = Answer::Connected {
            first_ns: connecting.first_ns,
            last_ns: now_ns(),
            first_byte: connecting.first_byte.to_sparse(),
        };
        self.connecting = None;
        say(&answer)
    }

    fn handle_subscriber(&mut self, index: usize, writable: bool, readable: bool) -> Result<()> {
        let subscriber = &mut self.subscribers[index];
        let streams = subscriber.streams.clone();
        let mut requests: Vec<&Request> = Vec::new();
        if self.connecting.is_some() {
            requests.extend(self.plan.streams[streams.clone()].iter().map(|one| &one.request));
        }
        if writable {
            subscriber.handle_writable(&requests, self.plan.transport, self.plan.carrier)?;
        }
        if !readable {
            return Ok(());
        }
        let mut shared =
            Shared { finder: &mut self.finder, tally: &mut self.tally, buffer: &mut self.buffer };
        let states = &mut self.streams[streams];
        match subscriber.handle_readable(states, &requests, &mut shared)? {
            Progress::Same => {}
            Progress::Begun => {
                let registry = self.poll.registry();
                if subscriber.is_stalled {
                    registry.deregister(&mut subscriber.link.socket)?;
                }
                if let Some(connecting) = &mut self.connecting {
                    connecting.answered += 1;
                    connecting.first_byte.add(now_ns() - subscriber.began_ns);
                }
            }
            Progress::Over => {
                ensure!(self.connecting.is_none(), "a stream ended before all had begun");
                self.tally.phase.ended += 1;
            }
        }
        Ok(())
    }

    fn handle_publisher(&mut self, index: usize, writable: bool, readable: bool) -> Result<()> {
        let publisher = &mut self.publishers[index];
        if writable {
            publisher.handle_writable()?;
        }
        if !readable {
            return Ok(());
        }
        match publisher.handle_readable(&mut self.buffer)? {
            Answered::No => Ok(()),
            Answered::After(ns) => {
                if let Some(publishing) = &mut self.publishing {
                    publishing.answered.add(ns);
                }
                publisher.send()
            }
            Answered::Over => {
                let publishers = self.plan.publishers.as_ref().context("it publishes")?;
                let link = self.dial_publisher(publishers, index as u32)?;
                self.publishers[index].reconnect(link);
                Ok(())
            }
        }
    }

    /// Publishes what is due now.
    fn publish_more(&mut self) -> Result<()> {
        let Some(publishing) = &mut self.publishing else { return Ok(()) };
        let now = now_ns();
        let is_in_time = now < publishing.until_ns;
        let publishers = self.publishers.len() as u64;
        let fan_out = self.plan.publishers.as_ref().map_or(1, |publishers| publishers.fan_out);
        let due = match publishing.pattern {
            Pattern::Rate(rate) => {
                let seconds = (now.min(publishing.until_ns) - publishing.first_ns) as f64 / 1e9;
                (seconds * rate) as u64 + 1
            }
            Pattern::Closed | Pattern::Window(_) if !is_in_time => publishing.due,
            Pattern::Closed => {
                publishing.due + self.publishers.iter().filter(|one| one.is_idle()).count() as u64
            }
            Pattern::Window(events) => {
                let delivered = (self.tally.total - publishing.delivered_before) / fan_out;
                (delivered + events).max(publishing.due)
            }
        };
        let due = due.min(publishing.events_max);
        let is_closed = publishing.pattern == Pattern::Closed;
        while publishing.due < due {
            let next = if is_closed {
                self.publishers.iter_mut().find(|one| one.is_idle())
            } else {
                let index = publishing.due % publishers;
                self.publishers.get_mut(index as usize)
            };
            let Some(publisher) = next else { break };
            publisher.due += 1;
            publishing.due += 1;
            publisher.send()?;
        }
        let is_over = publishing.due == publishing.events_max || !is_in_time;
        if is_over && self.publishers.iter().all(Publisher::is_idle) {
            let answer = Answer::Published {
                published: self.publishers.iter().map(|one| one.published).collect(),
                first_ns: publishing.first_ns,
                answered: publishing.answered.to_sparse(),
            };
            self.publishing = None;
            say(&answer)?;
        }
        Ok(())
    }

    fn answer_if_complete(&mut self) -> Result<()> {
        if !self.is_expecting {
            return Ok(());
        }
        let is_silent = now_ns() > self.tally.phase.last_ns + SILENCE_MAX_NS;
        if self.tally.is_complete() || is_silent {
            self.is_expecting = false;
            let cpu_seconds = own_cpu_seconds() - self.cpu_at_begin;
            say(&Answer::Complete(Box::new(self.tally.received(cpu_seconds))))?;
        }
        Ok(())
    }
}

impl Publishing {
    /// When the next event is due, if time alone decides that.
    fn next_at_ns(&self) -> u64 {
        match self.pattern {
            Pattern::Rate(rate) if self.due < self.events_max => {
                let at = self.first_ns + (self.due as f64 / rate * 1e9) as u64;
                at.min(self.until_ns)
            }
            Pattern::Rate(_) => u64::MAX,
            Pattern::Closed | Pattern::Window(_) => self.until_ns,
        }
    }
}

/// The address that a connection comes from. Each process has others: ports that were in use a
/// moment ago are slow to find.
fn source(first: u8, connection: usize) -> Ipv4Addr {
    let process = (std::process::id() % 200) as u8 + 20;
    Ipv4Addr::new(127, process, first, (connection / CONNECTIONS_PER_SOURCE) as u8 + 1)
}

fn say(answer: &Answer) -> Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

const WAKE: Token = Token(usize::MAX);
const FIRST_PUBLISHER: usize = 1 << 32;

/// How many sockets are looked at before commands and publishes are.
const EVENTS_MAX: usize = 1024;

/// Takes all that a socket usually holds with one read.
const BUFFER_BYTES: usize = 256 * 1024;

/// Of some 28,000 ports that a source address has: the kernel finds a free one at once.
const CONNECTIONS_PER_SOURCE: usize = 2_000;

/// Little, so that a server soon finds that one does not read.
const STALLED_RECEIVE_BYTES: usize = 4096;

/// After which nothing more is expected to come.
const SILENCE_MAX_NS: u64 = 20_000_000_000;
