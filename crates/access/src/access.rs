//! One handle for all that decides who may do what.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tidings_auth::{Grant, Revocation, RevocationError, TOKEN_BYTES_MAX, TokenError, UnixSeconds};
use tidings_core::Identity;
use tokio::task::JoinSet;

use crate::authorization::Authorizer;
use crate::calendar::unix_seconds;
use crate::connections::Informer;
use crate::keyring::{Keyring, Trust};
use crate::revocation_book::RevocationBook;
use crate::token_cache::{TokenCache, TokenHash};
use crate::{
    AccessFigures, AccessOptions, AuthorityOptions, AuthorizeError, ConnectionAbout,
    ConnectionNews, Question,
};

/// Who may do what: whose tokens are believed, who else is asked, and what is remembered of it.
///
/// Cheap to clone; all clones are one. What it does in the background ends with the last of them.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

/// Why [`Access::start`] fails.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// An authority has no key that can verify anything.
    #[error("no usable key for {authority}: {reason}")]
    NoUsableKey {
        /// The issuer of the authority, or where its keys are.
        authority: String,
        /// Why there is none.
        reason: String,
    },
    /// There is no client for HTTP.
    #[error("no HTTP client: {reason}")]
    Client {
        /// What is missing.
        reason: String,
    },
    /// A file in the folder cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file in the folder does not hold what was written there. Nothing of it is used, as what is
    /// missing may be what somebody was blocked by.
    #[error(
        "{} is damaged in line {line}: {reason}; restore it, or move it away and lose what it holds",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a token gives no rights.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token itself says why.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its id is blocked.
    #[error("the token is revoked")]
    Revoked,
    /// Nobody's tokens are believed.
    #[error("tokens are not taken here")]
    NoAuthority,
}

/// Why a token id is not blocked, or not for as long as was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// It is not blocked.
    #[error(transparent)]
    Refused(#[from] RevocationError),
    /// It is blocked, but not beyond the end of the process: it could not be written down.
    #[error("the token is blocked until the hub stops, but {} cannot be written: {error}", path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A token id that is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Whose tokens. `None`: those of every issuer.
    pub issuer: Option<Box<str>>,
    /// The id, `jti` in a token.
    pub token_id: Box<str>,
    /// The moment from which it is not blocked any more.
    pub until: UnixSeconds,
}

#[derive(Debug)]
struct Inner {
    ring: ArcSwap<Ring>,
    /// Marks of keys that were believed until others were adopted, and are not believed now.
    withdrawn: Mutex<HashSet<u64>>,
    tokens: TokenCache,
    revocations: RevocationBook,
    authorizer: Option<Arc<Authorizer>>,
    informer: Option<Arc<Informer>>,
    counters: TokenCounters,
    /// What goes on in the background; ends with this.
    _tasks: JoinSet<()>,
}

/// A keyring, and what keeps it fresh, which ends with this.
#[derive(Debug)]
struct Ring {
    keyring: Arc<Keyring>,
    _tasks: JoinSet<()>,
}

/// Other authorities than those that are believed, ready to take their place. Nothing comes of it
/// when it is dropped.
#[derive(Debug)]
pub struct PreparedAuthorities(Ring);

impl Access {
    /// Nobody is asked who they are: everyone may do everything.
    ///
    /// Token ids can be blocked all the same, until the process ends.
    #[must_use]
    pub fn open() -> Self {
        let AccessOptions { tokens_max, revocations_max, .. } = AccessOptions::default();
        let ring = Ring { keyring: Arc::new(Keyring::empty()), _tasks: JoinSet::new() };
        Self(Arc::new(Inner {
            ring: ArcSwap::from_pointee(ring),
            withdrawn: Mutex::default(),
            tokens: TokenCache::new(tokens_max),
            revocations: RevocationBook::in_memory(revocations_max),
            authorizer: None,
            informer: None,
            counters: TokenCounters::default(),
            _tasks: JoinSet::new(),
        }))
    }

    /// Reads what is kept in the folder, fetches the key sets, and begins to keep them fresh.
    ///
    /// # Errors
    ///
    /// An authority has no usable key, or the folder cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer and I/O.
    pub async fn start(options: AccessOptions) -> Result<Self, AccessError> {
        let folder = options.folder.as_deref();
        let revocations = RevocationBook::open(folder, options.revocations_max)?;
        let authorizer = options
            .authorization_webhook
            .map(|webhook| Authorizer::new(webhook, options.webhook_secret.clone()))
            .transpose()?;
        let mut tasks = JoinSet::new();
        let ring = Ring::start(options.authorities, &Keyring::empty()).await?;
        let informer = options
            .connection_webhook
            .map(|webhook| Informer::start(webhook, options.webhook_secret, folder, &mut tasks))
            .transpose()?;
        Ok(Self(Arc::new(Inner {
            ring: ArcSwap::from_pointee(ring),
            withdrawn: Mutex::default(),
            tokens: TokenCache::new(options.tokens_max),
            revocations,
            authorizer,
            informer,
            counters: TokenCounters::default(),
            _tasks: tasks,
        })))
    }

