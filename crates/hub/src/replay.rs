//! Reading back what has left the tail, encoded once for all who catch up.
//!
//! Steps of reading are kept for a while, so that subscribers with equal interests that catch up
//! together cost one read and share its bytes. A step ends at an offset that others are likely to
//! end at too: those who began at different places come to share their steps after one or two.
//!
//! All that was read back and that somebody still holds is counted. When that is too much, every
//! further step has one event, and a connection takes the next one when it has passed that on: so
//! the memory is bounded, and nobody starves.

mod budget;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use tidings_core::{Entry, Epoch, Interest, ReadOutcome};
use tidings_log::{EventLog, ReadError, ReadLimit, ReadStep, entry_bytes};

pub(crate) use self::budget::{Held, ReplayBudget};
use crate::Limits;
use crate::delivery::{Delivery, Encoded, encode_read_back};

/// The log as those read it who catch up.
#[derive(Debug)]
pub(crate) struct Replay {
    log: Arc<dyn EventLog>,
    limit: ReadLimit,
    budget: Arc<ReplayBudget>,
    steps: Mutex<Steps>,
    /// The last reading failed, and it was said why.
    is_failing: AtomicBool,
}

/// Steps that were read lately; the first that were read leave first.
#[derive(Debug)]
struct Steps {
    /// The life of the log that they were read in.
    epoch: Epoch,
    by_interest: HashMap<Arc<Interest>, BTreeMap<u64, Step>>,
    order: VecDeque<(Arc<Interest>, u64)>,
    bytes: usize,
    bytes_max: usize,
    /// Whether anybody has asked for one since [`Replay::forget_idle`].
    is_used: bool,
}

/// The interesting events from somewhere up to `next`.
#[derive(Debug, Clone)]
struct Step {
    entries: Arc<[Arc<Encoded>]>,
    next: u64,
    bytes: usize,
}

