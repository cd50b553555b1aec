//! SQLite, the version that comes with the crate: a B-tree with a write-ahead log, which
//! `synchronous = FULL` makes durable with each commit.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::{Batch, CACHE_BYTES, Store, Take};

/// A database of three tables, with a connection to write and one to read.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl SqliteStore {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("log.sqlite");
        let writer = connect(&path)?;
        writer.execute_batch(
            "CREATE TABLE IF NOT EXISTS events (offset INTEGER PRIMARY KEY, record BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS topics (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS topic_events (
                 topic INTEGER, offset INTEGER, PRIMARY KEY (topic, offset)
             ) WITHOUT ROWID;",
        )?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(connect(&path)?) })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn ends(&self) -> Result<Option<(u64, u64)>> {
        let reader = self.reader();
        let end = |order| {
            let sql = format!("SELECT offset FROM events ORDER BY offset {order} LIMIT 1");
            reader.query_row(&sql, [], |row| row.get(0)).optional()
        };
        Ok(end("ASC")?.zip(end("DESC")?))
    }

    fn topics(&self) -> Result<Vec<String>> {
        let reader = self.reader();
        let mut names = reader.prepare("SELECT name FROM topics ORDER BY number")?;
        let names = names.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn append(&self, batch: &Batch) -> Result<()> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        {
            let mut event = transaction.prepare_cached("INSERT INTO events VALUES (?, ?)")?;
            for (row, record) in batch.records() {
                event.execute(params![row.offset, record])?;
            }
            let mut topic = transaction.prepare_cached("INSERT INTO topics VALUES (?, ?)")?;
            for (number, name) in &batch.new_topics {
                topic.execute(params![number, name])?;
            }
            let mut index = transaction.prepare_cached("INSERT INTO topic_events VALUES (?, ?)")?;
            for (topic, offset) in batch.index_entries() {
                index.execute(params![topic, offset])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn scan(&self, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        let reader = self.reader();
        let mut events = reader.prepare_cached(
            "SELECT offset, record FROM events WHERE offset >= ? AND offset < ? ORDER BY offset",
        )?;
        give(events.query(params![from, until])?, take)
    }

    fn scan_topic(&self, topic: u32, from: u64, until: u64, take: Take<'_>) -> Result<()> {
        let reader = self.reader();
        let mut events = reader.prepare_cached(
            "SELECT events.offset, record FROM topic_events JOIN events USING (offset)
             WHERE topic = ? AND topic_events.offset >= ? AND topic_events.offset < ?
             ORDER BY topic_events.offset",
        )?;
        give(events.query(params![topic, from, until])?, take)
    }

    fn remove_below(&self, oldest: u64, topic_count: u32) -> Result<()> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        transaction.execute("DELETE FROM events WHERE offset < ?", [oldest])?;
        {
            let mut index = transaction
                .prepare_cached("DELETE FROM topic_events WHERE topic = ? AND offset < ?")?;
            for topic in 0..topic_count {
                index.execute(params![topic, oldest])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        self.writer().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
        Ok(())
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -((CACHE_BYTES / 1024) as i64))?;
    Ok(connection)
}

fn give(mut rows: rusqlite::Rows<'_>, take: Take<'_>) -> Result<()> {
    while let Some(row) = rows.next()? {
        let (offset, record) = (row.get(0)?, row.get_ref(1)?.as_blob()?);
        if let ControlFlow::Break(()) = take(offset, record)? {
            break;
        }
    }
    Ok(())
}
