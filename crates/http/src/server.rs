//! Runs the routes on a listener until it is told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tidings::Hub;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::HttpOptions;
use crate::front::Front;
use crate::head_timeout::HeadTimer;
use crate::router::front;
use crate::subscribe::Breaker;

/// Serves a hub over HTTP/1.1 until `shutdown` completes, then drains: no new connections, ready
/// turns `503`, streams are told to come back and end spread over `drain`. Returns when all
/// connections have ended, or `drain` and three seconds later.
///
/// # Errors
///
/// If the listener cannot say where it listens. Failures of single connections are no errors.
pub async fn serve(
    listener: TcpListener,
    hub: Hub,
    options: HttpOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let drain = options.drain;
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let server = Server {
        front: front(hub.clone(), options),
        write_timeout: hub.options().write_timeout,
        closing: watch::Sender::new(false),
        open,
    };
    {
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.as_mut() => break,
            };
            match accepted {
                Ok((stream, _)) => drop(server.serve_connection(stream)),
                Err(error) => pause_after(&error).await,
            }
        }
    }
    drop(listener);
    let closing = server.closing.clone();
    // Connections hold the only other senders: the channel ends with the last of them.
    drop(server);
    hub.shutdown(drain).await;
    closing.send_replace(true);
    let _ = tokio::time::timeout(GRACE, all_closed.recv()).await;
    Ok(())
}

struct Server {
    front: Front,
    write_timeout: Duration,
    /// Turns true when connections are to end after the request they are at.
    closing: watch::Sender<bool>,
    open: mpsc::Sender<()>,
}

impl Server {
    fn serve_connection(&self, stream: TcpStream) -> JoinHandle<()> {
        prepare(&stream, self.write_timeout);
        let front = self.front.clone();
        let breaker = Breaker(Arc::new(Notify::new()));
        let broken = Arc::clone(&breaker.0);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(Body::new);
            if request.method() == Method::GET {
                request.extensions_mut().insert(breaker.clone());
            }
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let mut closing = self.closing.subscribe();
        let open = self.open.clone();
        let head_timer = HeadTimer::default();
        let mut head_timeout = head_timer.timeout();
        tokio::spawn(async move {
            let _open = open;
            let connection = http1::Builder::new()
                .timer(head_timer)
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let mut is_closing = false;
            loop {
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = head_timeout.passed() => {}
                    () = broken.notified() => return,
                    _ = closing.wait_for(|closing| *closing), if !is_closing => {
                        is_closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        })
    }
}

/// Sets what a stream of small events needs of its socket.
fn prepare(stream: &TcpStream, write_timeout: Duration) {
    // A socket that cannot be set up works all the same, only less well.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    // The kernel gives up on a peer that acknowledges nothing: also after the hub let go of it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(write_timeout + UNACKNOWLEDGED_MARGIN));
    let _ = socket.set_keepalive(true);
}

/// Out of file descriptors or memory: waiting is all that helps, and spinning would hurt.
async fn pause_after(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(%error, "a connection cannot be accepted; are there too few file descriptors?");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// How long a client may take for a request head, and be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How much hyper buffers for one connection; also the largest request head.
const CONNECTION_BUFFER_BYTES_MAX: usize = 64 << 10;
const UNACKNOWLEDGED_MARGIN: Duration = Duration::from_secs(15);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may still run once all streams have ended.
const GRACE: Duration = Duration::from_secs(2);
