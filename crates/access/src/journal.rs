//! A file of JSON lines that survives crashes and power cuts: what was appended is on the disk when
//! the call returns, and a line that a crash cut short is as if it had never been.
//!
//! Anything else that is not as it was written is an error that names the line, and nothing of the
//! file is used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AccessError;

/// An open file of lines.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// The bytes that are known to be good.
    bytes: u64,
    lines: usize,
    /// A failed append may have left bytes behind the good ones.
    has_leftover: bool,
}

impl Journal {
    /// Opens or creates the file, in a folder that exists or is created, and reads all lines.
    pub(crate) fn open<T: DeserializeOwned>(
        folder: &Path,
        name: &str,
    ) -> Result<(Self, Vec<T>), AccessError> {
        let path = folder.join(name);
        let open = || -> io::Result<(File, Vec<u8>)> {
            fs::create_dir_all(folder)?;
            let file = options().read(true).append(true).create(true).open(&path)?;
            sync_folder(folder)?;
            Ok((file, fs::read(&path)?))
        };
        let (file, text) =
            open().map_err(|error| AccessError::File { path: path.clone(), error })?;
        let (read, good) = read_lines(&text).map_err(|(line, reason)| AccessError::Damaged {
            path: path.clone(),
            line,
            reason,
        })?;
        let has_leftover = good < text.len();
        let journal = Self { path, file, bytes: good as u64, lines: read.len(), has_leftover };
        Ok((journal, read))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes go to `file` from here on.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    /// The lines that it has.
    pub(crate) fn line_count(&self) -> usize {
        self.lines
    }

    /// Appends `lines`, all or none, and returns when they are on the disk.
    pub(crate) fn append<T: Serialize>(&mut self, lines: &[T]) -> io::Result<()> {
        self.append_then(lines, File::sync_data)
    }

    /// Appends `lines`, all or none; a power cut may lose them.
    pub(crate) fn append_unsynced<T: Serialize>(&mut self, lines: &[T]) -> io::Result<()> {
        self.append_then(lines, |_| Ok(()))
    }

    fn append_then<T: Serialize>(
        &mut self,
        lines: &[T],
        then: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.has_leftover {
            self.file.set_len(self.bytes)?;
            self.has_leftover = false;
        }
        let text = text_of(lines.iter())?;
        let written = self.file.write_all(&text).and_then(|()| then(&self.file));
        if let Err(error) = written {
            self.has_leftover = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.lines += lines.len();
        Ok(())
    }

    /// Puts a new file with `lines` alone in the place of this one, at once.
    pub(crate) fn rewrite<T: Serialize>(&mut self, lines: &[T]) -> io::Result<()> {
        let text = text_of(lines.iter())?;
        let new = self.path.with_extension("new");
        let mut file = options().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        // Behind the new name is the new file, whatever happens from here on.
        self.file = options().read(true).append(true).open(&self.path)?;
        self.bytes = text.len() as u64;
        self.lines = lines.len();
        self.has_leftover = false;
        Ok(())
    }
}

fn text_of<'a, T: Serialize + 'a>(lines: impl Iterator<Item = &'a T>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The lines of `text`, and the bytes that they take; what is behind them was cut short.
fn read_lines<T: DeserializeOwned>(text: &[u8]) -> Result<(Vec<T>, usize), (usize, String)> {
    let mut lines = Vec::new();
    let mut good = 0;
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        // Some file systems fill with zeros what they had made room for.
        if !line.ends_with(b"\n") {
            break;
        }
        let value =
            serde_json::from_slice(line).map_err(|error| (number, reason_of(&error, line)))?;
        lines.push(value);
        good += line.len();
    }
    Ok((lines, good))
}

fn reason_of(error: &serde_json::Error, line: &[u8]) -> String {
    if line.contains(&0) { "it holds zeros".to_owned() } else { error.to_string() }
}

/// What names users and tokens is for the hub alone to read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
