//! The thread that follows a log which other nodes append to as well.
//!
//! It does for such a log what the journal does for one of its own: it encodes each event once, puts it into
//! the tail and wakes the shards. So a node reads what is new once, however many subscribers it has. It also takes in
//! the newest events from before the node was started: who comes from a node that is being replaced is
//! served from memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tidings_core::{Bounds, Entry, Epoch, Interest, Rights, Selector};
use tidings_log::{Body, Followed, ReadLimit};

use crate::delivery::{Encoded, encode};
use crate::mailbox::Mailbox;
use crate::surroundings::Surroundings;
use crate::tail::LifeBegun;

pub(crate) struct Follower {
    around: Surroundings,
    /// Those of the shards.
    mailboxes: Vec<Arc<Mailbox>>,
    /// The life of the log that it is in.
    epoch: Epoch,
    /// Whether there ever was one.
    is_known: bool,
    /// The newest events that the tail does not have end here; `None` if it is to have no more of them.
    older_until: Option<u64>,
    everything: Interest,
}

impl Follower {
    pub(crate) fn new(around: Surroundings, mailboxes: Vec<Arc<Mailbox>>) -> Self {
        let LifeBegun { epoch, bounds, .. } = around.tail.life();
        let everything = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
        let (is_known, older_until) = (around.log.is_known(), Some(bounds.next));
        Self { around, mailboxes, epoch, is_known, older_until, everything }
    }

    /// Follows until the other end of `hub` is dropped.
    pub(crate) fn run(mut self, hub: &Receiver<Infallible>) {
        while let Err(TryRecvError::Empty) = hub.try_recv() {
            let timeout = if self.older_until.is_some() { SHORT } else { INTERVAL };
            match self.around.log.follow(timeout) {
                Followed::Nothing => {}
                Followed::Entries(entries) => self.push(&entries),
                Followed::Skipped { next } => {
                    tracing::warn!(next, "events are left out of what is delivered from memory");
                    self.older_until = None;
                    self.around.tail.skip_to(next);
                    self.wake();
                }
                Followed::NewLife { epoch, bounds } => self.begin(epoch, bounds),
            }
            self.take_in_older();
        }
    }

    fn push(&self, entries: &[Entry<Body>]) {
        let now_micros = self.around.clock.now_micros();
        let published = self.around.arrivals.take(self.epoch, entries);
        let encoded = entries
            .iter()
            .zip(published)
            .map(|(entry, at)| Arc::new(encode(self.epoch, entry, at.unwrap_or(now_micros))));
        self.around.tail.push(encoded.collect());
        self.wake();
        self.around.meter.followed.fetch_add(entries.len() as u64, Relaxed);
    }

    fn begin(&mut self, epoch: Epoch, bounds: Bounds) {
        let Bounds { oldest, next } = bounds;
        if std::mem::replace(&mut self.is_known, true) {
            tracing::warn!(%epoch, oldest, next, "the log has begun another life");
            self.around.meter.lives.fetch_add(1, Relaxed);
        } else {
            tracing::info!(%epoch, oldest, next, "the log was reached");
        }
        (self.epoch, self.older_until) = (epoch, Some(next));
        self.around.replay.begin(epoch);
        self.around.tail.begin(epoch, bounds);
        self.wake();
    }

    fn wake(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.wake_for_events());
    }

    /// Puts some events into the tail that were there before it.
    fn take_in_older(&mut self) {
        let Some(until) = self.older_until else { return };
        let kept = self.around.log.bounds().oldest;
        let from = until.saturating_sub(OLDER_EVENTS_MAX).max(kept);
        self.older_until = None;
        if from >= until || self.around.tail.oldest() != until {
            return;
        }
        let Some(older) = self.read(from, until) else { return };
        if self.around.is_in(self.epoch) && self.around.tail.prepend(from, until, older) {
            self.older_until = Some(from);
        }
    }

    /// All events between two offsets, if the log gives them.
    fn read(&self, mut from: u64, until: u64) -> Option<Vec<Arc<Encoded>>> {
        let mut read = Vec::new();
        while from < until {
            let step =
                self.around.log.read(from, until, &self.everything, OLDER_READ_LIMIT).ok()?;
            read.extend(step.entries.iter().map(|entry| Arc::new(encode(self.epoch, entry, 0))));
            from = step.next.max(from + 1);
        }
        Some(read)
    }
}

/// How long the end of the hub may go unnoticed.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait for what is new while there is something else to do.
const SHORT: Duration = Duration::from_millis(1);
/// Events from before the tail that are taken in at once.
const OLDER_EVENTS_MAX: u64 = 1_024;
/// What is read of them in one step.
const OLDER_READ_LIMIT: ReadLimit = ReadLimit {
    events_max: OLDER_EVENTS_MAX as usize,
    bytes_max: 4 << 20,
    candidates_max: OLDER_EVENTS_MAX as usize,
    comparisons_max: usize::MAX,
};
