//! The HTTP surface of a hub: publish, subscribe, poll, who may do so, health, metrics and a page.
//!
//! [`router`] mounts it in any axum application; [`serve`] runs it on a listener. The contract is
//! `docs/reference/http-api.md`, machine-readable at `/openapi.json`. This crate does not know
//! where events are stored.

mod options;
mod header_names;
mod app;
mod problem;
mod problem_counts;
mod body_budget;
mod query;
mod accept;
mod record_input;
mod idempotency_key;
mod publisher;
mod publish;
mod ndjson;
mod json_body;
mod wanted;
mod credentials;
mod authorize;
mod tickets;
mod subscribe;
mod connections;
mod presence;
mod revocations;
mod poll;
mod stats;
mod health;
mod metrics;
mod cors;
mod hosts;
mod page;
mod request_id;
mod response_headers;
mod client_address;
mod account;
mod places;
mod rates;
mod client_limits;
mod front;
mod router;
mod head_timeout;
mod tls;
mod tls_session;
mod wire;
mod line_figures;
mod waiting_room;
mod proxy_protocol;
mod takeover;
mod http2;
mod connection;
mod server;

pub use options::{CurrentLimits, HttpLimits, HttpOptions, Rate, ReloadCounts};
pub use router::router;
pub use server::{Ending, serve, serve_until};
pub use tls::{AcmeOptions, LETS_ENCRYPT, Tls, TlsError};
