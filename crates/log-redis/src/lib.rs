//! The log of nodes that share a Redis or Valkey server, in its memory as Streams.
//!
//! [`RedisEngine`] is an [`Engine`](tidings_log::shared::Engine) over sync connections: to one server, to the master
//! that sentinels name, or to the node of a cluster that serves the log's slot. What is promised and what is not
//! stands in `docs/operate/redis.md`.
//!
//! - `address`: the URL
//! - `wire`, `tls`, `connection`: talking to one server
//! - `server`, `finding`: which server, and whether it can have the log
//! - `layout`, `scripts`: what stands in it, and the steps that change that
//! - `opening`, `appending`, `trimming`, `engine`: what a node does with it

mod address;
mod failure;
mod wire;
mod tls;
mod connection;
mod server;
mod finding;
mod layout;
mod scripts;
mod opening;
mod appending;
mod trimming;
mod engine;

pub use address::UrlError;
pub use engine::RedisEngine;
