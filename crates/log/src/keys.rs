//! The idempotency keys that are remembered, and the offsets they stand for.
//!
//! Keys that count up (`import-7:1`, `import-7:2`, ..) over offsets that do so too are one run, so an
//! import of any length takes little memory. Keys are held as keyed hashes of 128 bits: whoever
//! chooses keys cannot choose what they are mistaken for.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip128::{Hasher128, SipHasher13};

use tidings_core::Topic;

use crate::{Key, UnixMillis};

/// How long keys are remembered, and how many.
#[derive(Debug, Clone, Copy)]
pub struct KeyWindow {
    /// Milliseconds to remember a key.
    pub age_max_ms: u64,
    /// Runs of keys to remember at most: a key without a number is a run of its own. The oldest are
    /// forgotten first. A run takes about 150 bytes of memory.
    pub runs_max: usize,
}

impl Default for KeyWindow {
    /// 24 hours, 1,000,000 runs.
    fn default() -> Self {
        Self { age_max_ms: 24 * 60 * 60 * 1000, runs_max: 1_000_000 }
    }
}

/// A key as it is held: what stands before its number, hashed, and the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyId {
    pub(crate) prefix: u128,
    pub(crate) number: u64,
}

/// What makes the hashes of a log its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashSeed(pub(crate) u64, pub(crate) u64);

impl HashSeed {
    /// One that nobody can guess, as good as the standard library's own.
    pub(crate) fn random() -> Self {
        let draw = || RandomState::new().build_hasher().finish();
        Self(draw(), draw())
    }

    pub(crate) fn key_id(self, key: &Key) -> KeyId {
        let text = key.as_str();
        let digits = text.len() - text.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, digits) = text.split_at(digits);
        let is_canonical = digits == "0" || !digits.starts_with('0');
        let number = digits.parse().ok().filter(|_| is_canonical && prefix.ends_with(':'));
        match number {
            Some(number) => KeyId { prefix: self.hash(NUMBERED, prefix), number },
            None => KeyId { prefix: self.hash(WHOLE, text), number: 0 },
        }
    }

    /// Where a topic stands in an index.
    pub(crate) fn topic_hash(self, topic: &Topic) -> u64 {
        self.hash(TOPIC, topic.as_str()) as u64
    }

    fn hash(self, kind: u8, text: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write_u8(kind);
        hasher.write(text.as_bytes());
        hasher.finish128().as_u128()
    }
}

/// Keys `number`, `number + 1`, .. that stand for `offset`, `offset + 1`, ..
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRun {
    pub(crate) id: KeyId,
    pub(crate) offset: u64,
    pub(crate) count: u64,
    /// When the last of them was appended.
    pub(crate) at: UnixMillis,
}

impl KeyRun {
    /// Takes in the next key if it goes on where this run ends.
    pub(crate) fn extend(&mut self, id: KeyId, offset: u64, at: UnixMillis) -> bool {
        let goes_on = self.id.prefix == id.prefix
            && self.id.number.checked_add(self.count) == Some(id.number)
            && self.offset + self.count == offset;
        if goes_on {
            self.count += 1;
            self.at = at;
        }
        goes_on
    }
}

/// The keys of a log.
#[derive(Debug)]
pub(crate) struct Keys {
    window: KeyWindow,
    runs: BTreeMap<KeyId, Held>,
    /// The runs in the order in which they may be forgotten, with the time that was true when they
    /// were put here.
    oldest: VecDeque<(UnixMillis, KeyId)>,
}

#[derive(Debug)]
struct Held {
    offset: u64,
    count: u64,
    at: UnixMillis,
}

impl Keys {
    pub(crate) fn new(window: KeyWindow) -> Self {
        Self { window, runs: BTreeMap::new(), oldest: VecDeque::new() }
    }

    /// The offset a key stands for.
    pub(crate) fn offset(&self, id: KeyId, now: UnixMillis) -> Option<u64> {
        let (first, run) = self.runs.range(..=id).next_back()?;
        let place = id.number - first.number.min(id.number);
        let stands = first.prefix == id.prefix
            && place < run.count
            && run.at.saturating_add(self.window.age_max_ms) >= now;
        stands.then_some(run.offset + place)
    }

    /// Remembers a key, newer than all others.
    pub(crate) fn insert(&mut self, id: KeyId, offset: u64, at: UnixMillis) {
        self.insert_run(KeyRun { id, offset, count: 1, at });
    }

