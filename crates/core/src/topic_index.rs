//! From the topics of an event to those who asked for it, without looking at the others.
//!
//! Exact topics are found by hash. Templates are kept once for each text and found by hash of
//! their literal prefix: a lookup tries each length that some prefix has, so only templates whose
//! prefix the topic begins with are matched, however many subscribers share them.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use crate::{
    selector::Selector,
    template::{Template, TopicBits},
    topic::Topic,
};

mod key_set;

use key_set::{KeySet, Removal};

/// Maps selectors to keys, such as those of subscribers.
///
/// A key may stand under any number of selectors, and once under each. Memory is proportional to
/// the pairs of selector and key held now.
#[derive(Clone, Debug)]
pub struct TopicIndex<K> {
    all: KeySet<K>,
    exact: HashMap<Topic, KeySet<K>>,
    templates: HashMap<Box<str>, PrefixGroup<K>>,
    /// How many different prefixes in `templates` have each length in bytes.
    prefix_lengths: BTreeMap<usize, usize>,
    selector_count: usize,
}

/// The templates with one literal prefix; at least one.
#[derive(Clone, Debug)]
struct PrefixGroup<K> {
    entries: Vec<TemplateEntry<K>>,
    place_of: HashMap<Arc<Template>, usize>,
}

/// One template and everyone who uses it; at least one key.
#[derive(Clone, Debug)]
struct TemplateEntry<K> {
    template: Arc<Template>,
    keys: KeySet<K>,
}

/// What a lookup did: numbers that do not depend on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    /// Lookups by hash.
    probes: usize,
    /// Templates held against a topic.
    templates: usize,
    /// Sets of keys that were copied out.
    sets: usize,
}

impl<K: Copy + Ord + Hash> TopicIndex<K> {
    /// Makes an empty index; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            all: KeySet::new(),
            exact: HashMap::new(),
            templates: HashMap::new(),
            prefix_lengths: BTreeMap::new(),
            selector_count: 0,
        }
    }

    /// Puts `key` under `selector`; returns false if it was there.
    pub fn insert(&mut self, selector: &Selector, key: K) -> bool {
        let keys = match selector {
            Selector::All => &mut self.all,
            Selector::Exact(topic) => self.exact.entry(topic.clone()).or_insert_with(KeySet::new),
            Selector::Template(template) => self.template_keys(template),
        };
        let is_new_selector = keys.is_empty();
        let is_new_key = keys.insert(key);
        self.selector_count += usize::from(is_new_selector);
        is_new_key
    }

    /// Takes `key` from under `selector`; returns false if it was not there.
    ///
    /// Frees what is held for the selector with its last key.
    pub fn remove(&mut self, selector: &Selector, key: K) -> bool {
        let removal = match selector {
            Selector::All => self.all.remove(key),
            Selector::Exact(topic) => self.remove_exact(topic, key),
            Selector::Template(template) => self.remove_template(template, key),
        };
        self.selector_count -= usize::from(removal == Removal::NoneLeft);
        removal != Removal::Absent
    }

    /// Appends the keys under all selectors that contain one of `topics` to `out`, each key once.
    ///
    /// Keys of a single selector are copied as they are, in an order that depends on the history of
    /// the index alone. When several selectors contribute, the appended part is sorted and
    /// duplicates are dropped, so the common case of one topic with one selector never pays for
    /// that. What is in `out` before is left alone.
    pub fn matches(&self, topics: &[Topic], out: &mut Vec<K>) {
        self.matches_counted(topics, out);
    }

    /// Returns the number of different selectors that hold a key.
    #[must_use]
    pub fn selector_count(&self) -> usize {
        self.selector_count
    }

    /// Tells whether no selector holds a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.selector_count == 0
    }

    fn matches_counted(&self, topics: &[Topic], out: &mut Vec<K>) -> Work {
        let start = out.len();
        let mut work = Work::default();
        if !topics.is_empty() && !self.all.is_empty() {
            work.sets += 1;
            out.extend_from_slice(self.all.as_slice());
        }
        for (nth, topic) in topics.iter().enumerate() {
            if topics[..nth].contains(topic) {
                continue;
            }
            work.probes += 1;
            if let Some(keys) = self.exact.get(topic) {
                work.sets += 1;
                out.extend_from_slice(keys.as_slice());
            }
            self.template_matches(topic, &topics[..nth], out, &mut work);
        }
        if work.sets > 1 {
            sort_and_dedup_from(out, start);
        }
        work
    }

    /// Appends the keys of the templates that match `topic` and none of the `earlier` ones.
    fn template_matches(
        &self,
        topic: &Topic,
        earlier: &[Topic],
        out: &mut Vec<K>,
        work: &mut Work,
    ) {
        let bits = TopicBits::new(topic);
        for &length in self.prefix_lengths.keys() {
            // A prefix longer than the topic, or one that would end inside a character, is none.
            let Some(prefix) = topic.as_str().get(..length) else { continue };
            work.probes += 1;
            for entry in self.templates.get(prefix).iter().flat_map(|group| &group.entries) {
                work.templates += 1;
                let is_match = entry.template.matches_bits(&bits)
                    && !earlier.iter().any(|topic| entry.template.matches(topic));
                if is_match {
                    work.sets += 1;
                    out.extend_from_slice(entry.keys.as_slice());
                }
            }
        }
    }

    fn template_keys(&mut self, template: &Arc<Template>) -> &mut KeySet<K> {
        let prefix = template.literal_prefix();
        if !self.templates.contains_key(prefix) {
            *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
            self.templates.insert(prefix.into(), PrefixGroup::new());
        }
        self.templates.get_mut(prefix).expect("was put there if absent").keys_or_new(template)
    }

    fn remove_exact(&mut self, topic: &Topic, key: K) -> Removal {
        let Some(keys) = self.exact.get_mut(topic) else { return Removal::Absent };
        let removal = keys.remove(key);
        if removal == Removal::NoneLeft {
            self.exact.remove(topic);
            shrink(&mut self.exact);
        }
        removal
    }

    fn remove_template(&mut self, template: &Arc<Template>, key: K) -> Removal {
        let prefix = template.literal_prefix();
        let Some(group) = self.templates.get_mut(prefix) else { return Removal::Absent };
        let removal = group.remove(template, key);
        if group.entries.is_empty() {
            self.templates.remove(prefix);
            shrink(&mut self.templates);
            self.forget_prefix_length(prefix.len());
        }
        removal
    }

    fn forget_prefix_length(&mut self, length: usize) {
        let count = self.prefix_lengths.get_mut(&length).expect("each prefix is counted");
        *count -= 1;
        if *count == 0 {
            self.prefix_lengths.remove(&length);
        }
    }
}

