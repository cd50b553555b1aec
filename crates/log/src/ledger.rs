//! What a log must remember to answer a publish: keys and finished topics.
//!
//! An append is planned first and settled once it is durable, so that one that fails leaves no
//! trace.

use std::collections::HashMap;

use tidings_core::Topic;

use crate::finished::FinishedTopics;
use crate::keys::{HashSeed, KeyId, KeyRun, Keys};
use crate::{KeyWindow, Offsets, Record, Refusal, UnixMillis};

#[derive(Debug)]
pub(crate) struct Ledger {
    seed: HashSeed,
    keys: Keys,
    finished: FinishedTopics,
}

/// What an append will do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What is to be appended, in order.
    pub(crate) records: Vec<Record>,
    pub(crate) outcomes: Vec<Result<Offsets, Refusal>>,
    pub(crate) keys: Vec<(KeyId, u64)>,
    finals: Vec<(Topic, u64)>,
}

/// Keys and finals of the publishes planned so far, for those that come after them.
#[derive(Debug, Default)]
struct Planned {
    keys: HashMap<KeyId, u64>,
    finals: HashMap<Topic, u64>,
}

impl Ledger {
    pub(crate) fn new(seed: HashSeed, window: KeyWindow) -> Self {
        Self { seed, keys: Keys::new(window), finished: FinishedTopics::default() }
    }

    /// Plans an append whose first new record would have the offset `next`. `is_kept` says whether
    /// the event at an offset is kept under a topic: a topic is finished no longer than its last event is kept.
    pub(crate) fn plan(
        &self,
        publishes: Vec<Vec<Record>>,
        next: u64,
        now: UnixMillis,
        is_kept: impl Fn(u64, &Topic) -> bool,
    ) -> Plan {
        let mut plan = Plan::default();
        plan.outcomes.reserve(publishes.len());
        let mut planned = Planned::default();
        for publish in publishes {
            let outcome = match self.refusal(&publish, &planned, now, &is_kept) {
                Some(refusal) => Err(refusal),
                None => Ok(self.take(publish, next, now, &mut plan, &mut planned)),
            };
            plan.outcomes.push(outcome);
        }
        plan
    }

    /// Takes note that what was planned is in the log.
    pub(crate) fn settle(&mut self, plan: &Plan, now: UnixMillis) {
        for &(id, offset) in &plan.keys {
            self.keys.insert(id, offset, now);
        }
        for (topic, offset) in &plan.finals {
            self.finish(topic.clone(), *offset);
        }
    }

    pub(crate) fn insert_key_run(&mut self, run: KeyRun) {
        self.keys.insert_run(run);
    }

    /// Takes note of the last event of a topic, later than all others.
    pub(crate) fn finish(&mut self, topic: Topic, offset: u64) {
        self.finished.finish(topic, offset);
    }

    /// The offset of the last event of a topic.
    pub(crate) fn finished(&self, topic: &Topic) -> Option<u64> {
        self.finished.get(topic)
    }

    /// Those of some runs of keys that are remembered.
    pub(crate) fn still_held(&self, runs: Vec<KeyRun>, now: UnixMillis) -> Vec<KeyRun> {
        let is_held = |run: &KeyRun| self.keys.offset(run.id, now) == Some(run.offset);
        runs.into_iter().filter(is_held).collect()
    }

    /// Forgets old keys, and last events that are not kept any more.
    pub(crate) fn trim(&mut self, oldest: u64, now: UnixMillis) {
        self.keys.expire(now);
        self.finished.forget_below(oldest);
    }

    /// Why a publish cannot be taken: one of its topics is finished, or by one of its own records.
    fn refusal(
        &self,
        publish: &[Record],
        planned: &Planned,
        now: UnixMillis,
        is_kept: impl Fn(u64, &Topic) -> bool,
    ) -> Option<Refusal> {
        let is_plain = publish.len() == 1 || publish.iter().all(|record| !record.is_final);
        if is_plain && self.finished.is_empty() && planned.finals.is_empty() {
            return None;
        }
        let mut own: Vec<&Topic> = Vec::new();
        for record in publish {
            if self.repeated(record, planned, now).is_some() {
                continue;
            }
            for topic in record.topics.iter() {
                let kept = self.finished(topic).filter(|&offset| is_kept(offset, topic));
                let finished = planned.finals.get(topic).copied().or(kept);
                // Its own last event has no offset yet, and never gets one.
                let finished = finished.or_else(|| own.contains(&topic).then_some(0));
                if let Some(offset) = finished {
                    return Some(Refusal::Finished { topic: topic.clone(), offset });
                }
            }
            if record.is_final {
                own.extend(record.topics.iter());
            }
        }
        None
    }

    fn take(
        &self,
        publish: Vec<Record>,
        next: u64,
        now: UnixMillis,
        plan: &mut Plan,
        planned: &mut Planned,
    ) -> Offsets {
        let mut offsets = Offsets::default();
        for record in publish {
            if let Some(offset) = self.repeated(&record, planned, now) {
                offsets.push_repeated(offset);
                continue;
            }
            let offset = next + plan.records.len() as u64;
            if let Some(key) = &record.key {
                let id = self.seed.key_id(key);
                planned.keys.insert(id, offset);
                plan.keys.push((id, offset));
            }
            if record.is_final {
                for topic in record.topics.iter() {
                    planned.finals.insert(topic.clone(), offset);
                    plan.finals.push((topic.clone(), offset));
                }
            }
            offsets.push(offset);
            plan.records.push(record);
        }
        offsets
    }

    /// The offset of the first record with the same key.
    fn repeated(&self, record: &Record, planned: &Planned, now: UnixMillis) -> Option<u64> {
        let id = self.seed.key_id(record.key.as_ref()?);
        planned.keys.get(&id).copied().or_else(|| self.keys.offset(id, now))
    }
}
