//! A server that may be several processes, and what they cost together.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::Served;

/// A started server: the processes that were started for it and all that these started, killed
/// when this is dropped.
#[derive(Debug)]
pub struct Running {
    roots: Vec<Served>,
    subscribe_at: SocketAddr,
    publish_at: SocketAddr,
    is_publish_tls: bool,
}

impl Running {
    /// One process that takes subscriptions and publishes at one port, both over TLS if that is
    /// wanted.
    pub fn one(served: Served, is_tls: bool) -> Self {
        let address = served.address();
        Self {
            roots: vec![served],
            subscribe_at: address,
            publish_at: address,
            is_publish_tls: is_tls,
        }
    }

    /// Several processes, or one with several ports. Publishes are plain text.
    pub fn several(roots: Vec<Served>, subscribe_at: SocketAddr, publish_at: SocketAddr) -> Self {
        Self { roots, subscribe_at, publish_at, is_publish_tls: false }
    }

    /// Where subscribers connect.
    pub fn subscribe_at(&self) -> SocketAddr {
        self.subscribe_at
    }

    /// Where publishers connect.
    pub fn publish_at(&self) -> SocketAddr {
        self.publish_at
    }

    /// Whether publishers have to speak TLS.
    pub fn is_publish_tls(&self) -> bool {
        self.is_publish_tls
    }

    /// What its processes have cost so far, and what they hold.
    ///
    /// # Errors
    ///
    /// If one of those that were started has ended.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        let tree = self.tree()?;
        for pid in &tree {
            // What was started by one of them may end at any time.
            let Ok(stat) = Stat::read(*pid) else { continue };
            usage.cpu += stat.cpu;
            usage.resident_bytes += proportional_bytes(*pid).unwrap_or_default();
        }
        usage.processes = tree.len();
        Ok(usage)
    }

    /// As the processor time of [`usage`](Self::usage), without the cost of adding up memory.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(self.tree()?.into_iter().filter_map(|pid| Some(Stat::read(pid).ok()?.cpu)).sum())
    }

    /// The processes, those that were started first.
    ///
    /// # Errors
    ///
    /// If one of those has ended.
    pub fn tree(&self) -> Result<Vec<u32>> {
        let mut tree: Vec<_> = self.roots.iter().map(Served::pid).collect();
        for root in &tree {
            Stat::read(*root).with_context(|| format!("process {root} has ended"))?;
        }
        let parents: HashMap<u32, u32> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, Stat::read(pid).ok()?.parent)))
            .collect();
        let mut at = 0;
        while at < tree.len() {
            let parent = tree[at];
            tree.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        Ok(tree)
    }

    fn end(&mut self) {
        // Children of a parent that is killed would live on.
        let tree = self.tree().unwrap_or_default();
        let roots: Vec<_> = self.roots.drain(..).collect();
        let started: Vec<_> = roots.iter().map(Served::pid).collect();
        drop(roots);
        for pid in tree.into_iter().filter(|pid| !started.contains(pid)) {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                // It may have ended with its parent.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What processes have cost and hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time, user and kernel, also of children that have ended.
    pub cpu: Duration,
    /// Resident memory; what several share counts once (the proportional set size).
    pub resident_bytes: u64,
    /// How many there are.
    pub processes: usize,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let parent = number(1).context("field 4 is the parent")? as u32;
        let ticks: u64 = (11..15).filter_map(number).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Self { parent, cpu: Duration::from_millis(ticks * 1000 / per_second) })
    }
}

fn proportional_bytes(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("a process has a size")? * 1024)
}
