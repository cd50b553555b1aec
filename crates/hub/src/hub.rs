//! Publish, subscribe, shut down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Epoch, Gap, Interest, Position, Start, StreamOptions, resume_after};
use tidings_log::{AppendError, EventLog, ReadLimit, Record};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::journal::{Journal, PUBLISHES_MAX, Publish};
use crate::mailbox::{Command, Mailbox, Subscribe};
use crate::meter::{Figures, Meter};
use crate::outlet::{Abort, Backlog};
use crate::shard::{Shard, Surroundings};
use crate::shared::{Shards, Shared, SubscribeError};
use crate::subscription::Subscription;
use crate::tail::Tail;
use crate::{HubOptions, log_reader};

/// A hub: a log, and the subscribers that are cursors in it.
///
/// Cheap to clone; all clones are the same hub. Its threads end when the last clone and the last
/// subscription are dropped.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// The ids that a publish was given: consecutive, in the order of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    epoch: Epoch,
    first: u64,
    count: u64,
}

impl Published {
    /// The ids, one for each record.
    pub fn ids(self) -> impl Iterator<Item = Position> + Send {
        let offsets = self.first..self.first + self.count;
        offsets.map(move |offset| Position { epoch: self.epoch, offset })
    }

    /// The last of the ids.
    pub fn last(self) -> Option<Position> {
        let offset = (self.first + self.count).checked_sub(1).filter(|_| self.count > 0)?;
        Some(Position { epoch: self.epoch, offset })
    }

    /// The ids of both, if `next` follows on this without a hole.
    pub fn joined(self, next: Self) -> Option<Self> {
        let follows = self.epoch == next.epoch && self.first + self.count == next.first;
        follows.then_some(Self { count: self.count + next.count, ..self })
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.count
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Default)]
pub enum Begin {
    /// With what is published from now on.
    #[default]
    Now,
    /// With the oldest kept event.
    Earliest,
    /// With the last so many kept events that match.
    Last(u32),
    /// After the event with this id, as the client sent it: any bytes at all. What cannot be resumed is answered
    /// by a gap and everything that is kept.
    After(Vec<u8>),
}

/// How a subscription is served.
#[derive(Default)]
pub struct SubscribeOptions {
    /// Where it begins.
    pub begin: Begin,
    /// Leaves out the hub's own events: gaps, lags, shutdown.
    pub control_off: bool,
    /// Ends it after the first batch, or after this time without one.
    pub poll: Option<Duration>,
    /// Called from another thread when the client has read nothing for the write timeout, so that
    /// a connection that cannot be written to is broken.
    pub abort: Option<Abort>,
}

/// Why nothing was published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// An event has more data than the hub takes; publish it in pieces or raise the limit.
    #[error("event {place} has {bytes} bytes of data, and at most {event_bytes_max} are taken")]
    EventTooLarge {
        /// Which of the records, counted from 0.
        place: usize,
        /// Its size.
        bytes: usize,
        /// The limit.
        event_bytes_max: usize,
    },
    /// The log cannot be written now; try again later.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The hub is shutting down; publish to another one, or try again later.
    #[error("the hub is shutting down")]
    ShuttingDown,
}

