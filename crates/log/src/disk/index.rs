//! Where in a segment things are.
//!
//! A segment that is being written has its index in memory ([`OpenIndex`]); when it is sealed the index
//! is written behind its records as a footer, and read from there a block at a time ([`Footer`]),
//! each block with a checksum. So what a log keeps in memory does not grow with what it keeps on
//! disk. The layout is drawn in `docs/internals/log-format.md`.

use std::collections::HashMap;
use std::ops::Range;

use tidings_core::Topic;

use super::damage::Fault;
use super::files::File;
use super::stored::{ALIGNMENT, Checksum, read_key_runs, u16_at, u32_at, u64_at, write_key_runs};
use crate::UnixMillis;
use crate::keys::{HashSeed, KeyId, KeyRun};

/// A record that begins a stretch of [`FENCE_BYTES`]: where reading starts that looks for an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Its offset, counted from the first of the segment.
    pub(crate) delta: u32,
    pub(crate) position: u32,
    /// The latest time at which an event before it was appended.
    pub(crate) latest_before: UnixMillis,
}

/// One event of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    /// Its offset, counted from the first of the segment.
    pub(crate) delta: u32,
    pub(crate) position: u32,
}

/// Some events of a topic, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Postings {
    pub(crate) found: Vec<Posting>,
    /// The nearest one that was not taken, if there are more.
    pub(crate) cut: Option<u32>,
}

/// The index of the segment that is being written.
#[derive(Debug, Default)]
pub(crate) struct OpenIndex {
    fences: Vec<Fence>,
    topics: HashMap<Topic, Vec<Posting>>,
    keys: Vec<KeyRun>,
    finals: Vec<(Topic, u32)>,
    dropped: Vec<(Topic, u64)>,
    events: u64,
    posting_count: usize,
    first_at: UnixMillis,
    latest_at: UnixMillis,
}

