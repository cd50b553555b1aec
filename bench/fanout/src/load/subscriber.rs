//! One connection with one or more streams.

use std::io::ErrorKind;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{Request, Transport};
use memchr::memmem;

use crate::event::{Finder, now_ns};
use crate::load::frames::{Chunks, Found, Frames};
use crate::load::http2::{Http2, Part};
use crate::load::link::Link;
use crate::load::tally::{StreamState, Tally};
use crate::plan::Carrier;

/// A connection that subscribes.
#[derive(Debug)]
pub struct Subscriber {
    pub link: Link,
    /// Where its streams are among all.
    pub streams: Range<usize>,
    pub began_ns: u64,
    stage: Stage,
    /// Whether it stops to read once its streams have begun.
    pub is_stalled: bool,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    /// Waiting for the head, of which so much is there.
    Head(Vec<u8>),
    Body(Body),
    Over,
}

#[derive(Debug)]
enum Body {
    UntilEnd,
    Chunked(Chunks),
    WebSocket(Frames),
    /// How many streams have begun.
    Http2(Http2, usize),
}

/// What came of looking at a connection.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Progress {
    Same,
    /// Its streams have begun.
    Begun,
    Over,
}

/// What all connections share.
pub struct Shared<'a> {
    pub finder: &'a mut Finder,
    pub tally: &'a mut Tally,
    pub buffer: &'a mut [u8],
}

impl Subscriber {
    pub fn new(link: Link, streams: Range<usize>, began_ns: u64, is_stalled: bool) -> Self {
        Self { link, streams, began_ns, stage: Stage::Connecting, is_stalled }
    }

    /// The socket may be written: sends the requests when it is connected.
    pub fn handle_writable(
        &mut self,
        requests: &[&Request],
        transport: Transport,
        carrier: Carrier,
    ) -> Result<()> {
        if !matches!(self.stage, Stage::Connecting) {
            return Ok(self.link.flush()?);
        }
        if let Some(error) = self.link.socket.take_error()? {
            bail!("it does not connect: {error}");
        }
        let authority = self.link.socket.peer_addr()?.to_string();
        let mut bytes = Vec::new();
        self.stage = if carrier == Carrier::Http2 {
            Http2::preface(&mut bytes);
            for (stream, request) in requests.iter().enumerate() {
                Http2::request(stream, &authority, request, &mut bytes);
            }
            Stage::Body(Body::Http2(Http2::new(), 0))
        } else {
            head(requests[0], &authority, transport, &mut bytes);
            Stage::Head(Vec::new())
        };
        Ok(self.link.write(&bytes)?)
    }

    /// Reads what is there.
    pub fn handle_readable(
        &mut self,
        streams: &mut [StreamState],
        requests: &[&Request],
        shared: &mut Shared<'_>,
    ) -> Result<Progress> {
        let mut progress = Progress::Same;
        loop {
            let bytes = match self.link.read(shared.buffer) {
                Ok(0) => 0,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(progress),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error.into()),
            };
            if bytes == 0 {
                self.stage = Stage::Over;
                return Ok(Progress::Over);
            }
            shared.tally.phase.bytes += bytes as u64;
            shared.tally.phase.reads += 1;
            match self.take(bytes, streams, requests, shared)? {
                Progress::Same => {}
                // A stalled one leaves the rest where it is.
                Progress::Begun if self.is_stalled => return Ok(Progress::Begun),
                other => progress = other,
            }
            if progress == Progress::Over || self.link.is_drained_by(bytes, shared.buffer.len()) {
                return Ok(progress);
            }
        }
    }

    fn take(
        &mut self,
        bytes: usize,
        streams: &mut [StreamState],
        requests: &[&Request],
        shared: &mut Shared<'_>,
    ) -> Result<Progress> {
        let now = now_ns();
        match &mut self.stage {
            Stage::Head(head) => {
                head.extend_from_slice(&shared.buffer[..bytes]);
                let Some(length) = memmem::find(head, b"\r\n\r\n") else {
                    ensure!(head.len() < HEAD_BYTES_MAX, "the head does not end");
                    return Ok(Progress::Same);
                };
                let body = head.split_off(length + 4);
                let mut stage = body_after(&String::from_utf8_lossy(head).to_lowercase())?;
                if let Body::WebSocket(_) = stage {
                    for text in requests.iter().flat_map(|request| &request.hello) {
                        self.link.write(&masked(TEXT, text.as_bytes()))?;
                    }
                }
                feed(&mut stage, &mut self.link, &body, streams, shared, now)?;
                self.stage = Stage::Body(stage);
                Ok(Progress::Begun)
            }
            Stage::Body(body) => {
                if let Body::Http2(_, 0) = body {
                    let protocol = self.link.protocol();
                    ensure!(protocol == Some(b"h2"), "HTTP/2 was not agreed on");
                }
                let bytes_of = std::mem::take(&mut shared.buffer);
                let outcome = feed(body, &mut self.link, &bytes_of[..bytes], streams, shared, now);
                shared.buffer = bytes_of;
                outcome
            }
            Stage::Connecting | Stage::Over => bail!("bytes came that nobody asked for"),
        }
    }
}

