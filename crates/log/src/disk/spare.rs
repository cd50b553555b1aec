//! The file of the next segment, made ready while the current one is filled.
//!
//! Where zeros have been written before, a sync after a write has nothing to do but to write the data:
//! no new blocks have to be noted. That makes an append about a quarter faster, and its slowest ones
//! many times.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::files::{File, Files};
use super::opening::DRAFT_SUFFIX;

/// Makes one file at a time, in a thread of its own.
#[derive(Debug)]
pub(super) struct Spare {
    files: Arc<dyn Files>,
    bytes: u64,
    making: Option<JoinHandle<()>>,
    ready: Arc<Mutex<Option<Arc<dyn File>>>>,
}

impl Spare {
    pub(super) fn new(files: Arc<dyn Files>, bytes: u64) -> Self {
        Self { files, bytes, making: None, ready: Arc::default() }
    }

    /// Begins to make a file, unless one is there or being made. If it cannot be made, there is none.
    /// At most `filled_bytes` of it are filled, which is what takes time.
    pub(super) fn make(&mut self, filled_bytes: u64) {
        let is_made = self.ready().is_some();
        if is_made || self.making.as_ref().is_some_and(|making| !making.is_finished()) {
            return;
        }
        let (files, bytes, ready) = (Arc::clone(&self.files), self.bytes, Arc::clone(&self.ready));
        let make = move || {
            let file = fill_with_zeros(&*files, bytes, filled_bytes.min(bytes)).ok();
            *ready.lock().expect(UNPOISONED) = file;
        };
        let thread = std::thread::Builder::new().name("tidings-spare".to_owned());
        self.making = thread.spawn(make).ok();
    }

    /// The file, under its new name; waits for one that is being made.
    pub(super) fn take(&mut self, name: &str) -> Option<Arc<dyn File>> {
        if let Some(making) = self.making.take() {
            let _ = making.join();
        }
        let file = self.ready().take()?;
        match self.files.rename(&spare_name(), name) {
            Ok(()) => Some(file),
            Err(_) => None,
        }
    }

    /// Waits for what is under way, and removes it.
    pub(super) fn clear(&mut self) {
        if let Some(making) = self.making.take() {
            let _ = making.join();
        }
        if self.ready().take().is_some() {
            let _ = self.files.remove(&spare_name());
        }
    }

    fn ready(&self) -> MutexGuard<'_, Option<Arc<dyn File>>> {
        self.ready.lock().expect(UNPOISONED)
    }
}

fn fill_with_zeros(files: &dyn Files, bytes: u64, filled_bytes: u64) -> io::Result<Arc<dyn File>> {
    let file = files.create(&spare_name())?;
    let made = file.reserve(bytes).and_then(|()| {
        let zeros = vec![0; WRITE_BYTES];
        let mut position = 0;
        while position < filled_bytes {
            let length = (filled_bytes - position).min(WRITE_BYTES as u64) as usize;
            file.write_at(&zeros[..length], position)?;
            position += length as u64;
        }
        file.sync()
    });
    if made.is_err() {
        let _ = files.remove(&spare_name());
    }
    made.map(|()| file)
}

fn spare_name() -> String {
    format!("spare{DRAFT_SUFFIX}")
}

/// How much is written at once: small enough that an append is not held up behind it for long.
const WRITE_BYTES: usize = 256 << 10;
const UNPOISONED: &str = "no thread panics while it holds the spare file";
