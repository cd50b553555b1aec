//! The streams to decode, made the same in each run.

use bytes::Bytes;
use tidings_sse::EventFields;

use crate::engine::Tally;

/// What one read from a socket commonly gives.
pub const CHUNK_BYTES: usize = 16 * 1024;

pub struct Definition {
    pub name: &'static str,
    pub make: fn() -> Workload,
}

pub const WORKLOADS: &[Definition] = &[
    Definition { name: "events of about 160 bytes", make: Workload::small_events },
    Definition { name: "one event of 5 MiB", make: Workload::large_event },
];

pub struct Workload {
    chunks: Vec<Bytes>,
    expected: Tally,
}

impl Workload {
    /// Pieces of a chat completion: id, type and 60 to 110 bytes of JSON, not all of it ASCII.
    fn small_events() -> Self {
        const EVENTS: usize = 5_000;
        const WORDS: &[&str] =
            &["the", " quick", " brown", " fox", " jumps", " été", " over", " 狐", ",", " lazy"];
        let (mut wire, mut expected) = (Vec::new(), Tally::default());
        for number in 0..EVENTS {
            let id = format!("k3v9q0xw7e-{}", number + 1_000_000);
            let words: String = (0..1 + number % 4).map(|n| WORDS[(number + n) % 10]).collect();
            let data = format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{words}"}}}}"#
            );
            push(&mut wire, &mut expected, &id, "content_block_delta", &data);
        }
        Self::new(&wire, expected)
    }

    /// One event with 5 MiB of data on one line, such as an image in base64.
    fn large_event() -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut state = 1_u32;
        let data: String = (0..5 * 1024 * 1024)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(ALPHABET[(state >> 26) as usize])
            })
            .collect();
        let (mut wire, mut expected) = (Vec::new(), Tally::default());
        push(&mut wire, &mut expected, "k3v9q0xw7e-1", "image", &data);
        Self::new(&wire, expected)
    }

    fn new(wire: &[u8], expected: Tally) -> Self {
        let chunks = wire.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect();
        Self { chunks, expected }
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    pub fn expected(&self) -> Tally {
        self.expected
    }
}

fn push(wire: &mut Vec<u8>, expected: &mut Tally, id: &str, event: &str, data: &str) {
    let fields = EventFields { id: Some(id), event: Some(event), retry_ms: None, data };
    fields.encode(wire).expect("no line ends in id and type");
    expected.add(id, event, data);
}
