//! What is asked of servers, read from `workloads.toml`.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::plan::{Carrier, Lanes, Pattern, Stream, topic_name};
use bench_stand::{Request, Target, Wanted};

/// One workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is called on the command line and in records.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    #[serde(default)]
    pub kind: Kind,
    /// How many subscribers there are; over HTTP/2 several share a connection.
    pub connections: usize,
    #[serde(default = "one")]
    pub streams_each: usize,
    #[serde(default = "plain")]
    pub carrier: Carrier,
    #[serde(default = "one")]
    pub topics: usize,
    /// How many topics each subscriber has; they follow each other, around and around.
    #[serde(default = "one")]
    pub topics_each: usize,
    #[serde(default = "one")]
    pub publishers: usize,
    #[serde(default = "usual_data_bytes")]
    pub data_bytes: usize,
    #[serde(default = "as_answered")]
    pub pattern: Pattern,
    /// Events before anything is measured.
    #[serde(default)]
    pub warm_up_events: u64,
    #[serde(default)]
    pub events: u64,
    /// How many deliveries the measured events make.
    #[serde(default)]
    pub deliveries: u64,
    /// How long nothing happens.
    #[serde(default)]
    pub seconds: u64,
    #[serde(default)]
    pub heartbeat_seconds: Option<u64>,
    /// Every so many connections, one that does not read.
    #[serde(default)]
    pub stalled_every: Option<usize>,
    /// Further subscribers that come while it is measured.
    #[serde(default)]
    pub arrivals: usize,
    #[serde(default)]
    pub arrivals_per_second: Option<f64>,
    /// Whether it runs when nothing is chosen.
    #[serde(default = "yes")]
    pub in_all: bool,
    /// Whether it runs when nothing is chosen and time is short.
    #[serde(default)]
    pub in_quick: bool,
}

/// What happens in a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Events are published, and come to those who wait for them.
    #[default]
    Live,
    /// Nothing but heartbeats.
    Idle,
    /// Events are published; then all come and ask for the newest of them.
    Resume,
}

#[derive(Debug, Deserialize)]
struct Table {
    workload: Vec<Workload>,
}

/// All workloads, in the order of the table.
pub fn workloads() -> Result<Vec<Workload>> {
    let table: Table = toml::from_str(include_str!("../workloads.toml"))?;
    for workload in &table.workload {
        workload.check()?;
    }
    Ok(table.workload)
}

impl Workload {
    fn check(&self) -> Result<()> {
        let all = self.connections * self.topics_each;
        ensure!(all.is_multiple_of(self.topics), "{}: topics are not shared evenly", self.name);
        let deliveries = self.events * self.read_fan_out();
        ensure!(self.deliveries == deliveries, "{}: {deliveries} deliveries", self.name);
        Ok(())
    }

    pub fn lanes(&self) -> Lanes {
        Lanes { publishers: self.publishers as u32, topics: self.topics as u32 }
    }

    /// How many subscribers get each event, without those that do not read.
    pub fn read_fan_out(&self) -> u64 {
        let stalled = self.stalled_every.map_or(0, |every| self.connections.div_ceil(every));
        ((self.connections - stalled) * self.topics_each / self.topics) as u64
    }

    /// The subscriptions, from one to another.
    pub fn streams(
        &self,
        target: &dyn Target,
        subscribers: std::ops::Range<usize>,
        after: Option<(&str, u32)>,
    ) -> Vec<Stream> {
        let stream = |index: usize| {
            let first = index * self.topics_each % self.topics;
            let topics: Vec<_> =
                (first..first + self.topics_each).map(|topic| topic_name(topic as u32)).collect();
            let request: Request = target.subscribe(&topics, after.map(|(id, _)| id));
            Stream {
                request,
                first_topic: first as u32,
                topics: self.topics_each as u32,
                first_number: after.map_or(0, |(_, number)| number),
            }
        };
        subscribers.map(stream).collect()
    }

    /// What a server has to be prepared for.
    pub fn wanted(&self, connections: usize) -> Wanted {
        Wanted {
            connections: connections + self.arrivals,
            topics: self.topics,
            kept_events: if self.kind == Kind::Resume { 1_000 } else { 0 },
            heartbeat: self.heartbeat_seconds.map(std::time::Duration::from_secs),
            tls: None,
        }
    }

    /// A tenth of it.
    pub fn quick(&self) -> Self {
        let mut quick = self.clone();
        quick.warm_up_events = self.warm_up_events.div_ceil(4);
        quick.events = self.events.div_ceil(10);
        quick.deliveries = quick.events * self.read_fan_out();
        quick.arrivals = self.arrivals / 10;
        quick
    }

    /// The figures that say most about it.
    pub fn shown(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Live if self.arrivals > 0 => &[
                "arrival_p50_ms",
                "arrival_p99_ms",
                "arrival_max_ms",
                "p99_ms",
                "lost",
                "load_busy",
            ],
            Kind::Live if self.is_for_rate() => &[
                "deliveries_per_s",
                "cpu_us_per_delivery",
                "p50_ms",
                "p99_ms",
                "max_ms",
                "lost",
                "deliveries_per_read",
                "server_cores",
                "load_busy",
            ],
            Kind::Live => &[
                "cpu_us_per_delivery",
                "cpu_us_per_read",
                "deliveries_per_s",
                "p50_ms",
                "p99_ms",
                "max_ms",
                "lost",
                "deliveries_per_read",
                "server_cores",
                "load_busy",
            ],
            Kind::Idle => &[
                "resident_bytes_per_connection",
                "kernel_bytes_per_connection",
                "cpu_percent",
                "connects_per_s",
                "heartbeats_per_connection",
            ],
            Kind::Resume => &[
                "caught_up_per_s",
                "deliveries_per_s",
                "cpu_us_per_delivery",
                "lost",
                "first_byte_p99_ms",
                "load_busy",
            ],
        }
    }

    /// Whether it is to find out how fast a server can be.
    fn is_for_rate(&self) -> bool {
        !matches!(self.pattern, Pattern::Rate(rate) if rate <= 50.0)
    }

    /// Whether a server offers what it takes; else what it lacks.
    pub fn lacks(&self, target: &dyn Target) -> Option<&'static str> {
        let offers = target.offers();
        let lacks = [
            (self.carrier == Carrier::Tls && !offers.tls, "TLS"),
            (self.carrier == Carrier::Http2 && !offers.http2, "HTTP/2"),
            (self.kind == Kind::Resume && !offers.resume, "resuming by id"),
            (self.topics_each > offers.topics_max, "so many topics"),
            (self.heartbeat_seconds.is_some() && !offers.heartbeat, "heartbeats"),
        ];
        lacks.into_iter().find(|(is_missing, _)| *is_missing).map(|(_, what)| what)
    }
}

fn one() -> usize {
    1
}

fn plain() -> Carrier {
    Carrier::Plain
}

fn as_answered() -> Pattern {
    Pattern::Closed
}

fn usual_data_bytes() -> usize {
    150
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let workloads = workloads().unwrap();
        let mut names: Vec<_> = workloads.iter().map(|workload| &workload.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), workloads.len());
    }
}
