//! The one thread that writes the log.
//!
//! It takes everything that waits, appends it in one go, encodes each event once, puts it into the
//! tail, wakes the shards and answers the publishers: no event is delivered or acknowledged before
//! it is as durable as the log promises.
//!
//! If other nodes append to the log as well, it only appends and answers: what is new is followed by another
//! thread, in the order that all nodes give it together.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidings_log::{Appended, Record, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::clock::unix_now;
use crate::delivery::encode;
use crate::hub::{PublishError, Published};
use crate::mailbox::Mailbox;
use crate::surroundings::Surroundings;

/// What the journal can be told.
pub(crate) enum Work {
    Publish(Publish),
    /// Gives a sign of life.
    Answer(oneshot::Sender<()>),
    /// Nothing more is to come: what waits is appended, the log is closed, and this is dropped.
    Close(oneshot::Sender<()>),
}

/// One call to publish: appended as a whole or not at all.
pub(crate) struct Publish {
    pub(crate) records: Vec<Record>,
    /// Bytes of their data.
    pub(crate) bytes: usize,
    pub(crate) at_micros: u64,
    pub(crate) reply: oneshot::Sender<Result<Published, PublishError>>,
}

pub(crate) struct Journal {
    around: Surroundings,
    /// Those of the shards.
    mailboxes: Vec<Arc<Mailbox>>,
    /// The last append failed, and it was said why.
    is_failing: bool,
}

/// Publishes that are appended together.
#[derive(Default)]
struct Group {
    publishes: Vec<Vec<Record>>,
    waiting: Vec<Waiting>,
    events: usize,
    bytes: usize,
}

/// A publisher that waits for its answer.
struct Waiting {
    events: u64,
    at_micros: u64,
    reply: oneshot::Sender<Result<Published, PublishError>>,
}

impl Group {
    fn add(&mut self, publish: Publish) {
        let Publish { records, bytes, at_micros, reply } = publish;
        self.events += records.len();
        self.bytes += bytes;
        self.waiting.push(Waiting { events: records.len() as u64, at_micros, reply });
        self.publishes.push(records);
    }

    fn is_full(&self) -> bool {
        self.events >= GROUP_EVENTS_MAX || self.bytes >= GROUP_BYTES_MAX
    }
}

impl Journal {
    pub(crate) fn new(around: Surroundings, mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { around, mailboxes, is_failing: false }
    }

    /// Works until nobody can publish any more.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut closing = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(work) = next.take() {
                match work {
                    Work::Publish(publish) => group.add(publish),
                    Work::Answer(answer) => drop(answer.send(())),
                    Work::Close(done) => {
                        queue.close();
                        closing.push(done);
                    }
                }
                next = if group.is_full() { None } else { queue.try_recv().ok() };
            }
            if !group.publishes.is_empty() {
                self.append(group);
            }
        }
        if !closing.is_empty() {
            self.around.log.close();
        }
    }

    fn append(&mut self, group: Group) {
        let Group { publishes, waiting, events, .. } = group;
        let now = unix_now();
        if self.around.is_shared {
            self.around.arrivals.begin(now, waiting[0].at_micros);
        }
        let outcomes = match self.around.log.append(publishes, now) {
            Ok(appended) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the log can be written again");
                }
                self.deliver(appended, &waiting)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "events are refused until the log can be written");
                }
                self.around.meter.publish_failed.fetch_add(events as u64, Relaxed);
                waiting.iter().map(|_| Err(error.clone().into())).collect()
            }
        };
        for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
            // A publisher that has gone away does not undo what it published.
            let _ = waiting.reply.send(outcome);
        }
    }

    /// Hands what was appended to the shards, counts, and says what each publisher is told.
    fn deliver(
        &self,
        appended: Appended,
        waiting: &[Waiting],
    ) -> Vec<Result<Published, PublishError>> {
        let Appended { epoch, entries, outcomes } = appended;
        let (mut repeated, mut refused) = (0, 0);
        // The new events of a publish follow each other, in the order of the publishes.
        let mut published_at = Vec::with_capacity(entries.len());
        for (waiting, outcome) in waiting.iter().zip(&outcomes) {
            match outcome {
                Ok(offsets) => {
                    repeated += offsets.repeated();
                    let appended = (offsets.count() - offsets.repeated()) as usize;
                    published_at.resize(published_at.len() + appended, waiting.at_micros);
                }
                Err(Refusal::Finished { .. }) => refused += waiting.events,
            }
        }
        if self.around.is_shared {
            let offsets = entries.iter().map(|entry| entry.offset);
            self.around.arrivals.end(epoch, offsets.zip(published_at));
        } else if !entries.is_empty() {
            let encoded = entries.iter().zip(published_at);
            self.around
                .tail
                .push(encoded.map(|(entry, at)| Arc::new(encode(epoch, entry, at))).collect());
            self.mailboxes.iter().for_each(|mailbox| mailbox.wake_for_events());
        }
        let bytes: usize = entries.iter().map(|entry| entry.payload.data.len()).sum();
        let meter = &self.around.meter;
        meter.published.fetch_add(entries.len() as u64, Relaxed);
        meter.published_bytes.fetch_add(bytes as u64, Relaxed);
        meter.repeated.fetch_add(repeated, Relaxed);
        meter.refused.fetch_add(refused, Relaxed);
        let published = |outcome: Result<_, Refusal>| Ok(Published::new(epoch, outcome?));
        outcomes.into_iter().map(published).collect()
    }
}

/// Bounds how much is appended at once: together with [`GROUP_BYTES_MAX`] for some milliseconds of
/// work, after which the publishers of the group are answered.
const GROUP_EVENTS_MAX: usize = 4_096;
/// Bytes of data after which a group ends; the last publish may go over it.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How many calls may wait for the journal; further publishers wait for those.
pub(crate) const PUBLISHES_MAX: usize = 1_024;
