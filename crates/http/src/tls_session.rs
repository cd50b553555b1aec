//! One encrypted connection without buffers of its own.
//!
//! What stays in memory between two calls is the state of rustls, and whatever the network holds
//! up: an unfinished record that came, a finished one that the socket did not take. All else is
//! done in buffers that the connections of a thread share. An idle connection has none.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use tidings::Session;

/// The server's side of a TLS connection; knows no socket. None of its methods blocks if the socket
/// it is given does not.
pub(crate) struct TlsSession {
    tls: UnbufferedServerConnection,
    /// What came and is no whole record yet.
    incoming: Vec<u8>,
    /// What is to be sent and was not taken by the socket.
    outgoing: Vec<u8>,
    /// The client says nothing more.
    is_peer_done: bool,
    /// Client and server do not understand each other. Nothing more is said but why.
    is_broken: bool,
}

impl TlsSession {
    /// # Errors
    ///
    /// If the configuration cannot be used.
    pub(crate) fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(Arc::clone(config)).map_err(refused)?;
        Ok(Self {
            tls,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            is_peer_done: false,
            is_broken: false,
        })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The protocol that was agreed on by ALPN.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Reads once from the socket, calls `said` with what the client says, and answers what the
    /// protocol asks for. `Ok(0)`: the client says nothing more.
    pub(crate) fn read_from(
        &mut self,
        socket: &mut (impl Read + Write),
        mut said: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        if self.is_peer_done {
            return Ok(0);
        }
        let length = SCRATCH.with_borrow_mut(|scratch| {
            let came = scratch.sized(READ_BYTES);
            let length = socket.read(came)?;
            self.incoming.extend_from_slice(&came[..length]);
            Ok::<_, io::Error>(length)
        })?;
        if length == 0 {
            self.is_peer_done = true;
            return Ok(0);
        }
        let understood = self.process(&mut said);
        // What does not leave now leaves with what is sent next.
        let sent = self.flush_to(socket).or_else(unless_blocked);
        understood?;
        sent?;
        if self.incoming.len() > INCOMING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an endless TLS message"));
        }
        Ok(if self.is_peer_done { 0 } else { length })
    }

    /// Takes bytes to be sent, at least one unless the socket takes nothing, and sends them as far as
    /// it takes them. A record that it does not take is held.
    pub(crate) fn write_to(
        &mut self,
        socket: &mut impl Write,
        buffers: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush_to(socket)?;
        let mut taken = 0;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut rest = Rest { buffers, offset: 0 };
            while self.outgoing.is_empty() {
                scratch.plain.clear();
                rest.copy(RECORD_BYTES_MAX, &mut scratch.plain);
                if scratch.plain.is_empty() {
                    break;
                }
                scratch.sealed.clear();
                self.seal(&scratch.plain, &mut scratch.sealed)?;
                taken += scratch.plain.len();
                let sent = match write_all(socket, &scratch.sealed) {
                    (sent, Ok(())) => sent,
                    (sent, Err(error)) => unless_blocked(error).map(|()| sent)?,
                };
                self.outgoing.extend_from_slice(&scratch.sealed[sent..]);
            }
            Ok(taken)
        })
    }

    /// Sends what is held.
    pub(crate) fn flush_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let (sent, result) = write_all(socket, &self.outgoing);
        drop_front(&mut self.outgoing, sent);
        result
    }

    /// Says that nothing more will be sent, and sends that as far as the socket takes it.
    pub(crate) fn close_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let mut farewell = Vec::new();
        let said = self.with_traffic(|traffic| {
            into_vec(&mut farewell, ALERT_BYTES, |out| sized(traffic.queue_close_notify(out)))
        });
        // A connection that failed, or never was, has nothing to say.
        if said.is_ok() {
            self.outgoing.extend_from_slice(&farewell);
        }
        self.flush_to(socket)
    }

    /// Encrypts `plain`, appending to `sealed`.
    fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        self.with_traffic(|traffic| {
            into_vec(sealed, plain.len() + OVERHEAD_BYTES, |out| sized(traffic.encrypt(plain, out)))
        })
    }

    /// Calls `act` once rustls is ready to encrypt.
    fn with_traffic<T>(
        &mut self,
        act: impl FnOnce(&mut WriteTraffic<'_, Side>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.process(&mut |_| {})?;
        match self.tls.process_tls_records(&mut self.incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => act(&mut traffic),
            Ok(_) => Err(io::ErrorKind::NotConnected.into()),
            Err(error) => Err(refused(error)),
        }
    }

    /// Has rustls do what it can with what has come.
    fn process(&mut self, said: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let UnbufferedStatus { mut discard, state } = status;
            let is_done = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(refused)?;
                        discard += record.discard;
                        said(record.payload);
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(message)) => {
                    encode(message, &mut self.outgoing)?;
                    false
                }
                Ok(ConnectionState::TransmitTlsData(transmission)) => {
                    // It is held until it is sent, and nothing overtakes it.
                    transmission.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_peer_done = true;
                    false
                }
                Ok(_) => true,
                Err(error) => {
                    self.is_broken = true;
                    self.take_alert();
                    return Err(refused(error));
                }
            };
            drop_front(&mut self.incoming, discard);
            if is_done {
                return Ok(());
            }
        }
    }

    /// Takes over what rustls has to say of an error.
    fn take_alert(&mut self) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::EncodeTlsData(message)) => {
                    if encode(message, &mut self.outgoing).is_err() {
                        return;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(transmission)) => transmission.done(),
                _ => return,
            }
        }
    }
}

