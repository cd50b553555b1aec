//! A set of keys that is a plain slice to read, for one key as well as for a hundred thousand.

use std::{collections::HashMap, hash::Hash};

use crate::short_vec::ShortVec;

/// Keys without duplicates, in an order that depends on its history alone.
///
/// Up to [`SCAN_MAX`] keys it is searched from end to end; beyond, an index makes insertion and
/// removal take constant time.
#[derive(Clone, Debug)]
pub(super) struct KeySet<K> {
    keys: ShortVec<K>,
    #[expect(clippy::box_collection, reason = "a table inside would double the size of a topic")]
    place_of: Option<Box<HashMap<K, usize>>>,
}

/// What became of a key that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It was not there.
    Absent,
    /// It was there, and so are others.
    SomeLeft,
    /// It was the last one.
    NoneLeft,
}

impl<K: Copy + Eq + Hash> KeySet<K> {
    /// Makes an empty set; allocates nothing.
    pub(super) fn new() -> Self {
        Self { keys: ShortVec::Empty, place_of: None }
    }

    /// Returns false if `key` is there already.
    pub(super) fn insert(&mut self, key: K) -> bool {
        if self.place_of(key).is_some() {
            return false;
        }
        self.keys.push(key);
        if let Some(places) = &mut self.place_of {
            places.insert(key, self.keys.len() - 1);
        } else if self.keys.len() > SCAN_MAX {
            self.place_of = Some(Box::new(self.as_slice().iter().copied().zip(0..).collect()));
        }
        true
    }

    pub(super) fn remove(&mut self, key: K) -> Removal {
        let Some(place) = self.place_of(key) else { return Removal::Absent };
        self.keys.swap_remove(place);
        if let Some(places) = &mut self.place_of {
            places.remove(&key);
            if let Some(&moved) = self.keys.as_slice().get(place) {
                places.insert(moved, place);
            }
        }
        self.shrink_places();
        if self.keys.is_empty() { Removal::NoneLeft } else { Removal::SomeLeft }
    }

    pub(super) fn as_slice(&self) -> &[K] {
        self.keys.as_slice()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn place_of(&self, key: K) -> Option<usize> {
        match &self.place_of {
            Some(places) => places.get(&key).copied(),
            None => self.as_slice().iter().position(|&known| known == key),
        }
    }

    /// Gives memory back when three quarters are unused, which keeps removal constant on average.
    fn shrink_places(&mut self) {
        let Some(places) = &mut self.place_of else { return };
        if self.keys.len() * 2 <= SCAN_MAX {
            self.place_of = None;
        } else if self.keys.len() * 4 <= places.capacity() {
            places.shrink_to(self.keys.len() * 2);
        }
    }
}

/// Comparing 32 small keys is quicker than hashing one.
const SCAN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys go in and out in bulk, so that the set crosses [`SCAN_MAX`] in both directions.
        #[test]
        fn holds_what_a_tree_would(
            steps in prop::collection::vec((any::<bool>(), 0u32..100, 1u32..50), 0..40),
        ) {
            let mut set = KeySet::new();
            let mut tree = BTreeSet::new();
            for (inserts, first, count) in steps {
                for key in first..first + count {
                    if inserts {
                        prop_assert_eq!(set.insert(key), tree.insert(key));
                    } else {
                        let expected = match (tree.remove(&key), tree.is_empty()) {
                            (false, _) => Removal::Absent,
                            (true, false) => Removal::SomeLeft,
                            (true, true) => Removal::NoneLeft,
                        };
                        prop_assert_eq!(set.remove(key), expected);
                    }
                }
                let mut keys = set.as_slice().to_vec();
                keys.sort_unstable();
                prop_assert!(keys.iter().eq(&tree));
            }
        }
    }

    #[test]
    fn an_emptied_set_holds_no_memory() {
        for count in [1, 32, 33, 10_000] {
            let mut set = KeySet::new();
            (0..count).for_each(|key| assert!(set.insert(key)));
            (0..count).for_each(|key| assert_ne!(set.remove(key), Removal::Absent));
            assert!(matches!(set.keys, ShortVec::Empty) && set.place_of.is_none(), "{count}");
        }
    }
}
