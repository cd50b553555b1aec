//! The life of one connection: handshake, requests, and, for a stream over HTTP/1.1, its passage
//! to a shard.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderValue, Method, StatusCode, Version};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::front::Front;
use crate::head_timeout::HeadTimer;
use crate::http2;
use crate::proxy_protocol;
use crate::takeover::Takeover;
use crate::tls::Tls;
use crate::waiting_room::{Guest, Stay, WaitingRoom};
use crate::wire::{Flushed, Wire};

/// What all connections of a server have in common.
pub(crate) struct Server {
    pub(crate) front: Front,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Limits,
    /// Whose word is taken, and required, for who the client is.
    pub(crate) proxy_protocol_from: Vec<IpNet>,
    pub(crate) waiting_room: WaitingRoom,
    pub(crate) write_timeout: Duration,
    /// How far it is from its end.
    pub(crate) phase: watch::Receiver<Phase>,
    /// Dropped with the last connection.
    pub(crate) _open: mpsc::Sender<()>,
}

/// How far a server is from its end; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Clients are better off elsewhere, and told so with the next answer.
    Leaving,
    /// Connections end after the requests they are at, and at once without one.
    Ending,
    /// Connections end.
    Over,
}

impl Phase {
    /// Completes when a server is at least in this phase, or gone.
    pub(crate) async fn reached(self, phase: &mut watch::Receiver<Self>) {
        let _ = phase.wait_for(|phase| *phase >= self).await;
    }
}

/// What one connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The largest request head; also how much hyper buffers.
    pub(crate) head_bytes_max: usize,
    /// For a handshake, for a request head, and from one request to the next.
    pub(crate) head_timeout: Duration,
    pub(crate) streams_per_connection_max: u32,
}

/// The connection that a request came on, found in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) breaker: Arc<Breaker>,
    /// Whether a stream may have it for itself.
    pub(crate) can_be_taken: bool,
    /// Who opened it.
    pub(crate) peer: Option<SocketAddr>,
}

/// Ends what a client no longer reads.
#[derive(Debug)]
pub(crate) enum Breaker {
    /// The connection.
    Connection(Notify),
    /// One request of many on a connection: the task that answers it, once there is one.
    Request(OnceLock<AbortHandle>),
}

impl Breaker {
    pub(crate) fn break_off(&self) {
        match self {
            Self::Connection(broken) => broken.notify_one(),
            Self::Request(task) => {
                if let Some(task) = task.get() {
                    task.abort();
                }
            }
        }
    }

    /// Completes when the connection is to end.
    async fn broken(&self) {
        match self {
            Self::Connection(broken) => broken.notified().await,
            Self::Request(_) => pending().await,
        }
    }
}

/// Serves a client until one side ends the connection, or a shard has taken it over.
pub(crate) async fn serve(server: Arc<Server>, socket: TcpStream, peer: SocketAddr, stay: Stay) {
    let Stay(guest) = &stay;
    let mut phase = server.phase.clone();
    tokio::select! {
        biased;
        () = serve_until_it_ends(&server, socket, peer, guest) => {}
        () = Phase::Over.reached(&mut phase) => {}
    }
}

async fn serve_until_it_ends(server: &Server, socket: TcpStream, peer: SocketAddr, guest: &Guest) {
    let mut phase = server.phase.clone();
    let wire = tokio::select! {
        biased;
        wire = open(server, socket, peer) => wire,
        () = Phase::Ending.reached(&mut phase) => return,
        () = guest.turned_out() => return,
    };
    // What follows is large, and most of it short-lived: a client that only connects costs little.
    match wire {
        Some(wire) if wire.is_http2() => Box::pin(http2::serve(server, wire, guest)).await,
        Some(wire) => Box::pin(serve_http1(server, wire, guest)).await,
        None => {}
    }
}

