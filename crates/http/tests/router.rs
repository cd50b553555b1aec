//! The routes on a hub, without a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidings::shared_log::{InMemoryStore, SharedLog, SharedLogOptions};
use tidings::{EventLog, Hub, HubOptions, MemoryLog, random_epoch};
use tidings_http::{HttpOptions, router};
use tokio::time::Interval;
use tower::ServiceExt;

fn hub() -> (Arc<MemoryLog>, Router) {
    let log = Arc::new(MemoryLog::new(random_epoch().unwrap(), Default::default()));
    let hub = Hub::start(HubOptions::default(), Arc::clone(&log) as Arc<dyn EventLog>).unwrap();
    (log, router(hub, HttpOptions::default()))
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    ask(router, Request::get(path).body(Body::empty()).unwrap()).await
}

fn publish(content_type: &str, body: Body) -> Request<Body> {
    let request = Request::post("/events").header("content-type", content_type);
    request.header("idempotency-key", "import").body(body).unwrap()
}

#[tokio::test]
async fn nobody_is_let_in_before_the_store_of_a_shared_log_was_reached() {
    let store = InMemoryStore::new(true);
    store.set_down(true);
    let log = SharedLog::open(store.engine(), SharedLogOptions::default()).unwrap();
    let router =
        router(Hub::start(HubOptions::default(), Arc::new(log)).unwrap(), HttpOptions::default());
    let (status, body) = get(&router, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reason"], "log-unavailable");
    let poll = Request::get("/events?topic=a&mode=poll").header("accept", "application/json");
    let (status, problem) = ask(&router, poll.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["type"], "urn:tidings:problem:log-unavailable");
    let response = router
        .clone()
        .oneshot(Request::get("/events?topic=a").body(Body::empty()).unwrap())
        .await
        .unwrap();
    // A browser comes back after this, and would not after a `503`.
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    let retry_ms = text.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n'));
    assert!(retry_ms.is_some_and(|it| it.parse::<u64>().is_ok()), "{text:?}");
}

#[tokio::test]
async fn ready_says_why_the_log_cannot_be_written_and_live_does_not_care() {
    let (log, router) = hub();
    assert_eq!(get(&router, "/health/ready").await, (StatusCode::OK, json!({"status": "ok"})));
    log.close();
    let (status, body) = get(&router, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&body["status"], &body["reason"], &body["detail"]),
        (&json!("unavailable"), &json!("log-unavailable"), &json!(log.failure()))
    );
    assert_eq!(get(&router, "/health/live").await, (StatusCode::OK, json!({"status": "ok"})));

    let refused = publish("application/x-www-form-urlencoded", Body::from("topic=a"));
    let (status, problem) = ask(&router, refused).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["type"], "urn:tidings:problem:log-unavailable");
    let (status, batch) = get(&router, "/events?topic=a&mode=poll&wait=0").await;
    assert_eq!((status, batch), (StatusCode::OK, Value::Null), "an event stream without events");
}

