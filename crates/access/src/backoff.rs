//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from `first` to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// About the wait after the first failure.
    pub first: Duration,
    /// About the longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row, counted from 1: between a half and the whole of
    /// what the doubling gives, as `chance`, from 0 to 1, says.
    pub(crate) fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        let check = |failures: u32, chance: f64, milliseconds: u64| {
            assert_eq!(backoff.delay(failures, chance), Duration::from_millis(milliseconds));
        };
        check(1, 1.0, 1000);
        check(1, 0.0, 500);
        check(2, 1.0, 2000);
        check(6, 1.0, 32_000);
        check(7, 1.0, 60_000);
        check(u32::MAX, 0.0, 30_000);
        check(0, 1.0, 1000);
    }
}
