//! What may stand between a stream and its socket.

use std::io::{self, IoSlice};
use std::net::TcpStream;

/// An encryption between a stream and its socket, such as TLS.
///
/// One thread calls all methods, and none of them may block: the socket is non-blocking, and
/// [`WouldBlock`](io::ErrorKind::WouldBlock) says that it takes or has nothing now. Any other error
/// means that the connection is of no more use.
pub trait Session: Send {
    /// Takes bytes that are to be sent, and says how many, at least one; they may be held back
    /// until [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if too much is held already: nothing was taken.
    fn write_vectored(&mut self, socket: &TcpStream, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what is held back.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if something is still held back.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()>;

    /// Takes in what the client has sent, by one read of the socket, and drops it: a client of an
    /// event stream has nothing to say. 0 means that the client has ended the connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there.
    fn read(&mut self, socket: &TcpStream) -> io::Result<usize>;

    /// Takes leave of the client, as far as the socket takes it.
    fn close(&mut self, socket: &TcpStream);
}