    /// Tells whether everyone may do everything: nobody's tokens are believed, and nobody is asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.has_authorities() && !self.has_authorization_webhook()
    }

    /// Tells whether there are authorities whose tokens are believed.
    #[must_use]
    pub fn has_authorities(&self) -> bool {
        !self.keyring().is_empty()
    }

    /// Gets everything ready to believe others than now: fetches the sets that are new, as
    /// [`start`](Self::start) does. Nothing changes until they are [adopted](Self::adopt).
    ///
    /// # Errors
    ///
    /// An authority has no usable key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer and I/O.
    pub async fn prepare(
        &self,
        authorities: Vec<AuthorityOptions>,
    ) -> Result<PreparedAuthorities, AccessError> {
        Ring::start(authorities, &self.keyring()).await.map(PreparedAuthorities)
    }

    /// Believes these authorities, and no others, from now on. Tokens that were verified before are
    /// verified anew.
    ///
    /// Gives the keys that were believed until now or until an earlier call, and are not any more, by
    /// their [marks](tidings_core::Identity::vouched_by): what they let in is for the caller to end.
    pub fn adopt(&self, authorities: PreparedAuthorities) -> Vec<u64> {
        let mut withdrawn = self.0.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        let now = authorities.0.keyring.trust();
        let before = self.0.ring.swap(Arc::new(authorities.0)).keyring.trust();
        withdrawn.extend(&before.marks);
        withdrawn.retain(|mark| !now.marks.contains(mark));
        withdrawn.iter().copied().collect()
    }

    /// Tells whether the key that proved who somebody is would do so now. Who was not proved by a key
    /// is not asked.
    #[must_use]
    pub fn still_vouches_for(&self, identity: &Identity) -> bool {
        identity.vouched_by.is_none_or(|mark| self.keyring().trust().marks.contains(&mark))
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.0.ring.load().keyring.clone()
    }

    /// Tells whether there is a server to [`authorize`](Self::authorize) subscribers.
    #[must_use]
    pub fn has_authorization_webhook(&self) -> bool {
        self.0.authorizer.is_some()
    }

    /// Tells whether there is a server that is told of [connections](Self::connected).
    #[must_use]
    pub fn has_connection_webhook(&self) -> bool {
        self.0.informer.is_some()
    }

    /// Verifies a token, or remembers that it did.
    ///
    /// A token with an unknown key waits for the key sets to be fetched again, where that was not
    /// just done.
    ///
    /// # Errors
    ///
    /// The token gives no rights.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; a fetch that it began goes on.
    pub async fn verify(&self, token: &str) -> Result<Arc<Grant>, VerifyError> {
        let verified = self.verify_uncounted(token).await;
        self.0.counters.count(&verified);
        verified
    }

    /// Asks the authorisation webhook, or remembers its answer.
    ///
    /// # Errors
    ///
    /// It denies, or there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; a call that it began goes on.
    pub async fn authorize(&self, question: &Question) -> Result<Arc<Grant>, AuthorizeError> {
        let authorizer = self.0.authorizer.as_ref().ok_or(AuthorizeError::Unavailable)?;
        authorizer.authorize(question).await
    }

    /// A stream opened: tells the connection webhook, if there is one and the stream has a user, now
    /// that the user is there, and when the last stream of the user is gone.
    #[must_use = "the stream counts as ended when this is dropped"]
    pub fn connected(&self, about: &ConnectionAbout) -> Option<ConnectionNews> {
        self.0.informer.as_ref()?.connected(about)
    }

    /// The hub is about to end all streams, and itself. Without a folder, tells the connection
    /// webhook that all users are gone, and returns when that is delivered, or after `within`. With
    /// one, returns at once: the next process goes on.
    pub async fn finish(&self, within: Duration) {
        if let Some(informer) = &self.0.informer {
            informer.finish(within).await;
        }
    }

    /// Blocks a token id until a time, at once, and beyond the end of the process if there is a
    /// folder. Returns when that is so. What was blocked for longer stays so.
    ///
    /// # Errors
    ///
    /// It is refused, or the folder cannot be written; in the latter case it is blocked all the
    /// same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have blocked it.
    pub async fn revoke(&self, revocation: Revocation<'_>) -> Result<(), RevokeError> {
        self.0.revocations.revoke(revocation).await
    }

    /// The token ids that are blocked now, in the order of their bytes.
    #[must_use]
    pub fn revocations(&self) -> Vec<Revoked> {
        self.0.revocations.list()
    }

    /// What happened since the start, and how things are now.
    #[must_use]
    pub fn figures(&self) -> AccessFigures {
        let inner = &*self.0;
        AccessFigures {
            tokens_accepted: inner.counters.accepted.load(Ordering::Relaxed),
            tokens_cached: inner.counters.cached.load(Ordering::Relaxed),
            tokens_refused: inner.counters.refused(),
            key_sets: self.keyring().figures(),
            authorization: inner.authorizer.as_ref().map(|it| it.figures()).unwrap_or_default(),
            news: inner.informer.as_ref().map(|it| it.figures()).unwrap_or_default(),
            revocations: inner.revocations.len() as u64,
        }
    }

    async fn verify_uncounted(&self, token: &str) -> Result<Arc<Grant>, VerifyError> {
        let inner = &*self.0;
        let keyring = self.keyring();
        if keyring.is_empty() {
            return Err(VerifyError::NoAuthority);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong.into());
        }
        let hash = TokenHash::of(token);
        let mut trust = keyring.trust();
        let cached = inner.tokens.get(&hash, trust.generation, unix_seconds());
        let is_cached = cached.is_some();
        let grant = if let Some(grant) = cached {
            grant
        } else {
            let mut verified = trust.verify(token);
            if let Err(error) = &verified
                && let Some(key_id) = missing_key(error)
            {
                keyring.look_for(key_id).await;
                let newer = keyring.trust();
                if newer.generation != trust.generation {
                    verified = newer.verify(token);
                    trust = newer;
                }
            }
            let grant = Arc::new(verified?);
            inner.tokens.insert(hash, trust.generation, grant.clone());
            grant
        };
        if inner.revocations.is_revoked(&grant.identity, unix_seconds()) {
            return Err(VerifyError::Revoked);
        }
        inner.counters.cached.fetch_add(u64::from(is_cached), Ordering::Relaxed);
        Ok(grant)
    }
}

