//! The bytes of one connection, encrypted or not, as hyper sees them; and what is left of it when
//! hyper is done with it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tidings::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::connection::{Breaker, Line};
use crate::tls;
use crate::tls_session::TlsSession;

/// A connection to a client.
pub(crate) struct Wire {
    kind: Kind,
    peer: SocketAddr,
    flushed: Flushed,
}

/// Whether all that was written has left; kept where hyper does not hide it.
#[derive(Debug, Clone)]
pub(crate) struct Flushed(Arc<AtomicBool>);

enum Kind {
    Plain(Plain),
    Tls(Box<Encrypted>),
}

/// A socket, and what the client has said and nobody has read.
struct Plain {
    io: TokioIo<TcpStream>,
    unread: Bytes,
    is_http2: bool,
}

/// A socket, what encrypts it, and what the client has said and nobody has read.
struct Encrypted {
    socket: TcpStream,
    session: TlsSession,
    unread: Bytes,
}

impl Wire {
    /// An open connection.
    pub(crate) fn plain(socket: TcpStream, peer: SocketAddr) -> Self {
        let io = TokioIo::new(socket);
        Self::new(Kind::Plain(Plain { io, unread: Bytes::new(), is_http2: false }), peer)
    }

    /// Completes a TLS handshake as the server, unless it has been.
    ///
    /// # Errors
    ///
    /// If the client wants something else, or goes. It has been told, as far as it can be.
    pub(crate) async fn encrypted(self, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let Kind::Plain(plain) = self.kind else { return Ok(self) };
        let socket = plain.io.into_inner();
        let session = TlsSession::new(config)?;
        let mut encrypted = Box::new(Encrypted { socket, session, unread: Bytes::new() });
        poll_fn(|cx| encrypted.poll_handshake(cx)).await?;
        Ok(Self::new(Kind::Tls(encrypted), self.peer))
    }

    fn new(kind: Kind, peer: SocketAddr) -> Self {
        Self { kind, peer, flushed: Flushed(Arc::new(AtomicBool::new(true))) }
    }

    /// Tells, while hyper owns the connection, whether all that it wrote has left.
    pub(crate) fn flushed(&self) -> Flushed {
        self.flushed.clone()
    }

    /// What is to be known of it where requests are answered.
    pub(crate) fn line(&self, breaker: Arc<Breaker>, can_be_taken: bool) -> Line {
        Line { breaker, can_be_taken, peer: Some(self.peer) }
    }

    /// Waits until the client has said something, or gone.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let socket = match &self.kind {
            Kind::Plain(plain) => plain.io.inner(),
            Kind::Tls(encrypted) if encrypted.unread.is_empty() => &encrypted.socket,
            Kind::Tls(_) => return Ok(()),
        };
        // The runtime takes each new socket for readable until it is told otherwise.
        socket.peek(&mut [0]).await.map(drop)
    }

    /// Waits until the client has said something, or gone, and can be told to begin with HTTP/2 or
    /// not. That takes more than one piece only from a client that sends the preface in pieces.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub(crate) async fn begun(&mut self) -> io::Result<()> {
        let Kind::Plain(Plain { io, unread, is_http2 }) = &mut self.kind else {
            return self.readable().await;
        };
        let mut seen = 0;
        loop {
            let mut came = [0; HTTP2_PREFACE.len()];
            let length = io.inner().peek(&mut came[seen..]).await?;
            let is_alike = came[seen..seen + length] == HTTP2_PREFACE[seen..seen + length];
            if !is_alike || length == 0 {
                break;
            }
            if seen + length == HTTP2_PREFACE.len() {
                *is_http2 = true;
                break;
            }
            // What stays in the socket would be seen again at once.
            let taken = io.inner().try_read(&mut came[seen..seen + length])?;
            seen += taken;
        }
        *unread = Bytes::from_static(&HTTP2_PREFACE[..seen]);
        Ok(())
    }

    /// Whether the client has chosen HTTP/2: by ALPN, or by prior knowledge, which shows once it has
    /// begun (RFC 9113, section 3).
    pub(crate) fn is_http2(&self) -> bool {
        match &self.kind {
            Kind::Plain(plain) => plain.is_http2,
            Kind::Tls(encrypted) => encrypted.session.protocol() == Some(tls::HTTP2),
        }
    }

    /// Whether it was an authority that wanted proof, which it has by now.
    pub(crate) fn is_proof(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(encrypted) => encrypted.session.protocol() == Some(tls::ACME),
        }
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, bytes)).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[sent..];
        }
        poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx)).await
    }

    /// Ends it, saying so as far as the socket takes that.
    pub(crate) async fn close(mut self) {
        poll_fn(|cx| {
            let _ = Pin::new(&mut self).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// The non-blocking socket without the runtime, and what encrypts it.
    ///
    /// # Errors
    ///
    /// If the operating system does not let go of it.
    pub(crate) fn into_socket(self) -> io::Result<(net::TcpStream, Option<Box<dyn Session>>)> {
        match self.kind {
            Kind::Plain(plain) => Ok((plain.io.into_inner().into_std()?, None)),
            Kind::Tls(encrypted) => {
                let Encrypted { socket, session, unread: _ } = *encrypted;
                Ok((socket.into_std()?, Some(Box::new(session))))
            }
        }
    }
}

impl Flushed {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_flushed: bool) {
        self.0.store(is_flushed, Ordering::Relaxed);
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(plain) => plain.poll_read(cx, buffer),
            Kind::Tls(encrypted) => encrypted.poll_read(cx, buffer),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed.set(false);
        match &mut self.kind {
            Kind::Plain(plain) => Pin::new(&mut plain.io).poll_write_vectored(cx, buffers),
            Kind::Tls(encrypted) => {
                encrypted.poll(cx, |session, socket| session.write_to(socket, buffers))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(match &mut self.kind {
            Kind::Plain(plain) => Pin::new(&mut plain.io).poll_flush(cx),
            Kind::Tls(encrypted) => encrypted.poll(cx, TlsSession::flush_to),
        })?;
        self.flushed.set(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(plain) => Pin::new(&mut plain.io).poll_shutdown(cx),
            Kind::Tls(encrypted) => {
                ready!(encrypted.poll(cx, TlsSession::close_to))?;
                Pin::new(&mut encrypted.socket).poll_shutdown(cx)
            }
        }
    }
}

impl Plain {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl Encrypted {
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll(cx, TlsSession::flush_to)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            if ready!(self.poll_receive(cx))? == 0 && self.unread.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, to nothing that is unread; 0 at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut said = Vec::new();
        let received = ready!(self.poll(cx, |session, socket| {
            session.read_from(socket, |bytes| said.extend_from_slice(bytes))
        }));
        self.unread = said.into();
        Poll::Ready(received)
    }

    fn poll<'a, 'b, T>(
        &'a mut self,
        cx: &'a mut Context<'b>,
        act: impl FnOnce(&mut TlsSession, &mut Polled<'a, 'b>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match act(&mut self.session, &mut Polled { socket: &mut self.socket, cx }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }
}

/// A socket of the runtime as one that does not block: when it would, the task is woken later.
struct Polled<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl io::Read for Polled<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client that speaks HTTP/2 says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
