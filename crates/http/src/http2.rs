//! HTTP/2 (RFC 9113): many requests on one connection, which therefore stays with hyper.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::{Answer, Breaker, Line, Phase, Server};
use crate::front::Front;
use crate::waiting_room::Guest;
use crate::wire::Wire;

/// Serves a client that has chosen HTTP/2 until one side ends the connection, or nothing has been
/// asked for and nothing was under way for as long as a client may take for a request.
pub(crate) async fn serve(server: &Server, wire: Wire, guest: &Guest) {
    after_others(serve_at_once(server, wire, guest)).await;
}

async fn serve_at_once(server: &Server, wire: Wire, guest: &Guest) {
    let streams = Arc::new(Streams::new(guest.clone()));
    let line = wire.line(Arc::new(Breaker::Request(OnceLock::new())), false);
    let service = {
        let (front, streams) = (server.front.clone(), Arc::clone(&streams));
        service_fn(move |request| answer(front.clone(), &streams, &line, request))
    };
    let connection = http2::Builder::new(Spawner(Arc::clone(&streams)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.limits.streams_per_connection_max)
        .max_send_buf_size(SEND_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(server.limits.head_bytes_max.try_into().unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(wire, service);
    let mut connection = pin!(connection);
    let mut phase = server.phase.clone();
    let mut is_closing = false;
    let mut ticks = interval(server.limits.head_timeout);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut begun_before = 0;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = guest.turned_out() => return,
            () = Phase::Leaving.reached(&mut phase), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => {
                let begun = streams.begun.load(Ordering::Relaxed);
                let is_idle = streams.open.load(Ordering::Relaxed) == 0 && begun == begun_before;
                begun_before = begun;
                match (is_idle, is_closing) {
                    (false, _) => {}
                    (true, false) => {
                        is_closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    // It was told to go, and has nothing to stay for.
                    (true, true) => return,
                }
            }
        }
    }
}

/// Has every other task that is ready run before `future` whenever that is woken.
///
/// When an event goes to many streams of a connection, each of them wakes the connection, which the
/// runtime runs next. So each would be written for itself, were it not for this.
async fn after_others<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut is_last = true;
    poll_fn(|cx| {
        is_last = !is_last;
        if is_last {
            return future.as_mut().poll(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The requests of one connection.
struct Streams {
    begun: AtomicU64,
    open: AtomicUsize,
    /// Waits while none is open.
    guest: Guest,
    /// What ends the request that hyper has asked to be answered and not yet to be run.
    next: Mutex<Option<Arc<Breaker>>>,
}

impl Streams {
    fn new(guest: Guest) -> Self {
        let (begun, open, next) = Default::default();
        Self { begun, open, guest, next }
    }
}

/// Answers a request. What that takes is large, and is let go of when the body of the answer begins.
fn answer(
    front: Front,
    streams: &Streams,
    line: &Line,
    request: hyper::Request<Incoming>,
) -> Answer {
    let mut request: Request = request.map(Body::new);
    streams.begun.fetch_add(1, Ordering::Relaxed);
    let breaker = Arc::new(Breaker::Request(OnceLock::new()));
    *streams.next.lock().expect(UNPOISONED) = Some(Arc::clone(&breaker));
    request.extensions_mut().insert(Line { breaker, ..line.clone() });
    name_host(&mut request);
    Box::pin(async move { Ok(front.answer(request).await) })
}

/// Says in `Host` what `:authority` says, as RFC 9113, section 8.3.1, has it for HTTP/1.1.
fn name_host(request: &mut Request) {
    let authority = request.uri().authority().map(Authority::as_str);
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
        request.headers_mut().insert(HOST, host);
    }
}

/// Runs each request as a task of its own, which can be ended: hyper would wait for ever
/// for a client that keeps one of its streams closed and reads the others.
#[derive(Clone)]
struct Spawner(Arc<Streams>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, stream: F) {
        let breaker = self.0.next.lock().expect(UNPOISONED).take();
        let open = Open::new(&self.0);
        let task = tokio::spawn(async move {
            let _open = open;
            stream.await;
        });
        if let Some(Breaker::Request(place)) = breaker.as_deref() {
            let _ = place.set(task.abort_handle());
        }
    }
}

/// Counts one request while it is held.
struct Open(Arc<Streams>);

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        if streams.open.fetch_add(1, Ordering::AcqRel) == 0 {
            streams.guest.leave();
        }
        Self(Arc::clone(streams))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self(streams) = self;
        if streams.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Another may have begun meanwhile.
            streams.guest.wait_if(|| streams.open.load(Ordering::Acquire) == 0);
        }
    }
}

/// What may be written for one stream and wait for its client.
const SEND_BYTES_MAX: usize = 16 << 10;
/// What one request body may send ahead of being read, and all of a connection together.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Requests that a client takes back before they are looked at, and faults of its own, after which
/// it is let go of.
const PENDING_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 256;
/// A client that is gone without a word is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const UNPOISONED: &str = "no thread panics while it holds a request";
