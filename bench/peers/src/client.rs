//! Plain sockets that publish and subscribe.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{Request, Transport};
use memchr::memmem;

/// A connection that is kept alive from publish to publish.
pub(crate) struct Publisher(Peeked);

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        Peeked::connect(address).map(Self)
    }

    /// # Errors
    ///
    /// If the answer is not a `2xx` whose end can be told.
    pub(crate) fn publish(&mut self, request: &[u8]) -> Result<()> {
        self.0.socket.write_all(request)?;
        let head = self.0.head()?;
        ensure!(head.starts_with("http/1.1 2"), "a publish is answered {head}");
        let length = |head: &str| {
            let (_, rest) = head.split_once("\r\ncontent-length:")?;
            rest.lines().next()?.trim().parse::<usize>().ok()
        };
        if let Some(length) = length(&head) {
            self.0.take(length)?;
        } else if head.contains("\r\ntransfer-encoding: chunked") {
            while !self.0.peeked.ends_with(b"0\r\n\r\n") {
                self.0.read()?;
            }
            self.0.peeked.clear();
        } else {
            ensure!(head.starts_with("http/1.1 204"), "where does this end: {head}");
        }
        Ok(())
    }
}

/// A subscription of either kind as bytes.
pub(crate) struct Subscriber(Peeked);

impl Subscriber {
    /// Subscribes and reads the head.
    ///
    /// # Errors
    ///
    /// If it is turned away.
    pub(crate) fn open(
        address: SocketAddr,
        transport: Transport,
        request: &Request,
    ) -> Result<Self> {
        let mut peeked = Peeked::connect(address)?;
        let headers = match transport {
            Transport::Sse => "accept: text/event-stream\r\n",
            Transport::WebSocket => UPGRADE,
        };
        let text = format!("GET {} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n", request.path);
        peeked.socket.write_all(text.as_bytes())?;
        let head = peeked.head()?;
        let expected = match transport {
            Transport::Sse => "http/1.1 200",
            Transport::WebSocket => "http/1.1 101",
        };
        ensure!(head.starts_with(expected), "a subscriber is answered {head}");
        for text in &request.hello {
            ensure!(text.len() < 126, "a hello is short");
            // A text frame with a mask of zeros (RFC 6455, section 5.2).
            let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
            peeked.socket.write_all(&frame)?;
        }
        Ok(Self(peeked))
    }

    /// Reads until these bytes have come.
    pub(crate) fn expect(&mut self, data: &str) -> Result<()> {
        loop {
            if let Some(at) = memmem::find(&self.0.peeked, data.as_bytes()) {
                self.0.peeked.drain(..at + data.len());
                return Ok(());
            }
            self.0.read().with_context(|| format!("{data} does not come"))?;
        }
    }

    /// Waits a moment and tells whether these bytes have come.
    pub(crate) fn has(&mut self, data: &str) -> Result<bool> {
        self.0.socket.set_read_timeout(Some(MOMENT))?;
        let found = self.expect(data);
        self.0.socket.set_read_timeout(Some(SILENCE_MAX))?;
        match found {
            Err(error) if error.downcast_ref::<io::Error>().is_none() => Err(error),
            found => Ok(found.is_ok()),
        }
    }

    /// Waits until anything comes.
    pub(crate) fn stir(&mut self) -> Result<()> {
        self.0.peeked.clear();
        self.0.read()
    }
}

/// A socket and what has been read of it and not been used.
struct Peeked {
    socket: TcpStream,
    peeked: Vec<u8>,
}

impl Peeked {
    fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self { socket, peeked: Vec::new() })
    }

    /// A head in lowercase.
    fn head(&mut self) -> Result<String> {
        loop {
            if let Some(at) = memmem::find(&self.peeked, b"\r\n\r\n") {
                let head: Vec<u8> = self.peeked.drain(..at + 4).collect();
                return Ok(String::from_utf8_lossy(&head).to_lowercase());
            }
            self.read().context("no head")?;
        }
    }

    fn take(&mut self, length: usize) -> Result<()> {
        while self.peeked.len() < length {
            self.read()?;
        }
        self.peeked.drain(..length);
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let bytes = self.socket.read(&mut buffer)?;
        if bytes == 0 {
            bail!("the connection ended after {:?}", String::from_utf8_lossy(&self.peeked));
        }
        self.peeked.extend(&buffer[..bytes]);
        Ok(())
    }
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGlkaW5ncyBiZW5jaG1hcg==\r\n";

/// Longer than what is published takes to come.
const MOMENT: Duration = Duration::from_millis(200);

const SILENCE_MAX: Duration = Duration::from_secs(4);
