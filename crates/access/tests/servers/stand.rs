//! A server that answers whatever a test wants, and tells what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) struct Stand {
    address: SocketAddr,
    answer: Arc<Mutex<Arc<Answer>>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    accepting: JoinHandle<()>,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Json(String),
    /// Status, headers, body.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A body without an end.
    Endless,
    /// The connection is closed without an answer.
    Close,
    /// JSON, once there is a permit.
    Held(Arc<Semaphore>, String),
    /// There never is an answer.
    Hang,
}

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

impl Stand {
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<Arc<Answer>>> = Arc::new(Mutex::new(Arc::new(answer)));
        let (sender, seen) = mpsc::unbounded_channel();
        let answered = answer.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, sender) = (answered.clone(), sender.clone());
                let service =
                    service_fn(move |request| respond(request, answer.clone(), sender.clone()));
                connections.spawn(async move {
                    let connection = server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, answer, seen, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn answer(&self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// The next request that came in.
    pub(crate) async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(Duration::from_secs(60), self.seen.recv()).await;
        next.expect("a request within a minute").unwrap()
    }

    /// How many requests came in that were not looked at by [`next`](Self::next).
    pub(crate) fn unseen_count(&self) -> usize {
        self.seen.len()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Mutex<Arc<Answer>>>,
    sender: mpsc::UnboundedSender<Seen>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path().to_owned();
    let seen = Seen { method: head.method, path, headers: head.headers, body };
    let answer = answer.lock().unwrap().clone();
    let reply = answer(&seen);
    let _ = sender.send(seen);
    let json = vec![("content-type", "application/json".to_owned())];
    let (status, headers, body) = match reply {
        Reply::Held(permits, text) => {
            permits.acquire().await.unwrap().forget();
            (200, json, text.into())
        }
        Reply::Json(text) => (200, json, text.into()),
        Reply::Full(status, headers, body) => (status, headers, body),
        Reply::Endless => return Ok(Response::new(BoxBody::new(Endless))),
        Reply::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Hang => std::future::pending().await,
    };
    let mut response = Response::new(BoxBody::new(Full::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    Ok(response)
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 65_536])))))
    }
}