impl OpenIndex {
    /// Adds an event that follows all others.
    pub(crate) fn add<'a>(
        &mut self,
        posting: Posting,
        at: UnixMillis,
        topics: impl IntoIterator<Item = &'a Topic>,
        is_final: bool,
    ) {
        let is_far = |fence: &Fence| posting.position - fence.position >= FENCE_BYTES;
        if self.fences.last().is_none_or(is_far) {
            let Posting { delta, position } = posting;
            self.fences.push(Fence { delta, position, latest_before: self.latest_at });
        }
        for topic in topics {
            self.posting_count += 1;
            match self.topics.get_mut(topic.as_str()) {
                Some(postings) => postings.push(posting),
                None => drop(self.topics.insert(topic.clone(), vec![posting])),
            }
            if is_final {
                self.finals.push((topic.clone(), posting.delta));
            }
        }
        if self.events == 0 {
            self.first_at = at;
        }
        self.latest_at = self.latest_at.max(at);
        self.events += 1;
    }

    pub(crate) fn add_key(&mut self, id: KeyId, offset: u64, at: UnixMillis) {
        if !self.keys.last_mut().is_some_and(|run| run.extend(id, offset, at)) {
            self.keys.push(KeyRun { id, offset, count: 1, at });
        }
    }

    pub(crate) fn add_key_runs(&mut self, runs: &[KeyRun]) {
        self.keys.extend_from_slice(runs);
    }

    /// Puts other keys in place of those that were added.
    pub(crate) fn set_keys(&mut self, runs: Vec<KeyRun>) {
        self.keys = runs;
    }

    /// Remembers that a topic has lost its events up to an offset to a retention rule.
    pub(crate) fn add_dropped(&mut self, topic: Topic, offset: u64) {
        self.dropped.push((topic, offset));
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.topics.len() * 160
            + self.posting_count * size_of::<Posting>()
            + self.fences.len() * size_of::<Fence>()
            + self.keys.len() * size_of::<KeyRun>()
    }

    /// The last fence at or before an offset, and its place; `None` in an empty segment.
    pub(crate) fn fence_at(&self, delta: u32) -> Option<(usize, Fence)> {
        let place = self.fences.partition_point(|fence| fence.delta <= delta).max(1) - 1;
        Some((place, *self.fences.get(place)?))
    }

    pub(crate) fn fence(&self, place: usize) -> Option<Fence> {
        self.fences.get(place).copied()
    }

    /// The fence at which to look for the first event appended at or after a time.
    pub(crate) fn fence_since(&self, since: UnixMillis) -> Option<Fence> {
        let place = self.fences.partition_point(|fence| fence.latest_before < since).max(1) - 1;
        self.fence(place)
    }

    pub(crate) fn latest_at(&self) -> UnixMillis {
        self.latest_at
    }

    pub(crate) fn postings(&self, topic: &Topic, within: Range<u32>, max: usize) -> Postings {
        let Some(all) = self.topics.get(topic) else { return Postings::default() };
        let first = all.partition_point(|posting| posting.delta < within.start);
        let end = all.partition_point(|posting| posting.delta < within.end).max(first);
        let taken = end.min(first.saturating_add(max));
        let cut = all[..end].get(taken).map(|posting| posting.delta);
        Postings { found: all[first..taken].to_vec(), cut }
    }

    /// The last events of a topic below an offset, newest first.
    pub(crate) fn postings_below(&self, topic: &Topic, before: u32, max: usize) -> Postings {
        let Some(all) = self.topics.get(topic) else { return Postings::default() };
        let end = all.partition_point(|posting| posting.delta < before);
        let first = end.saturating_sub(max);
        let cut = first.checked_sub(1).map(|place| all[place].delta);
        Postings { found: all[first..end].iter().rev().copied().collect(), cut }
    }

    /// Writes the footer of a segment that ends with it at `data_end`.
    pub(crate) fn write_footer(&self, frame: Frame, seed: HashSeed, out: &mut Vec<u8>) {
        let checksum = Checksum::new(frame.salt);
        out.extend_from_slice(&marker(frame.salt));
        let mut topics: Vec<(u64, &Topic, &Vec<Posting>)> = self
            .topics
            .iter()
            .map(|(topic, postings)| (seed.topic_hash(topic), topic, postings))
            .collect();
        topics.sort_unstable_by_key(|(hash, topic, _)| (*hash, *topic));
        let fences = self.fences.iter().map(|fence| {
            let mut item = [0; FENCES.item_bytes];
            item[..4].copy_from_slice(&fence.delta.to_le_bytes());
            item[4..8].copy_from_slice(&fence.position.to_le_bytes());
            item[8..].copy_from_slice(&fence.latest_before.to_le_bytes());
            item
        });
        write_blocks(FENCES, fences, &checksum, out);
        let mut names = Vec::new();
        let mut first = 0_u32;
        let directory = topics.iter().map(|(hash, topic, postings)| {
            let mut item = [0; DIRECTORY.item_bytes];
            item[..8].copy_from_slice(&hash.to_le_bytes());
            item[8..12].copy_from_slice(&first.to_le_bytes());
            item[12..16].copy_from_slice(&(postings.len() as u32).to_le_bytes());
            first += postings.len() as u32;
            write_text(topic, &mut names);
            item
        });
        write_blocks(DIRECTORY, directory, &checksum, out);
        let postings = topics.iter().flat_map(|(_, _, postings)| *postings).map(|posting| {
            let mut item = [0; POSTINGS.item_bytes];
            item[..4].copy_from_slice(&posting.delta.to_le_bytes());
            item[4..].copy_from_slice(&posting.position.to_le_bytes());
            item
        });
        write_blocks(POSTINGS, postings, &checksum, out);
        let (mut keys, mut finals, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        write_key_runs(&self.keys, &mut keys);
        for (topic, delta) in &self.finals {
            finals.extend_from_slice(&delta.to_le_bytes());
            write_text(topic, &mut finals);
        }
        for (topic, offset) in &self.dropped {
            dropped.extend_from_slice(&offset.to_le_bytes());
            write_text(topic, &mut dropped);
        }
        let mut blobs = [BlobSize::default(); 4];
        for (size, bytes) in blobs.iter_mut().zip([&names, &keys, &finals, &dropped]) {
            out.extend_from_slice(bytes);
            *size = BlobSize { bytes: bytes.len() as u32, sum: checksum.of(&[bytes]) };
        }
        let trailer = Trailer {
            frame,
            events: self.events,
            first_at: self.first_at,
            latest_at: self.latest_at,
            fence_count: self.fences.len() as u32,
            topic_count: topics.len() as u32,
            posting_count: self.posting_count as u32,
            blobs,
        };
        out.extend_from_slice(&trailer.write(&checksum));
    }
}

