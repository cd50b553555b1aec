//! The decoders, each behind the same two functions.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use eventsource_stream::EventStream;
use futures_core::Stream;
use sse_core::{SseDecoder, SseEvent};
use tidings_sse::{Decoder, Item};

/// What a decoder found, to see that it did the work.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub events: usize,
    pub data_bytes: usize,
    pub id_bytes: usize,
    pub type_bytes: usize,
}

impl Tally {
    pub fn add(&mut self, id: &str, event: &str, data: &str) {
        self.events += 1;
        self.data_bytes += data.len();
        self.id_bytes += id.len();
        self.type_bytes += event.len();
    }
}

/// One event, as id, type and data.
pub type Triple = (String, String, String);

pub struct Engine {
    pub name: &'static str,
    /// Whether it decodes, or only looks at every byte.
    pub decodes: bool,
    pub run: fn(&[Bytes]) -> Tally,
    /// Decodes one connection after another; `None` if it fails.
    pub decode: fn(&[Vec<u8>]) -> Option<Vec<Triple>>,
}

/// Ours comes first.
pub const ENGINES: &[Engine] = &[
    Engine { name: "tidings-sse", decodes: true, run: run_ours, decode: decode_ours },
    Engine { name: "sse-core 0.2.3", decodes: true, run: run_sse_core, decode: decode_sse_core },
    Engine {
        name: "eventsource-stream 0.2.3",
        decodes: true,
        run: run_eventsource_stream,
        decode: decode_eventsource_stream,
    },
    Engine { name: "memchr for LF, nothing else", decodes: false, run: run_scan, decode: |_| None },
];

fn run_ours(chunks: &[Bytes]) -> Tally {
    let mut decoder = Decoder::default();
    let mut tally = Tally::default();
    for chunk in chunks {
        let mut chunk = &chunk[..];
        while let Some(item) = decoder.decode(&mut chunk).expect("within the limits") {
            if let Item::Event(event) = item {
                tally.add(&event.id, &event.event, &event.data);
            }
        }
    }
    tally
}

fn decode_ours(connections: &[Vec<u8>]) -> Option<Vec<Triple>> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for body in connections {
        let mut body = &body[..];
        while let Some(item) = decoder.decode(&mut body).ok()? {
            if let Item::Event(event) = item {
                events.push((event.id.to_string(), event.event.to_string(), event.data));
            }
        }
        decoder.finish();
    }
    Some(events)
}

fn sse_core_decoder() -> SseDecoder {
    SseDecoder::with_limit(NonZeroUsize::new(16 * 1024 * 1024).expect("not zero"))
}

fn run_sse_core(chunks: &[Bytes]) -> Tally {
    let mut decoder = sse_core_decoder();
    let mut tally = Tally::default();
    for chunk in chunks {
        let mut chunk = &chunk[..];
        while let Some(item) = decoder.next(&mut chunk) {
            if let SseEvent::Message(event) = item.expect("within the limits") {
                let id = event.last_event_id.as_deref().unwrap_or_default();
                tally.add(id, &event.event, &event.data);
            }
        }
    }
    tally
}

fn decode_sse_core(connections: &[Vec<u8>]) -> Option<Vec<Triple>> {
    let mut decoder = sse_core_decoder();
    let mut events = Vec::new();
    for body in connections {
        let mut body = &body[..];
        while let Some(item) = decoder.next(&mut body) {
            if let SseEvent::Message(event) = item.ok()? {
                let id = event.last_event_id.as_deref().unwrap_or_default().to_owned();
                events.push((id, event.event.into_owned(), event.data));
            }
        }
        decoder.reconnect();
    }
    Some(events)
}

/// A stream of chunks that are all there already.
struct Chunks<'a>(std::slice::Iter<'a, Bytes>);

impl Stream for Chunks<'_> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().cloned().map(Ok))
    }
}

/// Gives each event to `take`, and tells whether the stream ended without an error.
fn drain_eventsource_stream(
    chunks: &[Bytes],
    last_event_id: &mut String,
    mut take: impl FnMut(eventsource_stream::Event),
) -> bool {
    let mut events = pin!(EventStream::new(Chunks(chunks.iter())));
    events.set_last_event_id(last_event_id.as_str());
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match events.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(Ok(event))) => take(event),
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            Poll::Ready(None) => break,
        }
    }
    events.last_event_id().clone_into(last_event_id);
    true
}

fn run_eventsource_stream(chunks: &[Bytes]) -> Tally {
    let mut tally = Tally::default();
    let ended = drain_eventsource_stream(chunks, &mut String::new(), |event| {
        tally.add(&event.id, &event.event, &event.data);
    });
    assert!(ended);
    tally
}

fn decode_eventsource_stream(connections: &[Vec<u8>]) -> Option<Vec<Triple>> {
    let mut events = Vec::new();
    let mut last_event_id = String::new();
    for body in connections {
        let body = [Bytes::copy_from_slice(body)];
        let ended = drain_eventsource_stream(&body, &mut last_event_id, |event| {
            events.push((event.id, event.event, event.data));
        });
        if !ended {
            return None;
        }
    }
    Some(events)
}

fn run_scan(chunks: &[Bytes]) -> Tally {
    let lines = chunks
        .iter()
        .map(|chunk| memchr::memchr_iter(b'\n', chunk).map(|at| at | 1).sum::<usize>());
    Tally { events: lines.sum(), ..Tally::default() }
}
