//! How fast each account may do something.
//!
//! By the generic cell rate algorithm, as governor has it: an account may do `burst` at once, and
//! `per_second` in the long run. What is remembered is bounded, see [`Marks`].

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::account::{Account, Accounts, Source};
use crate::options::Rate;

/// Holds every account to one rate.
#[derive(Debug)]
pub(crate) struct Rates<C: Clock = MonotonicClock> {
    rate: Rate,
    limiter: RateLimiter<Counted, Marks, C, NoOpMiddleware<C::Instant>>,
    checks: AtomicU32,
}

/// Why something may not be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooFast {
    /// It may be done after this time, if nothing else is done until then.
    Wait(Duration),
    /// It is more than a burst: it never may.
    MoreThanBurst,
}

impl Rates {
    pub(crate) fn new(rate: Rate) -> Self {
        Self::with_clock(rate, MonotonicClock, ACCOUNTS_MAX)
    }
}

impl<C: Clock> Rates<C> {
    fn with_clock(rate: Rate, clock: C, accounts_max: usize) -> Self {
        let [per_second, burst] =
            [rate.per_second, rate.burst].map(|it| NonZeroU32::new(it).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::new(quota, Marks::new(accounts_max), clock);
        Self { rate, limiter, checks: AtomicU32::new(0) }
    }

    /// Counts `amount` for a source; not if nothing is known of it.
    pub(crate) fn check(
        &self,
        accounts: &Accounts,
        source: Source<'_>,
        amount: NonZeroU32,
    ) -> Result<(), TooFast> {
        let Some(account) = accounts.source(source) else { return Ok(()) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_TO_TIDY == CHECKS_TO_TIDY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let counted = Counted { account, crowd: accounts.crowd(source, CROWDS) };
        match self.limiter.check_key_n(&counted, amount) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                Err(TooFast::Wait(not_until.wait_time_from(self.limiter.clock().now())))
            }
            Err(_) => Err(TooFast::MoreThanBurst),
        }
    }

    /// With what 0 stands for.
    pub(crate) fn rate(&self) -> Rate {
        let Rate { per_second, burst } = self.rate;
        Rate { per_second: per_second.max(1), burst: burst.max(1) }
    }
}

/// Holds every account to the rate of now. When that changes, each may do as much at once as if it had
/// done nothing for a while.
#[derive(Debug, Default)]
pub(crate) struct CurrentRates(ArcSwapOption<Rates>);

impl CurrentRates {
    pub(crate) fn of(&self, rate: Option<Rate>) -> Option<Arc<Rates>> {
        let rates = self.0.load_full();
        if rates.as_ref().map(|rates| rates.rate) == rate {
            return rates;
        }
        let rates = rate.map(Rates::new).map(Arc::new);
        self.0.store(rates.clone());
        rates
    }
}

/// An account, and the crowd with which it is counted if there are too many accounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counted {
    account: Account,
    crowd: usize,
}

/// What is remembered of accounts: at most `accounts_max` of them. While there are more, those that
/// come are counted with their crowd, so that whoever has many addresses gains and costs nothing by
/// them, and those who do not share the crowd do not notice.
#[derive(Debug)]
struct Marks {
    accounts_max: usize,
    accounts: Mutex<HashMap<Account, Nanos>>,
    crowds: Mutex<[Option<Nanos>; CROWDS]>,
}

impl Marks {
    fn new(accounts_max: usize) -> Self {
        Self { accounts_max, accounts: Mutex::default(), crowds: Mutex::new([None; CROWDS]) }
    }
}

impl StateStore for Marks {
    type Key = Counted;

