//! redb: a B-tree with copies on write, in pure Rust. Each commit is durable by default.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::store::{Batch, CACHE_BYTES, Store, Take};

/// A database of three tables.
#[derive(Debug)]
pub struct RedbStore(Database);

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOPICS: TableDefinition<'_, u32, &str> = TableDefinition::new("topics");
const INDEX: TableDefinition<'_, (u32, u64), ()> = TableDefinition::new("index");

impl RedbStore {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES as usize)
            .create(folder.join("log.redb"))?;
        Ok(Self(database))
    }
}

impl Store for RedbStore {
    fn ends(&self) -> Result<Option<(u64, u64)>> {
        let table = match self.0.begin_read()?.open_table(EVENTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        let ends = table.first()?.zip(table.last()?);
        Ok(ends.map(|((first, _), (last, _))| (first.value(), last.value())))
    }

    fn topics(&self) -> Result<Vec<String>> {
        let table = match self.0.begin_read()?.open_table(TOPICS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        table.iter()?.map(|row| Ok(row?.1.value().to_owned())).collect()
    }

    fn append(&self, batch: &Batch) -> Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut events = transaction.open_table(EVENTS)?;
            for (row, record) in batch.records() {
                events.insert(row.offset, record)?;
            }
            let mut topics = transaction.open_table(TOPICS)?;
            for (number, name) in &batch.new_topics {
                topics.insert(number, &name[..])?;
            }
            if batch.is_indexed {
                let mut index = transaction.open_table(INDEX)?;
                for entry in batch.index_entries() {
                    index.insert(entry, ())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn scan(&self, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        let table = self.0.begin_read()?.open_table(EVENTS)?;
        for row in table.range(from..until)? {
            let (offset, record) = row?;
            if let ControlFlow::Break(()) = take(offset.value(), record.value())? {
                break;
            }
        }
        Ok(())
    }

    fn scan_topic(&self, topic: u32, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        let transaction = self.0.begin_read()?;
        let events = transaction.open_table(EVENTS)?;
        for entry in transaction.open_table(INDEX)?.range((topic, from)..(topic, until))? {
            let (_, offset) = entry?.0.value();
            let Some(record) = events.get(offset)? else { continue };
            if let ControlFlow::Break(()) = take(offset, record.value())? {
                break;
            }
        }
        Ok(())
    }

    fn remove_below(&self, oldest: u64, topic_count: u32) -> Result<()> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(EVENTS)?.retain_in(..oldest, |_, _| false)?;
        {
            let mut index = transaction.open_table(INDEX)?;
            for topic in 0..topic_count {
                index.retain_in((topic, 0)..(topic, oldest), |_, ()| false)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        self.0.compact()?;
        Ok(())
    }
}
