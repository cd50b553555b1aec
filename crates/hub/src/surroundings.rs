//! What all threads of a hub work with.

use std::sync::Arc;

use tidings_core::{Interest, ReadOutcome, Topic};
use tidings_log::{EventLog, ReadLimit};

use crate::Limits;
use crate::census::Census;
use crate::clock::Clock;
use crate::meter::Meter;
use crate::replay::Replay;
use crate::tail::Tail;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) meter: Arc<Meter>,
    pub(crate) census: Arc<Census>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) read_limit: ReadLimit,
}

impl Surroundings {
    pub(crate) fn new(log: Arc<dyn EventLog>, limits: &Limits) -> Self {
        let (clock, meter) = (Clock::start(), Arc::new(Meter::new()));
        Self {
            clock,
            census: Arc::new(Census::new(clock, Arc::clone(&meter))),
            meter,
            tail: Arc::new(Tail::new(log.bounds().next, limits)),
            replay: Arc::new(Replay::new(Arc::clone(&log), limits)),
            read_limit: limits.read_limit(),
            log,
        }
    }

    /// The offset of the last event of a topic that is finished, for those who may receive that
    /// event: others are not to learn of it.
    pub(crate) fn finished(&self, interest: &Interest, topic: &Topic) -> Option<u64> {
        let offset = self.log.finished(topic)?;
        let topics = std::slice::from_ref(topic);
        if interest.may_receive(topics, true) {
            return Some(offset);
        }
        let last = interest.narrowed_to(topic.clone());
        let (log, limit) = (&*self.log, self.read_limit);
        let is_for_it = match self.tail.read(offset, offset + 1, &last, log, limit) {
            Some(ReadOutcome::Entries { entries, .. }) => !entries.is_empty(),
            _ => log.read(offset, offset + 1, &last, limit).is_ok_and(|it| !it.entries.is_empty()),
        };
        is_for_it.then_some(offset)
    }
}
