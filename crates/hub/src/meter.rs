//! What a hub counts: plain atomics, added to in bulk and read as one [`Figures`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tidings_core::{GapReason, Notice};

/// Why a stream ended, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The client, or what stood between, closed the connection.
    Client,
    /// A poll was answered.
    Poll,
    /// The client read nothing for the write timeout.
    WriteTimeout,
    /// The hub shut down.
    Shutdown,
    /// All its topics are finished, and it has received what is kept of them.
    Finished,
    /// The thread that served it failed, a defect of the hub.
    Failed,
    /// The time for which it was let in was over.
    Expired,
    /// What it was let in by was withdrawn.
    Revoked,
    /// An operator closed it.
    Closed,
}

impl EndReason {
    /// All of them, in the order of [`Figures::ended`].
    pub const ALL: [Self; 9] = [
        Self::Client,
        Self::Poll,
        Self::WriteTimeout,
        Self::Shutdown,
        Self::Finished,
        Self::Failed,
        Self::Expired,
        Self::Revoked,
        Self::Closed,
    ];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Poll => "poll",
            Self::WriteTimeout => "write_timeout",
            Self::Shutdown => "shutdown",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
        }
    }
}

/// A histogram with fixed upper bounds.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// One more than bounds: the last is what exceeds them all.
    counts: [AtomicU64; OVER_MAX],
    sum_micros: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    const fn new(bounds: [f64; N]) -> Self {
        assert!(N < OVER_MAX);
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; OVER_MAX],
            sum_micros: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: Duration, times: u64) {
        let seconds = value.as_secs_f64();
        let bucket = self.bounds.iter().position(|&bound| seconds <= bound).unwrap_or(N);
        self.counts[bucket].fetch_add(times, Relaxed);
        self.sum_micros.fetch_add(value.as_micros() as u64 * times, Relaxed);
    }

    /// Adds many values at once: how many there are in each bucket, and the sum of them all.
    fn add(&self, counts: &[u64], sum_micros: u64) {
        for (count, &times) in self.counts.iter().zip(counts) {
            count.fetch_add(times, Relaxed);
        }
        self.sum_micros.fetch_add(sum_micros, Relaxed);
    }

    fn read(&self) -> HistogramFigures {
        let counts: Vec<u64> = self.counts[..=N].iter().map(|count| count.load(Relaxed)).collect();
        let over = counts[N];
        HistogramFigures {
            buckets: self.bounds.iter().copied().zip(counts).collect(),
            over,
            sum_seconds: self.sum_micros.load(Relaxed) as f64 / 1e6,
        }
    }
}

/// What a histogram held when it was read.
#[derive(Debug, Clone)]
pub struct HistogramFigures {
    /// Upper bounds in seconds, and how many values each bucket itself holds.
    pub buckets: Vec<(f64, u64)>,
    /// How many values exceed every bound.
    pub over: u64,
    /// The sum of all values in seconds.
    pub sum_seconds: f64,
}

/// The counters of one hub.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) subscribers: AtomicU64,
    pub(crate) subscribed: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) published_bytes: AtomicU64,
    pub(crate) publish_failed: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) delivered_bytes: AtomicU64,
    pub(crate) replayed: AtomicU64,
    gaps: [AtomicU64; 3],
    lagged: AtomicU64,
    conflated: AtomicU64,
    pub(crate) followed: AtomicU64,
    pub(crate) lives: AtomicU64,
    ended: [AtomicU64; EndReason::ALL.len()],
    pub(crate) delivery_latency: Histogram<6>,
    pub(crate) connection_duration: Histogram<8>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            subscribers: zero(),
            subscribed: zero(),
            resumed: zero(),
            turned_away: zero(),
            published: zero(),
            published_bytes: zero(),
            publish_failed: zero(),
            repeated: zero(),
            refused: zero(),
            delivered: zero(),
            delivered_bytes: zero(),
            replayed: zero(),
            gaps: Default::default(),
            lagged: zero(),
            conflated: zero(),
            followed: zero(),
            lives: zero(),
            ended: Default::default(),
            delivery_latency: Histogram::new(LATENCY_MS.map(|bound| bound as f64 / 1e3)),
            connection_duration: Histogram::new([
                1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0,
            ]),
        }
    }

    pub(crate) fn count_notice(&self, notice: &Notice) {
        match notice {
            Notice::Gap(gap) => self.gaps[gap_place(gap.reason)].fetch_add(1, Relaxed),
            Notice::Lagged { .. } => self.lagged.fetch_add(1, Relaxed),
            Notice::Conflated { skipped } => self.conflated.fetch_add(*skipped, Relaxed),
            Notice::Shutdown { .. } | Notice::Expired { .. } | Notice::Finished { .. } => 0,
        };
    }

    pub(crate) fn count_end(&self, reason: EndReason, lasted: Duration) {
        self.ended[reason as usize].fetch_add(1, Relaxed);
        self.connection_duration.observe(lasted, 1);
    }

    /// What it is given is counted elsewhere.
    pub(crate) fn read(&self, replay_held_bytes: u64, store: Option<StoreFigures>) -> Figures {
        let gap = |reason| (reason, self.gaps[gap_place(reason)].load(Relaxed));
        Figures {
            subscribers: self.subscribers.load(Relaxed),
            subscribed: self.subscribed.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            published: self.published.load(Relaxed),
            published_bytes: self.published_bytes.load(Relaxed),
            publish_failed: self.publish_failed.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            refused: self.refused.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            delivered_bytes: self.delivered_bytes.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            replay_held_bytes,
            gaps: [GapReason::Trimmed, GapReason::UnknownEpoch, GapReason::Invalid].map(gap),
            lagged: self.lagged.load(Relaxed),
            conflated: self.conflated.load(Relaxed),
            followed: self.followed.load(Relaxed),
            lives: self.lives.load(Relaxed),
            store,
            ended: EndReason::ALL.map(|it| (it, self.ended[it as usize].load(Relaxed))),
            delivery_latency: self.delivery_latency.read(),
            connection_duration: self.connection_duration.read(),
        }
    }
}

