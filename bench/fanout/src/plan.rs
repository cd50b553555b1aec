//! What the harness tells a process of the load, and what it answers: JSON, one line each.

use std::net::SocketAddr;
use std::path::PathBuf;

use bench_stand::{Request, Transport};
use serde::{Deserialize, Serialize};

use crate::histogram::Sparse;

/// The first line: all that does not change while the process runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Servers that share the connections: the n-th goes to the n-th of them, around and around.
    pub subscribe_at: Vec<SocketAddr>,
    pub transport: Transport,
    pub carrier: Carrier,
    /// The certificate to be trusted, if the carrier or the publishers need one.
    pub certificate: Option<PathBuf>,
    /// The subscriptions, in the order in which they are made.
    pub streams: Vec<Stream>,
    /// How many of them share a connection; more than one only over HTTP/2.
    pub streams_each: usize,
    /// Part of the source addresses.
    pub first_source: u8,
    /// How many connections may be waiting for the begin of their answer.
    pub connecting_max: usize,
    /// How many connections are begun a second, if that is limited.
    pub connects_per_second: Option<f64>,
    /// Every so many connections, one that reads nothing once its stream has begun.
    pub stalled_every: Option<usize>,
    /// How long the data of each event is.
    pub data_bytes: usize,
    /// Keep the ids of the events of the first stream.
    pub notes_ids: bool,
    pub lanes: Lanes,
    /// The publishers, if this process has them.
    pub publishers: Option<Publishers>,
}

/// What connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

/// One subscription, to topics whose numbers follow each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stream {
    pub request: Request,
    pub first_topic: u32,
    pub topics: u32,
    /// The number of the first event of each lane that is to come.
    pub first_number: u32,
}

/// Who publishes to what.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Lanes {
    pub publishers: u32,
    pub topics: u32,
}

/// How to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publishers {
    pub address: SocketAddr,
    pub is_tls: bool,
    /// A request, of which topic and data are overwritten.
    pub template: String,
    /// Where in it topics and data begin.
    pub topics_at: Vec<usize>,
    pub data_at: Vec<usize>,
    /// How many subscribers get each event.
    pub fan_out: u64,
}

/// What comes after the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make all connections. Answered by `Connected`.
    Connect,
    /// Forget all figures: a new phase begins. Answered by `Begun`.
    Begin,
    /// Publish. Answered by `Published`, when all publishes have been.
    Publish { pattern: Pattern, events_max: u64, seconds_max: f64 },
    /// Each publisher has published so many events since the start; wait for all of them.
    /// Answered by `Complete`.
    Expect { published: Vec<u64> },
}

/// When events are offered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// So many a second, whatever the server does.
    Rate(f64),
    /// Each publisher the next once its last is answered.
    Closed,
    /// As `Closed`, while less than so many events have not reached all subscribers.
    Window(u64),
}

/// What a process of the load says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Connected {
        /// When the first connection was begun, and when the last answer had begun.
        first_ns: u64,
        last_ns: u64,
        /// From connecting to the first byte of the answer.
        first_byte: Sparse,
    },
    Begun,
    Published {
        /// By each publisher, since the start.
        published: Vec<u64>,
        /// When the first event of this phase was sent.
        first_ns: u64,
        /// From sending a publish to its answer.
        answered: Sparse,
    },
    Complete(Box<Received>),
    /// It ends, because something is wrong.
    Failed(String),
}

/// What came in a phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Received {
    pub deliveries: u64,
    /// What was left out, or did not come in time.
    pub lost: u64,
    pub latency: Sparse,
    /// When the last event came, and when the phase began.
    pub last_ns: u64,
    pub began_ns: u64,
    /// Bytes that were read from sockets, encryption included.
    pub bytes: u64,
    /// Comments, pings and events of the server itself.
    pub others: u64,
    pub reads: u64,
    /// Processor time of this process, which is one thread.
    pub cpu_seconds: f64,
    /// Streams that ended.
    pub ended: u64,
    /// The ids of all events of the first stream, if those are noted.
    pub ids: Vec<String>,
}

impl Lanes {
    /// How many there are. One topic has a lane for each publisher; of several topics, each
    /// belongs to one publisher.
    pub fn count(self) -> u32 {
        if self.topics == 1 { self.publishers } else { self.topics }
    }

    /// The lanes of a row of topics.
    pub fn of_topics(self, first: u32, topics: u32) -> (u32, u32) {
        if self.topics == 1 { (0, self.publishers) } else { (first, topics) }
    }

    /// The lane of event `number` of a publisher, both from 0. Seeded: it follows from these.
    pub fn lane_of(self, publisher: u32, number: u64) -> u32 {
        if self.topics == 1 {
            return publisher;
        }
        let own = (self.topics - publisher).div_ceil(self.publishers);
        let random = mix(number << 20 | u64::from(publisher));
        publisher + self.publishers * ((random >> 32) as u32 % own)
    }

    /// The topic of a lane.
    pub fn topic_of(self, lane: u32) -> u32 {
        if self.topics == 1 { 0 } else { lane }
    }

    /// How many events each lane has had when each publisher has published so many.
    pub fn totals(self, published: &[u64]) -> Vec<u32> {
        let mut totals = vec![0; self.count() as usize];
        for (publisher, count) in (0..).zip(published) {
            for number in 0..*count {
                totals[self.lane_of(publisher, number) as usize] += 1;
            }
        }
        totals
    }
}

/// The name of a topic.
pub fn topic_name(topic: u32) -> String {
    format!("t{topic:07}")
}

/// SplitMix64's mixing.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_belongs_to_one_publisher_and_is_used() {
        for (publishers, topics) in [(1, 1), (4, 1), (1, 50), (4, 50), (20, 1000)] {
            let lanes = Lanes { publishers, topics };
            let mut owner = vec![None; lanes.count() as usize];
            for publisher in 0..publishers {
                for number in 0..20_000 {
                    let lane = lanes.lane_of(publisher, number);
                    assert_eq!(*owner[lane as usize].get_or_insert(publisher), publisher);
                    assert!(lanes.topic_of(lane) < topics);
                }
            }
            assert!(owner.iter().all(Option::is_some), "{lanes:?}");
            let published = vec![300; publishers as usize];
            assert_eq!(lanes.totals(&published).iter().sum::<u32>(), 300 * publishers);
        }
    }
}
