//! The routes on a hub, without a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidings::{EventLog, Hub, HubOptions, MemoryLog, random_epoch};
use tidings_http::{HttpOptions, router};
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
