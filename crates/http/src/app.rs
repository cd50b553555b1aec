//! What every handler works with.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{Extensions, HeaderMap};
use tidings::Hub;
use tidings_access::Access;
use tokio::sync::Semaphore;

use crate::body_budget::BodyBudget;
use crate::client_address::client_address;
use crate::client_limits::ClientLimits;
use crate::line_figures::LineFigures;
use crate::problem_counts::ProblemCounts;
use crate::record_input::RecordLimits;
use crate::tickets::Tickets;
use crate::{HttpLimits, HttpOptions};

/// The hub and what the HTTP surface was told; cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    hub: Hub,
    options: Arc<HttpOptions>,
    body_budget: BodyBudget,
    client_limits: Arc<ClientLimits>,
    problem_counts: Arc<ProblemCounts>,
    /// One permit for each stream of figures that may be open.
    stats_streams: Arc<Semaphore>,
    tickets: Tickets,
    line_figures: Arc<LineFigures>,
    leaving: Arc<AtomicBool>,
}

impl App {
    pub(crate) fn new(hub: Hub, options: HttpOptions) -> Self {
        let stats_streams = Arc::new(Semaphore::new(STATS_STREAMS_MAX));
        let body_budget = BodyBudget::new(
            options.bodies_bytes_max.max(options.limits.load().body_bytes_max),
            options.body_timeout,
        );
        let client_limits = Arc::new(ClientLimits::new(options.limits.clone()));
        let tickets = Tickets::new(options.tickets_max);
        Self {
            hub,
            options: Arc::new(options),
            body_budget,
            client_limits,
            problem_counts: Arc::default(),
            stats_streams,
            tickets,
            line_figures: Arc::default(),
            leaving: Arc::default(),
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn options(&self) -> &HttpOptions {
        &self.options
    }

    pub(crate) fn access(&self) -> &Access {
        &self.options.access
    }

    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    pub(crate) fn body_budget(&self) -> &BodyBudget {
        &self.body_budget
    }

    pub(crate) fn client_limits(&self) -> &ClientLimits {
        &self.client_limits
    }

    pub(crate) fn problem_counts(&self) -> &ProblemCounts {
        &self.problem_counts
    }

    /// How many subscriptions were refused for a limit.
    pub(crate) fn turned_away(&self) -> u64 {
        self.hub.figures().turned_away + self.client_limits.turned_away()
    }

    pub(crate) fn stats_streams(&self) -> &Arc<Semaphore> {
        &self.stats_streams
    }

    /// What is counted of connections, if the hub is [served](crate::serve) here.
    pub(crate) fn line_figures(&self) -> &Arc<LineFigures> {
        &self.line_figures
    }

    /// From now on no new clients are to be sent here.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether new clients are better sent elsewhere, as this hub goes away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.hub.is_shutting_down()
    }

    pub(crate) fn limits(&self) -> Arc<HttpLimits> {
        self.options.limits.load()
    }

    /// Bytes of a body; never more than fit into what all of them may hold.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.limits().body_bytes_max.min(self.body_budget.bytes_max())
    }

    /// Where a request comes from; `None` if nobody knows.
    pub(crate) fn client_address(
        &self,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Option<IpAddr> {
        client_address(extensions, headers, &self.options.trusted_proxies)
    }

    pub(crate) fn record_limits(&self) -> RecordLimits {
        RecordLimits {
            array_events_max: self.options.array_events_max,
            topics_max: self.limits().topics_max,
            default_private: self.options.default_private,
            event_bytes_max: self.hub.event_bytes_max(),
        }
    }
}

/// Far more pages than people look at, and no way to hold connections past `max_connections`.
const STATS_STREAMS_MAX: usize = 256;
