//! HTTP/1.1 over one connection, as much of it as the hub speaks. The connection may end at any byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::whereabouts::PATIENCE;

/// A connection to a hub.
pub(crate) struct Connection(BufReader<TcpStream>);

/// The head of an answer.
pub(crate) struct Head {
    pub(crate) status: u16,
    lines: Vec<String>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(64 << 10, stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        Ok(Head { status: status.ok_or(io::ErrorKind::InvalidData)?, lines })
    }

    /// The whole body of an answer.
    pub(crate) fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = head.value("content-length") {
            body.resize(length.parse().map_err(|_| io::ErrorKind::InvalidData)?, 0);
            self.0.read_exact(&mut body)?;
        } else if head.value("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        }
        Ok(body)
    }

    /// The next chunk of a body; `None` after the last.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut chunk = vec![0; size];
        self.0.read_exact(&mut chunk)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_ascii_lowercase()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Head {
    fn value(&self, name: &str) -> Option<&str> {
        let lines = self.lines.iter();
        lines.filter_map(|line| line.split_once(": ")).find(|(it, _)| *it == name).map(|it| it.1)
    }
}

/// Whether a connection ended because nobody is at its other end any more. What is anything else is a
/// failure of the hub, or of the test.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected,
        UnexpectedEof,
    };
    let lost = [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset];
    lost.contains(&error.kind()) || [NotConnected, UnexpectedEof].contains(&error.kind())
}
