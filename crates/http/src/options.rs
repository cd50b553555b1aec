//! What the HTTP surface can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tidings_access::Access;

use crate::Tls;

/// How a hub is served over HTTP, and the bounds of what it takes in.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Origins whose pages may read streams and publish, such as `https://app.example`; `*` alone
    /// stands for all, then without credentials. Default none.
    pub cors_origins: Vec<String>,
    /// Host names that requests may be for besides IP addresses and `localhost`, in lower case;
    /// `None` for any. A hub that trusts whoever reaches it needs this against pages of a name that
    /// its owner points at the hub's address. Default `None`.
    pub hosts: Option<Vec<String>>,
    /// What one client may take and send; may change while the hub is served.
    pub limits: CurrentLimits,
    /// Bytes that all bodies together hold until they are published; at least one body's worth.
    /// Default 128 MiB.
    pub bodies_bytes_max: usize,
    /// How long a body may take, or each 64 KiB of a longer one; it is refused with `408` then. NDJSON
    /// may pause between lines for as long as it likes. Default 30 s.
    pub body_timeout: Duration,
    /// Events of one array. Default 100,000.
    pub array_events_max: usize,
    /// How long ending streams is spread over at shutdown. Default 5 s.
    pub drain: Duration,
    /// Bytes of a request head, at least 8 KiB; also what is buffered of one connection. A larger head
    /// is refused with `431`. Default 64 KiB.
    pub head_bytes_max: usize,
    /// How long a client may take to the first byte of a request, a TLS handshake included, for the
    /// rest of its head, and from one request to the next. The connection is closed then.
    /// Default 15 s.
    pub head_timeout: Duration,
    /// Connections without a request under way: new ones, unfinished handshakes and heads, idle ones.
    /// Over it the one that has waited longest is closed. Default 4,096.
    pub waiting_max: usize,
    /// Requests at once on one HTTP/2 connection, each stream of events being one; more wait, and are
    /// refused if they are sent all the same. Default 256.
    pub streams_per_connection_max: u32,
    /// Networks of proxies that say, by the PROXY protocol, for whom they connect. A connection from
    /// there without it is closed; one from elsewhere cannot use it. Default none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Networks of proxies whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whose tokens are believed, and who else is asked. Default [`Access::open`]: everyone who
    /// reaches the hub may publish and subscribe.
    pub access: Access,
    /// Whether subscribers without a token receive public events, once not everyone is trusted.
    /// Default false.
    pub anonymous: bool,
    /// Whether an event is private that does not say so. Default false.
    pub default_private: bool,
    /// The cookie that a token may stand in; empty for none. Default `tidings_token`.
    pub token_cookie: String,
    /// Whether a token may stand in the query parameter `access_token` of a `GET`. Default true.
    pub query_token: bool,
    /// How long a ticket lasts unless its request says otherwise; at most a day. Default 1 h.
    pub ticket_lifetime: Duration,
    /// Tickets that have been issued and have not expired; further requests get a `503`.
    /// Default 100,000.
    pub tickets_max: usize,
    /// Whether those who are trusted for reaching the hub may operate it: list and close connections.
    /// Default false.
    pub open_operation: bool,
    /// Whether `/metrics` and `/stats` are for everyone, not only for operators. Default true.
    pub public_figures: bool,
    /// Certificate and key with which [`serve`](crate::serve) encrypts; `None` for plain HTTP.
    /// Default `None`.
    pub tls: Option<Tls>,
    /// Attempts to change the configuration of the process, for the metrics; count them here.
    pub reloads: Arc<ReloadCounts>,
}

