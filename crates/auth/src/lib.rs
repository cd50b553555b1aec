//! Who may do what: tokens and the keys that verify them, the rights that they give, tickets and
//! revocations.
//!
//! Everything here is a function of its arguments, time and randomness included, and everything
//! that grows has a bound. The crate does not know sockets, clocks, files, HTTP or the hub.
//!
//! - [`Key`] verifies signatures of one [`Algorithm`], which the key decides and never the token.
//! - [`verify`] reads a token and says what its bearer may do: a [`Grant`].
//! - [`SigningKey`] mints tokens from [`Claims`].
//! - [`TicketBook`] keeps tickets, which open one stream and no other.
//! - [`Revocations`] says which tokens are not accepted any more.

mod algorithm;
mod base64url;
mod json;
mod der;
mod jwk;
mod key;
mod signing_key;
mod claims;
mod grant;
mod token;
mod ticket_book;
mod revocations;

pub use algorithm::{Algorithm, AlgorithmError};
pub use claims::{Claims, NAME_BYTES_MAX};
pub use grant::Grant;
pub use jwk::parse_jwk_set;
pub use key::{Key, KeyError};
pub use revocations::{Revocation, RevocationError, Revocations};
pub use signing_key::{SignError, SigningKey};
pub use ticket_book::{Ticket, TicketBook, TicketBookFull, TicketError};
pub use token::{Authority, TOKEN_BYTES_MAX, TokenError, verify};

/// Seconds since 1970-01-01 00:00 UTC, without leap seconds, as tokens count them.
pub type UnixSeconds = u64;
