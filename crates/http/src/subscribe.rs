//! `GET /events`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tidings::{
    Admission, Begin, Client, EventType, Interest, Rights, Selector, SubscribeError,
    SubscribeOptions, Subscription,
};

use crate::accept::{self, Form};
use crate::account::Source;
use crate::app::App;
use crate::connection::Line;
use crate::header_names::{LAST_EVENT_ID, X_ACCEL_BUFFERING};
use crate::options::{POLL_WAIT_DEFAULT, POLL_WAIT_MAX};
use crate::poll;
use crate::problem::{Kind, Problem};
use crate::query::{pairs, text};
use crate::takeover;

pub(crate) async fn subscribe(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match answer(&app, &head).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(app: &App, head: &Parts) -> Result<Response, Problem> {
    let query = head.uri.query().unwrap_or_default();
    let mut wanted = Wanted::parse(query.as_bytes(), app.options().selectors_max)?;
    wanted.resume_by_header(&head.headers);
    let form = accept::choose(&head.headers, wanted.poll.is_some()).ok_or_else(not_acceptable)?;
    let address = app.client_address(&head.extensions, &head.headers);
    let held = match app.client_limits().connect(Source { identity: None, address }) {
        Ok(held) => held,
        Err(reason) if form == Form::EventStream => return Ok(turned_away(app, reason.wait())),
        Err(reason) => return Err(come_back(app, reason.into())),
    };
    let line = head.extensions.get::<Line>().cloned();
    let is_direct = wanted.poll.is_none() && line.as_ref().is_some_and(|line| line.can_be_taken);
    let options = SubscribeOptions {
        begin: wanted.begin,
        control_off: wanted.control_off,
        conflate: wanted.conflate,
        poll: wanted.poll,
        abort: line.map(|line| Box::new(move || line.breaker.break_off()) as _),
        client: Some(Box::new(Client { address, on_end: held.until_end(None), identity: None })),
        ..SubscribeOptions::default()
    };
    let interest = Interest::new(wanted.selectors, wanted.event_types, Rights::everything());
    match (app.hub().admit(interest, options), form) {
        (Ok(admission), Form::EventStream) => Ok(stream(app, admission, is_direct)),
        (Ok(admission), Form::Json) => Ok(poll::answer(admission.pull()).await),
        (Err(error), form) => refused(app, error, form),
    }
}

/// What the query asks for.
#[derive(Default)]
struct Wanted {
    selectors: Vec<Selector>,
    event_types: Vec<EventType>,
    begin: Begin,
    control_off: bool,
    conflate: bool,
    poll: Option<Duration>,
}

impl Wanted {
    /// Reads a query. Parameters that are not known are left alone: browsers and caches add some.
    fn parse(query: &[u8], selectors_max: usize) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        let (mut last, mut id, mut is_poll, mut wait) = (None, Vec::new(), false, None);
        for (name, value) in pairs(query) {
            match name.as_slice() {
                b"topic" => wanted.add_selector(value, selectors_max)?,
                b"event" => wanted.add_event_type(value, selectors_max)?,
                b"last" => last = Some(parse_last(&value)?),
                b"lastEventId" | b"lastEventID" | b"last_event_id" => id = value,
                b"mode" => is_poll = choice(&value, "mode", ["stream", "poll"])?,
                b"control" => wanted.control_off = choice(&value, "control", ["on", "off"])?,
                b"conflate" => wanted.conflate = choice(&value, "conflate", ["0", "1"])?,
                b"wait" => wait = Some(parse_wait(&value)?),
                _ => {}
            }
        }
        if wanted.selectors.is_empty() {
            let detail =
                "Name what to subscribe to: ?topic=orders, ?topic=orders/{id} or ?topic=*.";
            return Err(Problem::new(Kind::MissingTopic, detail).field("topic"));
        }
        wanted.poll = is_poll.then(|| wait.unwrap_or(POLL_WAIT_DEFAULT));
        wanted.begin = if id.is_empty() { last.unwrap_or_default() } else { Begin::After(id) };
        Ok(wanted)
    }

    /// The header wins over the query: it is what the browser saw last.
    fn resume_by_header(&mut self, headers: &HeaderMap) {
        let id = headers.get(&LAST_EVENT_ID).map(HeaderValue::as_bytes).unwrap_or_default();
        if !id.is_empty() {
            self.begin = Begin::After(id.to_vec());
        }
    }

    fn add_selector(&mut self, value: Vec<u8>, selectors_max: usize) -> Result<(), Problem> {
        if self.selectors.len() == selectors_max {
            let detail = format!("Give at most {selectors_max} topics; a template covers many.");
            return Err(Problem::new(Kind::InvalidParameter, detail).field("topic"));
        }
        let invalid = |reason: String| {
            Problem::new(Kind::InvalidSelector, format!("Correct the topic: {reason}."))
                .field("topic")
        };
        let value = text(value).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let selector = Selector::parse(&value).map_err(|error| invalid(error.to_string()))?;
        self.selectors.push(selector);
        Ok(())
    }

    fn add_event_type(&mut self, value: Vec<u8>, event_types_max: usize) -> Result<(), Problem> {
        if self.event_types.len() == event_types_max {
            return Err(invalid("event", &format!("at most {event_types_max} event types")));
        }
        let invalid = |reason: String| {
            let detail = format!("Correct the event type: {reason}.");
            Problem::new(Kind::InvalidEventType, detail).field("event")
        };
        let value = text(value).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let event_type = EventType::parse(&value).map_err(|error| invalid(error.to_string()))?;
        self.event_types.push(event_type);
        Ok(())
    }
}

/// A number beyond what any log keeps asks for everything.
fn parse_last(value: &[u8]) -> Result<Begin, Problem> {
    if value == b"earliest" {
        return Ok(Begin::Earliest);
    }
    match digits(value) {
        Some(digits) => Ok(Begin::Last(digits.parse().unwrap_or(u32::MAX))),
        None => Err(invalid("last", "earliest, or a number of events")),
    }
}

fn parse_wait(value: &[u8]) -> Result<Duration, Problem> {
    let seconds_max = POLL_WAIT_MAX.as_secs();
    let expected = format!("a number of seconds from 0 to {seconds_max}");
    let seconds = digits(value).and_then(|digits| digits.parse().ok());
    let seconds = seconds.filter(|&seconds| seconds <= seconds_max);
    Ok(Duration::from_secs(seconds.ok_or_else(|| invalid("wait", &expected))?))
}

fn digits(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Whether the second of two words is given.
fn choice(value: &[u8], name: &str, words: [&str; 2]) -> Result<bool, Problem> {
    match words.iter().position(|word| word.as_bytes() == value) {
        Some(place) => Ok(place == 1),
        None => Err(invalid(name, &format!("{} or {}", words[0], words[1]))),
    }
}

fn invalid(name: &str, expected: &str) -> Problem {
    Problem::new(Kind::InvalidParameter, format!("Give {expected}.")).field(name)
}

fn not_acceptable() -> Problem {
    let detail = "Accept text/event-stream, or application/json together with mode=poll.";
    Problem::new(Kind::NotAcceptable, detail)
}

/// A stream that is written by a shard if it is direct, or else pulls what it sends.
fn stream(app: &App, admission: Admission, is_direct: bool) -> Response {
    let retry_ms = app.hub().options().retry.as_millis() as u64;
    let mut first = Vec::new();
    tidings_sse::encode_retry(retry_ms, &mut first);
    first.extend_from_slice(tidings_sse::HEARTBEAT);
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
            SubscribeError::TooManyConnections { .. } | SubscribeError::ShuttingDown,
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