/// What a footer says of the segment it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) salt: u64,
    /// The offset of the first event it may hold, and the one after the last.
    pub(crate) base: u64,
    pub(crate) next: u64,
    /// Where its records end.
    pub(crate) data_end: u64,
}

/// The footer of a sealed segment: the fixed part. The rest is read when it is needed.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    trailer: Trailer,
    checksum: Checksum,
    /// For messages.
    file_name: String,
}

/// A topic in a footer.
#[derive(Debug, Clone, Copy)]
struct DirectoryItem {
    hash: u64,
    first: u32,
    count: u32,
}

/// The parts of a footer that are read as a whole, when the log is opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) keys: Vec<KeyRun>,
    pub(crate) finals: Vec<(Topic, u64)>,
    pub(crate) dropped: Vec<(Topic, u64)>,
}

impl Footer {
    /// Reads the footer of a file; `None` if it does not end with one.
    pub(crate) fn read(file: &dyn File, file_name: &str, salt: u64) -> Result<Option<Self>, Fault> {
        let length = file.len()?;
        let Some(position) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut bytes = [0; TRAILER_BYTES];
        if file.read_at(&mut bytes, position)? < TRAILER_BYTES {
            return Ok(None);
        }
        let checksum = Checksum::new(salt);
        let trailer = Trailer::read(&bytes, &checksum)
            .filter(|trailer| trailer.frame.salt == salt && trailer.end() == Some(length));
        let file_name = file_name.to_owned();
        Ok(trailer.map(|trailer| Self { trailer, checksum, file_name }))
    }

    /// Holds all of it against its checksums.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if a part is not as it was written.
    pub(crate) fn check(&self, file: &dyn File) -> Result<(), Fault> {
        for (section, count) in SECTIONS.iter().zip(self.trailer.counts()) {
            let mut blocks = self.blocks(file, *section);
            (0..(count as usize).div_ceil(section.items())).try_for_each(|at| blocks.load(at))?;
        }
        (0..self.trailer.blobs.len()).try_for_each(|blob| self.blob(file, blob).map(drop))
    }

    pub(crate) fn frame(&self) -> Frame {
        self.trailer.frame
    }

    pub(crate) fn events(&self) -> u64 {
        self.trailer.events
    }

    pub(crate) fn latest_at(&self) -> UnixMillis {
        self.trailer.latest_at
    }

    /// As for an [`OpenIndex`].
    pub(crate) fn fence_at(
        &self,
        file: &dyn File,
        delta: u32,
    ) -> Result<Option<(usize, Fence)>, Fault> {
        let place = self.partition(file, |fence| fence.delta <= delta)?.max(1) - 1;
        Ok(self.fence(file, place)?.map(|fence| (place, fence)))
    }

    pub(crate) fn fence(&self, file: &dyn File, place: usize) -> Result<Option<Fence>, Fault> {
        if place >= self.trailer.fence_count as usize {
            return Ok(None);
        }
        let mut blocks = self.blocks(file, FENCES);
        blocks.item(place).map(|item| Some(read_fence(item)))
    }

    /// As for an [`OpenIndex`].
    pub(crate) fn fence_since(
        &self,
        file: &dyn File,
        since: UnixMillis,
    ) -> Result<Option<Fence>, Fault> {
        let place = self.partition(file, |fence| fence.latest_before < since)?.max(1) - 1;
        self.fence(file, place)
    }

