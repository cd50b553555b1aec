//! A server that fans events out, as something that can be started, spoken to and measured.
//!
//! Whoever is measured against others implements [`Target`]; the harness does the rest. What a
//! target says is plain data: bytes of requests, which the load repeats with other topics and
//! other data. The load knows no target.
//!
//! Topics are eight characters of `[a-z0-9]`, data is one line of `[A-Za-z0-9.]`, and within one
//! run all topics are as long as each other and so are all data: nothing needs to be escaped, and
//! a request stays right when its topic and its data are overwritten in place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Running;

/// A server to be measured.
///
/// Calls come in this order: `prepare` once, then for each round `start`, and requests for what
/// was started, which is stopped before the next round begins.
pub trait Target {
    /// Short, lowercase and stable: what it is called on the command line, in records and tables.
    fn name(&self) -> &'static str;

    /// Finds the program, or builds it into `cache`, unless that has been done.
    ///
    /// # Errors
    ///
    /// If it cannot be had on this machine; it is left out then, and the report says why.
    fn prepare(&mut self, cache: &Path) -> Result<Prepared>;

    /// What it can be asked for.
    fn offers(&self) -> Offers;

    /// Starts it with nothing kept, everything it writes in `folder`, on free ports of 127.0.0.1.
    /// It takes connections when this returns.
    ///
    /// # Errors
    ///
    /// If it does not start.
    fn start(&self, folder: &Path, wanted: &Wanted) -> Result<Running>;

    /// The request that subscribes to these topics, after the event with the id `after` if one is
    /// given (only if it offers to resume).
    fn subscribe(&self, topics: &[String], after: Option<&str>) -> Request;

    /// A whole HTTP/1.1 request, head and body, that publishes `data` to `topic` over a
    /// connection that is kept alive. The answer has to be a `2xx`, with a `content-length`,
    /// chunked, or without a body (`204`). Topic and data stand in it as they are, as often as
    /// the server wants.
    fn publish(&self, topic: &str, data: &str) -> Vec<u8>;

    /// How many connections may wait for their answer at once, for a server that turns others away.
    fn connecting_max(&self) -> usize {
        usize::MAX
    }

    /// The factor by which counts of events are divided for a server that is far slower than
    /// the others, so that a run does not take all day. Figures are for each delivery.
    fn patience(&self) -> u32 {
        1
    }
}

/// What can be said of a target before it runs.
#[derive(Debug, Clone, Serialize)]
pub struct Prepared {
    /// Of the program, with that of what it runs in: `nginx 1.22.1, nchan 1.3.6`.
    pub version: String,
    /// What was configured other than by default, and why, for the record.
    pub settings: Value,
}

/// What a target can do.
#[derive(Debug, Clone, Copy)]
pub struct Offers {
    /// How events reach subscribers.
    pub transport: Transport,
    /// TLS 1.3 on the port for subscribers.
    pub tls: bool,
    /// HTTP/2 over TLS, by ALPN.
    pub http2: bool,
    /// A subscriber may come back with the id of the last event it saw.
    pub resume: bool,
    /// How many topics one subscription may have.
    pub topics_max: usize,
    /// Something is sent to idle connections at the interval that is wanted.
    pub heartbeat: bool,
}

/// How events reach subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// An event stream. The data of an event is one `data:` line, that which was published or
    /// something that holds it as it is.
    Sse,
    /// Each message holds the data of one event, as it is.
    WebSocket,
}

/// What a target is started for, so that limits can be set.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// At most 19,900, as a process has 20,000 files.
    pub connections: usize,
    /// How many topics there are.
    pub topics: usize,
    /// How many of the newest events have to be kept for those who come back.
    pub kept_events: usize,
    /// After how much silence something is sent to each connection; `None`: as by default.
    pub heartbeat: Option<Duration>,
    /// Serve subscribers over TLS. Publishes may come in plain text on a port of their own, or
    /// the same way as subscriptions, see [`Running`].
    pub tls: Option<TlsFiles>,
}

/// A certificate for 127.0.0.1, and its key, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, signed by itself.
    pub certificate: PathBuf,
    /// PKCS#8.
    pub key: PathBuf,
}

/// A `GET` that opens an event stream, or a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// Further headers, names in lowercase. `host`, `accept` and what upgrades a connection are
    /// added by the load.
    pub headers: Vec<(String, String)>,
    /// Text messages to send once a WebSocket is open.
    pub hello: Vec<String>,
}
