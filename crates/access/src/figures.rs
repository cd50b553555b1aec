//! Counters for those who watch a hub.

use std::time::Duration;

/// What happened since the start, and how things are now.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AccessFigures {
    /// Tokens that were believed, cached ones included.
    pub tokens_accepted: u64,
    /// Those of them that were known from before.
    pub tokens_cached: u64,
    /// Tokens that were refused: the reason, in `snake_case`, and how many.
    pub tokens_refused: Vec<(&'static str, u64)>,
    /// One for each key set that is fetched, in the order of the authorities.
    pub key_sets: Vec<KeySetFigures>,
    /// The authorisation webhook.
    pub authorization: AuthorizationFigures,
    /// The connection webhook.
    pub news: NewsFigures,
    /// Token ids that are blocked now.
    pub revocations: u64,
}

/// One key set.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeySetFigures {
    /// Where it is.
    pub url: String,
    /// Fetches that brought usable keys.
    pub fetches: u64,
    /// Fetches that did not.
    pub failed_fetches: u64,
    /// Keys in use.
    pub keys: u64,
    /// Since the keys in use were last confirmed by their server. `None`: never.
    pub age: Option<Duration>,
}

/// The questions of the authorisation webhook.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuthorizationFigures {
    /// Calls that were answered with rights.
    pub allowed: u64,
    /// Calls that were answered with `401` or `403`.
    pub denied: u64,
    /// Calls that had no answer, or one that means nothing.
    pub failed: u64,
    /// Questions that were not asked, for too many were.
    pub turned_away: u64,
    /// Questions whose answer was known from before.
    pub cached: u64,
    /// How long all calls together took.
    pub latency_sum: Duration,
}

/// The news about users.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NewsFigures {
    /// Users who have a stream, or had one within the debounce.
    pub users: u64,
    /// News that was delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// News that waits to be delivered.
    pub undelivered: u64,
    /// News that was never told: its user was one too many, came and went while too much waited, or
    /// it was refused for too long.
    pub dropped: u64,
    /// News that could not be written to the folder, and will not outlive the process.
    pub unkept: u64,
}
