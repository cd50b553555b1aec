//! Publish, subscribe, shut down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Epoch, ExpiryReason, Interest, Position, Start, StreamOptions, Topic};
use tidings_log::{AppendError, EventLog, Offsets, Record, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::admission::{Admission, Beginning, Owner};
use crate::backlog::Abort;
use crate::client::Client;
use crate::connections::{self, ConnectionFilter, ConnectionId, ConnectionPage};
use crate::follower::Follower;
use crate::journal::{Journal, PUBLISHES_MAX, Publish, Work};
use crate::log_reader::LogReader;
use crate::mailbox::{Command, Mailbox};
use crate::meter::{Figures, StoreFigures};
use crate::presence::{Handle, Member, Presence, PresenceFigures, PresenceScope, TopicPresence};
use crate::reactor::Reactor;
use crate::shard::Shard;
use crate::shared::{Shards, Shared, SubscribeError};
use crate::subscription::Subscription;
use crate::surroundings::{Look, Surroundings};
use crate::{HubOptions, trimmer};

/// A hub: a log, and the subscribers that are cursors in it.
///
/// Cheap to clone; all clones are the same hub. Its threads end when the last clone and the last
/// subscription are dropped.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// The ids that a publish was given, in the order of the records.
///
/// They follow each other without a hole, except where a record was not published again because
/// its key had been: then its id is the first one's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// One for each life of the log, which few live to see the end of; none of them is empty.
    parts: Vec<(Epoch, Offsets)>,
}

impl Published {
    pub(crate) fn new(epoch: Epoch, offsets: Offsets) -> Self {
        let parts = if offsets.count() > 0 { vec![(epoch, offsets)] } else { Vec::new() };
        Self { parts }
    }

    /// The ids, one for each record.
    pub fn ids(&self) -> impl Iterator<Item = Position> + Send {
        self.parts.iter().flat_map(|(epoch, offsets)| {
            offsets
                .runs()
                .iter()
                .cloned()
                .flatten()
                .map(|offset| Position { epoch: *epoch, offset })
        })
    }

    /// The ids, one for each record, to be kept apart from this.
    pub fn into_ids(self) -> impl Iterator<Item = Position> + Send {
        self.parts.into_iter().flat_map(|(epoch, offsets)| {
            let offsets = offsets.runs().to_vec().into_iter().flatten();
            offsets.map(move |offset| Position { epoch, offset })
        })
    }

    /// The last of the ids.
    pub fn last(&self) -> Option<Position> {
        let (epoch, offsets) = self.parts.last()?;
        let offset = offsets.runs().last()?.end.checked_sub(1)?;
        Some(Position { epoch: *epoch, offset })
    }

    /// Adds the ids of what was published after this to the same hub.
    pub fn extend(&mut self, next: Self) {
        let mut next = next.parts.into_iter();
        if let Some((epoch, offsets)) = next.next() {
            match self.parts.last_mut() {
                Some((last, before)) if *last == epoch => before.extend(offsets),
                _ => self.parts.push((epoch, offsets)),
            }
        }
        self.parts.extend(next);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.parts.iter().map(|(_, offsets)| offsets.count()).sum()
    }

    /// How many of them were given before, for the same key.
    pub fn repeated(&self) -> u64 {
        self.parts.iter().map(|(_, offsets)| offsets.repeated()).sum()
    }

    /// As how many runs without a hole they are held, which is what they cost.
    pub fn run_count(&self) -> usize {
        self.parts.iter().map(|(_, offsets)| offsets.runs().len()).sum()
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
    /// Delivers, of what it is behind on, the newest event of each topic alone, and says by
    /// `tidings.conflated` how many were left out. The last event of a topic is never left out, and
    /// what is live is delivered whole.
    pub conflate: bool,
    /// Ends it after the first batch, or after this time without one.
    pub poll: Option<Duration>,
    /// Called from another thread when the client has read nothing for the write timeout, so that
    /// a connection that cannot be written to is broken.
    pub abort: Option<Abort>,
    /// To whom it belongs, for the operator and for those who count.
    pub client: Option<Box<Client>>,
    /// Ends it after this time, at most a tenth of a second later, with `tidings.expired`.
    pub expires_in: Option<Duration>,
}

/// Why a publish did not go well: nothing was published, unless a variant says otherwise.
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
    /// A topic of one of the events has had its last event; publish under another one.
    #[error("the topic {topic} is finished")]
    Finished {
        /// The topic.
        topic: Topic,
    },
    /// The log cannot be written now; try again later. With [`AppendError::Unknown`] the events may have been
    /// published all the same.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The hub is shutting down; publish to another one, or try again later.
    #[error("the hub is shutting down")]
    ShuttingDown,
}

