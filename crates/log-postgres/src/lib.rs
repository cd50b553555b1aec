//! The log of a hub in a Postgres database, which several nodes share.
//!
//! [`PostgresEngine`] stores, orders and finds; what a node makes of it is [`tidings_log::shared`]. Offsets are dense and
//! become visible in their order, an append is one statement and one transaction, and what it answers is on disk
//! as far as the server syncs at all. Applications publish inside their own transactions by `tidings_publish`,
//! which puts events into an outbox that the nodes move into the log.
//!
//! This crate does not know subscribers, nor the other stores.

mod url;
mod tls;
mod fault;
mod session;
mod schema;
mod columns;
mod rows;
mod wakening;
mod notifying;
mod moving;
mod engine;

pub use engine::PostgresEngine;
pub use url::UrlError;
