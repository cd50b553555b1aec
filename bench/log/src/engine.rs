//! What is measured, each behind the same trait.

use std::path::Path;

use anyhow::Result;
use tidings_log::{DiskLog, DiskLogOptions, Durability, EventLog, KeyWindow, Retention};

use crate::peer::{fjall::FjallStore, redb::RedbStore, sqlite::SqliteStore};
use crate::store_log::StoreLog;

/// A log, and what benchmarks alone ask of it.
pub trait MeasuredLog: EventLog {
    /// Gives back the space of what was trimmed; false if nothing is left to do after trimming.
    fn compact(&mut self) -> Result<bool>;
}

pub struct Engine {
    /// As in the arguments of a turn.
    pub key: &'static str,
    pub name: &'static str,
    /// Opens a log in a folder, empty or not, that keeps events for [`AGE_MAX_MS`]. Without
    /// `is_indexed` it may leave out its index by topic.
    pub open: fn(&Path, is_indexed: bool) -> Result<Box<dyn MeasuredLog>>,
}

/// The first is compared with the others: ours.
pub const ENGINES: &[Engine] = &[
    Engine {
        key: "tidings",
        name: "tidings",
        open: |folder, _| Ok(Box::new(DiskLog::open(folder, disk_options())?)),
    },
    Engine {
        key: "redb",
        name: "redb 4.5.0",
        open: |folder, is_indexed| {
            Ok(Box::new(StoreLog::new(RedbStore::open(folder)?, is_indexed, AGE_MAX_MS)?))
        },
    },
    Engine {
        key: "fjall",
        name: "fjall 3.1.13",
        open: |folder, is_indexed| {
            Ok(Box::new(StoreLog::new(FjallStore::open(folder)?, is_indexed, AGE_MAX_MS)?))
        },
    },
    Engine {
        key: "sqlite",
        name: "SQLite 3.54.1, WAL, FULL",
        open: |folder, is_indexed| {
            Ok(Box::new(StoreLog::new(SqliteStore::open(folder)?, is_indexed, AGE_MAX_MS)?))
        },
    },
];

impl MeasuredLog for DiskLog {
    fn compact(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// As `tidings serve` opens it by default, but that it keeps as much as is appended.
fn disk_options() -> DiskLogOptions {
    DiskLogOptions {
        retention: Retention {
            events_max: u64::MAX,
            bytes_max: u64::MAX,
            age_max_ms: AGE_MAX_MS,
            rules: Vec::new(),
        },
        keys: KeyWindow::default(),
        durability: Durability::Fsync,
        segment_bytes: Some(16 << 20),
    }
}

/// How old an event may be that is still kept.
pub const AGE_MAX_MS: u64 = 1_000_000;
