//! To whom a connection belongs.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tidings_core::Identity;

use crate::EndReason;

/// Called once, when a connection has ended or was not to begin after all.
pub type OnEnd = Box<dyn FnOnce(EndReason) + Send + Sync>;

/// To whom a connection belongs. The hub tells its operator, and makes nothing else of it.
#[derive(Default)]
pub struct Client {
    /// Who it is; `None` if nobody knows.
    pub identity: Option<Arc<Identity>>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Called by whatever thread notices the end, so it must not block: for what is counted for as
    /// long as the connection lasts. Dropped without a call if the subscription was refused.
    pub on_end: Option<OnEnd>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, address, on_end: _ } = self;
        f.debug_struct("Client")
            .field("identity", identity)
            .field("address", address)
            .finish_non_exhaustive()
    }
}
