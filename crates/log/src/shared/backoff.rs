//! How long to wait before a store is tried again.

use std::time::Duration;

/// The delay before the attempt after `attempt` failed ones in a row, counted from 0: up to 50 ms at first, up to
/// twice as much each time, up to 5 s at last. `jitter`, from 0.0 to below 1.0, chooses among all of
/// that, so that nodes which lost a store together do not return to it together.
pub(super) fn delay(attempt: u32, jitter: f64) -> Duration {
    let most = DELAY_MIN.saturating_mul(2_u32.saturating_pow(attempt));
    most.min(DELAY_MAX).mul_f64(jitter)
}

const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_bound_and_jitter_chooses_among_all_that_are_shorter() {
        for (attempt, jitter, millis) in [
            (0, 0.0, 0),
            (0, 0.5, 25),
            (1, 0.5, 50),
            (6, 0.5, 1_600),
            (7, 0.5, 2_500),
            (31, 0.5, 2_500),
            (u32::MAX, 0.0, 0),
            (u32::MAX, 0.5, 2_500),
        ] {
            assert_eq!(delay(attempt, jitter), Duration::from_millis(millis), "{attempt} {jitter}");
        }
    }
}
