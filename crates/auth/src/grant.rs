//! What the bearer of a credential may do.

use std::sync::Arc;

use tidings_core::{Identity, Rights};

use crate::UnixSeconds;

/// What the bearer of a credential may do, and until when.
///
/// Comes of a token by [`verify`](crate::verify); whoever admits clients in another way makes it
/// as they decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who it is, as far as it is said; shared with all connections that it admits.
    pub identity: Arc<Identity>,
    /// Which topics may be published to: each topic of an event must be covered. `None` is no
    /// publishing at all.
    pub publish: Option<Rights>,
    /// Which private events may be received, those that tell who joined and left included.
    pub subscribe: Rights,
    /// Of which topics may be known who is present.
    pub presence: Rights,
    /// Whether the hub may be operated: connections listed and closed, tokens revoked, figures
    /// read.
    pub operate: bool,
    /// The moment at which all of this ends; `None` is never.
    pub expires_at: Option<UnixSeconds>,
    /// JSON that the issuer attached for others to read; the hub does not look into it.
    pub payload: Option<Box<str>>,
}
