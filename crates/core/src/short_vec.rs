//! A list that most often has one item, and needs no memory of its own for that.

/// Items in an order that depends on the history alone.
#[derive(Clone, Debug)]
pub(crate) enum ShortVec<T> {
    Empty,
    One(T),
    /// Two or more.
    #[expect(clippy::box_collection, reason = "a vector inside would double the size of a list")]
    Many(Box<Vec<T>>),
}

impl<T: Copy> ShortVec<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Empty => &[],
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(crate) fn push(&mut self, item: T) {
        match self {
            Self::Empty => *self = Self::One(item),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, item])),
            Self::Many(items) => items.push(item),
        }
    }

    /// Removes the item at `place` and puts the last one there.
    ///
    /// # Panics
    ///
    /// If there is none at `place`.
    pub(crate) fn swap_remove(&mut self, place: usize) {
        match self {
            Self::Empty => panic!("there is no item at {place}"),
            Self::One(_) => {
                assert_eq!(place, 0, "there is one item");
                *self = Self::Empty;
            }
            Self::Many(items) => {
                items.swap_remove(place);
                if let [only] = items[..] {
                    *self = Self::One(only);
                } else if items.len() * 4 <= items.capacity() {
                    // Three quarters are unused; giving them back now keeps removal constant on
                    // average.
                    items.shrink_to(items.len() * 2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_a_vector_would(steps in prop::collection::vec(any::<Option<u8>>(), 0..60)) {
            let (mut list, mut expected) = (ShortVec::Empty, Vec::new());
            for step in steps {
                match step {
                    Some(place) if !expected.is_empty() => {
                        let place = usize::from(place) % expected.len();
                        list.swap_remove(place);
                        expected.swap_remove(place);
                    }
                    _ => {
                        list.push(expected.len());
                        expected.push(expected.len());
                    }
                }
                prop_assert_eq!(list.as_slice(), &expected[..]);
                prop_assert_eq!(list.is_empty(), expected.is_empty());
                prop_assert_eq!(list.len(), expected.len());
            }
        }
    }
}
