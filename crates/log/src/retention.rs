//! What a log keeps: bounds for all events, and closer ones for the topics of a selector.

use std::collections::HashMap;

use tidings_core::{Interest, Selector, Topic};

use crate::{Ring, UnixMillis};

/// How much a log keeps: each bound holds by itself, the oldest events leave first.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Events to keep at most, at least 1.
    pub events_max: u64,
    /// Bytes to keep at most, as the log counts them. The newest event is kept even if it alone is
    /// larger.
    pub bytes_max: u64,
    /// Milliseconds to keep an event at most.
    pub age_max_ms: u64,
    /// Closer bounds for some topics. The first rule whose selector matches a topic holds for it;
    /// an event stays for as long as one of its topics keeps it.
    pub rules: Vec<RetentionRule>,
}

/// Bounds for each topic that a selector matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// The topics it holds for.
    pub topics: Selector,
    /// Events to keep of each of the topics, at least 1.
    pub events_max: Option<u64>,
    /// Milliseconds to keep an event.
    pub age_max_ms: Option<u64>,
}

/// The rules, and how far each has let go.
///
/// What a rule drops of a topic is always its oldest events, so one offset for each topic says what
/// is gone. About 100 bytes of memory for each topic under a rule that counts.
#[derive(Debug)]
pub(crate) struct RuledTopics {
    rules: Vec<RetentionRule>,
    /// For each rule: what lies below is too old.
    aged: Vec<u64>,
    /// For each rule: the highest offset it dropped for being one too many.
    surplus: Vec<u64>,
    /// The topics of rules that count.
    counted: HashMap<Topic, Counted>,
    /// Those that have more than their rule keeps.
    overfull: Vec<Topic>,
}

/// What rules have dropped.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// The entries that no topic keeps any more.
    pub(crate) offsets: Vec<u64>,
    /// The topics that had too many events, and up to which offset they have lost them.
    pub(crate) surpluses: Vec<(Topic, u64)>,
}

#[derive(Debug)]
struct Counted {
    rule: usize,
    /// Events above `dropped`.
    kept: u64,
    /// The highest offset that was dropped for being one too many; 0 for none.
    dropped: u64,
}

impl RuledTopics {
    pub(crate) fn new(rules: Vec<RetentionRule>) -> Self {
        let none = vec![0; rules.len()];
        Self {
            rules,
            aged: none.clone(),
            surplus: none,
            counted: HashMap::new(),
            overfull: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule holds for a topic.
    pub(crate) fn is_ruled(&self, topic: &Topic) -> bool {
        self.counted.contains_key(topic) || self.rule_of(topic).is_some()
    }

    /// Whether a rule may hold for something that interests someone; false only if none does.
    pub(crate) fn may_concern(&self, interest: &Interest) -> bool {
        match interest.exact_topics() {
            Some(mut topics) => topics.any(|topic| self.is_ruled(topic)),
            None => self.rules.iter().any(|rule| may_meet(interest, &rule.topics)),
        }
    }

    /// Whether an event is kept under at least one of its topics.
    pub(crate) fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        self.rules.is_empty() || topics.iter().any(|topic| self.keeps(offset, topic))
    }

    /// Whether an event is kept under one of its topics.
    pub(crate) fn keeps(&self, offset: u64, topic: &Topic) -> bool {
        match self.counted.get(topic) {
            Some(counted) => offset > counted.dropped && offset >= self.aged[counted.rule],
            None => self.rule_of(topic).is_none_or(|rule| offset >= self.aged[rule]),
        }
    }

    /// The highest offset from `from` on at which something that interests someone may be gone.
    /// For exact topics under a rule that counts this is exact; elsewhere it may name more, never
    /// less.
    pub(crate) fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        if self.rules.is_empty() {
            return None;
        }
        let highest = match interest.exact_topics() {
            Some(topics) => topics.map(|topic| self.dropped_of(topic)).max(),
            None => {
                let rules = self.rules.iter().enumerate();
                let met = rules.filter(|(_, rule)| may_meet(interest, &rule.topics));
                met.map(|(rule, _)| self.aged[rule].saturating_sub(1).max(self.surplus[rule])).max()
            }
        };
        highest.filter(|&offset| offset >= from && offset > 0)
    }

