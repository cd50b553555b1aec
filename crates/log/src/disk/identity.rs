//! The file that says which log a directory holds: its epoch, and what makes its hashes its own.

use tidings_core::Epoch;

use super::damage::Fault;
use super::files::Files;
use super::stored::{u32_at, u64_at};
use crate::keys::HashSeed;
use crate::random::{random_bits, random_epoch};

/// Which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) epoch: Epoch,
    pub(crate) seed: HashSeed,
}

impl Identity {
    /// That of a log that begins.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { epoch: random_epoch()?, seed: HashSeed(random_bits()?, random_bits()?) })
    }

    /// Reads it; `None` if the directory has none.
    pub(crate) fn read(files: &dyn Files) -> Result<Option<Self>, Fault> {
        if !files.names()?.iter().any(|name| name == IDENTITY_NAME) {
            return Ok(None);
        }
        let file = files.open(IDENTITY_NAME)?;
        let mut bytes = [0; IDENTITY_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let damaged = |what: &str| Err(Fault::damaged(IDENTITY_NAME, 0, what));
        if read < IDENTITY_BYTES || bytes[..8] != MAGIC {
            return damaged("this does not say which log it is");
        }
        if crc32fast::hash(&bytes[..IDENTITY_BYTES - 4]) != u32_at(&bytes, IDENTITY_BYTES - 4) {
            return damaged("it does not match its checksum");
        }
        let version = u32_at(&bytes, 8);
        if version != VERSION {
            return Err(Fault::Newer { file: IDENTITY_NAME.to_owned(), version });
        }
        let Some(epoch) = str::from_utf8(&bytes[12..22]).ok().and_then(|text| text.parse().ok())
        else {
            return damaged("the epoch is none");
        };
        Ok(Some(Self { epoch, seed: HashSeed(u64_at(&bytes, 24), u64_at(&bytes, 32)) }))
    }

    /// Writes it, in place of what is there, and makes it durable.
    pub(crate) fn write(&self, files: &dyn Files) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(IDENTITY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(self.epoch.to_string().as_bytes());
        bytes.resize(24, 0);
        bytes.extend_from_slice(&self.seed.0.to_le_bytes());
        bytes.extend_from_slice(&self.seed.1.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let file = files.create(DRAFT_NAME)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        files.rename(DRAFT_NAME, IDENTITY_NAME)?;
        files.sync()
    }
}

pub(crate) const IDENTITY_NAME: &str = "identity";
const DRAFT_NAME: &str = "identity.tmp";
const MAGIC: [u8; 8] = *b"\xF7TIDNAM\n";
const VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 44;
