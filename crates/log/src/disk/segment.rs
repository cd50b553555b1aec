//! A file with a run of the log's records.
//!
//! A segment begins with a header, goes on with records in the order of their offsets, and ends,
//! once it is sealed, with its index. The layout is drawn in `docs/internals/log-format.md`.

use std::sync::Arc;

use bytes::Bytes;

use super::damage::Fault;
use super::files::File;
use super::index::Footer;
use super::stored::{ALIGNMENT, Checksum, HEAD_BYTES, Head, Stored, u32_at, u64_at};

/// The first bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: u64,
    /// The offset of the first event it may hold.
    pub(crate) base: u64,
    /// The life of the machine in which it was begun, or 0 if that is not known.
    pub(crate) boot: u128,
    /// Whether what was appended was left to the operating system to write.
    pub(crate) is_unsynced: bool,
    /// Whether it was written anew with a part of what it held: offsets may be missing, and its index
    /// knows more than its records.
    pub(crate) is_rewritten: bool,
}

impl Header {
    pub(crate) fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let flags = u32::from(self.is_unsynced) | u32::from(self.is_rewritten) << 1;
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.boot.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..SUMMED_BYTES]);
        bytes[SUMMED_BYTES..SUMMED_BYTES + 4].copy_from_slice(&sum.to_le_bytes());
        bytes[SUMMED_BYTES + 4..].copy_from_slice(&HEADER_END);
        bytes
    }

    /// Reads the header of a file.
    pub(crate) fn read(file: &dyn File, file_name: &str) -> Result<Self, Fault> {
        let mut bytes = [0; HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let damaged = |what: &str| Err(Fault::damaged(file_name, 0, what));
        if read < HEADER_BYTES || bytes == [0; HEADER_BYTES] {
            return damaged("the file has no header");
        }
        if bytes[..8] != MAGIC {
            return damaged("this is no segment of a log");
        }
        let version = u32_at(&bytes, 8);
        if crc32fast::hash(&bytes[..SUMMED_BYTES]) != u32_at(&bytes, SUMMED_BYTES)
            || bytes[SUMMED_BYTES + 4..] != HEADER_END
        {
            return damaged("the header does not match its checksum");
        }
        if version != VERSION {
            return Err(Fault::Newer { file: file_name.to_owned(), version });
        }
        Ok(Self {
            is_unsynced: u32_at(&bytes, 12) & 1 != 0,
            is_rewritten: u32_at(&bytes, 12) & 2 != 0,
            salt: u64_at(&bytes, 16),
            base: u64_at(&bytes, 24),
            boot: u128::from_le_bytes(*bytes[32..].first_chunk().expect("the header is longer")),
        })
    }
}

/// A segment that is not written any more.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) file: Arc<dyn File>,
    pub(crate) name: String,
    pub(crate) header: Header,
    pub(crate) footer: Footer,
    pub(crate) file_bytes: u64,
}

impl Sealed {
    pub(crate) fn base(&self) -> u64 {
        self.header.base
    }

    pub(crate) fn next(&self) -> u64 {
        self.footer.frame().next
    }

    /// How many events of a topic it holds from an offset on.
    pub(crate) fn count_from(&self, topic_hash: u64, first: u64) -> Result<u64, Fault> {
        let delta = u32::try_from(first.saturating_sub(self.base())).unwrap_or(u32::MAX);
        self.footer.count_from(&*self.file, topic_hash, delta)
    }

    /// Its records from a position on.
    pub(crate) fn records(&self, position: u64) -> Records {
        let end = self.footer.frame().data_end;
        Records::new(Arc::clone(&self.file), &self.name, self.header.salt, position, end)
    }
}

/// Reads records one after the other, or here and there.
#[derive(Debug)]
pub(crate) struct Records {
    file: Arc<dyn File>,
    file_name: String,
    checksum: Checksum,
    position: u64,
    end: u64,
    /// What was read at `chunk_position`.
    chunk: Bytes,
    chunk_position: u64,
}