/// What one client may take and send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a JSON or form body. Does not apply to NDJSON, which is streamed. While the hub
    /// is served it can be raised as far as all bodies together may go. Default 16 MiB.
    pub body_bytes_max: usize,
    /// Topics of one event. Default 64.
    pub topics_max: usize,
    /// Selectors of one subscription. Default 100.
    pub selectors_max: usize,
    /// Streams and polls of one address at once, which is an IPv4 address or an IPv6 network of 64
    /// bits; one more is turned away. `None` for any number. Default `None`.
    pub connections_per_address_max: Option<usize>,
    /// Streams and polls of one user at once; one more is turned away. `None` for any number.
    /// Default `None`.
    pub connections_per_user_max: Option<usize>,
    /// How fast a user, or where none is known an address, may open streams and polls; `None` for any
    /// rate. What is faster is turned away. Default `None`.
    pub connect_rate: Option<Rate>,
    /// How fast a user, or where none is known an address, may publish events; `None` for any rate.
    /// What is faster is refused, and NDJSON is read more slowly. Default `None`.
    pub publish_rate: Option<Rate>,
}

/// The [`HttpLimits`] of now; cheap to clone, and all clones are one.
///
/// A change counts for what clients ask for from then on: streams that are open stay, and those that
/// were opened while there was no limit for them are not counted.
#[derive(Debug, Clone, Default)]
pub struct CurrentLimits(Arc<ArcSwap<HttpLimits>>);

impl CurrentLimits {
    /// What they are now.
    pub fn load(&self) -> Arc<HttpLimits> {
        self.0.load_full()
    }

    /// Puts others in their place.
    pub fn change(&self, limits: HttpLimits) {
        self.0.store(Arc::new(limits));
    }
}

impl From<HttpLimits> for CurrentLimits {
    fn from(limits: HttpLimits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(limits)))
    }
}

/// How often a process was told to read its configuration again, and what came of it.
#[derive(Debug, Default)]
pub struct ReloadCounts {
    applied: AtomicU64,
    refused: AtomicU64,
    last_refused: AtomicBool,
}

impl ReloadCounts {
    /// Counts one more: it was put into effect, or refused as a whole.
    pub fn count(&self, was_applied: bool) {
        let count = if was_applied { &self.applied } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_refused.store(!was_applied, Ordering::Relaxed);
    }

    /// Outcomes, and how often each came about.
    pub(crate) fn all(&self) -> [(&'static str, u64); 2] {
        [("applied", &self.applied), ("refused", &self.refused)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    /// Whether the configuration that was read last is in effect.
    pub(crate) fn is_current(&self) -> bool {
        !self.last_refused.load(Ordering::Relaxed)
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            hosts: None,
            limits: CurrentLimits::default(),
            bodies_bytes_max: 128 << 20,
            body_timeout: Duration::from_secs(30),
            array_events_max: 100_000,
            drain: Duration::from_secs(5),
            head_bytes_max: 64 << 10,
            head_timeout: Duration::from_secs(15),
            waiting_max: 4_096,
            streams_per_connection_max: 256,
            proxy_protocol_from: Vec::new(),
            trusted_proxies: Vec::new(),
            access: Access::open(),
            anonymous: false,
            default_private: false,
            token_cookie: "tidings_token".to_owned(),
            query_token: true,
            ticket_lifetime: Duration::from_secs(60 * 60),
            tickets_max: 100_000,
            open_operation: false,
            public_figures: true,
            tls: None,
            reloads: Arc::default(),
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 << 20,
            topics_max: 64,
            selectors_max: 100,
            connections_per_address_max: None,
            connections_per_user_max: None,
            connect_rate: None,
            publish_rate: None,
        }
    }
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least 1, which 0 stands for too.
    pub per_second: u32,
    /// At once, after a while of nothing; at least 1, which 0 stands for too.
    pub burst: u32,
}

/// The least that fits a request with its tokens and cookies.
pub(crate) const HEAD_BYTES_MIN: usize = 8 << 10;
/// The longest time a poll may ask to wait.
pub(crate) const POLL_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a poll waits unless it says otherwise.
pub(crate) const POLL_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest reconnection time an event may give.
pub(crate) const RETRY_MS_MAX: u64 = 24 * 60 * 60 * 1000;
