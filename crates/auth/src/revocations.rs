//! Revocations: tokens that are not accepted any more, though they have not expired.

use std::collections::BTreeMap;

use thiserror::Error;
use tidings_core::Identity;

use crate::{UnixSeconds, claims::NAME_BYTES_MAX};

/// The token ids that are blocked, each until its tokens have expired by themselves.
///
/// Holds at most as many as it was made for.
#[derive(Clone, Debug)]
pub struct Revocations {
    /// By token id: the issuers for which it is blocked, `None` for all of them, each once.
    by_token_id: BTreeMap<Box<str>, Vec<End>>,
    count: usize,
    revocations_max: usize,
}

/// For which issuer a token id is blocked, and until when.
type End = (Option<Box<str>>, UnixSeconds);

/// One blocked token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation<'a> {
    /// Whose tokens; `None` is those of every issuer.
    pub issuer: Option<&'a str>,
    /// The id, `jti` in a token.
    pub token_id: &'a str,
    /// The moment from which it is not blocked any more.
    pub until: UnixSeconds,
}

/// Why a token id was not blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RevocationError {
    /// An id or an issuer has at least one byte and at most 1024.
    #[error("a token id and an issuer have 1 to {NAME_BYTES_MAX} bytes")]
    NotAName,
    /// The moment until which it would be blocked is over.
    #[error("the revocation would be over already")]
    Over,
    /// As many are blocked as may be; some will be over.
    #[error("as many token ids are blocked as may be")]
    Full,
}

impl Revocations {
    /// Begins with nothing blocked, and room for `revocations_max`.
    #[must_use]
    pub fn new(revocations_max: usize) -> Self {
        Self { by_token_id: BTreeMap::new(), count: 0, revocations_max }
    }

    /// Blocks a token id. What was blocked for longer stays so.
    ///
    /// # Errors
    ///
    /// A [`RevocationError`]; nothing has changed.
    pub fn revoke(
        &mut self,
        revocation: Revocation<'_>,
        now: UnixSeconds,
    ) -> Result<(), RevocationError> {
        let Revocation { issuer, token_id, until } = revocation;
        let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        if !is_name(token_id) || !issuer.is_none_or(is_name) {
            return Err(RevocationError::NotAName);
        }
        if until <= now {
            return Err(RevocationError::Over);
        }
        let known = self.by_token_id.get_mut(token_id);
        let mut known = known.into_iter().flatten();
        if let Some((_, end)) = known.find(|(whose, _)| whose.as_deref() == issuer) {
            *end = until.max(*end);
            return Ok(());
        }
        if self.count >= self.revocations_max {
            self.forget_over(now);
        }
        if self.count >= self.revocations_max {
            return Err(RevocationError::Full);
        }
        self.by_token_id.entry(token_id.into()).or_default().push((issuer.map(Into::into), until));
        self.count += 1;
        Ok(())
    }

    /// Tells whether tokens of this identity are blocked. Those without an id never are.
    #[must_use]
    pub fn is_revoked(&self, identity: &Identity, now: UnixSeconds) -> bool {
        let Some(token_id) = &identity.token_id else { return false };
        let Some(ends) = self.by_token_id.get(token_id) else { return false };
        ends.iter()
            .any(|(issuer, until)| now < *until && (issuer.is_none() || *issuer == identity.issuer))
    }

    /// Forgets what is over.
    pub fn forget_over(&mut self, now: UnixSeconds) {
        self.by_token_id.retain(|_, ends| {
            let before = ends.len();
            ends.retain(|(_, until)| now < *until);
            self.count -= before - ends.len();
            !ends.is_empty()
        });
    }

    /// Lists what is blocked, by token id in the order of bytes; some of it may be over.
    pub fn iter(&self) -> impl Iterator<Item = Revocation<'_>> {
        self.by_token_id.iter().flat_map(|(token_id, ends)| {
            ends.iter().map(move |(issuer, until)| Revocation {
                issuer: issuer.as_deref(),
                token_id,
                until: *until,
            })
        })
    }

    /// How many are blocked, of which some may be over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Tells whether nothing is blocked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests;