impl Session for TlsSession {
    fn write_vectored(
        &mut self,
        mut socket: &TcpStream,
        buffers: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.write_to(&mut socket, buffers)
    }

    fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        self.flush_to(&mut socket)
    }

    fn read(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        self.read_from(&mut socket, |_| {})
    }

    fn close(&mut self, mut socket: &TcpStream) {
        let _ = self.close_to(&mut socket);
    }
}

type Side = rustls::server::ServerConnectionData;

/// What is left of some buffers.
struct Rest<'a> {
    buffers: &'a [IoSlice<'a>],
    /// Bytes of the first buffer that are gone.
    offset: usize,
}

impl Rest<'_> {
    /// Moves at most so many bytes.
    fn copy(&mut self, bytes_max: usize, to: &mut Vec<u8>) {
        while let Some((first, rest)) = self.buffers.split_first()
            && to.len() < bytes_max
        {
            let left = &first[self.offset..];
            let length = left.len().min(bytes_max - to.len());
            to.extend_from_slice(&left[..length]);
            if length == left.len() {
                (self.buffers, self.offset) = (rest, 0);
            } else {
                self.offset += length;
            }
        }
    }
}

/// What a thread needs while it is at one connection.
struct Scratch {
    came: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Scratch {
    fn sized(&mut self, length: usize) -> &mut [u8] {
        self.came.resize(length, 0);
        &mut self.came
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { came: Vec::new(), plain: Vec::new(), sealed: Vec::new() }) };
}

fn encode(mut message: EncodeTlsData<'_, Side>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    into_vec(outgoing, 0, |out| match message.encode(out) {
        Ok(length) => Ok(Ok(length)),
        Err(EncodeError::InsufficientSize(needed)) => Ok(Err(needed)),
        Err(error @ EncodeError::AlreadyEncoded) => Err(io::Error::other(error)),
    })
}

/// Tells an error that is mended by more room from one that is not.
fn sized(result: Result<usize, EncryptError>) -> io::Result<Result<usize, InsufficientSizeError>> {
    match result {
        Ok(length) => Ok(Ok(length)),
        Err(EncryptError::InsufficientSize(needed)) => Ok(Err(needed)),
        Err(error @ EncryptError::EncryptExhausted) => Err(io::Error::other(error)),
    }
}

/// Appends what `write` writes, with as much room as it says that it needs; `guess` is tried first.
fn into_vec(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> io::Result<Result<usize, InsufficientSizeError>>,
) -> io::Result<()> {
    let start = out.len();
    let mut room = guess;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(Ok(length)) => {
                out.truncate(start + length);
                return Ok(());
            }
            Ok(Err(InsufficientSizeError { required_size })) if required_size > room => {
                room = required_size;
            }
            Ok(Err(needed)) => {
                out.truncate(start);
                return Err(io::Error::other(format!("{needed:?} of {room}")));
            }
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
}

/// Writes until the socket takes no more; tells how many bytes it took.
fn write_all(socket: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
            Ok(length) => sent += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (sent, Err(error)),
        }
    }
    (sent, Ok(()))
}

/// Drops the first bytes, and the memory with the last of them.
fn drop_front(bytes: &mut Vec<u8>, count: usize) {
    if count == bytes.len() {
        *bytes = Vec::new();
    } else {
        bytes.drain(..count);
    }
}

fn unless_blocked(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

fn refused(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The most that one record carries (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What a record adds to what it carries; more than any cipher needs.
const OVERHEAD_BYTES: usize = 64;
/// Room for a record with an alert.
const ALERT_BYTES: usize = 64;
/// One read of a socket: a record with what it adds.
const READ_BYTES: usize = RECORD_BYTES_MAX + 512;
/// The most that may wait for the rest of a message: one handshake message of 64 KiB, as rustls
/// allows, and a read.
const INCOMING_BYTES_MAX: usize = (64 << 10) + READ_BYTES;