impl<K: Copy + Ord + Hash> Default for TopicIndex<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash> PrefixGroup<K> {
    fn new() -> Self {
        Self { entries: Vec::with_capacity(1), place_of: HashMap::new() }
    }

    fn keys_or_new(&mut self, template: &Arc<Template>) -> &mut KeySet<K> {
        let place = *self.place_of.entry(template.clone()).or_insert_with(|| {
            let template = template.clone();
            self.entries.push(TemplateEntry { template, keys: KeySet::new() });
            self.entries.len() - 1
        });
        &mut self.entries[place].keys
    }

    fn remove(&mut self, template: &Arc<Template>, key: K) -> Removal {
        let Some(&place) = self.place_of.get(template) else { return Removal::Absent };
        let removal = self.entries[place].keys.remove(key);
        if removal == Removal::NoneLeft {
            self.entries.swap_remove(place);
            self.place_of.remove(template);
            shrink(&mut self.place_of);
            if let Some(moved) = self.entries.get(place) {
                self.place_of.insert(moved.template.clone(), place);
            }
        }
        removal
    }
}

/// Gives memory back when three quarters are unused, which keeps removal constant on average.
fn shrink<Q: Eq + Hash, V>(map: &mut HashMap<Q, V>) {
    if map.len() * 4 <= map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}

fn sort_and_dedup_from<K: Copy + Ord>(keys: &mut Vec<K>, start: usize) {
    let appended = &mut keys[start..];
    appended.sort_unstable();
    let mut kept = 0;
    for place in 0..appended.len() {
        if place == 0 || appended[place] != appended[kept - 1] {
            appended[kept] = appended[place];
            kept += 1;
        }
    }
    keys.truncate(start + kept);
}

#[cfg(test)]
mod tests;
