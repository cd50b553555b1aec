//! The authorisation webhook: a server of yours says what a subscriber may do, from the cookies and
//! headers that the subscriber sent.

use std::net::IpAddr;

use http::HeaderMap;
use thiserror::Error;

/// What a subscriber wants, and all that is known of it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The topics and selectors that it asks for, as written.
    pub topics: Vec<String>,
    /// The event types that it asks for; empty for all.
    pub events: Vec<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The method of its request.
    pub method: String,
    /// The path and query of its request.
    pub url: String,
    /// The headers of its request. Those that are about the connection are left out of what is
    /// asked.
    pub headers: HeaderMap,
}

/// Why there are no rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthorizeError {
    /// The server answered `401` or `403`.
    #[error("the authorisation webhook denies access")]
    Denied,
    /// There is no server to ask, no answer in time, too many ask, or the answer is none. Nobody is
    /// let in for that; to try again later may help.
    #[error("the authorisation webhook gives no answer")]
    Unavailable,
}
