//! One handle for all that decides who may do what.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tidings_auth::{Grant, Revocation, RevocationError, TokenError, UnixSeconds};

use crate::{
    AccessFigures, AccessOptions, AuthorizeError, ConnectionAbout, ConnectionNews, Question,
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
    options: AccessOptions,
}

impl Access {
    /// Nobody is asked who they are: everyone may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(Inner { options: AccessOptions::default() }))
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
        Ok(Self(Arc::new(Inner { options })))
    }

    /// Tells whether everyone may do everything: nobody's tokens are believed, and nobody is asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.has_authorities() && !self.has_authorization_webhook()
    }

    /// Tells whether there are authorities whose tokens are believed.
    #[must_use]
    pub fn has_authorities(&self) -> bool {
        !self.0.options.authorities.is_empty()
    }

    /// Tells whether there is a server to [`authorize`](Self::authorize) subscribers.
    #[must_use]
    pub fn has_authorization_webhook(&self) -> bool {
        self.0.options.authorization_webhook.is_some()
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
        let authorities = &self.0.options.authorities;
        if authorities.is_empty() {
            return Err(VerifyError::NoAuthority);
        }
        let list: Vec<_> = authorities.iter().map(|one| (&one.authority, &*one.keys)).collect();
        Ok(Arc::new(tidings_auth::verify(token, &list, unix_now())?))
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
        let _ = question;
        Err(AuthorizeError::Unavailable)
    }

    /// A stream opened: tells the connection webhook, if there is one and the stream has a user, now
    /// that the user is there, and when the last stream of the user is gone.
    #[must_use = "the stream counts as ended when this is dropped"]
    pub fn connected(&self, about: &ConnectionAbout) -> Option<ConnectionNews> {
        let _ = about;
        None
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
        let _ = revocation;
        Ok(())
    }

    /// The token ids that are blocked now, in the order of their bytes.
    #[must_use]
    pub fn revocations(&self) -> Vec<Revoked> {
        Vec::new()
    }

    /// What happened since the start, and how things are now.
    #[must_use]
    pub fn figures(&self) -> AccessFigures {
        AccessFigures::default()
    }
}

fn unix_now() -> UnixSeconds {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
