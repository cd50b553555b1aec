//! The connection webhook: a server of yours is told when users come and go.

use std::net::IpAddr;
use std::sync::Arc;

use tidings_core::Identity;

/// A stream that opened, and whose it is.
#[derive(Clone, Debug)]
pub struct ConnectionAbout {
    /// Who it belongs to.
    pub identity: Arc<Identity>,
    /// The address of the client.
    pub ip: Option<IpAddr>,
}

/// A stream of a user, for as long as this lives.
#[derive(Debug)]
#[must_use = "the stream counts as ended when this is dropped"]
pub struct ConnectionNews {
    reason: Option<Box<str>>,
}

impl ConnectionNews {
    /// The stream ended, for `reason`: a word such as `expired`. Dropping says the same without a
    /// reason.
    pub fn ended(mut self, reason: &str) {
        self.reason = Some(reason.into());
    }
}
