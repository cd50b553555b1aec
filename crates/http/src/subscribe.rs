//! `GET /events`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tidings::{
    Admission, Client, EndReason, Interest, Position, SubscribeError, SubscribeOptions,
    Subscription,
};
use tidings_access::{ConnectionAbout, ConnectionNews};
use tidings_auth::UnixSeconds;

use crate::accept::{self, Form};
use crate::account::Source;
use crate::app::App;
use crate::authorize::{Caller, time_until};
use crate::connection::Line;
use crate::header_names::{LAST_EVENT_ID, X_ACCEL_BUFFERING};
use crate::poll;
use crate::problem::{Kind, Problem};
use crate::takeover;
use crate::tickets::{self, OpenedTicket};
use crate::wanted::Wanted;

pub(crate) async fn subscribe(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match answer(&app, &head).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(app: &App, head: &Parts) -> Result<Response, Problem> {
    let Admitting { wanted, caller, expires_at, ticket } = match admitting(app, head).await {
        Ok(admitting) => admitting,
        // Nobody says no: a browser is to come back.
        Err(problem)
            if problem.kind() == Kind::AuthorizationUnavailable && !Wanted::is_poll(head) =>
        {
            return Ok(turned_away(app, Duration::ZERO));
        }
        Err(problem) => return Err(problem),
    };
    let form = accept::choose(&head.headers, wanted.poll.is_some()).ok_or_else(not_acceptable)?;
    let address = app.client_address(&head.extensions, &head.headers);
    let identity = caller.identity();
    let source = Source { identity: identity.map(|it| &**it), address };
    let places = match app.client_limits().connect(source) {
        Ok(places) => places,
        Err(reason) if form == Form::EventStream => return Ok(turned_away(app, reason.wait())),
        Err(reason) => return Err(come_back(app, reason.into())),
    };
    let line = head.extensions.get::<Line>().cloned();
    let is_direct = wanted.poll.is_none() && line.as_ref().is_some_and(|line| line.can_be_taken);
    let held = Held { news: Arc::default(), ticket: ticket.clone() };
    let news = Arc::clone(&held.news);
    let is_told = identity.is_some() && app.access().has_connection_webhook();
    let is_held = ticket.is_some() || is_told;
    let on_end = is_held.then(|| Box::new(move |reason| held.end(reason)) as _);
    let on_end = places.until_end(on_end);
    let client = Client { identity: identity.cloned(), address, on_end };
    let options = SubscribeOptions {
        begin: wanted.begin,
        control_off: wanted.control_off,
        conflate: wanted.conflate,
        poll: wanted.poll,
        abort: line.map(|line| Box::new(move || line.breaker.break_off()) as _),
        client: Some(Box::new(client)),
        expires_in: expires_at.map(time_until),
    };
    let rights = caller.subscribe_rights();
    let interest = Interest::new(wanted.selectors, wanted.event_types, rights);
    let admission = match app.hub().admit(interest, options) {
        Ok(admission) => admission,
        Err(error) => return refused(app, error, form),
    };
    // From here on it is open.
    if let Some(identity) = identity.filter(|_| is_told) {
        let about = ConnectionAbout { identity: Arc::clone(identity), ip: address };
        *news.lock().expect(UNPOISONED) = app.access().connected(&about);
    }
    let begins_after = admission.begins_after();
    if let Some(ticket) = &ticket {
        ticket.begin(begins_after);
    }
    match form {
        Form::EventStream => {
            let first_id = ticket.and(begins_after);
            Ok(stream(app, admission, is_direct, first_id))
        }
        Form::Json => Ok(poll::answer(admission.pull()).await),
    }
}

/// A subscription that is to be opened.
struct Admitting {
    wanted: Wanted,
    caller: Caller,
    /// When it may last no longer.
    expires_at: Option<UnixSeconds>,
    ticket: Option<Arc<OpenedTicket>>,
}

async fn admitting(app: &App, head: &Parts) -> Result<Admitting, Problem> {
    let query = head.uri.query().unwrap_or_default();
    if let Some(id) = tickets::in_query(query)? {
        let (opened, wanted) = tickets::open(app, head, id)?;
        let (caller, expires_at) = (opened.stream().caller.clone(), Some(opened.expires_at()));
        return Ok(Admitting { wanted, caller, expires_at, ticket: Some(Arc::new(opened)) });
    }
    let mut wanted = Wanted::parse(query.as_bytes(), app.limits().selectors_max)?;
    wanted.resume_by_header(&head.headers);
    let caller = Caller::of(app, head).await?;
    let caller = caller.admitted(app, head, &wanted).await?;
    let expires_at = caller.expires_at();
    Ok(Admitting { wanted, caller, expires_at, ticket: None })
}

/// What lasts as long as a connection does.
struct Held {
    /// What the connection webhook hears of, once the connection is open.
    news: Arc<Mutex<Option<ConnectionNews>>>,
    ticket: Option<Arc<OpenedTicket>>,
}

impl Held {
    fn end(self, reason: EndReason) {
        if let Some(news) = self.news.lock().expect(UNPOISONED).take() {
            news.ended(reason.as_str());
        }
        drop(self.ticket);
    }
}

const UNPOISONED: &str = "no thread panics while it holds what is told of a connection";

fn not_acceptable() -> Problem {
    let detail = "Accept text/event-stream, or application/json together with mode=poll.";
    Problem::new(Kind::NotAcceptable, detail)
}

/// A stream that is written by a shard if it is direct, or else pulls what it sends.
///
/// With `first_id` it begins with a block that is no event and gives clients an id to come back
/// with, also if no event comes.
fn stream(
    app: &App,
    admission: Admission,
    is_direct: bool,
    first_id: Option<Position>,
) -> Response {
    let retry_ms = app.hub().options().retry.as_millis() as u64;
    let mut first = Vec::new();
    tidings_sse::encode_retry(retry_ms, &mut first);
    first.extend_from_slice(tidings_sse::HEARTBEAT);
    if let Some(id) = first_id {
        first.extend_from_slice(format!("id: {id}\n\n").as_bytes());
    }
    let begins_after = admission.begins_after();
    let mut response = if is_direct {
        let mut response = event_stream(Body::empty());
        takeover::prepare(&mut response, admission, first);
        response
    } else {
        let subscription = admission.pull();
        event_stream(Body::new(EventStreamBody { first: Some(first.into()), subscription }))
    };
    if let Some(position) = begins_after {
        let id = HeaderValue::try_from(position.to_string()).expect("an id is a valid header");
        response.headers_mut().insert(LAST_EVENT_ID, id);
    }
    response
}

/// What an event stream gets that cannot be had now: browsers come back after this, and never
/// after a `503`. `wait` is the least time they are told.
pub(crate) fn turned_away(app: &App, wait: Duration) -> Response {
    let retry = app.hub().options().raised_retry(fastrand::f64()).max(wait);
    let mut body = Vec::new();
    tidings_sse::encode_retry(retry.as_millis() as u64, &mut body);
    let mut response = event_stream(Body::from(body));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Browsers do not come back after this.
fn finished() -> Response {
    (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response()
}

fn refused(app: &App, error: SubscribeError, form: Form) -> Result<Response, Problem> {
    let problem = match (error, form) {
        (SubscribeError::Finished, _) => return Ok(finished()),
        (
            SubscribeError::TooManyConnections { .. }
            | SubscribeError::ShuttingDown
            | SubscribeError::LogUnavailable,
            Form::EventStream,
        ) => return Ok(turned_away(app, Duration::ZERO)),
        (SubscribeError::TooManyConnections { connections_max }, Form::Json) => {
            let detail = format!(
                "Come back after the time in Retry-After; {connections_max} subscriptions are open, \
                 which max_connections allows."
            );
            Problem::new(Kind::TooManyConnections, detail)
        }
        (SubscribeError::ShuttingDown, Form::Json) => {
            Problem::new(Kind::ShuttingDown, "Come back after the time in Retry-After.")
        }
        (SubscribeError::LogUnavailable, Form::Json) => Problem::new(
            Kind::LogUnavailable,
            "Come back after the time in Retry-After; the log has not been reached yet.",
        ),
    };
    Err(come_back(app, problem))
}

/// Says when to come back where the problem does not say it itself.
fn come_back(app: &App, problem: Problem) -> Problem {
    let retry = app.hub().options().raised_retry(fastrand::f64());
    problem.retry_after_or(retry.as_secs().max(1))
}

/// A response with the headers of every event stream.
pub(crate) fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The body of a stream: its first lines, then what the subscription yields.
struct EventStreamBody {
    first: Option<Bytes>,
    subscription: Subscription,
}

impl http_body::Body for EventStreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let bytes = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.subscription.poll_sse(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}
