//! Letting go: of whole segments at the old end, and of what rules drop in between.
//!
//! A segment that is removed gives its room back at once. What a rule drops out of the middle is
//! not readable at once; its room comes back when at least half of a segment is dropped, for then
//! the segment is written anew without it.

use std::io;
use std::sync::Arc;

use tidings_core::Topic;

use super::DiskLog;
use super::damage::Fault;
use super::index::{Footer, Frame, OpenIndex};
use super::opening::{DRAFT_SUFFIX, add_stored};
use super::segment::{HEADER_BYTES, Header, Sealed};
use super::stored::{Checksum, TopicMemory};
use crate::random::random_bits;
use crate::{ReadError, UnixMillis};

/// Why something was not let go of; it is tried again with the next trim.
#[derive(Debug, thiserror::Error)]
enum TrimError {
    #[error("{0}")]
    Append(#[from] crate::AppendError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Fault(String),
}

impl From<Fault> for TrimError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.to_string())
    }
}

impl DiskLog {
    pub(super) fn trim_all(&self, now: UnixMillis) {
        self.mend();
        let outcome = self.enforce_bounds(now).and_then(|()| self.enforce_rules(now));
        let outcome = outcome.and_then(|()| self.remove_segments(now));
        let outcome = outcome.and_then(|()| self.rewrite_one());
        let failure = outcome.err().map(|error| error.to_string());
        let mut state = self.state_mut();
        if let Some(reason) = &failure
            && state.trim_failure != failure
        {
            tracing::warn!(reason, "old events are kept for now, as the log cannot be trimmed");
        }
        state.trim_failure = failure;
        let oldest = state.oldest;
        state.ledger.trim(oldest, now);
    }

    /// Moves the oldest kept offset on.
    fn enforce_bounds(&self, now: UnixMillis) -> Result<(), TrimError> {
        let retention = &self.options.retention;
        let cut = now.saturating_sub(retention.age_max_ms);
        let first = if cut == 0 { 0 } else { self.first_since(cut)? };
        let is_used_up = {
            let mut state = self.state_mut();
            state.oldest = state.oldest.max(first);
            state.keep_count(retention.events_max);
            let open = &state.open;
            state.oldest >= open.next && open.index.events() > 0
        };
        // Everything in the open segment is too old: let it leave too.
        if is_used_up {
            self.roll()?;
        }
        Ok(())
    }

