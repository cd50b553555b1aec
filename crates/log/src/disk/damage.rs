//! What is wrong with what was read from a disk.

use std::fmt;
use std::io;

/// Something in a file that cannot have been written like that, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, by its name in the directory of the log.
    pub file: String,
    /// Where in the file, in bytes from its start.
    pub position: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: {}", self.file, self.position, self.what)
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Damaged(Damage),
    /// A file of a later version of the format.
    Newer {
        file: String,
        version: u32,
    },
}

impl Fault {
    pub(crate) fn damaged(file: &str, position: u64, what: impl Into<String>) -> Self {
        Self::Damaged(Damage { file: file.to_owned(), position, what: what.into() })
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Newer { file, version } => {
                write!(f, "{file} was written by a later version (format {version})")
            }
        }
    }
}