    /// As for an [`OpenIndex`].
    pub(crate) fn postings(
        &self,
        file: &dyn File,
        topic_hash: u64,
        within: Range<u32>,
        max: usize,
    ) -> Result<Postings, Fault> {
        let mut all = Postings::default();
        for item in self.find(file, topic_hash)? {
            let mut blocks = self.blocks(file, POSTINGS);
            let first = blocks.partition(item.range(), |posting| posting.delta < within.start)?;
            for place in first..item.range().end {
                let posting = read_posting(blocks.item(place)?);
                if posting.delta >= within.end {
                    break;
                }
                if all.found.len() >= max {
                    all.cut = Some(posting.delta);
                    break;
                }
                all.found.push(posting);
            }
        }
        Ok(all)
    }

    /// As for an [`OpenIndex`].
    pub(crate) fn postings_below(
        &self,
        file: &dyn File,
        topic_hash: u64,
        before: u32,
        max: usize,
    ) -> Result<Postings, Fault> {
        let mut all = Postings::default();
        for item in self.find(file, topic_hash)? {
            let mut blocks = self.blocks(file, POSTINGS);
            let end = blocks.partition(item.range(), |posting| posting.delta < before)?;
            for place in (item.range().start..end).rev() {
                let posting = read_posting(blocks.item(place)?);
                if all.found.len() >= max {
                    all.cut = Some(posting.delta);
                    break;
                }
                all.found.push(posting);
            }
        }
        Ok(all)
    }

    /// How many events of a topic there are from an offset on.
    pub(crate) fn count_from(
        &self,
        file: &dyn File,
        topic_hash: u64,
        delta: u32,
    ) -> Result<u64, Fault> {
        let mut count = 0;
        for item in self.find(file, topic_hash)? {
            let mut blocks = self.blocks(file, POSTINGS);
            let first = blocks.partition(item.range(), |posting| posting.delta < delta)?;
            count += (item.range().end - first) as u64;
        }
        Ok(count)
    }

    /// Every topic of the segment and how many events it has there.
    pub(crate) fn topics(&self, file: &dyn File) -> Result<Vec<(Topic, u64)>, Fault> {
        let names = self.blob(file, NAMES)?;
        let names = read_texts(&names, 0).ok_or_else(|| self.contradiction())?;
        if names.len() != self.trailer.topic_count as usize {
            return Err(self.contradiction());
        }
        let mut blocks = self.blocks(file, DIRECTORY);
        let mut topics = Vec::with_capacity(names.len());
        for (place, (_, topic)) in names.into_iter().enumerate() {
            topics.push((topic, u64::from(read_directory_item(blocks.item(place)?).count)));
        }
        Ok(topics)
    }

    /// The keys of the segment.
    pub(crate) fn keys(&self, file: &dyn File) -> Result<Vec<KeyRun>, Fault> {
        read_key_runs(&self.blob(file, KEYS)?).ok_or_else(|| self.contradiction())
    }

    /// What is read as a whole.
    pub(crate) fn remembered(&self, file: &dyn File) -> Result<Remembered, Fault> {
        let finals = read_texts(&self.blob(file, FINALS)?, 4);
        let dropped = read_texts(&self.blob(file, DROPPED)?, 8);
        let (Some(finals), Some(dropped)) = (finals, dropped) else {
            return Err(self.contradiction());
        };
        let base = self.trailer.frame.base;
        let finals = finals.into_iter().map(|(delta, topic)| (topic, base + delta)).collect();
        let dropped = dropped.into_iter().map(|(offset, topic)| (topic, offset)).collect();
        Ok(Remembered { keys: self.keys(file)?, finals, dropped })
    }

