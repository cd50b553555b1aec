//! How a stream's connection passes from hyper to a shard.
//!
//! The handler answers as always, with a response that what stands around it can add to; only the
//! body is missing, and an [`Admission`] stands in the response's extensions. The task that owns the
//! connection finds it there, stops polling hyper, writes the head and the first lines itself, and
//! hands the socket to the hub. Then it ends, and nothing of it is left.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tidings::Admission;

use crate::wire::Wire;

/// A stream that is ready to be taken over.
pub(crate) struct Takeover {
    status: StatusCode,
    headers: HeaderMap,
    stream: DirectStream,
}

/// What a handler leaves in its response.
struct DirectStream {
    admission: Admission,
    first_lines: Vec<u8>,
}

#[derive(Clone)]
struct Slot(Arc<Mutex<Option<DirectStream>>>);

/// Leaves a stream in a response, to be found by [`Takeover::find`].
pub(crate) fn prepare(response: &mut Response, admission: Admission, first_lines: Vec<u8>) {
    let slot = Slot(Arc::new(Mutex::new(Some(DirectStream { admission, first_lines }))));
    response.extensions_mut().insert(slot);
}

impl Takeover {
    /// Takes the stream that a handler left in its response, and all that was added to the
    /// response since.
    pub(crate) fn find(response: &mut Response) -> Option<Self> {
        let Slot(slot) = response.extensions_mut().remove()?;
        let stream = slot.lock().expect("no thread panics while it holds a stream").take()?;
        let headers = std::mem::take(response.headers_mut());
        Some(Self { status: response.status(), headers, stream })
    }

    /// Begins the stream on the connection that it was asked for on. A client that does not take the
    /// beginning in time is let go of.
    pub(crate) async fn perform(self, mut wire: Wire, write_timeout: Duration) {
        let Self { status, headers, stream: DirectStream { admission, first_lines } } = self;
        let beginning = encode(status, headers, &first_lines, SystemTime::now());
        let sent = tokio::time::timeout(write_timeout, wire.send(&beginning)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        match wire.into_socket() {
            Ok((socket, session)) => admission.serve(socket, session),
            Err(error) => tracing::warn!(%error, "a connection cannot be taken over"),
        }
    }
}

/// The head of the response, and the first chunk of its body (RFC 9112, section 7.1).
fn encode(
    status: StatusCode,
    mut headers: HeaderMap,
    first_lines: &[u8],
    now: SystemTime,
) -> Vec<u8> {
    // What frames the body is said here; others have taken it for empty.
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, DATE] {
        headers.remove(name);
    }
    let mut out = Vec::with_capacity(BEGINNING_BYTES);
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    let date = httpdate::HttpDate::from(now);
    write!(
        out,
        "connection: close\r\ntransfer-encoding: chunked\r\ndate: {date}\r\n\r\n{:x}\r\n",
        first_lines.len()
    )
    .expect("a vector takes everything");
    out.extend_from_slice(first_lines);
    out.extend_from_slice(b"\r\n");
    out
}

/// Room for a usual head and the first lines.
const BEGINNING_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_head_frames_a_body_of_chunks_whatever_was_said_before() {
        let said = [
            ("content-type", "text/event-stream"),
            ("content-length", "0"),
            ("connection", "keep-alive"),
            ("x-request-id", "7"),
        ];
        let headers = said
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers = HeaderMap::from_iter(headers);
        let written = encode(StatusCode::OK, headers, b"retry: 2000\n:\n", SystemTime::UNIX_EPOCH);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: 7\r\n\
             connection: close\r\ntransfer-encoding: chunked\r\n\
             date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\ne\r\nretry: 2000\n:\n\r\n"
        );
    }
}
