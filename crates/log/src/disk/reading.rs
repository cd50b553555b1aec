//! Reading forwards and backwards.
//!
//! The lock on what is there is held only to find out where to look. A segment that leaves
//! meanwhile can be read by those who look at it.

use std::ops::Range;
use std::sync::Arc;

use tidings_core::{Entry, Interest, Topic};

use super::damage::Fault;
use super::files::File;
use super::index::{Fence, Posting, Postings};
use super::segment::{Records, Sealed};
use super::stored::TopicMemory;
use super::{DiskLog, Open};
use crate::ring::{Selection, admits, comparisons_of, share};
use crate::{Body, ReadError, ReadLimit, ReadStep, SeekStep, UnixMillis};

/// A segment, as one who reads sees it. The index of the open one is only to be had under the lock, so
/// what is wanted of it is fetched with it.
enum Part {
    Sealed(Arc<Sealed>),
    Open { file: Arc<dyn File>, name: String, salt: u64, base: u64, end: u64, found: Found },
}

/// What was wanted of an index.
#[derive(Debug, Clone)]
enum Found {
    /// Where to begin to read on.
    From(Option<(usize, Fence)>),
    /// The events of some topics.
    Postings(Vec<Postings>),
}

/// What is wanted of an index.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    /// Where to begin to read on, to find an offset.
    From(u64),
    /// At most so many events of each topic within a range, from its start on.
    Forwards(&'a [&'a Topic], u64, u64, usize),
    /// The same from its end on.
    Backwards(&'a [&'a Topic], u64, usize),
}

/// Events of some topics, in the order in which they are wanted, and the offset up to which that is
/// all of them.
struct Merged {
    postings: Vec<Posting>,
    cut: Option<u32>,
}

/// Some entries, newest first: all that is looked for from `start` on.
struct Stretch {
    entries: Vec<Entry<Body>>,
    start: u64,
}

impl DiskLog {
    pub(super) fn read_step(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
        memory: &mut TopicMemory,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        let until = {
            let state = self.state();
            if from < state.oldest {
                return Err(ReadError::Trimmed { oldest: state.oldest });
            }
            until.min(state.open.next)
        };
        let topics: Option<Vec<&Topic>> = interest.exact_topics().map(Iterator::collect);
        let each_max = share(limit.candidates_max, interest).min(limit.events_max.max(1));
        let mut selection = Selection::new(interest, limit);
        let mut looked_at = 0;
        let mut cursor = from;
        while cursor < until {
            let wanted = match &topics {
                Some(topics) => Wanted::Forwards(topics, cursor, until, each_max),
                None => Wanted::From(cursor),
            };
            let Some(part) = self.part_at(cursor, wanted) else {
                // It left since this step began.
                break;
            };
            let end = until.min(part.next(until));
            let outcome = match &topics {
                Some(topics) => {
                    let merged = part.postings(self, topics, cursor..end, each_max, true)?;
                    let cut = merged.cut.map_or(end, |delta| part.base() + u64::from(delta));
                    let mut read = |bytes, entry| {
                        looked_at += 1;
                        self.offer(&mut selection, bytes, entry)
                    };
                    part.visit(&merged.postings, cut, memory, &mut read)?.err().or_else(|| {
                        let is_cut = cut < end || looked_at >= limit.candidates_max;
                        is_cut.then_some(cut)
                    })
                }
                None => {
                    let candidates_max = limit.candidates_max.saturating_sub(looked_at).max(1);
                    let (stopped, count) = part.scan(cursor..end, candidates_max, memory, {
                        |bytes, entry| self.offer(&mut selection, bytes, entry)
                    })?;
                    looked_at += count;
                    stopped
                }
            };
            match outcome {
                Some(next) => return Ok(ReadStep { entries: selection.entries, next }),
                None => cursor = end,
            }
        }
        if cursor == from && from < until {
            return Err(ReadError::Trimmed { oldest: self.state().oldest });
        }
        Ok(ReadStep { entries: selection.entries, next: cursor.max(from) })
    }

    /// Hands an entry on if no rule has dropped it.
    fn offer(
        &self,
        selection: &mut Selection<'_, Entry<Body>>,
        bytes: usize,
        entry: Entry<Body>,
    ) -> Result<(), u64> {
        if self.has_rules() && !self.state().ruled.is_kept(entry.offset, &entry.topics) {
            return Ok(());
        }
        selection.offer(entry, bytes)
    }

