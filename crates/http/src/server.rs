//! Runs the routes on a listener until it is told to stop.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tidings::Hub;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::HttpOptions;
use crate::connection::{self, Limits, Phase, Server};
use crate::options::HEAD_BYTES_MIN;
use crate::router::front;
use crate::waiting_room::WaitingRoom;

/// How a hub stops being served. In any case it is not ready from then on, each answer over HTTP/1.1
/// is the last on its connection, and HTTP/2 clients are told to ask on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It serves on for `delay`, in which load balancers find out that it is not ready. Then it
    /// refuses publishes and new streams, tells those that are open to come back, and ends them spread
    /// over `drain`.
    Shutdown {
        /// Before anything but readiness changes.
        delay: Duration,
        /// How long ending streams is spread over.
        drain: Duration,
        /// Whether somebody else has the listening sockets as well: then, once `delay` has passed, new
        /// connections wait for whoever accepts them next. Else they are answered until all streams
        /// have ended.
        is_succeeded: bool,
    },
    /// Another process goes on with the listening sockets, and new connections are left to it at
    /// once. Publishes on connections that are open are taken until the streams have ended,
    /// spread over `drain`.
    HandOver {
        /// How long ending streams is spread over.
        drain: Duration,
    },
}

/// Serves a hub until `shutdown` completes, and then [shuts down](Ending::Shutdown), without delay and
/// with [`HttpOptions::drain`]. All else is as for [`serve_until`].
///
/// # Errors
///
/// As [`serve_until`].
pub async fn serve(
    listener: TcpListener,
    hub: Hub,
    options: HttpOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let ending =
        Ending::Shutdown { delay: Duration::ZERO, drain: options.drain, is_succeeded: false };
    let end = async move {
        shutdown.await;
        ending
    };
    serve_until(vec![listener], hub, options, end).await
}

/// Serves a hub until `end` completes, and then ends as that says. Returns when all connections have
/// ended, or the delay, the drain and three seconds later; nothing of it is left then.
///
/// It speaks HTTP/1.1, and HTTP/2 to clients that begin with it; with [`HttpOptions::tls`] it speaks
/// TLS alone, and over it HTTP/2 to clients that offer that. A stream over HTTP/1.1 is written by the
/// hub's shards, which own its socket.
///
/// Connections of each listener are accepted by as many tasks as the machine has cores. The socket
/// options of the listeners are set here, and inherited by the connections where the system does that.
///
/// # Errors
///
/// None yet. Failures of single connections are no errors.
pub async fn serve_until(
    listeners: Vec<TcpListener>,
    hub: Hub,
    options: HttpOptions,
    end: impl Future<Output = Ending>,
) -> io::Result<()> {
    let access = options.access.clone();
    let write_timeout = hub.options().write_timeout;
    let (phase, is_in) = watch::channel(Phase::Serving);
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let tls = options.tls.clone();
    let mut beside = JoinSet::new();
    if let Some(tls) = tls.clone() {
        beside.spawn(tls.keep());
    }
    let limits = Limits {
        head_bytes_max: options.head_bytes_max.max(HEAD_BYTES_MIN),
        head_timeout: options.head_timeout,
        streams_per_connection_max: options.streams_per_connection_max,
    };
    let proxy_protocol_from = options.proxy_protocol_from.clone();
    let waiting_max = options.waiting_max;
    let front = front(hub.clone(), options);
    let waiting_room = WaitingRoom::new(waiting_max, Arc::clone(front.line_figures()));
    let server = Arc::new(Server {
        front,
        tls,
        limits,
        proxy_protocol_from,
        waiting_room,
        write_timeout,
        phase: is_in,
        _open: open,
    });
    let mut accepting = accept_all(&server, listeners);
    let ending = end.await;
    server.front.leave();
    phase.send_replace(Phase::Leaving);
    // Users who come back elsewhere are news for elsewhere; both may take as long as draining does.
    match ending {
        Ending::Shutdown { delay, drain, is_succeeded } => {
            tokio::time::sleep(delay).await;
            if is_succeeded {
                accepting.shutdown().await;
            }
            tokio::join!(access.finish(drain + GRACE), hub.shutdown(drain));
        }
        Ending::HandOver { drain } => {
            accepting.shutdown().await;
            tokio::join!(access.finish(drain + GRACE), hub.hand_over(drain));
        }
    }
    beside.shutdown().await;
    accepting.shutdown().await;
    // Connections hold the server, and with it the only sender: the channel ends with the last of
    // them. Those that shards have taken over were ended by the hub.
    drop(server);
    phase.send_replace(Phase::Ending);
    if tokio::time::timeout(GRACE, all_closed.recv()).await.is_err() {
        phase.send_replace(Phase::Over);
        all_closed.recv().await;
    }
    Ok(())
}

fn accept_all(server: &Arc<Server>, listeners: Vec<TcpListener>) -> JoinSet<()> {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        prepare(&SockRef::from(&listener), server.write_timeout);
        let listener = Arc::new(listener);
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            accepting.spawn(accept(Arc::clone(server), Arc::clone(&listener)));
        }
    }
    accepting
}

async fn accept(server: Arc<Server>, listener: Arc<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if !ARE_OPTIONS_INHERITED {
                    prepare(&SockRef::from(&socket), server.write_timeout);
                }
                let stay = server.waiting_room.enter();
                tokio::spawn(connection::serve(Arc::clone(&server), socket, peer, stay));
            }
            Err(error) => pause_after(&error, &server.waiting_room).await,
        }
    }
}

/// Sets what a stream of small events needs of its socket. A socket that cannot be set up works all
/// the same, only less well.
fn prepare(socket: &SockRef<'_>, write_timeout: Duration) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_keepalive(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // The kernel gives up on a peer that acknowledges nothing: also after the hub let go of it.
        let _ = socket.set_tcp_user_timeout(Some(write_timeout + UNACKNOWLEDGED_MARGIN));
        // What cannot be sent yet waits in the log, where it is once, not in each socket.
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = write_timeout;
}

/// Out of file descriptors or memory: those who only wait give way, and spinning would hurt.
async fn pause_after(error: &io::Error, waiting_room: &WaitingRoom) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(%error, "a connection cannot be accepted; are there too few file descriptors?");
        waiting_room.make_room();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Whether an accepted socket has the options of its listener, as on Linux.
const ARE_OPTIONS_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED_MARGIN: Duration = Duration::from_secs(15);
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES_MAX: u32 = 128 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may still run once all streams have ended.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_the_options_of_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        prepare(&SockRef::from(&listener), Duration::from_secs(30));
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.accept(), client);
        let (accepted, _) = accepted.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(45)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }
}
