//! The HTTP surface of a hub: publish, subscribe, poll, health, metrics and a page.
//!
//! [`router`] mounts it in any axum application; [`serve`] runs it on a listener. The contract is
//! `docs/reference/http-api.md`, machine-readable at `/openapi.json`. This crate does not know
//! where events are stored.

mod accept;
mod cors;
mod health;
mod metrics;
mod ndjson;
mod options;
mod page;
mod poll;
mod problem;
mod publish;
mod query;
mod record_input;
mod request_id;
mod router;
mod server;
mod stats;
mod subscribe;

pub use options::HttpOptions;
pub use router::router;
pub use server::serve;
