//! How many of something each account holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::account::Account;

/// Counts places that are taken. What it remembers is as much as there are accounts with a place.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<Account, usize>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    account: Account,
}

impl Places {
    /// One more place for an account; `None` if it has as many as each may have now.
    pub(crate) fn take(self: &Arc<Self>, account: Account, each_max: usize) -> Option<Place> {
        let mut taken = self.lock();
        match taken.entry(account) {
            Entry::Occupied(count) if *count.get() >= each_max => return None,
            Entry::Vacant(_) if each_max == 0 => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(none) => drop(none.insert(1)),
        }
        Some(Place { places: Arc::clone(self), account })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, usize>> {
        self.taken.lock().expect("no thread panics while it counts")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let Entry::Occupied(mut count) = taken.entry(self.account) else { return };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
            if taken.len() < taken.capacity() / SPARSE {
                taken.shrink_to_fit();
            }
        }
    }
}

/// A table that is emptier than this is made smaller.
const SPARSE: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::account::Accounts;

    fn accounts(count: u32) -> Vec<Account> {
        let accounts = Accounts::default();
        let address = |bits| Some(Ipv4Addr::from_bits(bits).into());
        (0..count).map(|bits| accounts.address(address(bits)).unwrap()).collect()
    }

    #[test]
    fn an_account_has_as_many_places_as_it_may_have() {
        let [one, other] = accounts(2)[..] else { panic!() };
        for each_max in 0..4 {
            let places = Arc::new(Places::default());
            let mut taken: Vec<_> =
                (0..each_max).map(|_| places.take(one, each_max).unwrap()).collect();
            assert!(places.take(one, each_max).is_none(), "{each_max}");
            assert_eq!(places.take(other, each_max).is_some(), each_max > 0);
            if taken.pop().is_some() {
                assert!(places.take(one, each_max).is_some());
            }
        }
    }

    #[test]
    fn nothing_is_remembered_of_who_holds_no_place() {
        let places = Arc::new(Places::default());
        let taken: Vec<_> = accounts(10_000).into_iter().map(|it| places.take(it, 1)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(places.lock().len(), 10_000);
        drop(taken);
        assert!(places.lock().is_empty());
        assert!(places.lock().capacity() < 100, "{}", places.lock().capacity());
    }
}