impl Replay {
    pub(crate) fn new(log: Arc<dyn EventLog>, epoch: Epoch, limits: &Limits) -> Self {
        let steps = Steps {
            epoch,
            by_interest: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max: limits.replay_bytes_max / STEPS_SHARE,
            is_used: false,
        };
        Self {
            log,
            limit: limits.read_limit(),
            budget: Arc::new(ReplayBudget::new(limits.replay_bytes_max)),
            steps: Mutex::new(steps),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(crate) fn budget(&self) -> &Arc<ReplayBudget> {
        &self.budget
    }

    /// Forgets what was read in other lives of the log.
    pub(crate) fn begin(&self, epoch: Epoch) {
        let mut steps = self.steps();
        steps.clear();
        steps.epoch = epoch;
    }

    /// Answers from a step that was read before in that life, if there is one. Does not read the log.
    pub(crate) fn recall(
        &self,
        epoch: Epoch,
        from: u64,
        until: u64,
        interest: &Interest,
    ) -> Option<ReadOutcome<Delivery>> {
        let step = self.steps().get(epoch, interest, from)?;
        // What is trimmed is to be announced as gone.
        (from >= self.log.bounds().oldest).then(|| self.outcome(&step, from, until, interest))
    }

    /// Reads a step, and keeps it for others. If the log is in another life than that of `epoch` when this
    /// returns, the answer means nothing.
    pub(crate) fn read(
        &self,
        epoch: Epoch,
        from: u64,
        until: u64,
        interest: &Arc<Interest>,
    ) -> ReadOutcome<Delivery> {
        if let Some(outcome) = self.recall(epoch, from, until, interest) {
            return outcome;
        }
        let events_max = if self.budget.is_used_up() { 1 } else { self.limit.events_max };
        match self.log.read(from, until, interest, ReadLimit { events_max, ..self.limit }) {
            Ok(mut read) => {
                if self.is_failing.load(Relaxed) && self.is_failing.swap(false, Relaxed) {
                    tracing::info!("the log can be read again");
                }
                if read.next < until {
                    end_where_others_do(&mut read, from);
                }
                let encode = |entry| Arc::new(encode_read_back(epoch, entry, &self.budget));
                let entries: Arc<[_]> = read.entries.iter().map(encode).collect();
                let bytes = entries.iter().map(|entry| bytes_of(entry)).sum();
                let step = Step { entries, next: read.next, bytes };
                // What is kept must be of that life for sure.
                let is_sound = self.log.epoch() == epoch;
                let step =
                    if is_sound { self.steps().insert(epoch, interest, from, step) } else { step };
                self.outcome(&step, from, until, interest)
            }
            Err(ReadError::Trimmed { oldest }) => ReadOutcome::Trimmed { oldest },
            Err(ReadError::Unavailable(reason)) => {
                if !self.is_failing.swap(true, Relaxed) {
                    tracing::error!(reason, "who catches up waits until the log can be read");
                }
                ReadOutcome::Failed
            }
        }
    }

    /// Lets go of steps that nobody has asked for since the last call.
    pub(crate) fn forget_idle(&self) {
        let mut steps = self.steps();
        if !std::mem::take(&mut steps.is_used) {
            steps.clear();
        }
    }

    fn outcome(
        &self,
        step: &Step,
        from: u64,
        until: u64,
        interest: &Interest,
    ) -> ReadOutcome<Delivery> {
        let (mut count, mut next) = (step.entries.len(), step.next);
        if until < next {
            count = step.entries.partition_point(|entry| entry.offset < until);
            next = until;
        }
        let is_scarce = self.budget.is_used_up();
        if count > 1 && is_scarce {
            count = 1;
            next = step.entries[1].offset;
        }
        let mut entries = step.entries[..count].to_vec();
        let dropped = leave_out_dropped(&*self.log, interest, from, &mut entries);
        ReadOutcome::Entries { entries, next, dropped, is_scarce }
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().expect("no thread panics while it holds the steps")
    }
}

impl Steps {
    fn get(&mut self, epoch: Epoch, interest: &Interest, from: u64) -> Option<Step> {
        self.is_used = true;
        if epoch != self.epoch {
            return None;
        }
        self.by_interest.get(interest)?.get(&from).cloned()
    }

    /// Keeps a step and gives it back, or the same one that another reader was first to keep.
    fn insert(&mut self, epoch: Epoch, interest: &Arc<Interest>, from: u64, step: Step) -> Step {
        if epoch != self.epoch {
            return step;
        }
        let of_interest = self.by_interest.entry(Arc::clone(interest)).or_default();
        if let Some(first) = of_interest.get(&from) {
            return first.clone();
        }
        of_interest.insert(from, step.clone());
        self.order.push_back((Arc::clone(interest), from));
        self.bytes += step.bytes + STEP_BYTES;
        while self.bytes > self.bytes_max && self.forget_first() {}
        step
    }

    fn forget_first(&mut self) -> bool {
        let Some((interest, from)) = self.order.pop_front() else { return false };
        let Some(of_interest) = self.by_interest.get_mut(&interest) else { return true };
        if let Some(step) = of_interest.remove(&from) {
            self.bytes -= step.bytes + STEP_BYTES;
        }
        if of_interest.is_empty() {
            self.by_interest.remove(&interest);
        }
        true
    }

    fn clear(&mut self) {
        self.by_interest = HashMap::new();
        self.order = VecDeque::new();
        self.bytes = 0;
    }
}

/// Removes what a retention rule has dropped since it was read, and says up to where something is
/// gone.
pub(crate) fn leave_out_dropped(
    log: &dyn EventLog,
    interest: &Interest,
    from: u64,
    entries: &mut Vec<Arc<Encoded>>,
) -> Option<u64> {
    log.dropped(interest, from)?;
    entries.retain(|entry| log.is_kept(entry.offset, &entry.topics));
    // Asked again: more may have been dropped before the last of them was asked for.
    log.dropped(interest, from)
}

/// What an event counts as that was read back.
pub(crate) fn bytes_of(entry: &Encoded) -> usize {
    entry_bytes(entry, entry.payload.frame.len())
}

/// Shortens a step by at most a half, so that it ends at the offset that is divisible by the
/// highest power of two.
fn end_where_others_do<P>(step: &mut ReadStep<Entry<P>>, from: u64) {
    let kept = step.entries.len().div_ceil(2).checked_sub(1);
    let lowest = match kept {
        Some(last) => step.entries[last].offset + 1,
        None => from + (step.next - from).div_ceil(2),
    };
    step.next = roundest(lowest, step.next);
    let count = step.entries.partition_point(|entry| entry.offset < step.next);
    step.entries.truncate(count);
}

/// Of the numbers from `lowest`, at least 1, to `highest` the one that is divisible by the highest
/// power of two.
fn roundest(lowest: u64, highest: u64) -> u64 {
    // Up to the highest bit in which it differs from all that is too low, `highest` must stay.
    let differing = (lowest - 1) ^ highest;
    highest & (u64::MAX << differing.ilog2())
}

/// The part of the budget that the kept steps may use: enough for a crowd whose members are a few
/// tens of thousands of events apart.
const STEPS_SHARE: usize = 4;
/// About what a step takes besides its events.
const STEP_BYTES: usize = 256;

#[cfg(test)]
mod tests;