    /// Remembers a run of keys, newer than all others.
    pub(crate) fn insert_run(&mut self, run: KeyRun) {
        let before = self.runs.range_mut(..=run.id).next_back();
        // It goes on where another ends, or within it.
        if let Some((first, held)) = before
            && first.prefix == run.id.prefix
            && run.id.number - first.number <= held.count
            && held.offset + (run.id.number - first.number) == run.offset
        {
            held.count = held.count.max(run.id.number - first.number + run.count);
            held.at = held.at.max(run.at);
            return;
        }
        let KeyRun { id, offset, count, at } = run;
        self.runs.insert(id, Held { offset, count, at });
        self.oldest.push_back((at, id));
        if self.runs.len() > self.window.runs_max {
            self.forget_oldest();
        }
    }

    /// Forgets what is older than the window.
    pub(crate) fn expire(&mut self, now: UnixMillis) {
        let cut = now.saturating_sub(self.window.age_max_ms);
        while let Some(&(at, id)) = self.oldest.front()
            && at < cut
        {
            self.oldest.pop_front();
            match self.runs.get(&id).map(|run| run.at) {
                Some(newer) if newer > at => self.oldest.push_back((newer, id)),
                _ => drop(self.runs.remove(&id)),
            }
        }
    }

    fn forget_oldest(&mut self) {
        for _ in 0..self.oldest.len() {
            let Some((at, id)) = self.oldest.pop_front() else { return };
            match self.runs.get(&id).map(|run| run.at) {
                Some(newer) if newer > at => self.oldest.push_back((newer, id)),
                Some(_) => {
                    self.runs.remove(&id);
                    return;
                }
                None => {}
            }
        }
        // All of them went on since they were looked at last: then the first is as good as any.
        if let Some((_, id)) = self.oldest.pop_front() {
            self.runs.remove(&id);
        }
    }
}

/// Keys that are held whole, and those that are held by what stands before their number.
const WHOLE: u8 = 0;
const NUMBERED: u8 = 1;
const TOPIC: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: HashSeed = HashSeed(1, 2);

    fn id(text: &str) -> KeyId {
        SEED.key_id(&Key::parse(text).unwrap())
    }

    fn keys(age_max_ms: u64, runs_max: usize, appended: &[(&str, u64, u64)]) -> Keys {
        let mut keys = Keys::new(KeyWindow { age_max_ms, runs_max });
        for &(key, offset, at) in appended {
            keys.insert(id(key), offset, at);
        }
        keys
    }

    #[test]
    fn keys_are_told_apart() {
        let texts = ["a", "a:", "a:0", "a:1", "a:00", "a:01", "b:1", "a1", "1", ":1", "a::1"];
        let ids: std::collections::HashSet<_> = texts.iter().map(|text| id(text)).collect();
        assert_eq!(ids.len(), texts.len());
        let beyond = "a:18446744073709551616";
        assert_eq!(id(beyond).number, 0);
        assert_eq!(id("a:18446744073709551615").number, u64::MAX);
    }

    #[test]
    fn a_key_answers_its_first_offset_within_the_window() {
        let keys = keys(100, 10, &[("a", 5, 1_000), ("p:7", 6, 1_000), ("p:8", 7, 1_050)]);
        for (key, now, expected) in [
            ("a", 1_100, Some(5)),
            ("a", 1_101, None),
            ("p:7", 1_150, Some(6)),
            ("p:8", 1_150, Some(7)),
            ("p:9", 1_000, None),
            ("p:6", 1_000, None),
            ("b", 1_000, None),
        ] {
            assert_eq!(keys.offset(id(key), now), expected, "{key} at {now}");
        }
    }

    #[test]
    fn keys_that_count_up_take_one_place() {
        let many: Vec<_> = (0..10_000).map(|number| format!("p:{number}")).collect();
        let appended: Vec<_> = many.iter().zip(1..).map(|(key, at)| (&**key, at, at)).collect();
        let keys = keys(1_000_000, 2, &appended);
        assert_eq!((keys.runs.len(), keys.oldest.len()), (1, 1));
        assert_eq!(keys.offset(id("p:0"), 0), Some(1));
        assert_eq!(keys.offset(id("p:9999"), 0), Some(10_000));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut some = keys(100, 2, &[("a", 1, 0), ("b", 2, 10), ("c", 3, 20)]);
        assert_eq!(["a", "b", "c"].map(|key| some.offset(id(key), 20)), [None, Some(2), Some(3)]);
        some.expire(111);
        assert_eq!((some.runs.len(), some.oldest.len()), (1, 1));
        // A run that goes on stays as long as its last key.
        let mut run = keys(100, 2, &[("p:1", 1, 0), ("x", 2, 50), ("p:1", 9, 60)]);
        run.insert(id("p:2"), 10, 90);
        run.expire(180);
        assert_eq!((run.offset(id("p:2"), 180), run.offset(id("x"), 150)), (Some(10), None));
    }
}
