//! The suites that every engine and every log must pass.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidings_log::conformance::{check, check_engine, check_shared};
use tidings_log::shared::{SharedLog, SharedLogOptions};
use tidings_log::{EventLog, KeyWindow, Retention};
use tidings_log_postgres::PostgresEngine;

use crate::calls::patient;
use crate::server::Server;

#[test]
fn the_engine_conforms() {
    let logs = Logs::new();
    check_engine(|| {
        let url = logs.fresh();
        move || PostgresEngine::new(&url).unwrap()
    });
}

#[test]
fn the_log_conforms() {
    let logs = Logs::new();
    check(|retention, keys| node(&logs.fresh(), retention, keys));
}

#[test]
fn the_log_conforms_between_nodes() {
    let logs = Logs::new();
    check_shared(|retention, keys| {
        let url = logs.fresh();
        move || node(&url, retention.clone(), keys)
    });
}

fn node(url: &str, retention: Retention, keys: KeyWindow) -> Box<dyn EventLog> {
    let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
    Box::new(SharedLog::open(PostgresEngine::new(url).unwrap(), options).unwrap())
}

/// Logs by many names on one server.
struct Logs {
    server: Server,
    count: AtomicUsize,
}

impl Logs {
    fn new() -> Self {
        Self { server: Server::start(), count: AtomicUsize::new(0) }
    }

    fn fresh(&self) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        patient(&format!("{}?name=log-{number}", self.server.url("postgres")))
    }
}