    /// The directory's items with a hash: one, or by a rare chance more.
    fn find(&self, file: &dyn File, topic_hash: u64) -> Result<Vec<DirectoryItem>, Fault> {
        let mut blocks = self.blocks(file, DIRECTORY);
        let count = self.trailer.topic_count as usize;
        // Hashes are spread evenly, so where one stands can be guessed well: the first guess is
        // rarely off by more than a few blocks.
        let (mut low, mut high) = (0, count);
        let mut guess = ((u128::from(topic_hash) * count as u128) >> 64) as usize;
        let mut stride = DIRECTORY.items();
        while low < high {
            let probe = guess.clamp(low, high - 1);
            if read_directory_item(blocks.item(probe)?).hash < topic_hash {
                low = probe + 1;
                guess = probe.saturating_add(stride);
            } else {
                high = probe;
                guess = probe.saturating_sub(stride);
            }
            // Strides that grow find the other side; once it is found, halving does the rest.
            stride *= 2;
            if low > 0 && high < count {
                guess = low.midpoint(high);
            }
        }
        let mut items = Vec::new();
        for place in low..count {
            let item = read_directory_item(blocks.item(place)?);
            if item.hash != topic_hash {
                break;
            }
            let end = u64::from(item.first) + u64::from(item.count);
            if end > u64::from(self.trailer.posting_count) {
                return Err(self.contradiction());
            }
            items.push(item);
        }
        Ok(items)
    }

