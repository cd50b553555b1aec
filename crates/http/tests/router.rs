//! The routes on a hub, without a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};
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