    pub(super) fn seek_step(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
        memory: &mut TopicMemory,
    ) -> Result<SeekStep, ReadError> {
        let (oldest, mut before) = {
            let state = self.state();
            (state.oldest, before.min(state.open.next).max(state.oldest))
        };
        let topics: Option<Vec<&Topic>> = interest.exact_topics().map(Iterator::collect);
        let mut step = SeekStep { found: 0, lowest: None, before, complete: false };
        let mut left = limit.candidates_max.max(1);
        let mut comparisons = 0;
        while before > oldest && step.found < wanted && left > 0 {
            let each_max = share(left, interest);
            let asked = match &topics {
                Some(topics) => Wanted::Backwards(topics, before, each_max),
                None => Wanted::From(before - 1),
            };
            let Some(part) = self.part_at(before - 1, asked) else { break };
            let from = part.base().max(oldest);
            let Stretch { entries, start } = match &topics {
                Some(topics) => {
                    let merged = part.postings(self, topics, from..before, each_max, false)?;
                    let start = merged.cut.map_or(from, |delta| part.base() + u64::from(delta) + 1);
                    let enough = left.min(wanted.max(BACKWARDS_MIN) as usize);
                    part.backwards(&merged.postings, start.max(from), enough, memory)?
                }
                None => part.stretch_below(before, from, memory)?,
            };
            for entry in entries {
                if step.found == wanted || left == 0 || comparisons > limit.comparisons_max {
                    step.before = entry.offset + 1;
                    return Ok(step);
                }
                left -= 1;
                comparisons += comparisons_of(interest, &entry);
                let is_kept =
                    !self.has_rules() || self.state().ruled.is_kept(entry.offset, &entry.topics);
                if is_kept && admits(interest, &entry) {
                    step.found += 1;
                    step.lowest = Some(entry.offset);
                }
            }
            before = start;
        }
        (step.before, step.complete) = (before, before <= oldest);
        Ok(step)
    }

    /// The segment with an offset, and what is wanted of its index if that is in memory; `None` if it
    /// has left.
    fn part_at(&self, offset: u64, wanted: Wanted<'_>) -> Option<Part> {
        let state = self.state();
        if offset < state.open.header.base {
            let place = state.sealed.partition_point(|segment| segment.next() <= offset);
            let segment = state.sealed.get(place).filter(|segment| segment.base() <= offset)?;
            return Some(Part::Sealed(Arc::clone(segment)));
        }
        let Open { file, name, header, index, end, .. } = &state.open;
        let delta =
            |offset: u64| offset.saturating_sub(header.base).min(u64::from(u32::MAX)) as u32;
        let found = match wanted {
            Wanted::From(offset) => Found::From(index.fence_at(delta(offset))),
            Wanted::Forwards(topics, from, until, max) => {
                let range = delta(from)..delta(until);
                let of = |topic: &&Topic| index.postings(topic, range.clone(), max);
                Found::Postings(topics.iter().map(of).collect())
            }
            Wanted::Backwards(topics, before, max) => {
                let of = |topic: &&Topic| index.postings_below(topic, delta(before), max);
                Found::Postings(topics.iter().map(of).collect())
            }
        };
        Some(Part::Open {
            file: Arc::clone(file),
            name: name.clone(),
            salt: header.salt,
            base: header.base,
            end: *end,
            found,
        })
    }

    /// The `count`-th event of a topic from an offset on, or the last if there are fewer, and its
    /// number. Counts what still stands in a segment, as those do who count what is kept.
    pub(super) fn nth_under(
        &self,
        topic: &Topic,
        from: u64,
        count: u64,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        let (first, next) = {
            let state = self.state();
            let first = state.sealed.front().map_or(state.open.header.base, |it| it.base());
            (first, state.open.next)
        };
        let mut cursor = from.max(first);
        let mut last = None;
        let mut found = 0;
        while cursor < next && found < count {
            let max = usize::try_from(count - found).unwrap_or(usize::MAX).min(POSTINGS_MAX);
            let Some(part) = self.part_at(cursor, Wanted::Forwards(&[topic], cursor, next, max))
            else {
                break;
            };
            let end = next.min(part.next(next));
            let merged = part.postings(self, &[topic], cursor..end, max, true)?;
            if let Some(posting) = merged.postings.last() {
                last = Some(part.base() + u64::from(posting.delta));
                found += merged.postings.len() as u64;
            }
            cursor = merged.cut.map_or(end, |delta| part.base() + u64::from(delta));
        }
        Ok(last.map(|offset| (offset, found)))
    }