impl Hub {
    /// Starts a hub on a log. It runs threads of its own: one that writes the log, one that reads
    /// it, and the shards.
    ///
    /// # Errors
    ///
    /// If the operating system gives no more threads.
    pub fn start(options: HubOptions, log: Arc<dyn EventLog>) -> std::io::Result<Self> {
        let clock = Clock::start();
        let failed = Arc::new(AtomicBool::new(false));
        let meter = Arc::new(Meter::new());
        let tail = Arc::new(Tail::new(log.bounds().next, &options.limits));
        let read_limit = ReadLimit {
            events_max: READ_EVENTS_MAX,
            bytes_max: options.limits.backlog_bytes_max,
            candidates_max: READ_CANDIDATES_MAX,
            comparisons_max: READ_COMPARISONS_MAX,
        };
        let (questions, asked) = std_mpsc::channel();
        let reader_log = Arc::clone(&log);
        spawn("tidings-reader", &failed, move || {
            log_reader::run(&*reader_log, &asked, read_limit);
        })?;
        let mut shards = Shards::default();
        for place in 0..options.shards.max(1) {
            let mailbox = Arc::new(Mailbox::default());
            let around = Surroundings {
                clock,
                log: Arc::clone(&log),
                tail: Arc::clone(&tail),
                meter: Arc::clone(&meter),
                mailbox: Arc::clone(&mailbox),
                log_reader: questions.clone(),
                read_limit,
            };
            let shard = Shard::new(around, &options);
            spawn(&format!("tidings-shard-{place}"), &failed, move || shard.run())?;
            shards.mailboxes.push(mailbox);
        }
        let (publishes, received) = mpsc::channel(PUBLISHES_MAX);
        let journal = Journal {
            log: Arc::clone(&log),
            tail,
            meter: Arc::clone(&meter),
            mailboxes: shards.mailboxes.clone(),
        };
        spawn("tidings-journal", &failed, move || journal.run(received))?;
        let shared = Shared::new(options, clock, meter, log, publishes, shards, failed);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends events to the log, in order, as a whole or not at all, and answers once they are as
    /// durable as the log promises. Waits while the log is busy with many other publishers.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: nothing was published.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the events are published as a whole or not at all.
    pub async fn publish(&self, records: Vec<Record>) -> Result<Published, PublishError> {
        if self.shared.is_draining() {
            return Err(PublishError::ShuttingDown);
        }
        let event_bytes_max = self.shared.options.limits.event_bytes_max;
        let too_large = |(_, record): &(usize, &Record)| record.data.len() > event_bytes_max;
        if let Some((place, record)) = records.iter().enumerate().find(too_large) {
            let bytes = record.data.len();
            return Err(PublishError::EventTooLarge { place, bytes, event_bytes_max });
        }
        let count = records.len() as u64;
        let (reply, answer) = oneshot::channel();
        let publish = Publish { records, at_micros: self.shared.clock.now_micros(), reply };
        self.shared.publishes.send(publish).await.map_err(|_| PublishError::ShuttingDown)?;
        let first = answer.await.map_err(|_| PublishError::ShuttingDown)??;
        Ok(Published { epoch: self.shared.epoch(), first, count })
    }

    /// Opens a subscription to what `interest` admits.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]
    pub fn subscribe(
        &self,
        interest: Interest,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let shared = &self.shared;
        shared.admit_connection()?;
        let resumes = matches!(options.begin, Begin::After(_));
        let (start, gap) = resolve(options.begin, shared.epoch(), shared.log.bounds());
        let backlog =
            Arc::new(Backlog::new(shared.options.limits.backlog_bytes_max, options.abort));
        let poll_deadline = options.poll.map(|wait| shared.clock.now() + wait.as_millis() as u64);
        let control = !options.control_off;
        let stream = StreamOptions { control, poll_deadline, jitter: fastrand::f32() };
        let mailbox = Arc::clone(shared.next_mailbox());
        let begins_after = match start {
            Start::After(offset) => Some(offset),
            Start::At(offset) => Some(offset.saturating_sub(1)),
            Start::Last(_) => None,
        };
        let begins_after = begins_after.map(|offset| Position { epoch: shared.epoch(), offset });
        let subscribe = Subscribe { interest, start, gap, stream, backlog: Arc::clone(&backlog) };
        mailbox.send(Command::Subscribe(Box::new(subscribe)));
        shared.meter.subscribed.fetch_add(1, Ordering::Relaxed);
        shared.meter.resumed.fetch_add(u64::from(resumes), Ordering::Relaxed);
        let subscription = Subscription::new(Arc::clone(shared), mailbox, backlog, begins_after);
        // What was sent to the shard after its order to shut down would never be ended by it.
        if shared.is_draining() { Err(SubscribeError::ShuttingDown) } else { Ok(subscription) }
    }

    /// Refuses new subscriptions and publishes, and ends all subscriptions, spread over `drain`, each
    /// told to come back after a time of its own. Returns once all have ended, or `drain` and a second later. What was
    /// published stays published.
    pub async fn shutdown(&self, drain: Duration) {
        let shared = &self.shared;
        shared.begin_draining();
        let retry_ms = shared.options.retry.as_millis() as u64;
        let drain_ms = drain.as_millis() as u64;
        for mailbox in &shared.shards.mailboxes {
            mailbox.send(Command::Shutdown { retry_ms, drain_ms });
        }
        let all_ended = shared.all_connections_ended();
        let _ = tokio::time::timeout(drain + Duration::from_secs(1), all_ended).await;
    }

    /// Whether [`shutdown`](Self::shutdown) has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shared.is_draining()
    }

    /// Whether a thread of the hub has failed, which only a restart mends.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// What the hub has counted so far.
    pub fn figures(&self) -> Figures {
        self.shared.meter.read()
    }

    /// How long the hub has been running.
    pub fn uptime(&self) -> Duration {
        Instant::now().duration_since(self.shared.clock.at(0))
    }

    /// What it was told.
    pub fn options(&self) -> &HubOptions {
        &self.shared.options
    }

    /// What can be read from its log.
    pub fn bounds(&self) -> Bounds {
        self.shared.log.bounds()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("options", self.options()).finish_non_exhaustive()
    }
}

fn resolve(begin: Begin, epoch: Epoch, bounds: Bounds) -> (Start, Option<Gap>) {
    match begin {
        Begin::Now => (Start::At(bounds.next), None),
        Begin::Earliest => (Start::At(bounds.oldest), None),
        Begin::Last(count) => (Start::Last(count), None),
        Begin::After(id) => resume_after(&id, epoch, bounds),
    }
}

/// Starts a thread whose panic, a defect of the hub, is told and remembered.
fn spawn(
    name: &str,
    failed: &Arc<AtomicBool>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let (thread, failed) = (name.to_owned(), Arc::clone(failed));
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            failed.store(true, Ordering::SeqCst);
            tracing::error!(thread, "a thread of the hub failed; restart the process");
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map(drop)
}

/// Events in one step of catching up.
const READ_EVENTS_MAX: usize = 256;
/// Events looked at in one step of catching up, and comparisons of a topic with a selector after
/// which it ends: live delivery and publishing never wait for more than a few milliseconds.
const READ_CANDIDATES_MAX: usize = 4_096;
const READ_COMPARISONS_MAX: usize = 8_192;
