//! What the fuzz targets check. The stable tests replay the corpus through the same functions.

use tidings_sse::{Decoder, DecoderLimits, EncodeError, EventFields, Frame, Item};

use crate::oracle::{Oracle, decode_chunks, event_item, without_comments};

/// Checks the decoder against the oracle, and that neither chunks nor limits change its answer.
///
/// The first byte seeds the sizes of the chunks and the limits. The rest is two connections,
/// divided at the first 0xFE if there is one.
pub(crate) fn check_decode(input: &[u8]) {
    let Some((&seed, body)) = input.split_first() else { return };
    let mut connections = body.splitn(2, |&byte| byte == 0xFE);
    let first = connections.next().unwrap_or_default();
    let second = connections.next();

    let mut oracle = Oracle::default();
    let mut whole = Decoder::default().with_comments();
    let mut bytewise = Decoder::default().with_comments();
    let mut quiet = Decoder::default();
    let limits =
        DecoderLimits { line_bytes_max: usize::from(seed % 16), event_bytes_max: seed.into() };
    let mut limited = Decoder::new(limits);
    let mut limited_bytewise = Decoder::new(limits);
    for body in [Some(first), second].into_iter().flatten() {
        let expected = oracle.decode(body);
        let (items, error) = decode_chunks(&mut whole, [body]);
        assert_eq!((&items, error), (&expected, None), "whole");
        let (items, error) = decode_chunks(&mut bytewise, body.chunks(1));
        assert_eq!((&items, error), (&expected, None), "in single bytes");
        let expected = without_comments(expected);
        let (items, error) = decode_chunks(&mut quiet, chunks_of_many_sizes(seed, body));
        assert_eq!((&items, error), (&expected, None), "in chunks, without comments");

        let (items, error) = decode_chunks(&mut limited, [body]);
        let expected_prefix = expected.get(..items.len());
        assert_eq!(Some(&items[..]), expected_prefix, "limits only cut the stream short");
        assert!(error.is_some() || items == expected, "what fits the limits is complete");
        let cut = decode_chunks(&mut limited_bytewise, body.chunks(1));
        assert_eq!(cut, (items, error), "limited, in single bytes");
        for decoder in [&mut whole, &mut bytewise, &mut quiet, &mut limited, &mut limited_bytewise]
        {
            decoder.finish();
        }
        for decoder in [&whole, &bytewise, &quiet] {
            assert_eq!(decoder.last_event_id(), oracle.last_event_id);
        }
        assert_eq!(limited.last_event_id(), limited_bytewise.last_event_id());
        if error.is_some() {
            return;
        }
    }
}

/// Checks that fields made of any text are refused, or decode to themselves and to nothing else.
///
/// The input is id, type and data, divided at 0xFE; an absent part is an absent field. The first
/// byte gives the retry time, if it is even.
pub(crate) fn check_roundtrip(input: &[u8]) {
    let Some((&seed, parts)) = input.split_first() else { return };
    let texts: Vec<String> = parts
        .splitn(3, |&byte| byte == 0xFE)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let text = |part: usize| texts.get(part).map(String::as_str);
    let retry_ms = seed.is_multiple_of(2).then(|| u64::MAX >> (seed / 4));
    let (id, event) = (text(1), text(2));
    check_fields(&EventFields { id, event, retry_ms, data: text(0).unwrap_or_default() });
}

/// Checks that `fields` are refused, or decode to themselves and to nothing else.
pub(crate) fn check_fields(fields: &EventFields<'_>) {
    let mut out = b"before".to_vec();
    let encoded = fields.encode(&mut out);
    let frame = Frame::encode(fields);
    let refused = forbidden(fields.id)
        .map(|(at, byte)| EncodeError::IdForbidden { byte, at })
        .or(forbidden(fields.event).map(|(at, byte)| EncodeError::TypeForbidden { byte, at }));
    if let Some(refused) = refused {
        assert_eq!(encoded, Err(refused));
        assert_eq!(frame, Err(refused));
        assert_eq!(out, b"before");
        return;
    }
    encoded.expect("nothing forbids it");
    let wire = out.strip_prefix(b"before").expect("what was there stays");
    let frame = frame.expect("nothing forbids it");
    assert_eq!(frame.sse(), wire);
    assert_eq!(frame.len(), wire.len());
    let chunk = [format!("{:x}\r\n", wire.len()).as_bytes(), wire, b"\r\n"].concat();
    assert_eq!(frame.chunk(), chunk);
    assert_eq!(frame.chunk_bytes(), chunk);

    // Between two others, the event is one event and the others are unchanged.
    let stream = [&b"id: before\ndata: 1\n\n"[..], wire, b"data: 2\n\n"].concat();
    let id = fields.id.unwrap_or("before");
    let event = fields.event.filter(|event| !event.is_empty()).unwrap_or("message");
    let data = fields.data.replace("\r\n", "\n").replace('\r', "\n");
    let mut expected = vec![event_item("before", "message", "1")];
    expected.extend(fields.retry_ms.map(Item::Retry));
    expected.extend([event_item(id, event, &data), event_item(id, "message", "2")]);
    let mut decoder = Decoder::default().with_comments();
    assert_eq!(decode_chunks(&mut decoder, [&stream[..]]), (expected, None));
}

fn forbidden(value: Option<&str>) -> Option<(usize, u8)> {
    value?.bytes().enumerate().find(|(_, byte)| matches!(byte, b'\r' | b'\n' | b'\0'))
}

/// Cuts `body` into chunks of 0 to 15 bytes, whose sizes follow from the seed.
fn chunks_of_many_sizes(seed: u8, mut body: &[u8]) -> Vec<&[u8]> {
    let mut state = u32::from(seed);
    let mut chunks = Vec::new();
    while !body.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (chunk, rest) = body.split_at(body.len().min(state as usize >> 28));
        chunks.push(chunk);
        body = rest;
    }
    chunks
}
