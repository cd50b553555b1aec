//! The keys of all authorities: given ones, and sets that are fetched and kept fresh.
//!
//! - A request never waits for a set that is merely getting old: it is fetched again before it is
//!   stale. What waits is a token with a key that nobody knows, and only if the sets were not just
//!   fetched for another such token.
//! - Keys stay until their server hands out others. A server that is down, answers nonsense, or
//!   hands out a set without a usable key changes nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use http::header::{ACCEPT, AGE, CACHE_CONTROL};
use http::{HeaderMap, StatusCode};
use reqwest::Client;
use thiserror::Error;
use tidings_auth::{Authority, Key, KeyError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::log_gate::LogGate;
use crate::outgoing::{self, OutgoingError, Redirects};
use crate::{AccessError, AuthorityOptions, JwksOptions, KeySetFigures};

/// Whose tokens are believed, by which keys, at one moment.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) authorities: Vec<(Authority, Vec<Key>)>,
    /// Another one whenever keys change.
    pub(crate) generation: u64,
    /// Of all keys, each for the issuer that it is trusted for.
    pub(crate) marks: HashSet<u64>,
}

impl Trust {
    fn new(authorities: Vec<(Authority, Vec<Key>)>, generation: u64) -> Self {
        let mark = |(authority, keys): &(Authority, Vec<Key>)| {
            let marks = keys.iter().map(|key| key.mark(authority.issuer.as_deref()));
            marks.collect::<Vec<_>>()
        };
        let marks = authorities.iter().flat_map(mark).collect();
        Self { authorities, generation, marks }
    }
}

/// Holds the [`Trust`] of now.
#[derive(Debug)]
pub(crate) struct Keyring {
    trust: ArcSwap<Trust>,
    /// The keys of each authority that do not come from a source.
    given: Vec<Vec<Key>>,
    sources: Vec<Arc<Source>>,
    generations: Generations,
}

/// Numbers that are never given twice, to all keyrings that follow each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generations(Arc<AtomicU64>);

