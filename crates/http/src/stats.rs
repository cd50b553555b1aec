//! `GET /stats`: the hub's own figures as an event stream, one event a second.

use std::convert::Infallible;
use std::future::Future;
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
use crate::authorize::FiguresReader;
use crate::subscribe::{event_stream, turned_away};

pub(crate) async fn stats(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let reader = match FiguresReader::of(&app, &head).await {
        Ok(reader) => reader,
        Err(problem) => return problem.into_response(),
    };
    let permit = Arc::clone(app.stats_streams()).try_acquire_owned();
    let Some(permit) = permit.ok().filter(|_| !app.hub().is_shutting_down()) else {
        return turned_away(&app, Duration::ZERO);
    };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = StatsBody { app, ticks, reader: Arc::new(reader), checking: None, _permit: permit };
    event_stream(Body::new(body))
}

/// Ends when the hub shuts down, or its reader may not see more.
struct StatsBody {
    app: App,
    ticks: Interval,
    reader: Arc<FiguresReader>,
    checking: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for StatsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut checking = match self.checking.take() {
            Some(checking) => checking,
            None => {
                ready!(self.ticks.poll_tick(cx));
                let (app, reader) = (self.app.clone(), Arc::clone(&self.reader));
                Box::pin(async move { reader.check_again(&app).await.is_ok() })
            }
        };
        let Poll::Ready(may_see) = checking.as_mut().poll(cx) else {
            self.checking = Some(checking);
            return Poll::Pending;
        };
        let open = may_see && !self.app.hub().is_shutting_down();
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