    /// How many fences from the first on `is_before` holds for.
    fn partition(
        &self,
        file: &dyn File,
        is_before: impl Fn(&Fence) -> bool,
    ) -> Result<usize, Fault> {
        let mut blocks = self.blocks(file, FENCES);
        let (mut low, mut high) = (0, self.trailer.fence_count as usize);
        while low < high {
            let middle = low.midpoint(high);
            if is_before(&read_fence(blocks.item(middle)?)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn blocks<'a>(&'a self, file: &'a dyn File, section: Section) -> Blocks<'a> {
        let start = self.trailer.section_start(section.number);
        let count = self.trailer.counts()[section.number] as usize;
        let bytes = [0; BLOCK_BYTES];
        Blocks { file, footer: self, section, start, count, block: None, bytes }
    }

    fn blob(&self, file: &dyn File, blob: usize) -> Result<Vec<u8>, Fault> {
        let size = self.trailer.blobs[blob];
        let position = self.trailer.blob_start(blob);
        let mut bytes = vec![0; size.bytes as usize];
        let read = file.read_at(&mut bytes, position)?;
        if read < bytes.len() || self.checksum.of(&[&bytes]) != size.sum {
            let what = "a part of the index does not match its checksum";
            return Err(Fault::damaged(&self.file_name, position, what));
        }
        Ok(bytes)
    }

    fn contradiction(&self) -> Fault {
        let position = self.trailer.frame.data_end;
        Fault::damaged(&self.file_name, position, "the index contradicts itself")
    }
}

impl DirectoryItem {
    fn range(&self) -> Range<usize> {
        self.first as usize..self.first as usize + self.count as usize
    }
}

/// Items of one size in blocks with a checksum each; holds the block that was read last.
struct Blocks<'a> {
    file: &'a dyn File,
    footer: &'a Footer,
    section: Section,
    start: u64,
    count: usize,
    block: Option<usize>,
    bytes: [u8; BLOCK_BYTES],
}

impl Blocks<'_> {
    fn item(&mut self, place: usize) -> Result<&[u8], Fault> {
        let (block, place) = (place / self.section.items(), place % self.section.items());
        if self.block != Some(block) {
            self.load(block)?;
        }
        Ok(&self.bytes[place * self.section.item_bytes..][..self.section.item_bytes])
    }

    /// The first place in a range for which `is_before` does not hold, or its end.
    fn partition(
        &mut self,
        range: Range<usize>,
        is_before: impl Fn(&Posting) -> bool,
    ) -> Result<usize, Fault> {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            if is_before(&read_posting(self.item(middle)?)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn load(&mut self, block: usize) -> Result<(), Fault> {
        self.block = None;
        let position = self.start + (block * BLOCK_BYTES) as u64;
        let items = self.count.saturating_sub(block * self.section.items());
        let length = self.section.block_bytes(items.min(self.section.items()));
        let bytes = &mut self.bytes[..length];
        let read = self.file.read_at(bytes, position)?;
        let (items, sum) = bytes.split_at(length - 4);
        let expected = block_sum(self.section, block, items, &self.footer.checksum);
        if read < length || expected != u32_at(sum, 0) {
            let what = "a block of the index does not match its checksum";
            return Err(Fault::damaged(&self.footer.file_name, position, what));
        }
        self.block = Some(block);
        Ok(())
    }
}

/// Items of one kind in a footer.
#[derive(Debug, Clone, Copy)]
struct Section {
    number: usize,
    item_bytes: usize,
}

impl Section {
    /// How many stand in one block.
    const fn items(self) -> usize {
        (BLOCK_BYTES - 4) / self.item_bytes
    }

    /// What a block with so many items takes; all but the last are full.
    const fn block_bytes(self, items: usize) -> usize {
        if items == self.items() { BLOCK_BYTES } else { items * self.item_bytes + 4 }
    }

    /// What all blocks with so many items take.
    fn bytes(self, count: usize) -> u64 {
        let last = match count % self.items() {
            0 => 0,
            rest => self.block_bytes(rest),
        };
        (count / self.items() * BLOCK_BYTES + last) as u64
    }
}

fn write_blocks<const N: usize>(
    section: Section,
    items: impl Iterator<Item = [u8; N]>,
    checksum: &Checksum,
    out: &mut Vec<u8>,
) {
    let mut items = items.peekable();
    for block in 0.. {
        if items.peek().is_none() {
            return;
        }
        let start = out.len();
        let mut count = 0;
        for item in items.by_ref().take(section.items()) {
            out.extend_from_slice(&item);
            count += 1;
        }
        // Nothing stands between the items of a full block and its checksum but zeros.
        out.resize(start + section.block_bytes(count) - 4, 0);
        let sum = block_sum(section, block, &out[start..], checksum);
        out.extend_from_slice(&sum.to_le_bytes());
    }
}

fn block_sum(section: Section, block: usize, items: &[u8], checksum: &Checksum) -> u32 {
    let place = (section.number as u64) << 32 | block as u64;
    checksum.of(&[&place.to_le_bytes(), items])
}

fn read_fence(item: &[u8]) -> Fence {
    Fence { delta: u32_at(item, 0), position: u32_at(item, 4), latest_before: u64_at(item, 8) }
}

fn read_directory_item(item: &[u8]) -> DirectoryItem {
    DirectoryItem { hash: u64_at(item, 0), first: u32_at(item, 8), count: u32_at(item, 12) }
}

fn read_posting(item: &[u8]) -> Posting {
    Posting { delta: u32_at(item, 0), position: u32_at(item, 4) }
}

fn write_text(topic: &Topic, out: &mut Vec<u8>) {
    out.extend_from_slice(&(topic.as_str().len() as u16).to_le_bytes());
    out.extend_from_slice(topic.as_str().as_bytes());
}

/// Reads topics, each after a number of so many bytes; `None` if the bytes are not that.
fn read_texts(bytes: &[u8], number_bytes: usize) -> Option<Vec<(u64, Topic)>> {
    let mut texts = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(number_bytes)?;
        let number = number.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let (length, after) = after.split_at_checked(2)?;
        let (text, after) = after.split_at_checked(usize::from(u16_at(length, 0)))?;
        texts.push((number, Topic::parse(str::from_utf8(text).ok()?).ok()?));
        rest = after;
    }
    Some(texts)
}

/// A part of a footer that is read as a whole.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct BlobSize {
    bytes: u32,
    sum: u32,
}

/// The end of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailer {
    frame: Frame,
    events: u64,
    first_at: UnixMillis,
    latest_at: UnixMillis,
    fence_count: u32,
    topic_count: u32,
    posting_count: u32,
    blobs: [BlobSize; 4],
}

