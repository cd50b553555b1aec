//! fjall: a log-structured merge tree in pure Rust. Batches are told to be durable.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::store::{Batch, CACHE_BYTES, Store, Take};

/// A database of three keyspaces.
pub struct FjallStore {
    events: Keyspace,
    topics: Keyspace,
    index: Keyspace,
    database: Database,
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").finish_non_exhaustive()
    }
}

impl FjallStore {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder).cache_size(CACHE_BYTES).open()?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        Ok(Self {
            events: keyspace("events")?,
            topics: keyspace("topics")?,
            index: keyspace("index")?,
            database,
        })
    }

    /// Removes the keys of a range, in batches.
    fn remove(&self, keyspace: &Keyspace, from: &[u8], until: &[u8]) -> Result<()> {
        let mut keys = keyspace.range(from..until).map(fjall::Guard::key).peekable();
        while keys.peek().is_some() {
            let mut batch = self.database.batch();
            for key in keys.by_ref().take(REMOVALS) {
                batch.remove(keyspace, key?);
            }
            batch.commit()?;
        }
        Ok(())
    }
}

impl Store for FjallStore {
    fn ends(&self) -> Result<Option<(u64, u64)>> {
        let Some((first, last)) = self.events.first_key_value().zip(self.events.last_key_value())
        else {
            return Ok(None);
        };
        Ok(Some((number(&first.key()?)?, number(&last.key()?)?)))
    }

    fn topics(&self) -> Result<Vec<String>> {
        self.topics.iter().map(|row| Ok(String::from_utf8(row.value()?.to_vec())?)).collect()
    }

    fn append(&self, batch: &Batch) -> Result<()> {
        let mut written = self.database.batch().durability(Some(PersistMode::SyncData));
        for (row, record) in batch.records() {
            written.insert(&self.events, row.offset.to_be_bytes(), record);
        }
        for (number, name) in &batch.new_topics {
            written.insert(&self.topics, number.to_be_bytes(), &name[..]);
        }
        for (topic, offset) in batch.index_entries() {
            written.insert(&self.index, index_key(topic, offset), b"");
        }
        written.commit()?;
        Ok(())
    }

    fn scan(&self, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        for row in self.events.range(from.to_be_bytes()..until.to_be_bytes()) {
            let (offset, record) = row.into_inner()?;
            if let ControlFlow::Break(()) = take(number(&offset)?, &record)? {
                break;
            }
        }
        Ok(())
    }

    fn scan_topic(&self, topic: u32, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        for entry in self.index.range(index_key(topic, from)..index_key(topic, until)) {
            let key = entry.key()?;
            let offset = key.get(4..).context("a key has twelve bytes")?;
            let Some(record) = self.events.get(offset)? else { continue };
            if let ControlFlow::Break(()) = take(number(offset)?, &record)? {
                break;
            }
        }
        Ok(())
    }

    fn remove_below(&self, oldest: u64, topic_count: u32) -> Result<()> {
        self.remove(&self.events, &[], &oldest.to_be_bytes())?;
        for topic in 0..topic_count {
            self.remove(&self.index, &index_key(topic, 0), &index_key(topic, oldest))?;
        }
        self.database.persist(PersistMode::SyncData)?;
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        for keyspace in [&self.events, &self.index] {
            keyspace.rotate_memtable_and_wait()?;
            keyspace.major_compact()?;
        }
        Ok(())
    }
}

fn index_key(topic: u32, offset: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

fn number(key: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(key.try_into()?))
}

/// Enough that the cost of a batch does not show.
const REMOVALS: usize = 10_000;