impl Generations {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One key set at its server.
struct Source {
    options: JwksOptions,
    client: Client,
    /// Whose keys it holds.
    authority: usize,
    /// A fetch is wanted before its time.
    wanted: Notify,
    /// Fetches that came to an end.
    ended: watch::Sender<u64>,
    state: Mutex<State>,
    fetches: AtomicU64,
    failed_fetches: AtomicU64,
    gate: LogGate,
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    /// Of the body that the keys came in.
    body_hash: Option<[u8; 32]>,
    confirmed_at: Option<Instant>,
    /// When a fetch was last wanted before its time, whatever came of it.
    wanted_at: Option<Instant>,
    is_fetching: bool,
    /// Keys that the set did not have when it was fetched for their sake, and until when they are
    /// not looked for again.
    unknown: HashMap<Box<str>, Instant>,
}

/// A fetch for the sake of a key.
struct Asked {
    /// Changes when it ends.
    ended: watch::Receiver<u64>,
    /// When it was wanted; `None` if it was under way already.
    at: Option<Instant>,
}

/// A set as it was fetched.
struct Fetched {
    keys: Vec<Key>,
    body_hash: [u8; 32],
    fresh_for: Duration,
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("{0}")]
    Outgoing(#[from] OutgoingError),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("{0}")]
    NotASet(#[from] KeyError),
    #[error("no key of the set can be used")]
    NoUsableKey,
}

impl Keyring {
    /// Fetches each set once, or a few times where an authority has no other key, and begins to keep
    /// them fresh in `tasks`. What the keyring `before` it has of a set is a start.
    pub(crate) async fn start(
        authorities: Vec<AuthorityOptions>,
        before: &Self,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, AccessError> {
        let mut trusted = Vec::new();
        let mut given = Vec::new();
        let mut sources = Vec::new();
        let mut waits = Vec::new();
        for (index, options) in authorities.into_iter().enumerate() {
            let AuthorityOptions { authority, keys, jwks } = options;
            let sets = jwks.into_iter().map(|jwks| Source::new(jwks, index));
            let sets = sets.collect::<Result<Vec<_>, _>>()?;
            sets.iter().for_each(|set| set.inherit(&before.sources));
            let has_keys = |set: &Source| !set.state().keys.is_empty();
            let has_other_keys = !keys.is_empty() || sets.iter().any(has_keys);
            let fetched = fetch_first(&sets, has_other_keys).await;
            waits.extend(fetched.map_err(|reason| AccessError::NoUsableKey {
                authority: name_of(&authority),
                reason,
            })?);
            sources.extend(sets.into_iter().map(Arc::new));
            trusted.push(authority);
            given.push(keys);
        }
        let empty = trusted.into_iter().map(|authority| (authority, Vec::new())).collect();
        let trust = ArcSwap::from_pointee(Trust::new(empty, 0));
        let generations = before.generations.clone();
        let keyring = Arc::new(Self { trust, given, sources, generations });
        keyring.swap();
        for (source, wait) in keyring.sources.iter().zip(waits) {
            tasks.spawn(keep_fresh(keyring.clone(), source.clone(), wait));
        }
        Ok(keyring)
    }

    /// Trusts nobody.
    pub(crate) fn empty() -> Self {
        let trust = Trust::new(Vec::new(), 0);
        Self {
            trust: ArcSwap::from_pointee(trust),
            given: Vec::new(),
            sources: Vec::new(),
            generations: Generations::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    /// Looks for a key that nobody knows: returns when the sets were fetched again, or at once if
    /// that would not help.
    pub(crate) async fn look_for(&self, key_id: &str) {
        let asked: Vec<_> = self
            .sources
            .iter()
            .filter_map(|source| Some((source, source.ask_for(key_id)?)))
            .collect();
        for (source, mut asked) in asked {
            // A fetch ends by itself within its timeout; this is for one that does not.
            let longest = source.options.timeout.saturating_mul(2);
            let _ = tokio::time::timeout(longest, asked.ended.changed()).await;
            if let Some(at) = asked.at {
                source.remember_unknown(key_id, at);
            }
        }
    }

    pub(crate) fn figures(&self) -> Vec<KeySetFigures> {
        self.sources.iter().map(|source| source.figures()).collect()
    }

    /// Puts what the sources hold into effect.
    fn swap(&self) {
        self.trust.rcu(|trust| {
            let keys_of = |authority: usize| {
                let mut keys = self.given[authority].clone();
                for source in self.sources.iter().filter(|source| source.authority == authority) {
                    keys.extend_from_slice(&source.state().keys);
                }
                keys
            };
            let authorities = trust.authorities.iter().enumerate();
            let authorities = authorities
                .map(|(index, (authority, _))| (authority.clone(), keys_of(index)))
                .collect();
            Trust::new(authorities, self.generations.next())
        });
    }
}

/// Fetches the sets of an authority for the first time, and those that cannot be fetched a few times
/// if it has no usable key without them. Returns when to fetch each again, or why there is no key.
async fn fetch_first(sets: &[Source], has_other_keys: bool) -> Result<Vec<Duration>, String> {
    let mut waits = vec![None; sets.len()];
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut errors = Vec::new();
        for (set, wait) in sets.iter().zip(&mut waits).filter(|(_, wait)| wait.is_none()) {
            match set.fetch().await {
                Ok(fetched) => {
                    *wait = Some(before_stale(fetched.fresh_for));
                    set.adopt(fetched);
                }
                Err(error) => {
                    set.warn(&error);
                    errors.push(format!("{}: {error}", set.options.url));
                }
            }
        }
        let again = |set: &Source| set.options.backoff.delay(attempts, fastrand::f64());
        if has_other_keys || waits.iter().any(Option::is_some) {
            let waits = sets.iter().zip(waits);
            return Ok(waits.map(|(set, wait)| wait.unwrap_or_else(|| again(set))).collect());
        }
        let Some(longest) = sets.iter().map(again).max() else {
            return Err("it has neither keys nor a place to fetch them".to_owned());
        };
        if attempts == START_ATTEMPTS_MAX {
            return Err(errors.join("; "));
        }
        tokio::time::sleep(longest.min(START_WAIT_MAX)).await;
    }
}

/// Fetches the set again and again, before it is stale or when it is wanted.
async fn keep_fresh(keyring: Arc<Keyring>, source: Arc<Source>, first_wait: Duration) {
    let mut wait = first_wait;
    let mut failures = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = source.wanted.notified() => {}
        }
        source.state().is_fetching = true;
        let fetched = source.fetch().await;
        failures = if fetched.is_ok() { 0 } else { failures + 1 };
        wait = match fetched {
            Ok(fetched) => {
                let fresh_for = fetched.fresh_for;
                if source.adopt(fetched) {
                    info!(url = %source.options.url, "new keys");
                    keyring.swap();
                }
                before_stale(fresh_for)
            }
            Err(error) => {
                source.warn(&error);
                source.options.backoff.delay(failures, fastrand::f64())
            }
        };
        source.state().is_fetching = false;
        source.ended.send_modify(|count| *count += 1);
    }
}

impl Source {
    fn new(options: JwksOptions, authority: usize) -> Result<Self, AccessError> {
        let client = outgoing::client(&options.url, options.timeout, Redirects::Protected)
            .map_err(|error| AccessError::Client { reason: error.to_string() })?;
        Ok(Self {
            options,
            client,
            authority,
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            state: Mutex::default(),
            fetches: AtomicU64::new(0),
            failed_fetches: AtomicU64::new(0),
            gate: LogGate::default(),
        })
    }

    /// Takes over what is known of the same set.
    fn inherit(&self, others: &[Arc<Self>]) {
        let is_same = |other: &&Arc<Self>| {
            other.options.url == self.options.url
                && other.options.algorithm == self.options.algorithm
        };
        let Some(other) = others.iter().find(is_same) else { return };
        let known = other.state();
        let mut state = self.state();
        state.keys.clone_from(&known.keys);
        state.body_hash = known.body_hash;
        state.confirmed_at = known.confirmed_at;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let fetched = self.fetch_uncounted().await;
        let counter = if fetched.is_ok() { &self.fetches } else { &self.failed_fetches };
        counter.fetch_add(1, Ordering::Relaxed);
        fetched
    }

    async fn fetch_uncounted(&self) -> Result<Fetched, FetchError> {
        let request = self.client.get(self.options.url.as_url().clone()).header(ACCEPT, ACCEPTED);
        let response = request.send().await.map_err(OutgoingError::from)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let age = max_age(response.headers()).unwrap_or(self.options.age_max);
        let fresh_for = age.min(self.options.age_max).max(self.options.age_min);
        let body = outgoing::body_of(response, self.options.bytes_max).await?;
        let keys = tidings_auth::parse_jwk_set(&body, self.options.algorithm)?;
        if keys.is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        let mut body_hash = [0; 32];
        body_hash.copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
        Ok(Fetched { keys, body_hash, fresh_for })
    }

    /// Takes a set over. Returns whether it is another one.
    fn adopt(&self, fetched: Fetched) -> bool {
        let mut state = self.state();
        state.confirmed_at = Some(Instant::now());
        if state.body_hash == Some(fetched.body_hash) {
            return false;
        }
        state.body_hash = Some(fetched.body_hash);
        state.keys = fetched.keys;
        state.unknown.clear();
        true
    }

    /// Wants a fetch for the sake of a key, and says how to learn of its end; `None` if that would
    /// not help.
    fn ask_for(&self, key_id: &str) -> Option<Asked> {
        let ended = self.ended.subscribe();
        let now = Instant::now();
        let mut state = self.state();
        if state.unknown.get(key_id).is_some_and(|until| now < *until) {
            return None;
        }
        if state.is_fetching {
            return Some(Asked { ended, at: None });
        }
        let is_too_soon = |at| now.saturating_duration_since(at) < self.options.cooldown;
        if state.wanted_at.is_some_and(is_too_soon) {
            return None;
        }
        state.wanted_at = Some(now);
        state.is_fetching = true;
        self.wanted.notify_one();
        Some(Asked { ended, at: Some(now) })
    }

    /// If the set was fetched since `asked_at` and the key is not in it, there is no need to look for
    /// it at once again.
    fn remember_unknown(&self, key_id: &str, asked_at: Instant) {
        let now = Instant::now();
        let mut state = self.state();
        let is_confirmed = state.confirmed_at.is_some_and(|at| at >= asked_at);
        if !is_confirmed || state.keys.iter().any(|key| key.id() == Some(key_id)) {
            return;
        }
        if state.unknown.len() >= UNKNOWN_MAX {
            state.unknown.retain(|_, until| now < *until);
        }
        if state.unknown.len() < UNKNOWN_MAX {
            state.unknown.insert(key_id.into(), now + self.options.unknown_for);
        }
    }

    fn warn(&self, error: &FetchError) {
        if let Some(withheld) = self.gate.pass() {
            let url = &self.options.url;
            warn!(%url, %error, withheld, "cannot fetch keys; those that are known stay");
        }
    }

    fn figures(&self) -> KeySetFigures {
        let state = self.state();
        KeySetFigures {
            url: self.options.url.to_string(),
            fetches: self.fetches.load(Ordering::Relaxed),
            failed_fetches: self.failed_fetches.load(Ordering::Relaxed),
            keys: state.keys.len() as u64,
            age: state.confirmed_at.map(|at| at.elapsed()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("url", &self.options.url).finish_non_exhaustive()
    }
}

/// When to fetch a set that is fresh for so long: not all hubs at the same moment.
fn before_stale(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.7 + 0.2 * fastrand::f64())
}

/// How long an answer is fresh (RFC 9111, section 4.2). `None` if it does not say.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut seconds = None;
    for directive in lines.flat_map(|line| line.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => seconds = value.trim().trim_matches('"').parse::<u64>().ok().or(seconds),
            _ => {}
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
    Some(Duration::from_secs(seconds?.saturating_sub(age.unwrap_or(0))))
}

fn name_of(authority: &Authority) -> String {
    let issuer = authority.issuer.as_ref();
    issuer.map_or_else(|| "the authority of any issuer".to_owned(), |name| format!("{name:?}"))
}

/// What a key set is (RFC 7517, section 8.5.2), and what many servers call it.
const ACCEPTED: &str = "application/jwk-set+json, application/json;q=0.9, */*;q=0.1";

/// A hub and its key server may be started together.
const START_ATTEMPTS_MAX: u32 = 3;

const START_WAIT_MAX: Duration = Duration::from_secs(2);

/// Unknown keys that are remembered, at most 256 bytes each. Over it, the cooldown alone protects
/// the server.
const UNKNOWN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_how_long_keys_are_fresh() {
        let check = |cache_control: &[&str], age: Option<&str>, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for line in cache_control {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            headers.extend(age.map(|age| (AGE, age.parse().unwrap())));
            assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{cache_control:?}");
        };
        check(&[], None, None);
        check(&["public, max-age=300"], None, Some(300));
        check(&["public", "Max-Age=\"300\""], None, Some(300));
        check(&["max-age=300"], Some("100"), Some(200));
        check(&["max-age=300"], Some("1000"), Some(0));
        check(&["max-age=300, no-store"], None, Some(0));
        check(&["no-cache"], None, Some(0));
        check(&["max-age=soon"], None, None);
        check(&["max-age=-1"], None, None);
        check(&["s-maxage=5"], None, None);
    }
}