/// Waits until the client has something to say, after a handshake if it is to be encrypted.
async fn open(server: &Server, mut socket: TcpStream, peer: SocketAddr) -> Option<Wire> {
    let mut peer = canonical(peer);
    let opening = async {
        if proxy_protocol::is_from(&server.proxy_protocol_from, peer) {
            let client = Box::pin(proxy_protocol::read(&mut socket)).await?;
            peer = client.map_or(peer, canonical);
        }
        let mut wire = Wire::plain(socket, peer);
        if let Some(tls) = &server.tls {
            wire.readable().await?;
            wire = Box::pin(wire.encrypted(tls.config())).await?;
            if wire.is_proof() {
                wire.close().await;
                return Ok(None);
            }
        }
        wire.begun().await?;
        Ok::<_, io::Error>(Some(wire))
    };
    match tokio::time::timeout(server.limits.head_timeout, opening).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "a client did not get to a request");
            server.front.line_figures().count_handshake_failed();
            None
        }
        Err(_) => {
            server.front.line_figures().count_head_timeout();
            None
        }
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_http1(server: &Server, wire: Wire, guest: &Guest) {
    let breaker = Arc::new(Breaker::Connection(Notify::new()));
    let line = wire.line(breaker, true);
    let takeover = Arc::new(Mutex::new(None));
    let flushed = wire.flushed();
    let service = {
        let (front, line, takeover) = (server.front.clone(), line.clone(), Arc::clone(&takeover));
        let phase = server.phase.clone();
        service_fn(move |request| answer(front.clone(), &line, &takeover, &phase, request))
    };
    let head_timer = HeadTimer::new(guest.clone());
    let mut head_timeout = head_timer.timeout();
    let mut connection = http1::Builder::new()
        .timer(head_timer)
        .header_read_timeout(server.limits.head_timeout)
        .max_buf_size(server.limits.head_bytes_max)
        .max_header_size(server.limits.head_bytes_max)
        .serve_connection(wire, service);
    let mut phase = server.phase.clone();
    let mut is_ending = false;
    let takeover = loop {
        let polled = |cx: &mut Context<'_>| match connection.poll_without_shutdown(cx) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| None)),
            Poll::Pending => match take(&takeover, &flushed) {
                Some(takeover) => Poll::Ready(Ok(Some(takeover))),
                None => Poll::Pending,
            },
        };
        tokio::select! {
            biased;
            end = poll_fn(polled) => match end {
                Ok(takeover) => break takeover,
                Err(error) => {
                    if error.is_timeout() {
                        server.front.line_figures().count_head_timeout();
                    }
                    return;
                }
            },
            () = head_timeout.passed() => {}
            () = line.breaker.broken() => return,
            () = guest.turned_out() => return,
            () = Phase::Ending.reached(&mut phase), if !is_ending => {
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    // What a client has sent after the request for a stream is dropped: nothing answers it.
    let wire = connection.into_parts().io;
    match takeover {
        Some(takeover) => {
            drop(head_timeout);
            Takeover::perform(takeover, wire, server.write_timeout).await;
        }
        None => wire.close().await,
    }
}

/// A request being answered.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Answers a request, or leaves its stream in `takeover` and never answers.
fn answer(
    front: Front,
    line: &Line,
    takeover: &Arc<Mutex<Option<Takeover>>>,
    phase: &watch::Receiver<Phase>,
    request: hyper::Request<Incoming>,
) -> Answer {
    if !names_one_host(&request) {
        return Box::pin(ready(Ok(bad_request())));
    }
    let mut request: Request = request.map(Body::new);
    let can_be_taken = request.method() == Method::GET && request.version() == Version::HTTP_11;
    request.extensions_mut().insert(Line { can_be_taken, ..line.clone() });
    let takeover = can_be_taken.then(|| Arc::clone(takeover));
    let phase = phase.clone();
    Box::pin(async move {
        let mut response = front.answer(request).await;
        if let Some(takeover) = takeover
            && let Some(found) = Takeover::find(&mut response)
        {
            *takeover.lock().expect(UNPOISONED) = Some(found);
            pending::<()>().await;
        }
        if *phase.borrow() >= Phase::Leaving {
            // An idle connection is not cut: the client might be about to use it.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    })
}

/// Whether a request says once for which host it is, as HTTP/1.1 has it (RFC 9112, section 3.2).
fn names_one_host<B>(request: &hyper::Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

/// What hyper answers to a head that it cannot read.
fn bad_request() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The stream that is to be taken over, once nothing of an earlier answer is left to be sent.
fn take(takeover: &Mutex<Option<Takeover>>, flushed: &Flushed) -> Option<Takeover> {
    if flushed.get() { takeover.lock().expect(UNPOISONED).take() } else { None }
}

const UNPOISONED: &str = "no thread panics while it holds a stream";
