//! What every log must do.

use std::sync::atomic::{AtomicU32, Ordering};

use tidings_log::shared::{SharedLog, SharedLogOptions};
use tidings_log_redis::RedisEngine;

use crate::server::Server;

#[test]
fn the_shared_log_conforms_on_redis() {
    let server = Server::start(&[]);
    let count = AtomicU32::new(0);
    tidings_log::conformance::check(|retention, keys| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let url = format!("redis+unix://{}?name=log-{number}", server.socket().display());
        let engine = RedisEngine::new(&url).unwrap();
        let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
        Box::new(SharedLog::open(engine, options).unwrap())
    });
}
