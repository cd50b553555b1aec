//! How long to wait before the next attempt.

use std::time::Duration;

use crate::failure::Failure;

/// The time to wait after `failures` failed attempts in a row: what the hub asked for, and on top a
/// random part of a span that doubles with each failure ("full jitter"). `jitter` is in `0.0..=1.0`.
pub(crate) fn next_delay(failures: u32, retry: Duration, jitter: f64) -> Duration {
    let doublings = failures.min(DOUBLINGS_MAX);
    let span = retry.saturating_mul((1 << doublings) - 1).min(SPAN_MAX);
    retry + span.mul_f64(jitter.clamp(0.0, 1.0))
}

/// What a hub asks for, within reason: a hub that asks for nothing would be called in a loop.
pub(crate) fn clamp_retry(retry: Duration) -> Duration {
    retry.clamp(RETRY_MIN, RETRY_MAX)
}

/// A random number in `0.0..=1.0`.
///
/// # Errors
///
/// [`Failure::Failed`] when the operating system has no random numbers.
pub(crate) fn jitter() -> Result<f64, Failure> {
    let random =
        getrandom::u32().map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
    Ok(f64::from(random) / f64::from(u32::MAX))
}

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// The longest wait beyond what the hub asked for. A minute is soon enough for a hub that was away
/// for long, and seldom enough for one that is busy starting.
const SPAN_MAX: Duration = Duration::from_secs(60);

/// Beyond this many doublings any span is longer than [`SPAN_MAX`].
const DOUBLINGS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{clamp_retry, next_delay};

    #[track_caller]
    fn check(failures: u32, retry_ms: u64, jitter: f64, expected_ms: u64) {
        let delay = next_delay(failures, Duration::from_millis(retry_ms), jitter);
        assert_eq!(delay, Duration::from_millis(expected_ms));
    }

    #[test]
    fn the_wait_is_never_shorter_than_asked_and_spreads_with_each_failure() {
        check(0, 2_000, 1.0, 2_000);
        check(1, 2_000, 0.0, 2_000);
        check(1, 2_000, 1.0, 4_000);
        check(2, 2_000, 0.5, 5_000);
        check(3, 2_000, 1.0, 16_000);
        check(40, 2_000, 1.0, 62_000);
        check(u32::MAX, 3_600_000, 1.0, 3_660_000);
    }

    #[test]
    fn a_hub_cannot_ask_for_a_loop_nor_for_ever() {
        assert_eq!(clamp_retry(Duration::ZERO), Duration::from_millis(100));
        assert_eq!(clamp_retry(Duration::MAX), Duration::from_secs(3_600));
    }
}
