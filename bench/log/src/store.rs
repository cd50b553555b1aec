//! What an embedded database has to do to hold a log.

use std::fmt::Debug;
use std::ops::ControlFlow;

use anyhow::Result;

/// Takes one record after another, in ascending order of their offsets, until it breaks.
pub type Take<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>>;

/// Records by their offset, and their offsets by topic.
///
/// Topics go by numbers from 0, whose names are kept, too: the smallest index a database can have.
pub trait Store: Debug + Send + Sync + 'static {
    /// The oldest and the newest offset, if there is any.
    fn ends(&self) -> Result<Option<(u64, u64)>>;

    /// The names of the topics, by number.
    fn topics(&self) -> Result<Vec<String>>;

    /// Writes a batch, all of it or nothing; it is durable when this returns.
    fn append(&self, batch: &Batch) -> Result<()>;

    /// Reads the records from `from` up to `until`.
    fn scan(&self, from: u64, until: u64, take: Take<'_>) -> Result<()>;

    /// Reads those of one topic, by its index.
    fn scan_topic(&self, topic: u32, from: u64, until: u64, take: Take<'_>) -> Result<()>;

    /// Removes the records below `oldest`, and what the index holds of them.
    fn remove_below(&self, oldest: u64, topic_count: u32) -> Result<()>;

    /// Gives back the space of what was removed, as well as the database can.
    fn compact(&mut self) -> Result<()>;
}

/// What is appended at once.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Row>,
    /// The encoded records, one after another.
    pub bytes: Vec<u8>,
    /// Topics that were not known before, with their numbers.
    pub new_topics: Vec<(u32, String)>,
    /// Whether the index by topic is kept.
    pub is_indexed: bool,
}

#[derive(Debug)]
pub struct Row {
    pub offset: u64,
    pub topics: Vec<u32>,
    /// Where its record ends in the bytes of the batch; it begins where the last one ended.
    pub end: usize,
}

impl Batch {
    /// The rows with their records.
    pub fn records(&self) -> impl Iterator<Item = (&Row, &[u8])> {
        let mut begin = 0;
        self.rows.iter().map(move |row| {
            let bytes = &self.bytes[begin..row.end];
            begin = row.end;
            (row, bytes)
        })
    }

    /// The entries of the index by topic.
    pub fn index_entries(&self) -> impl Iterator<Item = (u32, u64)> {
        let rows = if self.is_indexed { &self.rows[..] } else { &[] };
        rows.iter().flat_map(|row| row.topics.iter().map(|topic| (*topic, row.offset)))
    }
}

/// Memory that each database may use to cache what it reads.
pub const CACHE_BYTES: u64 = 128 * 1024 * 1024;