/// Deliveries that one thread has counted and not yet added to the [`Meter`], which others
/// add to as well.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    events: u64,
    bytes: u64,
    replayed: u64,
    latencies: [u64; LATENCY_MS.len() + 1],
    latency_sum_micros: u64,
}

impl Tally {
    /// Counts live events that were published at these times.
    pub(crate) fn count_live(&mut self, published: impl Iterator<Item = u64>, now_micros: u64) {
        for published_micros in published {
            let latency = now_micros.saturating_sub(published_micros);
            let is_within = |bound: &u64| latency <= bound * 1_000;
            let bucket = LATENCY_MS.iter().position(is_within).unwrap_or(LATENCY_MS.len());
            self.latencies[bucket] += 1;
            self.latency_sum_micros += latency;
            self.events += 1;
        }
    }

    /// Counts events that were read from the log or the tail.
    pub(crate) fn count_replayed(&mut self, events: u64) {
        self.events += events;
        self.replayed += events;
    }

    pub(crate) fn count_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Adds what was counted, and begins anew.
    pub(crate) fn settle(&mut self, meter: &Meter) {
        if self.bytes == 0 {
            return;
        }
        let Self { events, bytes, replayed, latencies, latency_sum_micros } = std::mem::take(self);
        meter.delivered_bytes.fetch_add(bytes, Relaxed);
        meter.delivered.fetch_add(events, Relaxed);
        meter.replayed.fetch_add(replayed, Relaxed);
        meter.delivery_latency.add(&latencies, latency_sum_micros);
    }
}

/// What a hub has counted since it started.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Subscriptions open now.
    pub subscribers: u64,
    /// Subscriptions opened.
    pub subscribed: u64,
    /// Of those, how many named an id to resume after.
    pub resumed: u64,
    /// Subscriptions refused because there were too many.
    pub turned_away: u64,
    /// Events published.
    pub published: u64,
    /// Bytes of their data.
    pub published_bytes: u64,
    /// Events that could not be appended to the log.
    pub publish_failed: u64,
    /// Events whose key had been published before: answered again, and not published again.
    pub repeated: u64,
    /// Events refused because a topic of their publish is finished.
    pub refused: u64,
    /// Events delivered, replayed ones included.
    pub delivered: u64,
    /// Bytes handed to connections as an event stream: without its first lines, HTTP and framing.
    pub delivered_bytes: u64,
    /// Of the delivered events, how many were read from the log or the tail and not live.
    pub replayed: u64,
    /// Bytes of events that were read back from the log and are held now: those that are shared, and
    /// those that wait for connections.
    pub replay_held_bytes: u64,
    /// Gaps announced, by reason.
    pub gaps: [(GapReason, u64); 3],
    /// How often a subscriber fell behind what is kept.
    pub lagged: u64,
    /// Events that were left out for readers who conflate.
    pub conflated: u64,
    /// Events that were taken from a log that other nodes append to as well.
    pub followed: u64,
    /// How often such a log has begun another life, with what that means for all who subscribe.
    pub lives: u64,
    /// What is known of its store; `None` if the log is not shared.
    pub store: Option<StoreFigures>,
    /// Subscriptions ended, by reason.
    pub ended: [(EndReason, u64); EndReason::ALL.len()],
    /// From the call that publishes to the transport that takes the event, for live events.
    pub delivery_latency: HistogramFigures,
    /// How long subscriptions lasted.
    pub connection_duration: HistogramFigures,
}

/// What is known of the store of a log that other nodes append to as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFigures {
    /// Whether it answered the last time.
    pub is_reached: bool,
    /// How many events it is known to hold that are not delivered here yet.
    pub behind: u64,
    /// Calls that it has not answered, or refused.
    pub failures: u64,
    /// How long ago it answered last; `None` if it never has.
    pub silent_for: Option<Duration>,
}

fn gap_place(reason: GapReason) -> usize {
    match reason {
        GapReason::Trimmed => 0,
        GapReason::UnknownEpoch => 1,
        GapReason::Invalid => 2,
    }
}

/// The bounds of the histogram of delivery latencies, in milliseconds.
const LATENCY_MS: [u64; 6] = [5, 10, 25, 50, 100, 250];
/// More than any histogram here has bounds.
const OVER_MAX: usize = 9;
