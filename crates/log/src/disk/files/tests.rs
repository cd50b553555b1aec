//! A disk to test with: it loses what was not synced, tears writes and fails when it is told to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::*;

/// A file in memory that nobody else sees.
#[derive(Debug)]
pub(crate) struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryFile {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(read(&self.0.lock().unwrap(), into, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        write(&mut self.0.lock().unwrap(), bytes, position);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(bytes as usize, 0);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut held = self.0.lock().unwrap();
        let length = held.len().max(bytes as usize);
        held.resize(length, 0);
        Ok(())
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
}

fn read(bytes: &[u8], into: &mut [u8], position: u64) -> usize {
    let from = bytes.get(position as usize..).unwrap_or_default();
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

fn write(held: &mut Vec<u8>, bytes: &[u8], position: u64) {
    let end = position as usize + bytes.len();
    if held.len() < end {
        held.resize(end, 0);
    }
    held[position as usize..end].copy_from_slice(bytes);
}

/// What goes wrong at one operation that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It fails, and nothing of it happens.
    Fails,
    /// It fails; if it is a write, a part of it happens.
    IsTorn,
    /// The power goes out during it: a part of it may happen, and nothing works afterwards.
    PowerCut,
}

/// A disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What is seen while the power is on, and what is left when it goes out.
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    files: Vec<Contents>,
    operations: u64,
    mishap: Option<(u64, Mishap)>,
    is_dark: bool,
    /// Mounts get another number each time the power comes back; handles of earlier ones are dead.
    mount: u64,
    random: u64,
}

/// What a file holds, and what it would hold after a power cut at the least.
#[derive(Debug, Default, Clone)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct Handle {
    disk: FaultyDisk,
    file: usize,
    mount: u64,
}

impl FaultyDisk {
    pub(crate) fn with_seed(seed: u64) -> Self {
        let disk = Self::default();
        disk.disk().random = seed;
        disk
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Has the n-th operation from now on that changes something go wrong, counted from 0.
    pub(crate) fn plan(&self, place: u64, mishap: Mishap) {
        let mut disk = self.disk();
        let at = disk.operations + place;
        disk.mishap = Some((at, mishap));
    }

    /// How many operations that change something there were.
    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    pub(crate) fn is_dark(&self) -> bool {
        self.disk().is_dark
    }

    /// Cuts the power, and brings it back: what was not synced is gone, or a part of it.
    pub(crate) fn power_cycle(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let mut random = disk.random;
        for contents in &mut disk.files {
            contents.lose_unsynced(&mut random);
        }
        // Names are changed in order; how many of the changes since the last sync got through is
        // left to chance: all or none of them here.
        if next_random(&mut random).is_multiple_of(2) {
            disk.seen.clone_from(&disk.durable);
        }
        disk.durable.clone_from(&disk.seen);
        disk.random = random;
        (disk.is_dark, disk.mishap) = (false, None);
        disk.mount += 1;
    }

    /// Ends a process that had the disk open, and nothing else: everything written is there.
    pub(crate) fn kill(&self) {
        let mut disk = self.disk();
        (disk.is_dark, disk.mishap) = (false, None);
        disk.mount += 1;
    }

    /// Changes a byte of a file.
    pub(crate) fn with_file<T>(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut disk = self.disk();
        let file = disk.seen[name];
        let answer = change(&mut disk.files[file].seen);
        disk.files[file].durable = disk.files[file].seen.clone();
        answer
    }

    /// A disk with the same files.
    pub(crate) fn copy(&self) -> Self {
        let disk = self.disk();
        let copy = Self::default();
        {
            let mut other = copy.disk();
            (other.seen, other.durable) = (disk.seen.clone(), disk.seen.clone());
            other.files.clone_from(&disk.files);
            other.random = disk.random;
        }
        copy
    }
}

impl Disk {
    /// Counts an operation; tells whether it happens wholly, partly or not at all.
    fn begin(&mut self) -> Result<(), Mishap> {
        if self.is_dark {
            return Err(Mishap::Fails);
        }
        let at = self.operations;
        self.operations += 1;
        match self.mishap {
            Some((planned, mishap)) if planned == at => {
                self.is_dark = mishap == Mishap::PowerCut;
                Err(mishap)
            }
            _ => Ok(()),
        }
    }
}

impl Contents {
    /// Sectors that differ from what was synced may or may not have got through.
    fn lose_unsynced(&mut self, random: &mut u64) {
        let length = self.durable.len();
        if self.seen.len() != length && next_random(random).is_multiple_of(2) {
            self.durable.resize(self.seen.len(), 0);
        }
        let length = self.durable.len();
        for start in (0..length.min(self.seen.len())).step_by(512) {
            let end = (start + 512).min(length).min(self.seen.len());
            if next_random(random).is_multiple_of(2) {
                self.durable[start..end].copy_from_slice(&self.seen[start..end]);
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn broken(mishap: Mishap) -> io::Error {
    io::Error::other(format!("{mishap:?}, as planned"))
}

impl Handle {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.disk();
        if disk.mount != self.mount || disk.is_dark {
            return Err(io::Error::other("the disk is off"));
        }
        Ok(disk)
    }
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.files[self.file].seen.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(read(&self.disk()?.files[self.file].seen, into, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        let mut part = bytes;
        let outcome = disk.begin();
        if let Err(mishap) = outcome {
            let share = next_random(&mut disk.random) as usize % (bytes.len() + 1);
            part = if mishap == Mishap::Fails { &[] } else { &bytes[..share] };
        }
        write(&mut disk.files[self.file].seen, part, position);
        outcome.map_err(broken)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.begin().map_err(broken)?;
        let contents = &mut disk.files[self.file];
        contents.durable.clone_from(&contents.seen);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.begin().map_err(broken)?;
        disk.files[self.file].seen.resize(bytes as usize, 0);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.begin().map_err(broken)?;
        let held = &mut disk.files[self.file].seen;
        let length = held.len().max(bytes as usize);
        held.resize(length, 0);
        Ok(())
    }

    fn has_name(&self) -> io::Result<bool> {
        let disk = self.disk()?;
        Ok(disk.seen.values().any(|&file| file == self.file))
    }
}

impl Files for FaultyDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().seen.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let disk = self.disk();
        let file = *disk.seen.get(name).ok_or(io::ErrorKind::NotFound)?;
        let mount = disk.mount;
        drop(disk);
        Ok(Arc::new(Handle { disk: self.clone(), file, mount }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.begin().map_err(broken)?;
        let file = disk.files.len();
        disk.files.push(Contents::default());
        disk.seen.insert(name.to_owned(), file);
        drop(disk);
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin().map_err(broken)?;
        let file = disk.seen.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.seen.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin().map_err(broken)?;
        disk.seen.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin().map_err(broken)?;
        let seen = disk.seen.clone();
        disk.durable = seen;
        Ok(())
    }

    fn is_same(&self) -> io::Result<bool> {
        Ok(true)
    }
}
