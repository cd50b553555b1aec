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
use crate::connection::{self, Limits, Server};
use crate::options::HEAD_BYTES_MIN;
use crate::router::front;
use crate::waiting_room::WaitingRoom;

/// Serves a hub until `shutdown` completes, then drains: no new connections, ready turns `503`,
/// streams are told to come back and end spread over `drain`. Returns when all connections have
/// ended, or `drain` and three seconds later.
///
/// It speaks HTTP/1.1, and HTTP/2 to clients that begin with it; with [`HttpOptions::tls`] it speaks
/// TLS alone, and over it HTTP/2 to clients that offer that. A stream over HTTP/1.1 is written by the hub's shards, which own its socket.
///
/// Connections are accepted by as many tasks as the machine has cores. The listener's socket
/// options are set here, and inherited by the connections where the system does that.
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
    let access = options.access.clone();
    let write_timeout = hub.options().write_timeout;
    let (closing, is_closing) = watch::channel(false);
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
        closing: is_closing,
        _open: open,
    });
    prepare(&SockRef::from(&listener), write_timeout);
    let listener = Arc::new(listener);
    let mut accepting = JoinSet::new();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        accepting.spawn(accept(Arc::clone(&server), Arc::clone(&listener)));
    }
    shutdown.await;
    beside.shutdown().await;
    accepting.shutdown().await;
    drop(listener);
    // Connections hold the server, and with it the only sender: the channel ends with the last of
    // them. Those that shards have taken over are ended by the hub.
    drop(server);
    // Users who come back elsewhere are news for elsewhere; both may take as long as draining does.
    tokio::join!(access.finish(drain + GRACE), hub.shutdown(drain));
    closing.send_replace(true);
    let _ = tokio::time::timeout(GRACE, all_closed.recv()).await;
    Ok(())
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
