//! What all threads of a hub work with.

use std::sync::Arc;

use tidings_core::{Bounds, Epoch, Interest, ReadOutcome, Topic};
use tidings_log::{EventLog, ReadLimit};

use crate::Limits;
use crate::arrivals::Arrivals;
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
    /// Whether other nodes append to the log as well.
    pub(crate) is_shared: bool,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) read_limit: ReadLimit,
}

impl Surroundings {
    pub(crate) fn new(log: Arc<dyn EventLog>, limits: &Limits) -> Self {
        let (clock, meter) = (Clock::start(), Arc::new(Meter::new()));
        let (epoch, bounds) = life_of(&*log);
        Self {
            clock,
            census: Arc::new(Census::new(clock, Arc::clone(&meter))),
            meter,
            tail: Arc::new(Tail::new(epoch, bounds, limits)),
            replay: Arc::new(Replay::new(Arc::clone(&log), epoch, limits)),
            read_limit: limits.read_limit(),
            is_shared: log.is_shared(),
            arrivals: Arc::default(),
            log,
        }
    }

    /// The life that the log is in, and what can be read of it.
    pub(crate) fn life(&self) -> (Epoch, Bounds) {
        life_of(&*self.log)
    }

    /// What can be read, if the log is in the life of `epoch`.
    pub(crate) fn bounds_in(&self, epoch: Epoch) -> Option<Bounds> {
        let (present, bounds) = self.life();
        (present == epoch).then_some(bounds)
    }

    /// Whether the log is in the life of `epoch`: then so was all that it has said about it until now.
    pub(crate) fn is_in(&self, epoch: Epoch) -> bool {
        !self.is_shared || self.log.epoch() == epoch
    }

    /// The offset of the last event of a topic that is finished in that life, for those who may receive that
    /// event: others are not to learn of it. Where nobody may wait for the log, and that event is not in the
    /// tail, nobody else learns of it either.
    pub(crate) fn finished(&self, epoch: Epoch, interest: &Interest, topic: &Topic) -> Option<u64> {
        let offset = self.log.finished(topic)?;
        let topics = std::slice::from_ref(topic);
        if interest.may_receive(topics, true) {
            return self.is_in(epoch).then_some(offset);
        }
        let last = interest.narrowed_to(topic.clone());
        let look = self.look(epoch, offset, offset + 1, &last)?;
        matches!(look, Look::Something).then_some(offset)
    }

    /// Whether anything is kept between two offsets that interests someone, in one step; `None` if that is
    /// not known, or if it would have to be waited for: a store may take its time, and who asks has none.
    pub(crate) fn look(
        &self,
        epoch: Epoch,
        from: u64,
        until: u64,
        interest: &Interest,
    ) -> Option<Look> {
        let (log, limit) = (&*self.log, ReadLimit { events_max: 1, ..self.read_limit });
        let (is_empty, next) = match self.tail.read(epoch, from, until, interest, log, limit) {
            Some(ReadOutcome::Entries { entries, next, .. }) => (entries.is_empty(), next),
            _ if self.is_shared => return None,
            _ => {
                let step = log.read(from, until, interest, limit).ok()?;
                (step.entries.is_empty(), step.next)
            }
        };
        let look = if is_empty { Look::Nothing { next } } else { Look::Something };
        self.is_in(epoch).then_some(look)
    }
}

/// What a look at the log has found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    /// Nothing before this offset.
    Nothing { next: u64 },
    /// Something.
    Something,
}

/// The life of a log and its bounds, of which one may change between two questions.
fn life_of(log: &dyn EventLog) -> (Epoch, Bounds) {
    loop {
        let epoch = log.epoch();
        let bounds = log.bounds();
        if log.epoch() == epoch {
            return (epoch, bounds);
        }
    }
}