    /// Takes note of new events of a topic.
    pub(crate) fn count(&mut self, topic: &Topic, events: u64) {
        if self.rules.is_empty() || events == 0 {
            return;
        }
        if !self.counted.contains_key(topic) {
            let Some(rule) = self.rule_of(topic) else { return };
            if self.rules[rule].events_max.is_none() {
                return;
            }
            self.counted.insert(topic.clone(), Counted { rule, kept: 0, dropped: 0 });
        }
        let Some(counted) = self.counted.get_mut(topic) else { return };
        let events_max = self.rules[counted.rule].events_max.unwrap_or(u64::MAX);
        let was_within = counted.kept <= events_max;
        counted.kept += events;
        if was_within && counted.kept > events_max {
            self.overfull.push(topic.clone());
        }
    }

    /// Takes note that a topic has lost events up to an offset, as the log remembers it.
    pub(crate) fn note_dropped(&mut self, topic: &Topic, offset: u64) {
        let Some(rule) = self.rule_of(topic) else { return };
        if self.rules[rule].events_max.is_some() {
            let counted = self.counted.entry(topic.clone());
            let counted = counted.or_insert(Counted { rule, kept: 0, dropped: 0 });
            counted.dropped = counted.dropped.max(offset);
        } else {
            // It was too old then, and so was what is older.
            self.drop_aged(rule, offset + 1);
        }
        self.surplus[rule] = self.surplus[rule].max(offset);
    }

    /// Takes note that events of a topic have left the log with everything else of their age.
    /// `events` counts those above what the rule had dropped, as [`surplus_of`](Self::surplus_of) says.
    pub(crate) fn forget(&mut self, topic: &Topic, events: u64, oldest: u64) {
        let Some(counted) = self.counted.get_mut(topic) else { return };
        counted.kept = counted.kept.saturating_sub(events);
        if counted.kept == 0 && counted.dropped < oldest {
            self.counted.remove(topic);
        }
    }

    /// The highest offset of a topic that was dropped for being one too many; 0 for none.
    pub(crate) fn surplus_of(&self, topic: &Topic) -> u64 {
        self.counted.get(topic).map_or(0, |counted| counted.dropped)
    }

    /// For each rule with a bound on age: its number and the time before which it drops.
    pub(crate) fn age_cuts(&self, now: UnixMillis) -> Vec<(usize, UnixMillis)> {
        let rules = self.rules.iter().enumerate();
        let cut = |(rule, it): (usize, &RetentionRule)| {
            it.age_max_ms.map(|age_max_ms| (rule, now.saturating_sub(age_max_ms)))
        };
        rules.filter_map(cut).collect()
    }

    /// Lets go of what is too old or too much in a ring that holds the events of a log, or at least
    /// those under its rules. What is dropped stays in the ring until it is removed.
    ///
    /// Looks only at what may have become too much since the last time, and at `suspects`.
    pub(crate) fn enforce<P>(
        &mut self,
        ring: &Ring<P>,
        now: UnixMillis,
        appended_at: impl Fn(&P) -> UnixMillis,
        mut suspects: Vec<u64>,
    ) -> Dropped {
        for (rule, since) in self.age_cuts(now) {
            let bounds = ring.bounds();
            for offset in self.aged[rule].max(bounds.oldest)..bounds.next {
                let Some(entry) = ring.get(offset) else { continue };
                if appended_at(&entry.payload) >= since {
                    break;
                }
                suspects.push(offset);
                self.drop_aged(rule, offset + 1);
            }
        }
        let mut surpluses = Vec::new();
        for (topic, mut dropped, surplus) in self.take_overfull() {
            for _ in 0..surplus {
                let Some(next) = ring.first_under(&topic, dropped + 1) else { break };
                suspects.push(next);
                dropped = next;
            }
            self.drop_surplus(&topic, dropped, surplus);
            surpluses.push((topic, dropped));
        }
        suspects.sort_unstable();
        suspects.dedup();
        let is_gone = |offset: &u64| {
            ring.get(*offset).is_some_and(|entry| !self.is_kept(*offset, &entry.topics))
        };
        suspects.retain(is_gone);
        Dropped { offsets: suspects, surpluses }
    }

