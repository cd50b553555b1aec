//! `GET /stats`: the hub's own figures as an event stream, one event a second.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use tidings_sse::EventFields;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::app::App;
use crate::authorize::check_figures;
use crate::subscribe::{event_stream, turned_away};

pub(crate) async fn stats(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    if let Err(problem) = check_figures(&app, &head).await {
        return problem.into_response();
    }
    let permit = Arc::clone(app.stats_streams()).try_acquire_owned();
    let Some(permit) = permit.ok().filter(|_| !app.hub().is_shutting_down()) else {
        return turned_away(&app, Duration::ZERO);
    };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    event_stream(Body::new(StatsBody { app, ticks, _permit: permit }))
}

/// Ends when the hub shuts down.
struct StatsBody {
    app: App,
    ticks: Interval,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for StatsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(cx));
        let open = !self.app.hub().is_shutting_down();
        Poll::Ready(open.then(|| Ok(Frame::data(encode(&self.app)))))
    }
}

fn encode(app: &App) -> Bytes {
    let figures = app.hub().figures();
    let data = serde_json::json!({
        "subscribers": figures.subscribers,
        "published": figures.published,
        "delivered": figures.delivered,
        "bytes": figures.delivered_bytes,
        "turnedAway": app.turned_away(),
        "uptimeMs": app.hub().uptime().as_millis() as u64,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let data = &data.to_string();
    let fields = EventFields { event: Some("stats"), data, ..EventFields::default() };
    let mut out = Vec::new();
    fields.encode(&mut out).expect("the type is fixed");
    out.into()
}

/// Often enough for a chart that lives.
const INTERVAL: Duration = Duration::from_secs(1);
