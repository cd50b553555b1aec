//! Where a hub listens: on sockets that were passed to it, or on its own.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::failure::Failure;

/// The sockets that a service manager has opened for this process (`sd_listen_fds(3)`), whatever
/// their names. Empty where there is none.
///
/// Called once, before anything else opens a file.
///
/// # Errors
///
/// [`Failure::Usage`] when one of them is no TCP socket that listens.
pub(super) fn passed() -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::new();
    for (place, socket) in taken()?.into_iter().enumerate() {
        let is_tcp = matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6))
            && matches!(socket.r#type(), Ok(Type::STREAM))
            && socket.is_listener().unwrap_or(false);
        if !is_tcp {
            return Err(Failure::Usage(format!(
                "LISTEN_FDS: socket {} of those that were passed does not listen for TCP\n  in a \
                 socket unit, give ListenStream=ADDR:PORT and leave Accept=no",
                place + 1,
            )));
        }
        listeners.push(socket.into());
    }
    Ok(listeners)
}

#[cfg(unix)]
fn taken() -> Result<Vec<Socket>, Failure> {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    let passed = sd_notify::listen_fds()
        .map_err(|error| Failure::Usage(format!("LISTEN_FDS: no such sockets: {error}")))?;
    #[expect(unsafe_code, reason = "the environment says which files are ours, by their numbers")]
    // SAFETY: `listen_fds` has found each of them open. Whoever started this process gave them to it,
    // and nothing else here knows of them: this is called once, before any file is opened.
    let owned = passed.map(|file| unsafe { OwnedFd::from_raw_fd(file) });
    Ok(owned.map(Socket::from).collect())
}

#[cfg(not(unix))]
fn taken() -> Result<Vec<Socket>, Failure> {
    Ok(Vec::new())
}

/// Those addresses, of which the one that most can reach is first: it decides what is asked of the
/// configuration.
pub(super) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    addresses.sort_by_key(|address| address.ip().is_loopback());
    addresses
}

/// Listens on an address.
///
/// # Errors
///
/// [`Failure::Failed`] with what to do.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    bind(address).map_err(|error| Failure::Failed(cannot_listen(address, &error)))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A hub that comes back must not wait for the connections of its former life.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// The same sockets once more, for the runtime. They stay open as long as one of both does.
///
/// # Errors
///
/// [`Failure::Failed`]: there are no files left.
pub(super) fn for_runtime(
    listeners: &[TcpListener],
) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let again = |listener: &TcpListener| {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    listeners
        .iter()
        .map(again)
        .collect::<io::Result<_>>()
        .map_err(|error| Failure::Failed(format!("cannot wait for connections: {error}")))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the process that has it, or choose another with --listen"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 127.0.0.1 is itself, 0.0.0.0 all its addresses"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use that port; ports from 1024 on are open to all"
        }
        _ => return format!("cannot listen on {address}: {error}"),
    };
    format!("cannot listen on {address}: {advice}")
}

/// Connections that wait to be accepted. Reconnecting clients come all at once; the kernel takes as
/// many as `net.core.somaxconn` allows, which is 4096 by default.
const ACCEPT_BACKLOG: i32 = 4_096;
