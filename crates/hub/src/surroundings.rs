//! What all threads of a hub work with.

use std::sync::Arc;

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
}
