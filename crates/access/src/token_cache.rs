//! Tokens that were verified, so that the same one costs a hash instead of a signature.
//!
//! Only tokens that were believed get in: whoever sends bad ones pushes out nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use tidings_auth::{Grant, UnixSeconds};

use crate::halves::Halves;

/// What a token is known by: its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }
}

/// A bounded memory of grants; those that were not asked for go first.
#[derive(Debug)]
pub(crate) struct TokenCache {
    shards: Vec<Mutex<Halves<TokenHash, Cached>>>,
}

#[derive(Debug)]
struct Cached {
    grant: Arc<Grant>,
    /// Of the keys that verified it.
    generation: u64,
}

impl TokenCache {
    /// Holds `tokens_max` tokens at most, or two for each shard.
    pub(crate) fn new(tokens_max: usize) -> Self {
        let shard = || Mutex::new(Halves::new(tokens_max / SHARDS));
        Self { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// What the token gives, if keys of this `generation` verified it and it has not expired.
    pub(crate) fn get(
        &self,
        token: &TokenHash,
        generation: u64,
        now: UnixSeconds,
    ) -> Option<Arc<Grant>> {
        let mut shard = self.shard_of(token);
        let cached = shard.get(token)?;
        let is_over = cached.grant.expires_at.is_some_and(|at| at <= now);
        if cached.generation == generation && !is_over {
            return Some(cached.grant.clone());
        }
        shard.remove(token);
        None
    }

    /// Remembers what a token gives.
    pub(crate) fn insert(&self, token: TokenHash, generation: u64, grant: Arc<Grant>) {
        self.shard_of(&token).insert(token, Cached { grant, generation });
    }

    fn shard_of(&self, token: &TokenHash) -> MutexGuard<'_, Halves<TokenHash, Cached>> {
        let shard = usize::from(token.0[0]) % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enough that cores seldom wait for each other.
const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use tidings_core::{Identity, Rights};

    use super::*;

    fn grant(expires_at: Option<UnixSeconds>) -> Arc<Grant> {
        Arc::new(Grant {
            identity: Arc::new(Identity::default()),
            publish: None,
            subscribe: Rights::public_only(),
            presence: Rights::public_only(),
            operate: false,
            expires_at,
            payload: None,
        })
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_keys_change() {
        let cache = TokenCache::new(100);
        let token = TokenHash::of("a");
        let check = |token: &str, generation, now, is_known: bool| {
            let known = cache.get(&TokenHash::of(token), generation, now);
            assert_eq!(known.is_some(), is_known, "{token} {generation} {now}");
        };
        cache.insert(token, 1, grant(Some(100)));
        check("a", 1, 99, true);
        check("b", 1, 99, false);
        check("a", 1, 100, false);
        cache.insert(token, 1, grant(Some(100)));
        check("a", 2, 99, false);
        cache.insert(token, 2, grant(None));
        check("a", 2, u64::MAX, true);
    }
}