impl Ring {
    async fn start(
        authorities: Vec<AuthorityOptions>,
        before: &Keyring,
    ) -> Result<Self, AccessError> {
        let mut tasks = JoinSet::new();
        let keyring = Keyring::start(authorities, before, &mut tasks).await?;
        Ok(Self { keyring, _tasks: tasks })
    }
}

impl Trust {
    fn verify(&self, token: &str) -> Result<Grant, TokenError> {
        let list = self.authorities.iter().map(|(authority, keys)| (authority, &**keys));
        tidings_auth::verify(token, &list.collect::<Vec<_>>(), unix_seconds())
    }
}

/// What a newer key set may have and the known ones have not: a key, or one for an algorithm.
fn missing_key(error: &TokenError) -> Option<&str> {
    match error {
        TokenError::UnknownKey { id } => Some(id.as_deref().unwrap_or_default()),
        TokenError::WrongAlgorithm { name } => Some(name),
        _ => None,
    }
}

#[derive(Debug, Default)]
struct TokenCounters {
    accepted: AtomicU64,
    cached: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
}

impl TokenCounters {
    fn count(&self, verified: &Result<Arc<Grant>, VerifyError>) {
        let counter = match verified {
            Ok(_) => &self.accepted,
            Err(error) => &self.refused[reason_of(error)],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        REASONS.into_iter().zip(counts).collect()
    }
}

/// Where in [`REASONS`] an error stands.
fn reason_of(error: &VerifyError) -> usize {
    match error {
        VerifyError::NoAuthority => 0,
        VerifyError::Revoked => 1,
        VerifyError::Token(error) => match error {
            TokenError::TooLong => 2,
            TokenError::Malformed { .. } => 3,
            TokenError::WrongAlgorithm { .. } => 4,
            TokenError::UnknownKey { .. } => 5,
            TokenError::BadSignature => 6,
            TokenError::Expired { .. } => 7,
            TokenError::NotYetValid { .. } => 8,
            TokenError::WrongIssuer => 9,
            TokenError::WrongAudience => 10,
            TokenError::MissingExpiry => 11,
            TokenError::BadClaims { .. } => 12,
        },
    }
}

const REASONS: [&str; 13] = [
    "no_authority",
    "revoked",
    "too_long",
    "malformed",
    "wrong_algorithm",
    "unknown_key",
    "bad_signature",
    "expired",
    "not_yet_valid",
    "wrong_issuer",
    "wrong_audience",
    "missing_expiry",
    "bad_claims",
];