    fn enforce_rules(&self, now: UnixMillis) -> Result<(), TrimError> {
        if !self.has_rules() {
            return Ok(());
        }
        let cuts = self.state().ruled.age_cuts(now);
        for (rule, since) in cuts {
            let first = if since == 0 { 0 } else { self.first_since(since)? };
            self.state_mut().ruled.drop_aged(rule, first);
        }
        let overfull = self.state_mut().ruled.take_overfull();
        for (topic, dropped, surplus) in overfull {
            match self.nth_under(&topic, dropped + 1, surplus) {
                Ok(Some((offset, events))) => {
                    self.state_mut().ruled.drop_surplus(&topic, offset, events);
                }
                Ok(None) => {}
                Err(error) => {
                    self.state_mut().ruled.postpone(topic);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Removes the segments of which nothing is kept, and those that are too much by size.
    fn remove_segments(&self, now: UnixMillis) -> Result<(), TrimError> {
        let mut is_removed = false;
        while let Some(segment) = self.removable() {
            let file = &*segment.file;
            if self.state().sealed.len() == 1 {
                // The newest segment says how far ids have gone.
                self.begin()?;
            }
            self.carry_on(&segment, now)?;
            let topics = if self.has_rules() { segment.footer.topics(file)? } else { Vec::new() };
            let gone = self.count_kept(&segment, &topics)?;
            // What cannot be removed stays, with all that follows it.
            match self.files.remove(&segment.name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => is_removed = true,
            }
            let mut state = self.state_mut();
            let state = &mut *state;
            state.sealed.pop_front();
            state.oldest = state.oldest.max(segment.next());
            for (topic, events) in gone {
                state.ruled.forget(&topic, events, state.oldest);
            }
        }
        if is_removed {
            self.files.sync()?;
        }
        Ok(())
    }

    /// Makes the keys durable anew that leave with a segment. Where that cannot be done now, room comes
    /// first: they are remembered all the same, and made durable once it can. Where it cannot be done
    /// any more, nothing more is written either, and the segment stays.
    fn carry_on(&self, leaving: &Sealed, now: UnixMillis) -> Result<(), TrimError> {
        let mut owed = std::mem::take(&mut self.state_mut().owed_keys);
        // Once, however often the removal of the segment has to be tried.
        if self.state().carried_from <= leaving.base() {
            owed.extend(leaving.footer.keys(&*leaving.file)?);
            self.state_mut().carried_from = leaving.base() + 1;
        }
        let held = self.state().ledger.still_held(owed, now);
        match self.carry_keys(&held, now) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.state_mut().owed_keys = held;
                if self.is_dead() { Err(error.into()) } else { Ok(()) }
            }
        }
    }

    /// The oldest segment, if it may leave.
    fn removable(&self) -> Option<Arc<Sealed>> {
        let state = self.state();
        let oldest = state.sealed.front()?;
        let sealed_bytes: u64 = state.sealed.iter().map(|segment| segment.file_bytes).sum();
        let bytes = sealed_bytes + state.open.end;
        let is_too_much = bytes > self.options.retention.bytes_max;
        (oldest.next() <= state.oldest || is_too_much).then(|| Arc::clone(oldest))
    }

    /// How many events of each topic stand in a segment that are counted as kept.
    fn count_kept(
        &self,
        segment: &Sealed,
        topics: &[(Topic, u64)],
    ) -> Result<Vec<(Topic, u64)>, TrimError> {
        let mut kept = Vec::new();
        for (topic, _) in topics {
            let first = self.state().ruled.surplus_of(topic) + 1;
            kept.push((topic.clone(), self.count_from(segment, topic, first)?));
        }
        Ok(kept)
    }

    /// How many events of a topic stand in a segment from an offset on.
    fn count_from(&self, segment: &Sealed, topic: &Topic, first: u64) -> Result<u64, Fault> {
        segment.count_from(self.identity.seed.topic_hash(topic), first)
    }

    /// Writes one segment anew of which at least half is dropped.
    fn rewrite_one(&self) -> Result<(), TrimError> {
        if !self.has_rules() {
            return Ok(());
        }
        let Some(segment) = self.next_to_look_at() else { return Ok(()) };
        let file = &*segment.file;
        let topics = segment.footer.topics(file)?;
        let (mut all, mut dropped) = (0, 0);
        for (topic, events) in &topics {
            all += events;
            let kept_from = self.state().ruled.kept_from(topic);
            dropped += events.saturating_sub(self.count_from(&segment, topic, kept_from)?);
        }
        if dropped * 2 < all || dropped == 0 {
            return Ok(());
        }
        let rewritten = Arc::new(self.rewrite(&segment, &topics)?);
        tracing::debug!(
            segment = segment.name,
            before = segment.file_bytes,
            after = rewritten.file_bytes,
            "a segment was written anew without what rules dropped"
        );
        let before = self.count_kept(&segment, &topics)?;
        let after = self.count_kept(&rewritten, &topics)?;
        let mut state = self.state_mut();
        let state = &mut *state;
        let place = state.sealed.iter().position(|held| held.base() == segment.base());
        if let Some(place) = place {
            state.sealed[place] = rewritten;
        }
        // What was too old was counted until now.
        for ((topic, before), (_, after)) in before.into_iter().zip(after) {
            state.ruled.forget(&topic, before.saturating_sub(after), state.oldest);
        }
        Ok(())
    }

    /// The sealed segments in turn, one with each trim.
    fn next_to_look_at(&self) -> Option<Arc<Sealed>> {
        let mut state = self.state_mut();
        let place = state.looked_at.checked_rem(state.sealed.len())?;
        state.looked_at = place + 1;
        state.sealed.get(place).cloned()
    }

    fn rewrite(&self, segment: &Sealed, topics: &[(Topic, u64)]) -> Result<Sealed, TrimError> {
        let seed = self.identity.seed;
        let header = Header { salt: random_bits()?, is_rewritten: true, ..segment.header };
        let mut index = OpenIndex::default();
        let mut memory = TopicMemory::default();
        let draft = format!("{}{DRAFT_SUFFIX}", segment.name);
        let file = self.files.create(&draft)?;
        let checksum = Checksum::new(header.salt);
        file.write_at(&header.write(), 0)?;
        let (mut end, mut batch) = (HEADER_BYTES as u64, 0);
        let mut buffer = Vec::new();
        let mut records = segment.records(end);
        while let Some(stored) = records.next()? {
            if stored.head.holds_keys() {
                continue;
            }
            let Some(entry) = stored.entry(&mut memory) else { continue };
            if !self.state().ruled.is_kept(entry.offset, &entry.topics) {
                continue;
            }
            batch += 1;
            let position = end + buffer.len() as u64;
            stored.write_alone(batch, &checksum, &mut buffer);
            add_stored(&mut index, &stored, position, segment.base(), None, &mut memory);
            if buffer.len() >= WRITE_BYTES {
                file.write_at(&buffer, end)?;
                end += buffer.len() as u64;
                buffer.clear();
            }
        }
        // Keys, and what rules dropped, are remembered beyond the events they belong to.
        index.add_key_runs(&segment.footer.keys(&*segment.file)?);
        let mut dropped = segment.footer.remembered(&*segment.file)?.dropped;
        {
            let state = self.state();
            for (topic, _) in topics {
                if let Some(offset) = state.ruled.surplus_since(topic, segment.base()) {
                    dropped.push((topic.clone(), offset));
                }
            }
        }
        dropped.sort();
        dropped.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            earlier.1 = if is_same { later.1.max(earlier.1) } else { earlier.1 };
            is_same
        });
        dropped.into_iter().for_each(|(topic, offset)| index.add_dropped(topic, offset));
        let data_end = end + buffer.len() as u64;
        let frame =
            Frame { salt: header.salt, base: segment.base(), next: segment.next(), data_end };
        index.write_footer(frame, seed, &mut buffer);
        file.write_at(&buffer, end)?;
        file.sync()?;
        self.files.rename(&draft, &segment.name)?;
        self.files.sync()?;
        let name = segment.name.clone();
        let footer = Footer::read(&*file, &name, header.salt)?;
        let footer = footer.ok_or_else(|| TrimError::Fault("it is not as written".to_owned()))?;
        let file_bytes = file.len()?;
        Ok(Sealed { file, name, header, footer, file_bytes })
    }
}

/// How much is written at once.
const WRITE_BYTES: usize = 1 << 20;
