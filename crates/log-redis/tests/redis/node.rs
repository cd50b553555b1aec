//! A node as far as a store sees it.

use std::time::Duration;

use tidings_core::{Bounds, Epoch, Topic};
use tidings_log::shared::{
    Append, Cut, Engine, EngineError, Fetched, Life, Opened, Outcome, Seen, StepLimit, Wish,
};
use tidings_log::{Key, KeyWindow, Record};
use tidings_log_redis::RedisEngine;

/// An engine and what its node knows of the log.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) engine: RedisEngine,
    pub(crate) life: Life,
    pub(crate) seen: u64,
    writer: u64,
    pub(crate) sequence: u64,
}

impl Node {
    pub(crate) fn open(url: &str) -> Self {
        Self::try_open(url).unwrap()
    }

    pub(crate) fn try_open(url: &str) -> Result<Self, EngineError> {
        let engine = RedisEngine::new(url).unwrap();
        let writer = fresh();
        let opened = engine.open(None, Epoch::from_random(writer))?;
        Ok(Self { engine, life: opened.life, seen: opened.bounds.next, writer, sequence: 0 })
    }

    /// Opens the log again, as a node does that has lost the store.
    pub(crate) fn reopen(&mut self) -> Result<Opened, EngineError> {
        let seen = Seen { life: self.life.clone(), next: self.seen };
        let opened = self.engine.open(Some(&seen), Epoch::from_random(fresh()))?;
        self.life = opened.life.clone();
        self.seen = opened.bounds.next;
        Ok(opened)
    }

    pub(crate) fn append(&mut self, data: &[&str]) -> Result<Vec<u64>, EngineError> {
        self.publish(data.iter().map(|data| record("t", data)).collect())
    }

    pub(crate) fn publish(&mut self, records: Vec<Record>) -> Result<Vec<u64>, EngineError> {
        self.sequence += 1;
        self.repeat(&[records]).map(|mut outcomes| match outcomes.remove(0) {
            Outcome::Appended(placed) => {
                let offsets: Vec<u64> = placed.iter().map(|it| it.offset).collect();
                self.seen = offsets.iter().map(|it| it + 1).max().unwrap_or(0).max(self.seen);
                offsets
            }
            refused @ Outcome::Finished { .. } => panic!("{refused:?}"),
        })
    }

    /// The last append again, or one that looks like it.
    pub(crate) fn repeat(&self, publishes: &[Vec<Record>]) -> Result<Vec<Outcome>, EngineError> {
        self.repeat_at(publishes, NOW, KeyWindow::default())
    }

    pub(crate) fn repeat_at(
        &self,
        publishes: &[Vec<Record>],
        now: u64,
        keys: KeyWindow,
    ) -> Result<Vec<Outcome>, EngineError> {
        let Self { life, writer, sequence, .. } = self;
        let (writer, sequence) = (*writer, *sequence);
        self.engine.append(&Append { life, writer, sequence, publishes, now, keys })
    }

    pub(crate) fn read(&self) -> Result<Fetched, EngineError> {
        let wish = Wish { from: 1, until: u64::MAX, topics: None, limit: LIMIT };
        self.engine.read(&self.life, &wish)
    }

    pub(crate) fn data(&self) -> Vec<String> {
        data(&self.read().unwrap())
    }

    pub(crate) fn wait(&self, from: u64, timeout_ms: u64) -> Result<Fetched, EngineError> {
        self.engine.wait(&self.life, from, LIMIT, Duration::from_millis(timeout_ms))
    }

    pub(crate) fn trim(&self, cut: &Cut<'_>) -> Result<Bounds, EngineError> {
        self.engine.trim(&self.life, cut)
    }
}

pub(crate) fn record(topic: &str, data: &str) -> Record {
    Record::new([Topic::parse(topic).unwrap()], data.to_owned())
}

pub(crate) fn keyed(key: &str) -> Record {
    Record { key: Some(Key::parse(key).unwrap()), ..record("t", key) }
}

pub(crate) fn ended(topic: &str) -> Record {
    Record { is_final: true, ..record(topic, "") }
}

pub(crate) fn data(fetched: &Fetched) -> Vec<String> {
    fetched.entries.iter().map(|entry| entry.payload.data.to_string()).collect()
}

pub(crate) fn offsets(fetched: &Fetched) -> Vec<u64> {
    fetched.entries.iter().map(|entry| entry.offset).collect()
}

/// Keeps everything.
pub(crate) fn ample() -> Cut<'static> {
    Cut {
        events_max: u64::MAX,
        bytes_max: u64::MAX,
        appended_before: 0,
        offsets: &[],
        dropped: &[],
        now: NOW,
        keys: KeyWindow::default(),
    }
}

fn fresh() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

pub(crate) const LIMIT: StepLimit = StepLimit { events_max: 1_000, bytes_max: 1 << 20 };
pub(crate) const NOW: u64 = 1_760_000_000_000;
