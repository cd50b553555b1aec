//! The totally ordered log that publishing appends to and every subscriber reads.
//!
//! [`EventLog`] is what a log must do, [`conformance`] the suite that every log must pass, and
//! [`MemoryLog`] the log that lives and dies with its process, [`DiskLog`] the one that outlives it, and
//! [`SharedLog`](shared::SharedLog) one in a store that several nodes share. [`Ring`] is the bounded run of
//! newest entries that the memory log and the tail of a hub are made of.
//!
//! A log knows events and positions. It does not know subscribers.

mod record;
mod event_log;
mod retention;
mod keys;
mod random;
mod finished;
mod ledger;
mod ring;
mod memory;
pub mod disk;
pub mod shared;
pub mod conformance;

pub use disk::{DiskLog, DiskLogOptions, Durability};
pub use event_log::{
    AppendError, Board, EventLog, Followed, ReadError, ReadLimit, ReadStep, SeekStep, StoreFigures,
};
pub use keys::KeyWindow;
pub use memory::{MemoryLog, MemoryLogOptions};
pub use record::{Appended, Body, Key, KeyError, Offsets, Record, Refusal, UnixMillis};
pub use retention::{Retention, RetentionRule};
pub use ring::{Candidates, Ring, entry_bytes};
