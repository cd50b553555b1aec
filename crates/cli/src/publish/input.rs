//! Standard input: a regular file, of which a part can be read again, or anything else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Stdin};

/// Where the lines come from.
pub(super) enum Input {
    /// A regular file.
    Regular {
        file: File,
        /// Where in the file the input begins.
        begin: u64,
        /// How many bytes there were from there on when it was opened.
        size: u64,
    },
    /// A pipe, a terminal, a socket.
    Stream(Stdin),
}

impl Input {
    /// Takes standard input, at the place where it stands.
    pub(super) fn open() -> io::Result<Self> {
        if let Some(mut file) = standard_input()? {
            let metadata = file.metadata()?;
            if metadata.is_file() {
                let begin = file.stream_position()?;
                let size = metadata.len().saturating_sub(begin);
                return Ok(Self::Regular { file, begin, size });
            }
        }
        Ok(Self::Stream(io::stdin()))
    }

    /// How many bytes it has, if that is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Regular { size, .. } => Some(*size),
            Self::Stream(_) => None,
        }
    }

    /// Goes to the byte that is `bytes` after the beginning.
    ///
    /// # Errors
    ///
    /// When this is no regular file, or it cannot be read any more.
    pub(super) fn go_to(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Regular { file, begin, .. } => {
                file.seek(SeekFrom::Start(*begin + bytes)).map(drop)
            }
            Self::Stream(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Regular { file, .. } => file.read(out),
            Self::Stream(stdin) => stdin.read(out),
        }
    }
}

#[cfg(unix)]
fn standard_input() -> io::Result<Option<File>> {
    use std::os::fd::AsFd;

    Ok(Some(io::stdin().as_fd().try_clone_to_owned()?.into()))
}

#[cfg(windows)]
fn standard_input() -> io::Result<Option<File>> {
    use std::os::windows::io::AsHandle;

    Ok(Some(io::stdin().as_handle().try_clone_to_owned()?.into()))
}

#[cfg(not(any(unix, windows)))]
fn standard_input() -> io::Result<Option<File>> {
    Ok(None)
}
