//! What travels from the log to a connection: events and notices, encoded once.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Entry, Epoch, EventType, Notice, Position, Topic};
use tidings_log::{Body, entry_bytes};
use tidings_sse::{EventFields, Frame, encode_retry};

use crate::replay::{Held, ReplayBudget};

/// An event that has been encoded: the payload of the state machine.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) frame: Frame,
    /// When it was published, in microseconds of the hub's clock; 0 for what was read back.
    pub(crate) published_micros: u64,
    /// What it holds of the budget for what was read back.
    pub(crate) held: Option<Held>,
}

/// An entry with its encoded event.
pub(crate) type Encoded = Entry<Delivery>;

/// Encodes an event that was published just now.
pub(crate) fn encode(epoch: Epoch, entry: &Entry<Body>, published_micros: u64) -> Encoded {
    let delivery = Delivery { frame: frame(epoch, entry), published_micros, held: None };
    with_payload(entry, delivery)
}

/// Encodes an event that was read back, and counts it for as long as somebody holds it.
pub(crate) fn encode_read_back(
    epoch: Epoch,
    entry: &Entry<Body>,
    budget: &Arc<ReplayBudget>,
) -> Encoded {
    let frame = frame(epoch, entry);
    let held = Some(budget.hold(entry_bytes(entry, frame.len())));
    with_payload(entry, Delivery { frame, published_micros: 0, held })
}

fn frame(epoch: Epoch, entry: &Entry<Body>) -> Frame {
    let id = Position { epoch, offset: entry.offset }.to_string();
    let fields = EventFields {
        id: Some(&id),
        event: entry.event_type.as_ref().map(EventType::as_str),
        retry_ms: entry.payload.retry_ms,
        data: &entry.payload.data,
    };
    Frame::encode(&fields).expect("ids and event types hold no CR, LF or NUL")
}

fn with_payload(entry: &Entry<Body>, payload: Delivery) -> Encoded {
    Entry {
        offset: entry.offset,
        topics: entry.topics.clone(),
        event_type: entry.event_type.clone(),
        private: entry.private,
        is_final: entry.is_final,
        payload,
    }
}

/// Encodes a notice. With `control` off only what every client understands is left of it.
pub(crate) fn encode_notice(epoch: Epoch, notice: &Notice, control: bool) -> Bytes {
    let id = |offset: u64| Position { epoch, offset }.to_string();
    let (event, retry_ms, data) = match notice {
        Notice::Gap(gap) => {
            let requested = serde_json::Value::from(gap.requested.as_str());
            let (oldest, reason) = (id(gap.oldest), gap.reason.as_str());
            let data =
                format!(r#"{{"requested":{requested},"oldest":"{oldest}","reason":"{reason}"}}"#);
            ("tidings.gap", None, data)
        }
        Notice::Lagged { missed, oldest } => {
            let (after, oldest) = (id(missed.saturating_sub(1)), id(*oldest));
            ("tidings.lagged", None, format!(r#"{{"after":"{after}","oldest":"{oldest}"}}"#))
        }
        Notice::Conflated { skipped } => {
            ("tidings.conflated", None, format!(r#"{{"skipped":{skipped}}}"#))
        }
        Notice::Shutdown { retry_ms } => {
            ("tidings.shutdown", Some(*retry_ms), format!(r#"{{"retryMs":{retry_ms}}}"#))
        }
        Notice::Expired { reason } => {
            ("tidings.expired", None, format!(r#"{{"reason":"{}"}}"#, reason.as_str()))
        }
        Notice::Finished { topics } => {
            let topics: Vec<&str> = topics.iter().map(Topic::as_str).collect();
            ("tidings.finished", None, serde_json::json!({ "topics": topics }).to_string())
        }
    };
    let mut out = Vec::new();
    if control {
        let fields = EventFields { id: None, event: Some(event), retry_ms, data: &data };
        fields.encode(&mut out).expect("control events have fixed types");
    } else if let Some(retry_ms) = retry_ms {
        encode_retry(retry_ms, &mut out);
    }
    Bytes::from(out)
}

/// Bytes of an event stream as one chunk of an HTTP/1.1 body (RFC 9112, section 7.1).
pub(crate) fn chunk_of(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use tidings_core::{Gap, GapReason};

    use super::*;

    fn check(notice: &Notice, control: bool, expected: &str) {
        let bytes = encode_notice(Epoch::from_random(0), notice, control);
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
    }

    #[test]
    fn notices_are_events_without_an_id() {
        let gap = Gap { requested: "a\"b".into(), oldest: 20, reason: GapReason::Trimmed };
        check(
            &Notice::Gap(gap),
            true,
            "event: tidings.gap\n\
             data: {\"requested\":\"a\\\"b\",\"oldest\":\"0000000000-20\",\"reason\":\"trimmed\"}\n\n",
        );
        check(
            &Notice::Lagged { missed: 4, oldest: 20 },
            true,
            "event: tidings.lagged\n\
             data: {\"after\":\"0000000000-3\",\"oldest\":\"0000000000-20\"}\n\n",
        );
        check(
            &Notice::Conflated { skipped: 41 },
            true,
            "event: tidings.conflated\ndata: {\"skipped\":41}\n\n",
        );
        check(
            &Notice::Shutdown { retry_ms: 2_500 },
            true,
            "event: tidings.shutdown\nretry: 2500\ndata: {\"retryMs\":2500}\n\n",
        );
        let topics = ["jobs/1", "jobs/\"2\""].map(|topic| Topic::parse(topic).unwrap()).into();
        check(
            &Notice::Finished { topics },
            true,
            "event: tidings.finished\ndata: {\"topics\":[\"jobs/1\",\"jobs/\\\"2\\\"\"]}\n\n",
        );
    }

    #[test]
    fn without_control_a_shutdown_only_raises_the_reconnection_time() {
        check(&Notice::Shutdown { retry_ms: 2_500 }, false, "retry: 2500\n");
    }
}