    /// Drops everything below an offset for being too old.
    pub(crate) fn drop_aged(&mut self, rule: usize, below: u64) {
        self.aged[rule] = self.aged[rule].max(below);
    }

    /// The topics that have too many events: the offset after which their kept events begin, and how
    /// many are too many. Answer each with [`drop_surplus`](Self::drop_surplus).
    pub(crate) fn take_overfull(&mut self) -> Vec<(Topic, u64, u64)> {
        let mut overfull = std::mem::take(&mut self.overfull);
        // A topic that was within its bound for a while is noted again when it is not.
        overfull.sort_unstable();
        overfull.dedup();
        let surplus = |topic: Topic| {
            let counted = self.counted.get(&topic)?;
            let events_max = self.rules[counted.rule].events_max?;
            Some((topic, counted.dropped, counted.kept.checked_sub(events_max)?))
        };
        overfull.into_iter().filter_map(surplus).collect()
    }

    /// Drops the oldest events of a topic, `events` of them, up to an offset.
    pub(crate) fn drop_surplus(&mut self, topic: &Topic, up_to: u64, events: u64) {
        let Some(counted) = self.counted.get_mut(topic) else { return };
        counted.dropped = counted.dropped.max(up_to);
        counted.kept = counted.kept.saturating_sub(events);
        let surplus = &mut self.surplus[counted.rule];
        *surplus = (*surplus).max(up_to);
        let events_max = self.rules[counted.rule].events_max.unwrap_or(u64::MAX);
        if counted.kept > events_max {
            self.overfull.push(topic.clone());
        }
    }

    /// Puts a topic back that could not be dealt with.
    pub(crate) fn postpone(&mut self, topic: Topic) {
        self.overfull.push(topic);
    }

    /// The topics that a rule counts, with what it has dropped, if that is at or above `base`.
    pub(crate) fn surplus_since(&self, topic: &Topic, base: u64) -> Option<u64> {
        Some(self.surplus_of(topic)).filter(|&dropped| dropped >= base)
    }

    /// Below which offset nothing of a topic is kept.
    pub(crate) fn kept_from(&self, topic: &Topic) -> u64 {
        self.dropped_of(topic) + 1
    }

    fn dropped_of(&self, topic: &Topic) -> u64 {
        match self.counted.get(topic) {
            Some(counted) => counted.dropped.max(self.aged[counted.rule].saturating_sub(1)),
            None => self.rule_of(topic).map_or(0, |rule| self.aged[rule].saturating_sub(1)),
        }
    }

    fn rule_of(&self, topic: &Topic) -> Option<usize> {
        self.rules.iter().position(|rule| rule.topics.matches(topic))
    }
}

/// Whether an interest may want a topic that a rule's selector matches; false only if it cannot.
fn may_meet(interest: &Interest, rule: &Selector) -> bool {
    interest.selectors().iter().any(|selector| match (selector, rule) {
        (Selector::Exact(topic), rule) => rule.matches(topic),
        (selector, Selector::Exact(topic)) => selector.matches(topic),
        (selector, rule) => {
            let (one, other) = (literal_start(selector), literal_start(rule));
            one.starts_with(other) || other.starts_with(one)
        }
    })
}

/// What every topic of a pattern begins with: its text up to the first variable, or up to what an
/// expansion may write in another way.
fn literal_start(selector: &Selector) -> &str {
    let stays = |character: char| character.is_ascii_alphanumeric() || "-._~/:".contains(character);
    match selector {
        Selector::All => "",
        selector => {
            selector.as_str().split(|character| !stays(character)).next().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests;
