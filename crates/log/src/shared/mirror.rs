//! What one node knows of the log.

use tidings_core::{Bounds, Entry, Epoch, Topic};

use super::engine::{Fetched, Life, Opened, Seen};
use super::queue::Queue;
use super::ruled::RuledEvents;
use crate::finished::FinishedTopics;
use crate::{Body, Followed};

/// One life of the log, as far as this node has seen it.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) epoch: Epoch,
    /// `None` as long as the store was never reached; then the epoch is nobody else's.
    life: Option<Life>,
    oldest: u64,
    /// The offset after the last that this node has seen, or that it was told is appended.
    next: u64,
    /// Up to here everything is known to `finished` and `ruled`.
    absorbed: u64,
    finished: FinishedTopics,
    /// `None` if there are no rules.
    pub(super) ruled: Option<RuledEvents>,
    queue: Queue,
    /// Who follows is still to be told of this life.
    is_news: bool,
}

impl Mirror {
    /// That of a log that was not reached yet.
    pub(super) fn unknown(epoch: Epoch) -> Self {
        Self {
            epoch,
            life: None,
            oldest: 1,
            next: 1,
            absorbed: 1,
            finished: FinishedTopics::default(),
            ruled: None,
            queue: Queue::new(1),
            is_news: false,
        }
    }

    /// That of a life that was found just now; `ruled` knows what is kept of it.
    pub(super) fn new(opened: Opened, ruled: Option<RuledEvents>, is_news: bool) -> Self {
        let Opened { life, bounds, mut finished, dropped: _ } = opened;
        let mut order = FinishedTopics::default();
        finished.sort_unstable_by_key(|&(_, offset)| offset);
        finished.into_iter().for_each(|(topic, offset)| order.finish(topic, offset));
        Self {
            epoch: life.epoch,
            life: Some(life),
            oldest: bounds.oldest,
            next: bounds.next,
            absorbed: bounds.next,
            finished: order,
            ruled,
            queue: Queue::new(bounds.next),
            is_news,
        }
    }

    /// Goes on with the same life, perhaps on another server.
    pub(super) fn go_on(&mut self, opened: &Opened) {
        self.life = Some(opened.life.clone());
        self.learn_oldest(opened.bounds);
        if let Some(ruled) = &mut self.ruled {
            opened.dropped.iter().for_each(|(topic, offset)| ruled.note_dropped(topic, *offset));
        }
    }

    pub(super) fn life(&self) -> Option<&Life> {
        self.life.as_ref()
    }

    pub(super) fn is_of(&self, life: &Life) -> bool {
        self.life.as_ref().is_some_and(|own| own.epoch == life.epoch)
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        Some(Seen { life: self.life.clone()?, next: self.next })
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { oldest: self.oldest, next: self.next }
    }

    /// Where entries begin that this node knows to be there and has not taken in.
    pub(super) fn absorbed(&self) -> u64 {
        self.absorbed
    }

    /// Where who follows goes on to read.
    pub(super) fn followed(&self) -> u64 {
        self.queue.end()
    }

    pub(super) fn finished(&self, topic: &Topic) -> Option<u64> {
        let offset = self.finished.get(topic).filter(|&offset| offset >= self.oldest)?;
        let is_kept = self.ruled.as_ref().is_none_or(|ruled| ruled.keeps(offset, topic));
        is_kept.then_some(offset)
    }

    /// What who follows is told next.
    pub(super) fn take_news(&mut self) -> Option<Followed> {
        if std::mem::take(&mut self.is_news) {
            // What this node has appended since is told afterwards.
            let next = self.queue.next();
            let bounds = Bounds { oldest: self.oldest.min(next), next };
            return Some(Followed::NewLife { epoch: self.epoch, bounds });
        }
        self.queue.take()
    }

    /// Takes in what this node has appended; everything below `next` is known to be there by that.
    pub(super) fn appended(&mut self, entries: &[Entry<Body>], next: u64) {
        for entry in entries {
            // What lies before it is still to be read.
            if entry.offset == self.absorbed {
                self.absorb(entry);
                self.queue.offer(entry);
            }
        }
        self.next = self.next.max(next);
    }

    /// Takes in what was read for who follows.
    pub(super) fn fetched(&mut self, fetched: Fetched) {
        self.caught_up(&fetched);
        self.queue.extend(fetched.entries, fetched.end.max(fetched.bounds.oldest));
    }

    /// Takes in what was read from a place up to [`absorbed`](Self::absorbed) on.
    pub(super) fn caught_up(&mut self, fetched: &Fetched) {
        self.learn_oldest(fetched.bounds);
        self.absorbed = self.absorbed.max(fetched.bounds.oldest);
        for entry in &fetched.entries {
            if entry.offset >= self.absorbed {
                self.pass_over(entry.offset);
                self.absorb(entry);
            }
        }
        self.pass_over(fetched.end);
        self.next = self.next.max(self.absorbed);
    }

    /// Takes note of what has left.
    pub(super) fn learn_oldest(&mut self, bounds: Bounds) {
        if bounds.oldest <= self.oldest {
            return;
        }
        self.oldest = bounds.oldest;
        self.next = self.next.max(bounds.oldest);
        self.finished.forget_below(bounds.oldest);
        if let Some(ruled) = &mut self.ruled {
            ruled.forget_below(bounds.oldest);
        }
    }

    /// Goes on at an offset, before which something may be gone that this node has never seen.
    fn pass_over(&mut self, offset: u64) {
        if offset > self.absorbed {
            self.absorbed = offset;
            if let Some(ruled) = &mut self.ruled {
                ruled.note_unseen(offset);
            }
        }
    }

    fn absorb(&mut self, entry: &Entry<Body>) {
        self.absorbed = entry.offset + 1;
        if let Some(ruled) = &mut self.ruled {
            ruled.note(entry);
        }
        if entry.is_final {
            for topic in entry.topics.iter() {
                self.finished.finish(topic.clone(), entry.offset);
            }
        }
    }
}