/// A body without a length that pauses before each piece.
struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    is_due: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.is_due = !self.is_due;
        if self.is_due {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.next().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Lines that carry the numbers up to `count`, cut without regard to lines.
fn lines(count: usize, piece_bytes: usize) -> Body {
    let lines: String = (0..count).map(|n| format!("{{\"topic\":\"a\",\"data\":{n}}}\n")).collect();
    let pieces: Vec<Bytes> =
        lines.as_bytes().chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
    Body::new(Pieces { pieces: pieces.into_iter(), is_due: false })
}

#[tokio::test]
async fn a_long_body_that_is_sent_again_is_published_once() {
    let (log, router) = hub();
    for (count, piece_bytes) in [(700, 10), (20_000, 100_000), (5_000, 1_000)] {
        let request = publish("application/x-ndjson", lines(count, piece_bytes));
        let (status, answer) = ask(&router, request).await;
        assert_eq!(status, StatusCode::OK);
        let ids = answer["ids"].as_array().unwrap();
        assert_eq!(ids.len(), count);
        for (id, offset) in ids.iter().zip(1..) {
            assert_eq!(id, &json!(format!("{}-{offset}", log.epoch())));
        }
    }
    assert_eq!(log.bounds().next, 20_001);
}

#[tokio::test]
async fn a_body_that_meets_a_finished_topic_says_how_far_it_came() {
    let (log, router) = hub();
    let last = publish("application/json", Body::from(r#"{"topic":"done","final":true}"#));
    assert_eq!(ask(&router, last).await.0, StatusCode::OK);
    let lines = ["{\"topic\":\"a\"}\n", "{\"topic\":\"done\"}\n", "{\"topic\":\"a\"}\n"];
    let pieces: Vec<Bytes> = lines.map(Bytes::from).into();
    let body = Body::new(Pieces { pieces: pieces.into_iter(), is_due: false });
    let (status, problem) = ask(&router, publish("application/x-ndjson", body)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["published"], 1);
    assert_eq!(problem["lastEventId"], json!(format!("{}-2", log.epoch())));
    assert_eq!(log.bounds().next, 3);
}

/// A body that sends a piece at each tick, and ends with the last one.
struct Slow {
    pieces: std::vec::IntoIter<String>,
    ticks: Interval,
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.pieces.len() > 0 {
            ready!(self.ticks.poll_tick(cx));
        }
        Poll::Ready(self.pieces.next().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

async fn check_slow(content_type: &str, every_s: u64, pieces: Vec<String>, expected: u16) {
    let (_, router) = hub();
    let ticks = tokio::time::interval(Duration::from_secs(every_s));
    let count = pieces.len();
    let body = Body::new(Slow { pieces: pieces.into_iter(), ticks });
    let (status, answer) = ask(&router, publish(content_type, body)).await;
    let case = format!("{count} pieces of {content_type}, one in {every_s} s: {answer}");
    assert_eq!(status.as_u16(), expected, "{case}");
    if status == StatusCode::REQUEST_TIMEOUT {
        assert_eq!(answer["type"], "urn:tidings:problem:body-timeout", "{case}");
    }
}

/// JSON in pieces of so many bytes.
fn pieces(count: usize, piece_bytes: usize) -> Vec<String> {
    let mut pieces = vec![" ".repeat(piece_bytes); count];
    *pieces.last_mut().unwrap() = r#"{"topic":"a"}"#.to_owned();
    pieces
}

#[tokio::test(start_paused = true)]
async fn a_body_comes_in_time_or_is_refused() {
    let (json, ndjson) = ("application/json", "application/x-ndjson");
    check_slow(json, 1, pieces(20, 1), 200).await;
    check_slow(json, 29, pieces(3, 1), 408).await;
    check_slow(json, 1, pieces(1_000, 1), 408).await;
    check_slow(json, 29, pieces(10, 64 << 10), 200).await;
    check_slow("application/x-www-form-urlencoded", 31, vec!["topic=a".to_owned(); 2], 408).await;

    let line = "{\"topic\":\"a\"}\n".to_owned();
    let (begin, end) = line.split_at(5);
    check_slow(ndjson, 3_600, vec![line.clone(); 5], 200).await;
    check_slow(ndjson, 29, vec![begin.to_owned(), end.to_owned(), line.clone()], 200).await;
    check_slow(ndjson, 31, vec![line.clone(), begin.to_owned(), end.to_owned()], 408).await;
    check_slow(ndjson, 29, line.chars().map(String::from).collect(), 408).await;
}

/// A hub for whose pages, and for those of these origins.
fn router_for(origins: &[&str]) -> Router {
    let log = Arc::new(MemoryLog::new(random_epoch().unwrap(), Default::default()));
    let hub = Hub::start(HubOptions::default(), log as Arc<dyn EventLog>).unwrap();
    let cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    router(hub, HttpOptions { cors_origins, ..HttpOptions::default() })
}

async fn headers(router: &Router, method: &str, path: &str, lines: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let body = if method == "POST" { Body::from("topic=a") } else { Body::empty() };
    router.clone().oneshot(request.body(body).unwrap()).await.unwrap().headers().clone()
}

#[tokio::test]
async fn every_response_says_what_browsers_may_do_with_it() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    for origins in [&[][..], &["https://app.example"]] {
        let router = router_for(origins);
        for (method, path, cache_control) in [
            ("GET", "/events?topic=a", "no-cache, no-transform"),
            ("GET", "/events?topic=a&mode=poll&wait=0", "no-store"),
            ("GET", "/events", "no-store"),
            ("POST", "/events", "no-store"),
            ("PUT", "/events", "no-store"),
            ("GET", "/stats", "no-cache, no-transform"),
            ("GET", "/metrics", "no-store"),
            ("GET", "/health/live", "no-store"),
            ("GET", "/health/ready", "no-store"),
            ("GET", "/nothing", "no-store"),
            ("GET", "/ui/nothing", "no-store"),
            ("GET", "/openapi.json", "no-cache"),
            ("GET", "/", "no-cache"),
            ("GET", "/ui/app.js", "no-cache"),
        ] {
            let accept = ("accept", if path.contains("poll") { "application/json" } else { "*/*" });
            let headers = headers(&router, method, path, &[accept, form]).await;
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("x-frame-options", "DENY"),
                ("cache-control", cache_control),
            ] {
                assert_eq!(headers[name], value, "{name} of {method} {path}");
            }
            assert!(headers.contains_key("x-request-id"), "{method} {path}");
            let policy = headers["content-security-policy"].to_str().unwrap();
            let is_of_page = ["/", "/ui/app.js", "/openapi.json"].contains(&path);
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!(policy.contains("script-src 'self'"), is_of_page, "{method} {path}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }
}

#[tokio::test]
async fn other_origins_may_what_they_are_listed_for() {
    let (listed, other) = ("https://app.example", "https://evil.example");
    for (origins, origin, allowed, credentials) in [
        (&[][..], Some(listed), None, false),
        (&[listed][..], Some(listed), Some(listed), true),
        (&[listed], Some("https://APP.example"), Some("https://APP.example"), true),
        (&[listed], Some(other), None, true),
        (&[listed], Some("https://app.example.evil.example"), None, true),
        (&[listed], Some("http://app.example"), None, true),
        (&[listed], Some("null"), None, true),
        (&[listed], None, None, true),
        (&["*"], Some(other), Some("*"), false),
        (&["*", listed], Some(listed), Some("*"), false),
        (&["*"], None, Some("*"), false),
    ] {
        let router = router_for(origins);
        let case = format!("{origin:?} at {origins:?}");
        let is_by_origin = origins.contains(&listed) && !origins.contains(&"*");
        let mut lines: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        for (method, path) in [("GET", "/events?topic=a"), ("GET", "/events"), ("GET", "/nothing")]
        {
            let headers = headers(&router, method, path, &lines).await;
            check_cors(&headers, allowed, credentials, &case);
            if is_by_origin {
                assert!(vary(&headers).contains(&"origin".to_owned()), "{case}: {headers:?}");
            }
            let exposed = headers.get("access-control-expose-headers");
            let exposed = exposed.map(|names| names.to_str().unwrap());
            let expected = (!origins.is_empty()).then_some("last-event-id,x-request-id");
            assert_eq!(exposed, expected, "{case}");
        }
        lines.push(("access-control-request-method", "DELETE"));
        lines.push(("access-control-request-headers", "authorization,last-event-id"));
        let preflight = headers(&router, "OPTIONS", "/events", &lines).await;
        check_cors(&preflight, allowed, credentials, &case);
        if !origins.is_empty() {
            let list = |name| preflight[name].to_str().unwrap().to_ascii_lowercase();
            assert_eq!(list("access-control-allow-methods"), "get,head,post,delete");
            for name in ["authorization", "last-event-id", "content-type", "idempotency-key"] {
                assert!(list("access-control-allow-headers").contains(name), "{name}");
            }
            assert_eq!(preflight["access-control-max-age"], "7200");
            let varies = vary(&preflight).contains(&"origin".to_owned());
            assert!(varies || !is_by_origin, "{case}: {preflight:?}");
        }
    }
}

fn check_cors(headers: &HeaderMap, allowed: Option<&str>, credentials: bool, case: &str) {
    let get = |name| headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(get("access-control-allow-origin"), allowed, "{case}");
    let with_credentials = get("access-control-allow-credentials");
    assert_eq!(with_credentials, credentials.then_some("true"), "{case}");
    assert!(!(allowed == Some("*") && with_credentials.is_some()), "{case}");
}

fn vary(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("vary").iter().flat_map(|line| line.to_str().unwrap().split(','));
    values.map(|name| name.trim().to_ascii_lowercase()).collect()
}
