//! Other servers that fan events out, so that tidings can be measured against them.
//!
//! Each comes from where its users have it from: a Debian package, the module proxy of Go, npm or
//! crates.io. It is kept in a cache outside the project, nothing is installed, and it is driven by
//! its documented protocol and settings alone. What is set other than by default is told in
//! [`Prepared::settings`](bench_stand::Prepared::settings), and why.

mod axum;
mod centrifugo;
mod debian;
mod go;
pub mod mercure;
mod nchan;
mod node;
mod pushpin;
mod starting;

use bench_stand::{Target, Transport};

/// Each of them once, and those that also speak WebSocket once more for that.
pub fn all() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(nchan::Nchan::new(Transport::Sse)),
        Box::new(nchan::Nchan::new(Transport::WebSocket)),
        Box::new(mercure::Mercure::default()),
        Box::new(centrifugo::Centrifugo::new(Transport::Sse)),
        Box::new(centrifugo::Centrifugo::new(Transport::WebSocket)),
        Box::new(axum::Axum::default()),
        Box::new(node::Node::new(Transport::Sse)),
        Box::new(node::Node::new(Transport::WebSocket)),
        Box::new(pushpin::Pushpin::default()),
    ]
}
