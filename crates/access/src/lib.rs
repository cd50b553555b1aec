//! What a tidings hub asks other servers about who may do what, and what it remembers of it.
//!
//! - Key sets are fetched over HTTP, kept fresh, and kept when their server is down.
//! - The authorisation webhook answers for those who have a session and no token.
//! - The connection webhook is told, at least once and in order, when users come and go.
//! - Token ids are blocked until they expire, beyond the end of the process.
//!
//! This crate does not know events, streams or the requests of clients; what a token means is
//! decided by `tidings-auth`.

mod web_url;
mod signature;
mod backoff;
mod options;
mod access;
mod keyring;
mod token_cache;
mod halves;
mod revocation_book;
mod journal;
mod authorization;
mod connections;
mod roll;
mod outbox;
mod news;
mod figures;
mod calendar;
mod log_gate;
mod outgoing;

pub use access::{Access, AccessError, PreparedAuthorities, RevokeError, Revoked, VerifyError};
pub use authorization::{AuthorizeError, Question};
pub use backoff::Backoff;
pub use connections::{ConnectionAbout, ConnectionNews};
pub use figures::{AccessFigures, AuthorizationFigures, KeySetFigures, NewsFigures};
pub use options::{
    AccessOptions, AuthorityOptions, AuthorizationWebhook, ConnectionWebhook, JwksOptions,
};
pub use signature::{WebhookSecret, WebhookSecretError};
pub use web_url::{WebUrl, WebUrlError};
