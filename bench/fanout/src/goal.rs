//! What the hub is to reach, as data.

use bench_stand::Samples;

use crate::record::Record;

/// One goal.
#[derive(Debug)]
pub struct Goal {
    pub what: &'static str,
    pub workload: &'static str,
    pub figure: &'static str,
    pub to: To,
    pub bound: Bound,
}

/// What a figure of the hub is compared with.
#[derive(Debug, Clone, Copy)]
pub enum To {
    /// Nothing: it counts as it is.
    Itself,
    /// The same figure of another server, in the same round.
    Target(&'static str),
    /// The same figure in another workload, in the same round.
    Workload(&'static str),
}

/// Where a goal is reached.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// All goals.
pub const GOALS: [Goal; 28] = {
    use Bound::{AtLeast, AtMost};
    use To::{Itself, Target, Workload};
    const fn goal(
        what: &'static str,
        workload: &'static str,
        figure: &'static str,
        to: To,
        bound: Bound,
    ) -> Goal {
        Goal { what, workload, figure, to, bound }
    }
    const CPU: &str = "server CPU for one delivery, 10,000 subscribers, one topic";
    const WRITE: &str = "the same for each read of a subscriber, whatever it brings";
    const RESIDENT: &str = "resident memory of an idle connection, heartbeats on";
    const SATURATED: &str = "events offered faster than a round of writes";
    const FLOOD: &str = "more events than anybody delivers";
    const MANY: &str = "200,000 idle connections, ten minutes";
    [
        goal(CPU, "broadcast", "cpu_us_per_delivery", Target("bare"), AtMost(1.10)),
        goal(CPU, "broadcast", "cpu_us_per_delivery", Target("nchan"), AtMost(0.70)),
        goal(CPU, "broadcast", "cpu_us_per_delivery", Target("axum"), AtMost(0.60)),
        goal(CPU, "broadcast", "cpu_us_per_delivery", Target("mercure"), AtMost(0.50)),
        goal(WRITE, "broadcast", "cpu_us_per_read", Target("bare"), AtMost(1.10)),
        goal(WRITE, "broadcast", "cpu_us_per_read", Target("nchan"), AtMost(0.70)),
        goal(WRITE, "broadcast", "cpu_us_per_read", Target("axum"), AtMost(0.60)),
        goal(WRITE, "broadcast", "cpu_us_per_read", Target("mercure"), AtMost(0.50)),
        goal(RESIDENT, "idle-one-topic", RESIDENT_BYTES, Itself, AtMost(600.0)),
        goal(RESIDENT, "idle-one-topic", RESIDENT_BYTES, Target("nchan"), AtMost(1.0 / 15.0)),
        goal(RESIDENT, "idle-one-topic", RESIDENT_BYTES, Target("axum"), AtMost(1.0 / 25.0)),
        goal("the same, a topic of its own each", "idle", RESIDENT_BYTES, Itself, AtMost(600.0)),
        goal("the same over TLS 1.3", "idle-tls", RESIDENT_BYTES, Itself, AtMost(9216.0)),
        goal(
            "p99 to receipt, 5 events a second",
            "broadcast",
            "p99_ms",
            Target("bare"),
            AtMost(1.2),
        ),
        goal(SATURATED, "saturated", "deliveries_per_s", Itself, AtLeast(1e6)),
        goal(FLOOD, "flood", "deliveries_per_s", Target("nchan"), AtLeast(8.0)),
        goal(FLOOD, "flood", "deliveries_per_s", Target("axum"), AtLeast(4.0)),
        goal(SATURATED, "saturated", "p99_ms", Itself, AtMost(250.0)),
        goal(SATURATED, "saturated", "lost", Itself, AtMost(0.0)),
        goal(
            "topics with one subscriber, random",
            "random",
            "deliveries_per_s",
            Target("mercure"),
            AtLeast(10.0),
        ),
        goal(
            "a publish among 100,000 topics",
            "topics-100k",
            "cpu_us_per_delivery",
            Workload("topics-1k"),
            AtMost(1.2),
        ),
        goal(MANY, "idle-200k", "cpu_percent", Itself, AtMost(10.0)),
        goal(MANY, "idle-200k", RESIDENT_BYTES, Itself, AtMost(600.0)),
        goal("10,000 reconnects with a cursor", "resume", "lost", Itself, AtMost(0.0)),
        goal(
            "10,000 reconnects with a cursor",
            "resume",
            "caught_up_per_s",
            Target("nchan"),
            AtLeast(5.0),
        ),
        goal(
            "1 % stalled: p99 of the others",
            "stalled",
            "p99_ms",
            Workload("healthy"),
            AtMost(1.1),
        ),
        goal("1 % stalled: loss of the others", "stalled", "lost", Itself, AtMost(0.0)),
        goal(
            "first byte while 10,000 are served",
            "arrivals",
            "arrival_p99_ms",
            Itself,
            AtMost(50.0),
        ),
    ]
};

impl Goal {
    /// What was measured, if it was.
    pub fn measured(&self, record: &Record) -> Option<Samples> {
        match self.to {
            To::Itself => record.samples(self.workload, HUB, self.figure),
            To::Target(to) => record.ratios((self.workload, HUB), (self.workload, to), self.figure),
            To::Workload(to) => record.ratios((self.workload, HUB), (to, HUB), self.figure),
        }
    }

    /// Whether the median of what was measured reaches it.
    pub fn is_met(&self, measured: &Samples) -> bool {
        match self.bound {
            Bound::AtMost(most) => measured.median() <= most,
            Bound::AtLeast(least) => measured.median() >= least,
        }
    }

    /// What it asks for, in words.
    pub fn wish(&self) -> String {
        let (words, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let bound = match bound {
            10_000.0.. => format!("{:.0}", bound),
            0.0..0.1 if bound > 0.0 => format!("1/{:.0}", 1.0 / bound),
            _ if bound == bound.round() => format!("{bound:.0}"),
            _ => format!("{bound:.2}"),
        };
        match self.to {
            To::Itself => format!("{words} {bound}"),
            To::Target(to) | To::Workload(to) => format!("{words} {bound} × {to}"),
        }
    }
}

/// The target that goals are for.
pub const HUB: &str = "tidings";

const RESIDENT_BYTES: &str = "resident_bytes_per_connection";
