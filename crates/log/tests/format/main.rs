//! The files of a log: those that earlier versions wrote, and those that a disk has damaged.

mod directory;
mod kept;
mod layout;
mod reopened;
mod repaired;