/// Takes the bytes of a body apart, and counts the events in them.
fn feed(
    body: &mut Body,
    link: &mut Link,
    bytes: &[u8],
    streams: &mut [StreamState],
    shared: &mut Shared<'_>,
    now: u64,
) -> Result<Progress> {
    let (finder, tally) = (&mut *shared.finder, &mut *shared.tally);
    match body {
        Body::UntilEnd => {
            feed_lines(&mut streams[0], bytes, finder, tally, now)?;
        }
        Body::Chunked(chunks) => {
            let stream = &mut streams[0];
            chunks.feed(bytes, |bytes| feed_lines(stream, bytes, finder, tally, now))?;
            if *chunks == Chunks::Over {
                return Ok(Progress::Over);
            }
        }
        Body::WebSocket(frames) => {
            let place = streams[0].place;
            let mut pings = 0;
            frames.feed(bytes, finder, |found| {
                match found {
                    Found::Event(event) => tally.deliver(place, event, now)?,
                    Found::Other => tally.phase.others += 1,
                    Found::Ping => pings += 1,
                }
                Ok(())
            })?;
            for _ in 0..pings {
                tally.phase.others += 1;
                link.write(&masked(PONG, b""))?;
            }
        }
        Body::Http2(http2, begun) => {
            let mut progress = Progress::Same;
            http2.feed(bytes, |part| {
                match part {
                    Part::Begun { .. } => {
                        *begun += 1;
                        if *begun == streams.len() {
                            progress = Progress::Begun;
                        }
                    }
                    Part::Body { stream, bytes } => {
                        let stream = streams.get_mut(stream).context("a stream nobody opened")?;
                        feed_lines(stream, bytes, finder, tally, now)?;
                    }
                    Part::Ended { .. } => tally.phase.ended += 1,
                    Part::Reply(bytes) => link.write(bytes)?,
                }
                Ok(())
            })?;
            return Ok(progress);
        }
    }
    Ok(Progress::Same)
}

fn feed_lines(
    stream: &mut StreamState,
    bytes: &[u8],
    finder: &mut Finder,
    tally: &mut Tally,
    now: u64,
) -> Result<()> {
    let place = stream.place;
    let notes_ids = stream.lines.last_id.is_some();
    let mut events = 0;
    stream.lines.feed(bytes, finder, |found| match found {
        Found::Event(event) => {
            events += 1;
            tally.deliver(place, event, now)
        }
        Found::Other | Found::Ping => {
            tally.phase.others += 1;
            Ok(())
        }
    })?;
    // Ids are noted only of streams whose events come one by one.
    if notes_ids && events > 0 {
        tally.ids.extend(stream.lines.last_id.clone());
    }
    Ok(())
}

/// A request over HTTP/1.1.
fn head(request: &Request, authority: &str, transport: Transport, bytes: &mut Vec<u8>) {
    let accept = match transport {
        Transport::Sse => "accept: text/event-stream\r\n",
        Transport::WebSocket => {
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
    };
    let mut head = format!("GET {} HTTP/1.1\r\nhost: {authority}\r\n{accept}", request.path);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    bytes.extend_from_slice(head.as_bytes());
}

/// How the body after this head, in lowercase, is framed.
fn body_after(head: &str) -> Result<Body> {
    if head.starts_with("http/1.1 101 ") {
        return Ok(Body::WebSocket(Frames::default()));
    }
    ensure!(head.starts_with("http/1.1 200 "), "the answer is {head}");
    ensure!(head.contains("\r\ncontent-type: text/event-stream"), "no event stream: {head}");
    Ok(if head.contains("\r\ntransfer-encoding: chunked") {
        Body::Chunked(Chunks::NEXT)
    } else {
        Body::UntilEnd
    })
}

/// A frame of a client. The mask may be anything; zeros leave the payload as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(128 | length),
        _ => {
            frame.push(128 | 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;
const HEAD_BYTES_MAX: usize = 16 * 1024;