impl Records {
    pub(crate) fn new(
        file: Arc<dyn File>,
        file_name: &str,
        salt: u64,
        position: u64,
        end: u64,
    ) -> Self {
        Self {
            file,
            file_name: file_name.to_owned(),
            checksum: Checksum::new(salt),
            position,
            end,
            chunk: Bytes::new(),
            chunk_position: 0,
        }
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if there is none where one must be.
    pub(crate) fn next(&mut self) -> Result<Option<Stored>, Fault> {
        if self.position >= self.end {
            return Ok(None);
        }
        match self.at(self.position, SEQUENTIAL_BYTES)? {
            Some(stored) => {
                self.position += stored.head.total_bytes();
                Ok(Some(stored))
            }
            None => Err(self.damaged(self.position)),
        }
    }

    /// The record at a position that an index gave for an event.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if it is not there.
    pub(crate) fn record(&mut self, position: u64, offset: u64) -> Result<Stored, Fault> {
        match self.at(position, SINGLE_BYTES)? {
            Some(stored) if stored.head.offset == offset && !stored.head.holds_keys() => Ok(stored),
            _ => Err(self.damaged(position)),
        }
    }

    /// A record at a position, if there is a valid one.
    pub(crate) fn valid_at(&mut self, position: u64) -> Result<Option<Stored>, Fault> {
        self.at(position, SEQUENTIAL_BYTES)
    }

    fn at(&mut self, position: u64, ahead_bytes: usize) -> Result<Option<Stored>, Fault> {
        if position >= self.end || !position.is_multiple_of(ALIGNMENT) {
            return Ok(None);
        }
        self.fill(position, HEAD_BYTES, ahead_bytes)?;
        let Some(bytes) = self.loaded(position).first_chunk() else { return Ok(None) };
        // Only a length that costs much is looked at twice.
        let head = Head::read_unchecked(bytes)
            .filter(|head| head.body_bytes <= TRUSTED_BYTES)
            .or_else(|| Head::read(bytes, &self.checksum));
        let Some(head) = head else { return Ok(None) };
        let length = HEAD_BYTES + head.body_bytes as usize;
        if position + length as u64 > self.end {
            return Ok(None);
        }
        self.fill(position, length, ahead_bytes)?;
        let from = (position - self.chunk_position) as usize;
        Ok(Stored::read(&self.chunk, from, &self.checksum))
    }

    /// What is held of the file from a position on.
    fn loaded(&self, position: u64) -> &[u8] {
        let from = position.checked_sub(self.chunk_position);
        from.and_then(|from| self.chunk.get(from as usize..)).unwrap_or_default()
    }

    /// Reads so that at least `length` bytes are held from a position on, if the file has them.
    fn fill(&mut self, position: u64, length: usize, ahead_bytes: usize) -> Result<(), Fault> {
        if self.loaded(position).len() >= length {
            return Ok(());
        }
        let room = self.end.saturating_sub(position);
        let wanted = (length.max(ahead_bytes) as u64).min(room) as usize;
        let mut bytes = vec![0; wanted];
        let read = self.file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        (self.chunk, self.chunk_position) = (Bytes::from(bytes), position);
        Ok(())
    }

    fn damaged(&self, position: u64) -> Fault {
        Fault::damaged(&self.file_name, position, "a record does not match its checksum")
    }
}

/// The name of the segment that begins with an offset.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}{SEGMENT_SUFFIX}")
}

/// The offset that a segment with a name begins with; `None` if it is no name of a segment.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let is_name = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_name.then(|| digits.parse().ok())?
}

/// What the system says of this life of the machine; 0 if it says nothing.
pub(crate) fn current_boot() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const SEGMENT_SUFFIX: &str = ".log";
const SUMMED_BYTES: usize = 56;
const MAGIC: [u8; 8] = *b"\xF7TIDLOG\n";
const HEADER_END: [u8; 4] = *b"\n\xF7\xF7\n";
/// Raised with each change of the layout of segments, indexes or records.
const VERSION: u32 = 1;

/// How much is read at once by those who read on.
const SEQUENTIAL_BYTES: usize = 64 << 10;
/// How much is read at once by those who want one record.
const SINGLE_BYTES: usize = 1 << 10;
/// How long a record may be said to be before the head that says so is held against its own
/// checksum.
const TRUSTED_BYTES: u32 = 64 << 10;
