//! Calls of an engine, with as few words as possible.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{Bounds, Epoch, Topic};
use tidings_log::shared::{
    Append, Cut, Engine, EngineError, Fetched, Life, Opened, Outcome, Placed, Seen, StepLimit, Wish,
};
use tidings_log::{Key, KeyWindow, Record};
use tidings_log_postgres::PostgresEngine;

/// One node's view of a log.
pub(crate) struct Node {
    pub(crate) engine: PostgresEngine,
    pub(crate) life: Mutex<Life>,
    pub(crate) opened: Opened,
    pub(crate) writer: u64,
    sequence: AtomicU64,
    now: AtomicU64,
}

impl Node {
    pub(crate) fn open(url: &str) -> Self {
        let engine = PostgresEngine::new(&patient(url)).unwrap();
        let opened = engine.open(None, fresh()).unwrap();
        let life = Mutex::new(opened.life.clone());
        let writer = fastrand::u64(..);
        Self {
            engine,
            life,
            opened,
            writer,
            sequence: AtomicU64::new(0),
            now: AtomicU64::new(1_000),
        }
    }

    pub(crate) fn reopen(&self, next: u64) -> Result<Opened, EngineError> {
        let seen = Seen { life: self.life(), next };
        let opened = self.engine.open(Some(&seen), fresh())?;
        *self.life.lock().unwrap() = opened.life.clone();
        Ok(opened)
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }

    pub(crate) fn life(&self) -> Life {
        self.life.lock().unwrap().clone()
    }

    pub(crate) fn publish(&self, publishes: &[Vec<Record>]) -> Result<Vec<Outcome>, EngineError> {
        self.repeat(self.sequence.fetch_add(1, Ordering::SeqCst) + 1, publishes)
    }

    /// Appends with a sequence that may have been used.
    pub(crate) fn repeat(
        &self,
        sequence: u64,
        publishes: &[Vec<Record>],
    ) -> Result<Vec<Outcome>, EngineError> {
        let keys = KeyWindow { age_max_ms: 5_000, runs_max: 100 };
        self.engine.append(&Append {
            life: &self.life(),
            writer: self.writer,
            sequence,
            publishes,
            now: self.now(),
            keys,
        })
    }

    /// Appends one public event; its offset.
    pub(crate) fn append(&self, topic: &str, data: &str) -> u64 {
        let outcomes = self.publish(&[vec![record(topic, data)]]).unwrap();
        match outcomes.as_slice() {
            [Outcome::Appended(placed)] => placed[0].offset,
            other => panic!("{other:?}"),
        }
    }

    /// The same when sequences up to one have been used.
    pub(crate) fn append_after(&self, sequence: u64, topic: &str, data: &str) -> u64 {
        self.sequence.store(sequence, Ordering::SeqCst);
        self.append(topic, data)
    }

    pub(crate) fn read(&self, from: u64, until: u64) -> Fetched {
        self.engine.read(&self.life(), &wish(from, until)).unwrap()
    }

    pub(crate) fn read_all(&self) -> Vec<(u64, String)> {
        let bounds = self.engine.bounds(&self.life()).unwrap();
        let mut from = bounds.oldest;
        let mut all = Vec::new();
        while from < bounds.next {
            let fetched = self.read(from, bounds.next);
            assert!(fetched.end > from, "a step moves on");
            from = fetched.end;
            all.extend(texts(&fetched));
        }
        all
    }

    pub(crate) fn wait(&self, from: u64, timeout: Duration) -> Fetched {
        self.engine.wait(&self.life(), from, LIMIT, timeout).unwrap()
    }

    pub(crate) fn trim(&self, events_max: u64, bytes_max: u64, before: u64) -> Bounds {
        self.cut(Cut { events_max, bytes_max, appended_before: before, ..ample(self.now()) })
    }

    pub(crate) fn cut(&self, cut: Cut<'_>) -> Bounds {
        self.engine.trim(&self.life(), &cut).unwrap()
    }
}

/// Tests share the machine with others; those that wait for a timeout name one.
pub(crate) fn patient(url: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    if url.contains("timeout=") { url.to_owned() } else { format!("{url}{joint}timeout=30") }
}

pub(crate) fn ample(now: u64) -> Cut<'static> {
    Cut {
        events_max: u64::MAX,
        bytes_max: u64::MAX,
        appended_before: 0,
        offsets: &[],
        dropped: &[],
        now,
        keys: KeyWindow { age_max_ms: 5_000, runs_max: 100 },
    }
}

pub(crate) fn texts(fetched: &Fetched) -> Vec<(u64, String)> {
    fetched.entries.iter().map(|it| (it.offset, it.payload.data.to_string())).collect()
}

pub(crate) fn offsets(fetched: &Fetched) -> Vec<u64> {
    fetched.entries.iter().map(|entry| entry.offset).collect()
}

pub(crate) fn record(topic_text: &str, data: &str) -> Record {
    Record::new([topic(topic_text)], data.to_owned())
}

pub(crate) fn keyed(topic: &str, key: &str) -> Record {
    Record { key: Some(Key::parse(key).unwrap()), ..record(topic, key) }
}

pub(crate) fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

pub(crate) fn appended(offsets: &[u64]) -> Outcome {
    let placed = |&offset: &u64| Placed { offset, is_repeated: false };
    Outcome::Appended(offsets.iter().map(placed).collect())
}

pub(crate) fn fresh() -> Epoch {
    Epoch::from_random(fastrand::u64(..))
}

pub(crate) fn wish(from: u64, until: u64) -> Wish<'static> {
    Wish { from, until, topics: None, limit: LIMIT }
}

pub(crate) const LIMIT: StepLimit = StepLimit { events_max: 1_000, bytes_max: 1 << 20 };
