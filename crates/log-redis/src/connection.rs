//! A connection to one server, and what the server says of itself.
//!
//! Every call has a deadline, also against a server that is frozen or answers a byte at a time.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};
use tidings_log::shared::EngineError;

use crate::address::{Host, Login};
use crate::failure;
use crate::wire::{Commands, Reply, ReplyBuffer, ReplyFault};

/// Where one server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spot {
    Host(Host),
    Socket(std::path::PathBuf),
}

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffer: ReplyBuffer,
    /// For messages.
    server: String,
    /// Set by a failure after which what comes next may belong to an earlier command, or the server is not to be asked again.
    is_spent: bool,
    /// Whether it failed as one does that the other side has closed long ago.
    was_closed: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How to get in.
#[derive(Clone)]
pub(crate) struct Entrance<'a> {
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    pub(crate) login: &'a Login,
    pub(crate) database: u32,
}

impl Connection {
    /// Connects and logs in.
    pub(crate) fn open(spot: &Spot, entrance: &Entrance<'_>) -> Result<Self, EngineError> {
        let server = match spot {
            Spot::Host(host) => format!("Redis at {host}"),
            Spot::Socket(path) => format!("Redis at {}", path.display()),
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let stream = Stream::connect(spot, entrance.tls, deadline)
            .map_err(|error| failure::lost(&server, &error))?;
        let buffer = ReplyBuffer::new();
        let mut connection = Self { stream, buffer, server, is_spent: false, was_closed: false };
        connection.log_in(entrance, deadline)?;
        Ok(connection)
    }

    fn log_in(&mut self, entrance: &Entrance<'_>, deadline: Instant) -> Result<(), EngineError> {
        let mut commands = Commands::default();
        let mut count = 0;
        let mut add = |words: &[&str]| {
            commands.add(words);
            count += 1;
        };
        match (&entrance.login.user, &entrance.login.password) {
            (Some(user), Some(password)) => add(&["AUTH", user, password]),
            (None, Some(password)) => add(&["AUTH", password]),
            _ => {}
        }
        if entrance.database > 0 {
            add(&["SELECT", &entrance.database.to_string()]);
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        for reply in self.call(&commands, count, REPLY_BYTES, timeout)? {
            if let Reply::Error(error) = reply {
                return Err(self.refusal(&error));
            }
        }
        Ok(())
    }

    /// Sends commands and reads so many replies; errors of the server are among the replies. What is large has longer,
    /// a second for each 4 MiB.
    pub(crate) fn call(
        &mut self,
        commands: &Commands,
        replies: usize,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Vec<Reply>, EngineError> {
        let result = self.exchange(commands, replies, bytes_max, timeout);
        result.map_err(|fault| self.fault(&fault))
    }

    /// As [`call`](Self::call); what went wrong is told apart.
    pub(crate) fn exchange(
        &mut self,
        commands: &Commands,
        replies: usize,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Vec<Reply>, ReplyFault> {
        // Until all is read.
        self.is_spent = true;
        let for_size = Duration::from_millis((commands.as_bytes().len() / BYTES_PER_MS) as u64);
        let deadline = Instant::now() + timeout + for_size;
        let mut timed = Timed { stream: &mut self.stream, deadline };
        timed.write_all(commands.as_bytes())?;
        timed.flush()?;
        let mut read = Vec::with_capacity(replies);
        for _ in 0..replies {
            read.push(self.buffer.read(&mut timed, bytes_max)?);
        }
        self.is_spent = false;
        Ok(read)
    }

    /// Whether it can be used for another call.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_spent
    }

    /// Whether the other side is known to have closed it, or to have said something unasked, before anything is sent.
    pub(crate) fn is_closed(&self) -> bool {
        let (socket, is_plain) = match &self.stream {
            Stream::Tcp(tcp) => (SockRef::from(tcp), true),
            Stream::Unix(unix) => (SockRef::from(unix), true),
            Stream::Tls(tls) => (SockRef::from(tls.get_ref()), false),
        };
        let peek = || {
            socket.set_nonblocking(true)?;
            let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
            socket.set_nonblocking(false)?;
            peeked
        };
        match peek() {
            Ok(count) => count == 0 || is_plain,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Whether it had been closed by the other side before anything was read.
    pub(crate) fn was_closed(&self) -> bool {
        self.was_closed
    }

    pub(crate) fn fault(&mut self, fault: &ReplyFault) -> EngineError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        if let ReplyFault::Io(error) = fault {
            let closed = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
            self.was_closed = closed.contains(&error.kind());
        }
        failure::unreadable(&self.server, fault)
    }

    /// What a refused command means. The connection is not used again, unless another command may go well.
    pub(crate) fn refusal(&mut self, error: &str) -> EngineError {
        let code = error.split(' ').next().unwrap_or_default();
        self.is_spent |= !["OOM", "MISCONF", "NOREPLICAS", "BUSY", "WRONGTYPE"].contains(&code);
        failure::refusal(&self.server, error)
    }

    pub(crate) fn unexpected(&self, what: &str) -> EngineError {
        failure::unexpected(&self.server, what)
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }
}

impl Stream {
    fn connect(
        spot: &Spot,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let host = match spot {
            Spot::Socket(path) => return connect_unix(path, deadline).map(Self::Unix),
            Spot::Host(host) => host,
        };
        let tcp = connect_tcp(host, deadline)?;
        let Some(tls) = tls else { return Ok(Self::Tcp(tcp)) };
        let name = ServerName::try_from(host.name.clone())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "its name is none for TLS"))?;
        let client = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, tcp))))
    }

    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        let tcp = match self {
            Self::Unix(unix) => {
                unix.set_read_timeout(Some(timeout))?;
                return unix.set_write_timeout(Some(timeout));
            }
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        };
        tcp.set_read_timeout(Some(timeout))?;
        tcp.set_write_timeout(Some(timeout))
    }
}

fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    // Without a server that accepts, and with a full backlog, connecting waits for as long as writing may take.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(remaining(deadline)?))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

fn connect_tcp(host: &Host, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (host.name.as_str(), host.port).to_socket_addrs()?.collect();
    let mut failure = io::Error::other("its name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        // Each gets its share, so that one that drops packets does not take the time of the others.
        let share = remaining(deadline)? / (addresses.len() - tried) as u32;
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Reads and writes until a deadline.
struct Timed<'a> {
    stream: &'a mut Stream,
    deadline: Instant,
}

impl Timed<'_> {
    fn arm(&self) -> io::Result<()> {
        self.stream.set_timeouts(remaining(self.deadline)?)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        match self.stream {
            Stream::Tcp(tcp) => tcp.read(into),
            Stream::Unix(unix) => unix.read(into),
            Stream::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        match self.stream {
            Stream::Tcp(tcp) => tcp.write(bytes),
            Stream::Unix(unix) => unix.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.stream {
            Stream::Tcp(tcp) => tcp.flush(),
            Stream::Unix(unix) => unix.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

/// To connect, to log in, and to learn who the server is.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For replies that are a few words.
pub(crate) const REPLY_BYTES: usize = 1 << 20;
/// Slower than any network that a log should be behind.
const BYTES_PER_MS: usize = 4096;
const KEEPALIVE: Duration = Duration::from_secs(15);