    /// The offset of the first event that was appended at or after a time, as far as time only goes
    /// forwards.
    pub(super) fn first_since(&self, since: UnixMillis) -> Result<u64, ReadError> {
        let (part, next) = {
            let state = self.state();
            let old = |segment: &Arc<Sealed>| segment.footer.latest_at() < since;
            let place = state.sealed.iter().position(|segment| !old(segment));
            match place.and_then(|place| state.sealed.get(place)) {
                Some(segment) => (Part::Sealed(Arc::clone(segment)), segment.next()),
                None if state.open.index.latest_at() < since => return Ok(state.open.next),
                None => {
                    let Open { file, name, header, index, end, next } = &state.open;
                    let fence = index.fence_since(since).map(|fence| (0, fence));
                    let part = Part::Open {
                        file: Arc::clone(file),
                        name: name.clone(),
                        salt: header.salt,
                        base: header.base,
                        end: *end,
                        found: Found::From(fence),
                    };
                    (part, *next)
                }
            }
        };
        let fence = match &part {
            Part::Sealed(segment) => segment.footer.fence_since(&*segment.file, since),
            Part::Open { found: Found::From(fence), .. } => Ok(fence.map(|(_, fence)| fence)),
            Part::Open { .. } => Ok(None),
        };
        let Some(fence) = fence.map_err(unavailable)? else { return Ok(next) };
        let mut records = part.records(u64::from(fence.position));
        while let Some(stored) = records.next().map_err(unavailable)? {
            if !stored.head.holds_keys() && stored.head.appended_at >= since {
                return Ok(stored.head.offset);
            }
        }
        Ok(next)
    }
}

impl Part {
    fn base(&self) -> u64 {
        match self {
            Self::Sealed(segment) => segment.base(),
            Self::Open { base, .. } => *base,
        }
    }

    /// The offset after its last event; the open segment goes on to `until`.
    fn next(&self, until: u64) -> u64 {
        match self {
            Self::Sealed(segment) => segment.next(),
            Self::Open { .. } => until,
        }
    }

    fn records(&self, position: u64) -> Records {
        match self {
            Self::Sealed(segment) => segment.records(position),
            Self::Open { file, name, salt, end, .. } => {
                Records::new(Arc::clone(file), name, *salt, position, *end)
            }
        }
    }

    /// The events of some topics within a range, merged.
    fn postings(
        &self,
        log: &DiskLog,
        topics: &[&Topic],
        range: Range<u64>,
        each_max: usize,
        is_forwards: bool,
    ) -> Result<Merged, ReadError> {
        let lists = match self {
            Self::Open { found: Found::Postings(lists), .. } => lists.clone(),
            Self::Open { .. } => Vec::new(),
            Self::Sealed(segment) => {
                let (footer, file) = (&segment.footer, &*segment.file);
                let delta = |offset: u64| (offset.saturating_sub(segment.base())) as u32;
                let seed = log.identity.seed;
                let list = |topic: &&Topic| {
                    let hash = seed.topic_hash(topic);
                    if is_forwards {
                        footer.postings(file, hash, delta(range.start)..delta(range.end), each_max)
                    } else {
                        footer.postings_below(file, hash, delta(range.end), each_max)
                    }
                };
                topics.iter().map(list).collect::<Result<_, _>>().map_err(unavailable)?
            }
        };
        let cuts = lists.iter().filter_map(|list| list.cut);
        // What lies beyond a topic that was cut short is not known.
        let cut = if is_forwards { cuts.min() } else { cuts.max() };
        let mut postings: Vec<Posting> = lists.into_iter().flat_map(|list| list.found).collect();
        postings.sort_unstable_by_key(|posting| posting.delta);
        postings.dedup();
        if !is_forwards {
            postings.reverse();
        }
        Ok(Merged { postings, cut })
    }

    /// Reads events that an index names, up to an offset, and hands them on until that says where to
    /// stop.
    fn visit(
        &self,
        postings: &[Posting],
        until: u64,
        memory: &mut TopicMemory,
        visit: &mut impl FnMut(usize, Entry<Body>) -> Result<(), u64>,
    ) -> Result<Result<(), u64>, ReadError> {
        let mut records = self.records(0);
        for posting in postings {
            let offset = self.base() + u64::from(posting.delta);
            if offset >= until {
                break;
            }
            let (bytes, entry) = self.read_one(&mut records, posting, memory)?;
            if let Err(next) = visit(bytes, entry) {
                return Ok(Err(next));
            }
        }
        Ok(Ok(()))
    }

