//! A bounded memory that forgets first what was not asked for.

use std::collections::HashMap;
use std::hash::Hash;

/// Two maps: what is asked for moves to the newer one, and when that is full, what is left in the
/// older one is forgotten.
#[derive(Debug)]
pub(crate) struct Halves<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    half_max: usize,
}

impl<K: Eq + Hash, V> Halves<K, V> {
    /// Holds `values_max` at most, or two.
    pub(crate) fn new(values_max: usize) -> Self {
        let half_max = (values_max / 2).max(1);
        Self { newer: HashMap::new(), older: HashMap::new(), half_max }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.older.remove_entry(key) {
            self.insert(key, value);
        }
        self.newer.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.older.remove(&key);
        if self.newer.len() >= self.half_max && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.newer.remove(key);
        self.older.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        for values_max in [4, 5, 100] {
            let mut halves = Halves::new(values_max);
            halves.insert(0, 0);
            for number in 1..1000 {
                halves.insert(number, number);
                assert_eq!(halves.get(&0), Some(&0), "after {number} of {values_max}");
                assert!(halves.newer.len() + halves.older.len() <= values_max);
                assert_eq!(halves.get(&number), Some(&number));
            }
        }
    }

    #[test]
    fn the_last_value_counts() {
        let mut halves = Halves::new(4);
        for number in 0..10 {
            halves.insert("a", number);
            halves.insert("b", number);
            halves.insert("c", number);
            assert_eq!(halves.get(&"a"), Some(&number));
        }
        halves.remove(&"a");
        assert_eq!(halves.get(&"a"), None);
    }
}