    fn measure_and_replace<T, F, E>(&self, counted: &Counted, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut accounts = self.accounts.lock().expect(UNPOISONED);
        let is_full = accounts.len() >= self.accounts_max;
        if let Some(mark) = accounts.get_mut(&counted.account) {
            let (outcome, next) = measure(Some(*mark))?;
            *mark = next;
            return Ok(outcome);
        }
        if is_full {
            drop(accounts);
            let mark = &mut self.crowds.lock().expect(UNPOISONED)[counted.crowd];
            let (outcome, next) = measure(*mark)?;
            *mark = Some(next);
            return Ok(outcome);
        }
        let (outcome, next) = measure(None)?;
        accounts.insert(counted.account, next);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<Counted> for Marks {
    fn retain_recent(&self, drop_below: Nanos) {
        self.accounts.lock().expect(UNPOISONED).retain(|_, mark| *mark > drop_below);
    }

    fn shrink_to_fit(&self) {
        self.accounts.lock().expect(UNPOISONED).shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.accounts.lock().expect(UNPOISONED).len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// About 4 MB.
const ACCOUNTS_MAX: usize = 100_000;
/// Few enough to remember all of them, and enough that few others are in an attacker's.
const CROWDS: usize = 256;
/// After so many checks, accounts that may do everything again are forgotten: a pass over all of
/// them costs each of these checks as much as looking at a few.
const CHECKS_TO_TIDY: u32 = 16 << 10;
const UNPOISONED: &str = "no thread panics while it counts";

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;

    use super::*;

    struct Bench {
        clock: FakeRelativeClock,
        accounts: Accounts,
        rates: Rates<FakeRelativeClock>,
    }

    fn bench(per_second: u32, burst: u32) -> Bench {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(Rate { per_second, burst }, clock.clone(), 1_000);
        Bench { clock, accounts: Accounts::default(), rates }
    }

    impl Bench {
        fn check(&self, address: IpAddr, amount: u32) -> Result<(), TooFast> {
            let source = Source { identity: None, address: Some(address) };
            self.rates.check(&self.accounts, source, NonZeroU32::new(amount).unwrap())
        }
    }

    fn network(prefix: u32, number: u32) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(prefix) << 96 | u128::from(number) << 64 | 1).into()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let bench = bench(10, 5);
        let [one, other] = [network(1, 1), network(1, 2)];
        assert_eq!(bench.check(one, 5), Ok(()));
        assert_eq!(bench.check(one, 1), Err(TooFast::Wait(Duration::from_millis(100))));
        assert_eq!(bench.check(one, 3), Err(TooFast::Wait(Duration::from_millis(300))));
        assert_eq!(bench.check(one, 6), Err(TooFast::MoreThanBurst));
        assert_eq!(bench.check(other, 5), Ok(()));
        bench.clock.advance(Duration::from_millis(300));
        assert_eq!(bench.check(one, 3), Ok(()));
        assert!(bench.check(one, 1).is_err());
        assert_eq!(bench.rates.check(&bench.accounts, Source::default(), NonZeroU32::MAX), Ok(()));
    }

    #[test]
    fn accounts_are_forgotten_once_they_may_do_everything_again() {
        let bench = bench(10, 5);
        (0..900).for_each(|number| bench.check(network(1, number), 1).unwrap());
        assert_eq!(bench.rates.limiter.len(), 900);
        bench.clock.advance(Duration::from_secs(10));
        (0..CHECKS_TO_TIDY).for_each(|_| _ = bench.check(network(1, 1), 1));
        assert_eq!(bench.rates.limiter.len(), 1);
    }

    #[test]
    fn who_has_a_network_of_many_addresses_makes_nothing_grow_and_gains_nothing() {
        let bench = bench(1, 2);
        let taken = (0..100_000).filter(|&number| bench.check(network(7, number), 2).is_ok());
        assert_eq!(taken.count(), 1_001, "1,000 accounts and the crowd");
        assert_eq!(bench.rates.limiter.len(), 1_000);
        let others = (0..100).filter(|&other| bench.check(network(1_000 + other, 1), 1).is_ok());
        assert!(others.count() > 80, "others are in few crowds together");
        bench.clock.advance(Duration::from_secs(2));
        assert_eq!(bench.check(network(7, 1), 2), Ok(()));
    }
}
