//! The little that the disk log asks of a file system.
//!
//! Two traits, so that tests can put a disk under the log that loses what was not synced, tears
//! writes and fails when it is told to.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory and the files in it.
pub(crate) trait Files: Send + Sync + Debug {
    /// The names of the files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file to read, and to write unless only reading is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Makes an empty file in place of what has the name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
    /// Whether the directory is still the one that was opened, and not another of its name.
    fn is_same(&self) -> io::Result<bool>;
}

/// A file.
pub(crate) trait File: Send + Sync + Debug {
    fn len(&self) -> io::Result<u64>;
    /// Reads up to the end of `into` or of the file; answers how much.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Makes what was written durable, and as much of the length as it takes to read it.
    fn sync(&self) -> io::Result<()>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves room up to `bytes`, filled with zeros where nothing is written.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Whether the file still has a name. What is written to one that has none is lost with it.
    fn has_name(&self) -> io::Result<bool>;
}

/// A directory of the operating system, locked for this process.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Holds the lock for as long as it is open.
    lock: fs::File,
}

impl Directory {
    /// Opens a directory, makes it if need be, and locks it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process, or this one, has it open.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> = path.ancestors().take_while(|it| !it.is_dir()).collect();
        fs::create_dir_all(path)?;
        for made in missing.iter().filter(|made| !made.as_os_str().is_empty()) {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))?;
        }
        let directory = Self::lock(path)?;
        // Before anything is tried that needs it.
        let probe = fs::OpenOptions::new().write(true).open(path.join(LOCK_NAME));
        probe.map(|_| directory)
    }

    /// Opens a directory that exists, and locks it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(crate) fn lock(path: &Path) -> io::Result<Self> {
        let name = path.join(LOCK_NAME);
        let mut options = fs::OpenOptions::new();
        let lock = match options.read(true).write(true).create(true).truncate(false).open(&name) {
            // What cannot be written can be read all the same.
            Err(error) if is_read_only(&error) => fs::File::open(&name)?,
            lock => lock?,
        };
        lock.try_lock().map_err(io::Error::from)?;
        Ok(Self { path: path.to_owned(), lock })
    }
}

impl Files for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let file = match fs::OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_read_only(&error) => fs::File::open(&path)?,
            file => file?,
        };
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn is_same(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        match fs::metadata(self.path.join(LOCK_NAME)) {
            Ok(found) => Ok(identity(&found) == identity(&self.lock.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(!self.path.exists()),
            Err(error) => Err(error),
        }
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

impl File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            let rest = &mut into[read..];
            match std::os::unix::fs::FileExt::read_at(self, rest, position + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let length = self.metadata()?.len();
        if length >= bytes {
            return Ok(());
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(self, flags, length, bytes - length) {
                // The file system cannot reserve: writing will tell when there is no room.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                outcome => return outcome.map_err(io::Error::from),
            }
        }
        Self::set_len(self, bytes)
    }

    fn has_name(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.metadata()?.nlink() > 0)
    }
}

/// Stands where no file is needed yet.
#[derive(Debug)]
pub(crate) struct NoFile;

impl File for NoFile {
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// The file whose lock says that a process has the directory.
pub(crate) const LOCK_NAME: &str = "lock";

#[cfg(test)]
pub(super) mod tests;
