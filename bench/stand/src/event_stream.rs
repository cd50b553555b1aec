//! Reads an event stream over HTTP/1.1, chunked or not, with a blocking socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tidings_sse::{Decoder, Event, Item};

/// A response that is being read.
#[derive(Debug)]
pub struct EventStream {
    socket: TcpStream,
    buffer: Box<[u8]>,
    /// What is read and not yet decoded.
    begin: usize,
    end: usize,
    /// Where in its chunks the response is; `None` if it has none.
    place: Option<Place>,
    decoder: Decoder,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the line that tells the size of a chunk.
    Size { size: usize, is_past_digits: bool },
    /// In its data.
    Data { left: usize },
    /// In the line end after its data.
    DataEnd,
}

impl EventStream {
    /// Asks for `target` (path and query) with these further header lines, and reads the head.
    ///
    /// # Errors
    ///
    /// If the answer is not `200` within ten seconds.
    pub fn open(address: SocketAddr, target: &str, headers: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes())?;
        let mut stream = Self {
            socket,
            buffer: vec![0; BUFFER_BYTES].into(),
            begin: 0,
            end: 0,
            place: None,
            decoder: Decoder::default(),
        };
        stream.read_head()?;
        Ok(stream)
    }

    fn read_head(&mut self) -> Result<()> {
        let length = loop {
            if let Some(length) = memmem::find(&self.buffer[..self.end], b"\r\n\r\n") {
                break length;
            }
            ensure!(self.end < self.buffer.len(), "the head does not end");
            let bytes = self.socket.read(&mut self.buffer[self.end..]).context("the head")?;
            ensure!(bytes > 0, "the connection ended in the head");
            self.end += bytes;
        };
        let head = String::from_utf8_lossy(&self.buffer[..length]).to_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "the answer is {head}");
        if head.contains("\r\ntransfer-encoding: chunked") {
            self.place = Some(Place::NEXT);
        }
        self.begin = length + 4;
        Ok(())
    }

    /// Has [`for_each_ready`](Self::for_each_ready) not wait, and `for_each` fail where it would.
    ///
    /// # Errors
    ///
    /// If the socket does not take it.
    pub fn set_nonblocking(&self) -> Result<()> {
        Ok(self.socket.set_nonblocking(true)?)
    }

    /// Gives each event to `take` until it breaks.
    ///
    /// # Errors
    ///
    /// If the stream ends before, is malformed, or is silent for ten seconds.
    pub fn for_each(&mut self, mut take: impl FnMut(&Event) -> ControlFlow<()>) -> Result<()> {
        while self.take_read(&mut take)?.is_continue() {
            ensure!(self.read()?.is_continue(), "nothing came for {SILENCE_MAX:?}");
        }
        Ok(())
    }

    /// Gives each event that has come to `take`, until it breaks or nothing more is there.
    ///
    /// # Errors
    ///
    /// If the stream has ended or is malformed.
    pub fn for_each_ready(
        &mut self,
        mut take: impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<()> {
        while self.take_read(&mut take)?.is_continue() {
            if self.read()?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Gives each event that is read and not yet decoded to `take` until it breaks.
    fn take_read(
        &mut self,
        take: &mut impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        while self.begin < self.end {
            let length = self.data_length()?;
            let mut data = &self.buffer[self.begin..self.begin + length];
            while let Some(item) = self.decoder.decode(&mut data)? {
                let Item::Event(event) = item else { continue };
                if take(&event).is_break() {
                    self.begin += length - data.len();
                    self.leave_data(length - data.len());
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.begin += length;
            self.leave_data(length);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads once; breaks if nothing came.
    fn read(&mut self) -> Result<ControlFlow<()>> {
        self.begin = 0;
        self.end = match self.socket.read(&mut self.buffer) {
            Ok(0) => bail!("the stream ended"),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.end = 0;
                return Ok(ControlFlow::Break(()));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(ControlFlow::Continue(()))
    }

    /// Passes the framing, if any, and returns how many bytes of data are there now.
    fn data_length(&mut self) -> Result<usize> {
        let Some(mut place) = self.place else { return Ok(self.end - self.begin) };
        while self.begin < self.end {
            if let Place::Data { left } = place {
                self.place = Some(place);
                return Ok(left.min(self.end - self.begin));
            }
            place = place.after(self.buffer[self.begin])?;
            self.begin += 1;
        }
        self.place = Some(place);
        Ok(0)
    }

    fn leave_data(&mut self, length: usize) {
        if let Some(Place::Data { left }) = &mut self.place {
            *left -= length;
            if *left == 0 {
                self.place = Some(Place::DataEnd);
            }
        }
    }
}

impl AsRawFd for EventStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Place {
    const NEXT: Self = Self::Size { size: 0, is_past_digits: false };

    /// The place after one more byte of framing.
    fn after(self, byte: u8) -> Result<Self> {
        Ok(match self {
            Self::Size { size: 0, .. } if byte == b'\n' => bail!("the stream ended"),
            Self::Size { size, .. } if byte == b'\n' => Self::Data { left: size },
            Self::Size { size, is_past_digits: false } => match char::from(byte).to_digit(16) {
                Some(digit) => {
                    Self::Size { size: size * 16 + digit as usize, is_past_digits: false }
                }
                None => Self::Size { size, is_past_digits: true },
            },
            Self::DataEnd if byte == b'\n' => Self::NEXT,
            Self::Size { .. } | Self::DataEnd | Self::Data { .. } => self,
        })
    }
}

/// Large enough that reading does not hold up a server that sends what it has.
const BUFFER_BYTES: usize = 256 * 1024;

const SILENCE_MAX: Duration = Duration::from_secs(10);
