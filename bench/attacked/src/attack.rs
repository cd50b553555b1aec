//! The attacks, each at a fixed rate from a few threads, so that most of the machine is left to
//! the hub.
//!
//! Connections come from many addresses of 127.0.0.0/8 and end with a reset, so that none is left
//! behind on this side. That the hub ends them is what is expected; a wrong answer is an error.

mod flood;
mod tokens;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

use crate::tokens::Tokens;

/// What is done to the hub.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    pub title: &'static str,
    /// Of what `title` says.
    pub per_second: u32,
    /// How many of these are done at once.
    batch: u32,
    start: fn(&Target) -> Box<dyn Strike>,
}

/// Whom it is done to, by which of the threads.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tokens: Tokens,
    thread: u32,
}

/// One thread of an attack.
trait Strike {
    /// Does it once more, a batch at a time; `number` is another one each time, on all threads.
    ///
    /// # Errors
    ///
    /// If the hub does not take connections, or answers what it must not.
    fn strike(&mut self, number: u64) -> Result<()>;
}

/// All there are.
pub const ATTACKS: [Attack; 5] = [
    Attack {
        name: "bad-tokens",
        title: "bad tokens, to subscribe and to publish",
        per_second: 5_000,
        batch: 1,
        start: |target| Box::new(tokens::BadTokens::new(target)),
    },
    Attack {
        name: "slow-heads",
        title: "connections that stay silent or send a head byte by byte",
        per_second: 2_000,
        batch: 1,
        start: |target| Box::new(flood::SlowHeads::new(target)),
    },
    Attack {
        name: "rapid-resets",
        title: "HTTP/2 requests that are taken back at once",
        per_second: 10_000,
        batch: flood::RESETS_BATCH,
        start: |target| Box::new(flood::RapidResets::new(target)),
    },
    Attack {
        name: "connect-resets",
        title: "connections that are reset, half of them after a request",
        per_second: 2_000,
        batch: 1,
        start: |target| Box::new(flood::ConnectResets::new(target)),
    },
    Attack {
        name: "large-cookies",
        title: "heads of 100 KiB",
        per_second: 200,
        batch: 1,
        start: |target| Box::new(flood::LargeCookies::new(target)),
    },
];

/// What one thread did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub count: u64,
    pub cpu: Duration,
}

impl Attack {
    /// The same, so often a second.
    pub fn at(self, per_second: u32) -> Self {
        Self { per_second, ..self }
    }

    /// Attacks from as many threads until `is_over`, while `meanwhile` runs.
    ///
    /// # Errors
    ///
    /// The first of an attack, or that of `meanwhile`.
    pub fn run<T>(
        &self,
        address: SocketAddr,
        tokens: &Tokens,
        meanwhile: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Done)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let start = |thread| {
                let (target, is_over) =
                    (Target { address, tokens: tokens.clone(), thread }, &is_over);
                scope.spawn(move || self.strike_until(&target, is_over).context(self.name))
            };
            let threads: Vec<_> = (0..THREADS).map(start).collect();
            let outcome = meanwhile();
            is_over.store(true, Ordering::Relaxed);
            let mut all = Done::default();
            for thread in threads {
                let done = thread.join().expect("an attack does not panic")?;
                all = Done { count: all.count + done.count, cpu: all.cpu + done.cpu };
            }
            Ok((outcome?, all))
        })
    }

    fn strike_until(&self, target: &Target, is_over: &AtomicBool) -> Result<Done> {
        let interval = Duration::from_secs(1) * self.batch * THREADS / self.per_second;
        let mut strike = (self.start)(target);
        let mut due = Instant::now();
        let mut strikes: u64 = 0;
        while !is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            // What is late by more is left out.
            due = due.max(now.checked_sub(LATE_MAX).unwrap_or(now));
            thread::park_timeout(due.saturating_duration_since(now));
            strike.strike(strikes * u64::from(THREADS) + u64::from(target.thread))?;
            strikes += 1;
            due += interval;
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        Ok(Done { count: strikes * u64::from(self.batch), cpu })
    }
}

impl Target {
    /// Connects from one of 1,000 addresses.
    fn dial(&self, number: u64) -> Result<TcpStream> {
        let dial = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            let source = Ipv4Addr::new(127, 66, self.thread as u8, 1 + (number % 250) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.set_tcp_nodelay(true)?;
            socket.set_linger(Some(Duration::ZERO))?;
            socket.set_read_timeout(Some(SILENCE_MAX))?;
            socket.set_write_timeout(Some(SILENCE_MAX))?;
            socket.connect_timeout(&self.address.into(), SILENCE_MAX)?;
            Ok(socket.into())
        };
        dial().context("the hub takes no connections")
    }
}

/// Few, for they share cores with the hub.
const THREADS: u32 = 4;

const LATE_MAX: Duration = Duration::from_millis(100);

/// After which the hub has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
