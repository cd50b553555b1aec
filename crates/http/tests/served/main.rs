//! A hub that is served, spoken to over real sockets by clients that know only the wire.

mod client;
mod draining;
mod http2;
mod http2_attacks;
mod limits;
mod proxy_protocol;
mod server;
mod smuggling;
mod takeover;
mod tls;
mod waiting;
