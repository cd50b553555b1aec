//! The one thread that writes the log.
//!
//! It takes everything that waits, appends it in one go, encodes each event once, puts it into the
//! tail, wakes the shards and answers the publishers: no event is delivered or acknowledged before
//! it is as durable as the log promises.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidings_log::{AppendError, EventLog, Record};
use tokio::sync::{mpsc, oneshot};

use crate::clock::unix_now;
use crate::delivery::encode;
use crate::mailbox::Mailbox;
use crate::meter::Meter;
use crate::tail::Tail;

/// One call to publish: appended as a whole or not at all.
pub(crate) struct Publish {
    pub(crate) records: Vec<Record>,
    pub(crate) at_micros: u64,
    /// Receives the first offset.
    pub(crate) reply: oneshot::Sender<Result<u64, AppendError>>,
}

pub(crate) struct Journal {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
}

impl Journal {
    /// Works until nobody can publish any more.
    pub(crate) fn run(self, mut publishes: mpsc::Receiver<Publish>) {
        let mut group = Vec::new();
        while let Some(first) = publishes.blocking_recv() {
            let mut events = first.records.len();
            group.push(first);
            while events < GROUP_EVENTS_MAX {
                let Ok(next) = publishes.try_recv() else { break };
                events += next.records.len();
                group.push(next);
            }
            self.append(&mut group);
        }
    }

    fn append(&self, group: &mut Vec<Publish>) {
        let mut records = Vec::new();
        let mut published_at = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        for publish in group.drain(..) {
            replies.push((records.len() as u64, publish.reply));
            published_at.resize(records.len() + publish.records.len(), publish.at_micros);
            records.extend(publish.records);
        }
        let event_count = records.len() as u64;
        let byte_count: usize = records.iter().map(|record| record.data.len()).sum();
        let outcome = self.log.append(records, unix_now()).map(|entries| {
            let epoch = self.log.epoch();
            let first = entries.first().map_or(0, |entry| entry.offset);
            let encoded = entries.iter().zip(published_at);
            self.tail.push(encoded.map(|(entry, at)| Arc::new(encode(epoch, entry, at))).collect());
            first
        });
        match &outcome {
            Ok(_) => {
                self.meter.published.fetch_add(event_count, Relaxed);
                self.meter.published_bytes.fetch_add(byte_count as u64, Relaxed);
                self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
            }
            Err(error) => {
                self.meter.publish_failed.fetch_add(event_count, Relaxed);
                tracing::error!(%error, "events were refused");
            }
        }
        for (place, reply) in replies {
            // A publisher that has gone away does not undo what it published.
            let _ = reply.send(outcome.clone().map(|first| first + place));
        }
    }
}

/// Bounds how much is appended at once.
const GROUP_EVENTS_MAX: usize = 4_096;
/// How many calls may wait for the journal; further publishers wait for those.
pub(crate) const PUBLISHES_MAX: usize = 1_024;
