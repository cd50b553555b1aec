//! What a hub can be told.

use std::time::Duration;

use tidings_log::ReadLimit;

use crate::PresenceOptions;

/// How a hub behaves, and how much it takes on.
///
/// Every limit has a policy: what is over it is refused with an error that names it, or let go of
/// and announced; nothing grows without bound.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Threads that own subscribers; at least 1, and at most 65,535 of them are started. Default: one for each core.
    pub shards: usize,
    /// A stream that was silent for this long receives a heartbeat, the first of a silence at most a
    /// fifth earlier.
    /// Default 15 s.
    pub heartbeat: Duration,
    /// A subscriber that takes nothing for this long while bytes wait is closed. Default 30 s.
    pub write_timeout: Duration,
    /// The reconnection time given to clients. Raised and spread on overload and shutdown.
    /// Default 2 s.
    pub retry: Duration,
    /// Live events leave at most this often, those of the meantime together: less work for each, and a
    /// delay of up to this long. Default 0: each leaves at once, and together only what has
    /// come while others were written. A new subscription lets what waits leave earlier.
    pub flush_interval: Duration,
    /// Of which topics it is known who is there. Default none, which costs nothing.
    pub presence: PresenceOptions,
    /// Bounds.
    pub limits: Limits,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            heartbeat: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            retry: Duration::from_secs(2),
            flush_interval: Duration::ZERO,
            presence: PresenceOptions::default(),
            limits: Limits::default(),
        }
    }
}

/// Every bound of a hub, with its unit last.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open subscriptions; one more is refused with [`SubscribeError::TooManyConnections`].
    /// Default 100,000.
    ///
    /// [`SubscribeError::TooManyConnections`]: crate::SubscribeError::TooManyConnections
    pub connections_max: usize,
    /// Bytes of data of one event; a larger one is refused with [`PublishError::EventTooLarge`].
    /// Default 1 MiB.
    ///
    /// [`PublishError::EventTooLarge`]: crate::PublishError::EventTooLarge
    pub event_bytes_max: usize,
    /// Encoded events that all shards share for live delivery and short resumes. Default 16,384.
    pub tail_events_max: usize,
    /// Bytes of those events. Default 16 MiB.
    pub tail_bytes_max: usize,
    /// Bytes that may wait for one connection before it is served from the log instead; one event
    /// may go over it. Default 64 KiB.
    pub backlog_bytes_max: usize,
    /// Bytes of all events that were read back from the log, for subscribers that catch up, and that
    /// are still held: those that are shared, and those that wait for connections. Once they are
    /// used up, catching up goes on by one event at a time for each connection. Default 64 MiB.
    pub replay_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            event_bytes_max: 1 << 20,
            tail_events_max: 16_384,
            tail_bytes_max: 16 << 20,
            backlog_bytes_max: 64 << 10,
            replay_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// What one step of catching up may cost: it fills a backlog once.
    pub(crate) fn read_limit(&self) -> ReadLimit {
        ReadLimit {
            events_max: READ_EVENTS_MAX,
            bytes_max: self.backlog_bytes_max,
            candidates_max: READ_CANDIDATES_MAX,
            comparisons_max: READ_COMPARISONS_MAX,
        }
    }
}

impl HubOptions {
    /// A reconnection time for clients that are sent away: five to fifteen times the usual one,
    /// spread so that they do not return together. `jitter` lies in `0.0..1.0`.
    pub fn raised_retry(&self, jitter: f64) -> Duration {
        self.retry.mul_f64(5.0 + 10.0 * jitter)
    }
}

/// Events in one step of catching up.
const READ_EVENTS_MAX: usize = 256;
/// Events looked at in one step of catching up, and comparisons of a topic with a selector after
/// which it ends: live delivery and publishing never wait for more than a few milliseconds.
const READ_CANDIDATES_MAX: usize = 4_096;
const READ_COMPARISONS_MAX: usize = 8_192;
