//! The files of a log: those that earlier versions wrote, and those that a disk has damaged.

mod corpus;
mod directory;
mod fuzz_body;
mod kept;
mod layout;
mod reopened;
mod repaired;
