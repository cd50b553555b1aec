//! Properties over random streams, fields and cuts.

use proptest::{collection::vec, option, prelude::*, sample::select};
use tidings_sse::{Decoder, EventFields, encode_comment};

use crate::grammar::WORDS;
use crate::{
    fuzz_body::{check_decode, check_fields, check_roundtrip},
    oracle::{decode_chunks, without_comments},
};

/// Streams made of the words of the grammar, of what nearly is one, and of noise.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => select([WORDS, CUT_WORDS].concat()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(word, 0..60).prop_map(|words| words.concat())
}

/// Texts in which everything that has a meaning on the wire is common.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => select(TEXT_WORDS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoder_agrees_with_the_oracle(seed: u8, stream in stream()) {
        check_decode(&[&[seed], &stream[..]].concat());
    }

    #[test]
    fn encoder_forges_nothing(
        id in option::of(text()),
        event in option::of(text()),
        retry_ms: Option<u64>,
        data in text(),
    ) {
        let (id, event) = (id.as_deref(), event.as_deref());
        check_fields(&EventFields { id, event, retry_ms, data: &data });
    }

    #[test]
    fn any_bytes_roundtrip_or_are_refused(input in vec(any::<u8>(), 0..200)) {
        check_roundtrip(&input);
    }

    #[test]
    fn comments_forge_nothing(comment in text(), stream in stream()) {
        let mut wire = Vec::new();
        encode_comment(&comment, &mut wire);
        let plain = [b"\n", &stream[..]].concat();
        wire.splice(0..0, *b"\n");
        wire.extend(&stream);
        let (expected, _) = decode_chunks(&mut Decoder::default(), [&plain[..]]);
        let (items, error) = decode_chunks(&mut Decoder::default().with_comments(), [&wire[..]]);
        prop_assert_eq!(without_comments(items), expected);
        prop_assert_eq!(error, None);
    }
}

/// Numbers, and sequences of UTF-8 and names that are cut.
const CUT_WORDS: &[&[u8]] = &[
    b"1",
    b"23",
    b"99999999999999999999",
    b"\xbf",
    b"\xfe",
    b"\xe2\x80",
    b"\xf0\x9f",
    b"da",
    b"ta",
    b"message",
];

const TEXT_WORDS: &[&str] = &[
    "\n", "\r", "\r\n", "\0", ":", " ", "data: ", "id: ", "event: ", "retry: 1", "\u{feff}",
    "\u{2028}", "\u{85}", "\u{b}", "x", "é", "😀", "\n\n", "message",
];