impl Trailer {
    fn write(&self, checksum: &Checksum) -> [u8; TRAILER_BYTES] {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        let Frame { salt, base, next, data_end } = self.frame;
        for number in [salt, base, next, data_end, self.events, self.first_at, self.latest_at] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.fence_count, self.topic_count, self.posting_count] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for BlobSize { bytes: length, sum } in self.blobs {
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes.extend_from_slice(&checksum.of(&[&bytes]).to_le_bytes());
        *bytes.first_chunk().expect("the fields have this length")
    }

    fn read(bytes: &[u8; TRAILER_BYTES], checksum: &Checksum) -> Option<Self> {
        let sum = checksum.of(&[&bytes[..TRAILER_BYTES - 4]]);
        if bytes[..8] != TRAILER_MAGIC || sum != u32_at(bytes, TRAILER_BYTES - 4) {
            return None;
        }
        let long = |place: usize| u64_at(bytes, 8 + 8 * place);
        let short = |place: usize| u32_at(bytes, 64 + 4 * place);
        let frame = Frame { salt: long(0), base: long(1), next: long(2), data_end: long(3) };
        let blob =
            |place: usize| BlobSize { bytes: short(3 + 2 * place), sum: short(4 + 2 * place) };
        let trailer = Self {
            frame,
            events: long(4),
            first_at: long(5),
            latest_at: long(6),
            fence_count: short(0),
            topic_count: short(1),
            posting_count: short(2),
            blobs: [blob(0), blob(1), blob(2), blob(3)],
        };
        let is_sound = frame.base <= frame.next && frame.next - frame.base <= u64::from(u32::MAX);
        is_sound.then_some(trailer)
    }

    /// How many items the sections have.
    fn counts(&self) -> [u32; 3] {
        [self.fence_count, self.topic_count, self.posting_count]
    }

    fn section_start(&self, section: usize) -> u64 {
        let bytes = |(section, count): (&Section, u32)| section.bytes(count as usize);
        let before: u64 = SECTIONS.iter().zip(self.counts()).take(section).map(bytes).sum();
        self.frame.data_end.saturating_add(MARKER_BYTES as u64 + before)
    }

    fn blob_start(&self, blob: usize) -> u64 {
        let before: u64 = self.blobs[..blob].iter().map(|size| u64::from(size.bytes)).sum();
        self.section_start(SECTIONS.len()).saturating_add(before)
    }

    /// Where the file ends that it belongs to; `None` if no file is that long.
    fn end(&self) -> Option<u64> {
        self.blob_start(self.blobs.len()).checked_add(TRAILER_BYTES as u64)
    }
}

/// What stands between the records of a segment and its index.
pub(crate) fn marker(salt: u64) -> [u8; MARKER_BYTES] {
    let mut marker = [0; MARKER_BYTES];
    marker[..8].copy_from_slice(&MARKER_MAGIC);
    marker[8..].copy_from_slice(&salt.to_le_bytes());
    marker
}

/// Records between two fences: reading that looks for an offset reads so much too much at most, plus one
/// record.
pub(crate) const FENCE_BYTES: u32 = 4_096;
pub(crate) const MARKER_BYTES: usize = 16;
const MARKER_MAGIC: [u8; 8] = *b"\xF7TIDIDX\n";
const TRAILER_MAGIC: [u8; 8] = *b"\xF7TIDEND\n";
const TRAILER_BYTES: usize = 112;

const BLOCK_BYTES: usize = 4_096;
const FENCES: Section = Section { number: 0, item_bytes: 16 };
const DIRECTORY: Section = Section { number: 1, item_bytes: 16 };
const POSTINGS: Section = Section { number: 2, item_bytes: 8 };
const SECTIONS: [Section; 3] = [FENCES, DIRECTORY, POSTINGS];

const NAMES: usize = 0;
const KEYS: usize = 1;
const FINALS: usize = 2;
const DROPPED: usize = 3;

const _: () = assert!((MARKER_BYTES as u64).is_multiple_of(ALIGNMENT));

#[cfg(test)]
mod tests;
