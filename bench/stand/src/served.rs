//! A server as a process, and what it costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running server; killed when this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    /// Starts a server that prints a line ending in its address, as URL or `ADDR:PORT`, to standard
    /// output when it is ready, and little else.
    ///
    /// # Errors
    ///
    /// If it does not start, or ends before such a line.
    pub fn announced(command: &mut Command) -> Result<Self> {
        let mut child = start(command.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let word = line.rsplit([' ', '/']).find(|word| !word.is_empty()).unwrap_or_default();
            if let Ok(address) = word.parse() {
                return Ok(Self { child, address });
            }
        }
        bail!("{command:?} ended with {} before it was ready", child.wait()?)
    }

    /// Starts a server that says nothing of use, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it does not start or does not accept within ten seconds.
    pub fn listening(command: &mut Command, address: SocketAddr) -> Result<Self> {
        let child = start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let mut served = Self { child, address };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = served.child.try_wait()? {
                bail!("{command:?} ended with {status} before it was ready");
            }
            if begin.elapsed() > START_MAX {
                bail!("{command:?} does not listen on {address}");
            }
            // Nothing else tells when a foreign program listens.
            thread::park_timeout(Duration::from_millis(10));
        }
        Ok(served)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processor time it has taken so far.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// The memory it holds now, in bytes.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("a process has a size")? * 1024)
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).spawn().with_context(|| format!("{command:?}"))
}

/// The processor time this process has taken so far, all threads together.
///
/// # Errors
///
/// Without `/proc`.
pub fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

/// The processor time a process has taken so far, in user and in kernel mode, in steps of 10 ms.
///
/// # Errors
///
/// If there is none.
pub fn cpu_of(pid: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = ticks().zip(ticks()).context("fields 14 and 15 are ticks")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis((user + system) * 1000 / per_second))
}

const START_MAX: Duration = Duration::from_secs(10);
