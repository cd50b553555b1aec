//! The databases that the log is compared with.

pub mod fjall;
pub mod redb;
pub mod sqlite;