impl From<Refusal> for PublishError {
    fn from(Refusal::Finished { topic, offset: _ }: Refusal) -> Self {
        Self::Finished { topic }
    }
}

impl Hub {
    /// Starts a hub on a log. It runs threads of its own: one that writes the log, some that
    /// read it, one that trims it, one that follows it if it is shared, and the shards.
    ///
    /// # Errors
    ///
    /// If the operating system gives no more threads or file descriptors.
    pub fn start(options: HubOptions, log: Arc<dyn EventLog>) -> std::io::Result<Self> {
        let around = Surroundings::new(log, &options.limits);
        let failed = Arc::new(AtomicBool::new(false));
        let (questions, asked) = std_mpsc::channel();
        let log_reader =
            LogReader { around: around.clone(), questions: Arc::new(Mutex::new(asked)) };
        let log_readers = if around.is_shared { SHARED_LOG_READERS } else { LOG_READERS };
        for place in 0..log_readers {
            let log_reader = log_reader.clone();
            spawn(&format!("tidings-reader-{place}"), &failed, move || log_reader.run())?;
        }
        let (trimming, hub) = std_mpsc::channel();
        let Surroundings { log, replay, .. } = around.clone();
        spawn("tidings-trimmer", &failed, move || trimmer::run(&*log, &replay, &hub))?;
        let mut shards = Shards::default();
        for place in 0..u16::try_from(options.shards.max(1)).unwrap_or(u16::MAX) {
            let reactor = Reactor::new()?;
            let mailbox = Arc::new(Mailbox::new(reactor.waker()));
            shards.mailboxes.push(Arc::clone(&mailbox));
            let shard =
                Shard::new(place, around.clone(), reactor, mailbox, questions.clone(), &options);
            spawn(&format!("tidings-shard-{place}"), &failed, move || shard.run())?;
        }
        let (following, hub) = std_mpsc::channel();
        if around.is_shared {
            let follower = Follower::new(around.clone(), shards.mailboxes.clone());
            spawn("tidings-follower", &failed, move || follower.run(&hub))?;
        }
        let (queue, queued) = mpsc::channel(PUBLISHES_MAX);
        let journal = Journal::new(around.clone(), shards.mailboxes.clone());
        spawn("tidings-journal", &failed, move || journal.run(queued))?;
        let presence = if options.presence.is_on() {
            let presence = Arc::new(Presence::new(options.presence.clone(), &around)?);
            let (handle, clerk) = Handle::new(presence, around.clone(), queue.downgrade());
            spawn("tidings-presence", &failed, move || clerk.run())?;
            Some(handle)
        } else {
            None
        };
        let at_work = [trimming, following];
        let shared = Shared::new(options, around, queue, shards, presence, at_work, failed);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends events to the log, in order, as a whole or not at all, and answers once they are as
    /// durable as the log promises. Waits while the log is busy with many other publishers.
    ///
    /// # Errors
    ///
    /// [`PublishError`]
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the events are published as a whole or not at all.
    pub async fn publish(&self, records: Vec<Record>) -> Result<Published, PublishError> {
        if self.shared.refuses_publishes() {
            return Err(PublishError::ShuttingDown);
        }
        let event_bytes_max = self.event_bytes_max();
        let mut group_bytes = 0;
        for (place, record) in records.iter().enumerate() {
            let bytes = record.data.len();
            if bytes > event_bytes_max {
                return Err(PublishError::EventTooLarge { place, bytes, event_bytes_max });
            }
            group_bytes += bytes;
        }
        let (reply, answer) = oneshot::channel();
        let at_micros = self.shared.around.clock.now_micros();
        let publish = Work::Publish(Publish { records, bytes: group_bytes, at_micros, reply });
        self.shared.journal.send(publish).await.map_err(|_| PublishError::ShuttingDown)?;
        answer.await.map_err(|_| PublishError::ShuttingDown)?
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
        Ok(self.admit(interest, options)?.pull())
    }

    /// Takes up a subscription to what `interest` admits, and leaves open who carries its bytes.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]
    pub fn admit(
        &self,
        interest: Interest,
        options: SubscribeOptions,
    ) -> Result<Admission, SubscribeError> {
        let shared = &self.shared;
        let SubscribeOptions { begin, control_off, conflate, poll, abort, client, expires_in } =
            options;
        let resumes = matches!(begin, Begin::After(_));
        if !shared.around.log.is_known() {
            return Err(SubscribeError::LogUnavailable);
        }
        let (epoch, bounds) = shared.around.life();
        let beginning = Beginning::find(begin, epoch, bounds, shared.around.is_shared);
        if beginning.gap.is_none() && self.is_over(&interest, &beginning, bounds) {
            return Err(SubscribeError::Finished);
        }
        let identity = client.as_ref().and_then(|client| client.identity.clone());
        let (owner, on_end) = client.map_or((None, None), |client| Owner::of(*client));
        let mut admitted = shared.admit_connection(on_end)?;
        let mailbox = Arc::clone(shared.next_mailbox().ok_or(SubscribeError::ShuttingDown)?);
        if let Some(stay) =
            shared.presence.as_ref().and_then(|it| it.presence.join(&interest, identity.as_deref()))
        {
            admitted.keep(stay);
        }
        let now = shared.around.clock.now();
        let after = |time: Duration| now.saturating_add(millis(time));
        let (poll_deadline, expires_at) = (poll.map(after), expires_in.map(after));
        let (control, jitter) = (!control_off, fastrand::f32());
        let stream = StreamOptions { control, conflate, poll_deadline, expires_at, jitter };
        let meter = &shared.around.meter;
        meter.subscribed.fetch_add(1, Ordering::Relaxed);
        meter.resumed.fetch_add(u64::from(resumes), Ordering::Relaxed);
        let shared = Arc::clone(shared);
        Ok(Admission { shared, mailbox, interest, beginning, stream, abort, admitted, owner })
    }

    /// Lists at most `limit` connections, from the one after `after` on. Those that come or go while
    /// the list is read may be missing; the others are there once.
    pub async fn connections(
        &self,
        filter: &ConnectionFilter,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> ConnectionPage {
        connections::list(&self.shared, filter, after, limit).await
    }

    /// Ends connections at once, each told why by `tidings.expired`, and says how many.
    ///
    /// Those of a token or of keys that are [revoked](ExpiryReason::Revoked) are ended as well if they
    /// come within the next minute: their token may have been looked at before. That it does not hold
    /// after that is for the caller to see to. Of keys the last call counts: who gives others, or
    /// none, lets those in again that were given before.
    pub async fn close_connections(&self, filter: &ConnectionFilter, reason: ExpiryReason) -> u64 {
        connections::close(&self.shared, filter, reason).await
    }

    /// For whom it is known who is there on a topic; `None` if for nobody.
    pub fn presence_scope(&self, topic: &Topic) -> Option<PresenceScope> {
        self.shared.presence.as_ref()?.presence.scope(topic)
    }

    /// Who is there on some topics, over all nodes, as far as this one knows: at most `limit` members of
    /// each, in the order of their names, from the one after `after` on; and the position after which
    /// the events follow that tell of changes. To ask is for those whom the
    /// [scope](Self::presence_scope) of each topic admits, and the names for those with the right.
    ///
    /// `None` if it is known of no topic.
    pub fn presence(
        &self,
        topics: &[Topic],
        after: Option<&Member>,
        limit: usize,
    ) -> Option<(Position, Vec<TopicPresence>)> {
        Some(self.shared.presence.as_ref()?.presence.of(topics, after, limit))
    }

    /// What is counted of who is there; `None` if it is known of no topic.
    pub fn presence_figures(&self) -> Option<PresenceFigures> {
        Some(self.shared.presence.as_ref()?.presence.figures())
    }

    /// Refuses new subscriptions and publishes, and ends all subscriptions, spread over `drain`, each
    /// told to come back after a time of its own; then closes the log. Returns once all have ended, or
    /// `drain` and a second later, and what was published is settled. What was published stays
    /// published.
    pub async fn shutdown(&self, drain: Duration) {
        self.shared.refuse_publishes();
        self.end_subscriptions(drain).await;
        self.close_log().await;
    }

    /// Like [`shutdown`](Self::shutdown), but takes publishes until the subscriptions have ended: for
    /// a hub whose log another one is about to go on with.
    pub async fn hand_over(&self, drain: Duration) {
        self.end_subscriptions(drain).await;
        self.shared.refuse_publishes();
        self.close_log().await;
    }

    async fn end_subscriptions(&self, drain: Duration) {
        let shared = &self.shared;
        shared.begin_draining();
        let retry_ms = shared.options.retry.as_millis() as u64;
        let drain_ms = drain.as_millis() as u64;
        for mailbox in &shared.shards.mailboxes {
            mailbox.send(Command::Shutdown { retry_ms, drain_ms });
        }
        let all_ended = shared.around.census.all_ended();
        let _ = tokio::time::timeout(drain + Duration::from_secs(1), all_ended).await;
        if let Some(presence) = &shared.presence {
            presence.finish(Duration::from_secs(1)).await;
        }
    }

    async fn close_log(&self) {
        let (done, closed) = oneshot::channel();
        // If the journal has ended there is nothing to wait for; else it never answers but by
        // dropping its end.
        let _ = self.shared.journal.send(Work::Close(done)).await;
        let _ = closed.await;
    }

    /// Asks every thread that publishes and delivers for a sign of life, and returns once all have
    /// given it. Never returns if one hangs. Threads that have [failed](Self::has_failed) or ended
    /// are not waited for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn check_threads(&self) {
        for mailbox in &self.shared.shards.mailboxes {
            let (answer, answered) = oneshot::channel();
            mailbox.send(Command::Answer(answer));
            let _ = answered.await;
        }
        let (answer, answered) = oneshot::channel();
        let _ = self.shared.journal.send(Work::Answer(answer)).await;
        let _ = answered.await;
    }

    /// Changes how many subscriptions may be open, from
    /// [`connections_max`](crate::Limits::connections_max); those that are over it stay.
    pub fn set_connections_max(&self, connections_max: usize) {
        self.shared.connections_max.store(connections_max, Ordering::Relaxed);
    }

    /// How many connections are served at once now.
    pub fn connections_max(&self) -> usize {
        self.shared.connections_max.load(Ordering::Relaxed)
    }

    /// Changes how many bytes of data an event may have, from
    /// [`event_bytes_max`](crate::Limits::event_bytes_max).
    pub fn set_event_bytes_max(&self, event_bytes_max: usize) {
        self.shared.event_bytes_max.store(event_bytes_max, Ordering::Relaxed);
    }

    /// How many bytes of data an event may have now.
    pub fn event_bytes_max(&self) -> usize {
        self.shared.event_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether [`shutdown`](Self::shutdown) or [`hand_over`](Self::hand_over) has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shared.is_draining()
    }

    /// Whether a thread of the hub has failed, which only a restart mends.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Why nothing can be published now, as far as the log knows; `None` if it can be written.
    pub fn failure(&self) -> Option<String> {
        self.shared.around.log.failure()
    }

    /// What the hub has counted so far.
    pub fn figures(&self) -> Figures {
        let Surroundings { meter, replay, log, tail, .. } = &self.shared.around;
        let store = log.store().map(|store| StoreFigures {
            is_reached: store.is_reached,
            behind: store.next.saturating_sub(tail.next()),
            failures: store.failures,
            silent_for: store.answered_at.map(|at| at.elapsed()),
        });
        meter.read(replay.budget().held_bytes() as u64, store)
    }

    /// How long the hub has been running.
    pub fn uptime(&self) -> Duration {
        Instant::now().duration_since(self.shared.around.clock.at(0))
    }

    /// What it was told.
    pub fn options(&self) -> &HubOptions {
        &self.shared.options
    }

    /// What can be read from its log.
    pub fn bounds(&self) -> Bounds {
        self.shared.around.log.bounds()
    }

    /// Whether all topics of an interest are finished and nothing that is kept of them is left
    /// from `start` on.
    fn is_over(&self, interest: &Interest, beginning: &Beginning, bounds: Bounds) -> bool {
        let (epoch, around) = (beginning.epoch, &self.shared.around);
        let end_of = |topic| around.finished(epoch, interest, topic);
        let ends = interest.exact_topics().map(|topics| topics.map(end_of));
        let end = ends.and_then(|mut ends| ends.try_fold(0, |end, it| Some(it?.max(end))));
        let Some(end) = end.filter(|&end| end > 0) else { return false };
        let mut from = match beginning.start {
            Start::At(offset) => offset,
            Start::After(offset) => offset + 1,
            Start::Last { wanted: 0, before } => before,
            Start::Last { .. } => bounds.oldest,
            Start::Ahead(_) => return false,
        };
        // Who resumes is told of what a retention rule has dropped, also if that is all there was.
        let is_resumed = matches!(beginning.start, Start::After(_));
        if is_resumed && around.log.dropped(interest, from).is_some() {
            return false;
        }
        for _ in 0..OVER_STEPS_MAX {
            if from > end {
                return around.is_in(epoch);
            }
            match around.look(epoch, from, end + 1, interest) {
                Some(Look::Nothing { next }) => from = next,
                Some(Look::Something) | None => return false,
            }
        }
        false
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("options", self.options()).finish_non_exhaustive()
    }
}

/// As many as the clock can count.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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

/// Threads that read the log for those who catch up: while one waits for the disk the other goes on.
const LOG_READERS: usize = 2;
/// The same for a log whose store is asked over a network.
const SHARED_LOG_READERS: usize = 4;
/// Steps of reading to find out that a finished topic has nothing left for someone who filters by
/// type; if that is not enough, a stream is opened and ends by itself.
const OVER_STEPS_MAX: usize = 4;

#[cfg(test)]
mod tests;
