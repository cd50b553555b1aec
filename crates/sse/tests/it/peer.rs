//! Compares the decoder with `sse-core`, an independent decoder of the same standard.
//!
//! Where the two differ, the peer departs from the standard, and the difference is asserted here.

use proptest::{collection::vec, prelude::*, sample::select};
use sse_core::{SseDecoder, SseEvent};
use tidings_sse::{Decoder, Item};

use crate::grammar::WORDS;
use crate::oracle::{decode_chunks, event_item};

/// The items the peer gives. It has no comments, and an absent id where ours is empty.
fn peer_items(stream: &[u8], chunk_bytes: usize) -> (Vec<Item>, String) {
    let mut peer = SseDecoder::new();
    let mut items = Vec::new();
    for mut chunk in stream.chunks(chunk_bytes) {
        while let Some(item) = peer.next(&mut chunk) {
            items.push(match item.expect("the stream is within its limit") {
                SseEvent::Message(event) => {
                    let id = event.last_event_id.as_deref().unwrap_or_default();
                    event_item(id, &event.event, &event.data)
                }
                SseEvent::Retry(ms) => Item::Retry(ms.into()),
            });
        }
    }
    (items, peer.last_event_id().map(ToString::to_string).unwrap_or_default())
}

/// Our items, but for the retries that are too large for the peer.
fn our_items(stream: &[u8], chunk_bytes: usize) -> (Vec<Item>, String) {
    let mut decoder = Decoder::default();
    let (mut items, error) = decode_chunks(&mut decoder, stream.chunks(chunk_bytes));
    assert_eq!(error, None);
    items.retain(|item| !matches!(item, Item::Retry(ms) if *ms > PEER_RETRY_MS_MAX));
    (items, decoder.last_event_id().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn peer_agrees(words in vec(select([WORDS, RETRY_WORDS].concat()), 0..60), chunk_bytes in 1..40_usize) {
        let stream = words.concat();
        prop_assert_eq!(our_items(&stream, chunk_bytes), peer_items(&stream, chunk_bytes));
    }
}

#[test]
fn peer_ignores_a_retry_beyond_32_bits() {
    // The standard takes any run of digits for a number.
    let stream = b"retry:4294967295\nretry:4294967296\n";
    assert_eq!(peer_items(stream, usize::MAX).0, [Item::Retry(PEER_RETRY_MS_MAX)]);
    let (ours, _) = decode_chunks(&mut Decoder::default(), [&stream[..]]);
    assert_eq!(ours, [Item::Retry(PEER_RETRY_MS_MAX), Item::Retry(PEER_RETRY_MS_MAX + 1)]);
}

/// What only matters where retry times are compared.
const RETRY_WORDS: &[&[u8]] = &[
    b"retry:1000\n",
    b"retry:0300\r",
    b"retry:1x\n",
    b"retry:4294967295\n",
    b"retry:4294967296\n",
];

const PEER_RETRY_MS_MAX: u64 = u32::MAX as u64;