    /// Reads events that an index names, newest first, down to an offset, and no more than are
    /// enough.
    fn backwards(
        &self,
        postings: &[Posting],
        start: u64,
        enough: usize,
        memory: &mut TopicMemory,
    ) -> Result<Stretch, ReadError> {
        let mut records = self.records(0);
        let mut entries: Vec<Entry<Body>> = Vec::new();
        for posting in postings {
            if self.base() + u64::from(posting.delta) < start {
                break;
            }
            if entries.len() == enough {
                let start = entries.last().map_or(start, |entry| entry.offset);
                return Ok(Stretch { entries, start });
            }
            entries.push(self.read_one(&mut records, posting, memory)?.1);
        }
        Ok(Stretch { entries, start })
    }

    fn read_one(
        &self,
        records: &mut Records,
        posting: &Posting,
        memory: &mut TopicMemory,
    ) -> Result<(usize, Entry<Body>), ReadError> {
        let position = u64::from(posting.position);
        let offset = self.base() + u64::from(posting.delta);
        let stored = records.record(position, offset).map_err(unavailable)?;
        let bytes = stored.counted_bytes();
        let entry = stored.into_entry(memory).ok_or_else(|| senseless(offset))?;
        Ok((bytes, entry))
    }

    /// Reads on through a range and hands the events on. Answers where that said to stop, or where
    /// the limit did, and how many events were looked at.
    fn scan(
        &self,
        range: Range<u64>,
        candidates_max: usize,
        memory: &mut TopicMemory,
        mut visit: impl FnMut(usize, Entry<Body>) -> Result<(), u64>,
    ) -> Result<(Option<u64>, usize), ReadError> {
        let Some((_, fence)) = self.fence_at(range.start)? else { return Ok((None, 0)) };
        let mut records = self.records(u64::from(fence.position));
        let mut count = 0;
        while let Some(stored) = records.next().map_err(unavailable)? {
            let offset = stored.head.offset;
            if offset < range.start || stored.head.holds_keys() {
                continue;
            }
            if offset >= range.end {
                break;
            }
            if count == candidates_max {
                return Ok((Some(offset), count));
            }
            count += 1;
            let bytes = stored.counted_bytes();
            let entry = stored.into_entry(memory).ok_or_else(|| senseless(offset))?;
            if let Err(next) = visit(bytes, entry) {
                return Ok((Some(next), count));
            }
        }
        Ok((None, count))
    }

    /// The events of the last stretch below an offset, but none below `from`.
    fn stretch_below(
        &self,
        before: u64,
        from: u64,
        memory: &mut TopicMemory,
    ) -> Result<Stretch, ReadError> {
        let start = match self.fence_at(before - 1)? {
            Some((place, fence)) if place > 0 => (self.base() + u64::from(fence.delta)).max(from),
            // Nothing stands before the first fence.
            _ => from,
        };
        let mut entries = Vec::new();
        self.scan(start..before, usize::MAX, memory, |_, entry| {
            entries.push(entry);
            Ok(())
        })?;
        entries.reverse();
        Ok(Stretch { entries, start })
    }

    fn fence_at(&self, offset: u64) -> Result<Option<(usize, Fence)>, ReadError> {
        match self {
            Self::Sealed(segment) => {
                let delta = offset.saturating_sub(segment.base()) as u32;
                segment.footer.fence_at(&*segment.file, delta).map_err(unavailable)
            }
            Self::Open { found: Found::From(fence), .. } => Ok(*fence),
            Self::Open { .. } => Ok(None),
        }
    }
}

pub(super) fn unavailable(fault: Fault) -> ReadError {
    ReadError::Unavailable(match fault {
        Fault::Io(error) => format!("a file cannot be read: {error}"),
        Fault::Damaged(damage) => {
            format!("{damage}; stop the hub and run `tidings log check`")
        }
        fault @ Fault::Newer { .. } => fault.to_string(),
    })
}

fn senseless(offset: u64) -> ReadError {
    ReadError::Unavailable(format!("event {offset} holds what no event holds"))
}

/// How many events are read at once at least, if they may not all be wanted.
const BACKWARDS_MIN: u32 = 16;
/// How many places in an index are held at once.
const POSTINGS_MAX: usize = 64 << 10;
