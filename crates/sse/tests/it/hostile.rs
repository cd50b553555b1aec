//! Input made to cost time or memory. Each test would take hours if time were quadratic.

use bytes::Buf;
use tidings_sse::{DecodeError, Decoder, DecoderLimits, Item};

use crate::oracle::{decode_chunks, event_item};

const MIB: usize = 1024 * 1024;

#[track_caller]
fn check(stream: &[u8], chunk_bytes: usize, expected: &[Item]) {
    let mut decoder = Decoder::default();
    let (items, error) = decode_chunks(&mut decoder, stream.chunks(chunk_bytes));
    assert!(items == expected, "{} items", items.len());
    assert_eq!(error, None);
}

#[test]
fn long_lines_of_every_field_take_linear_time() {
    for (value_bytes, chunk_bytes) in [(MIB, 1), (MIB, 10), (10 * MIB, usize::MAX)] {
        let value = "7".repeat(value_bytes);
        let line = |name: &str| format!("{name}:{value}\ndata\n\n").into_bytes();
        check(&line("event"), chunk_bytes, &[event_item("", &value, "")]);
        check(&line("id"), chunk_bytes, &[event_item(&value, "message", "")]);
        check(&line("retry"), chunk_bytes, &[Item::Retry(u64::MAX), event_item("", "message", "")]);
        check(&line(""), chunk_bytes, &[event_item("", "message", "")]);
        check(&line("unknown"), chunk_bytes, &[event_item("", "message", "")]);
        check(&line(&value), chunk_bytes, &[event_item("", "message", "")]);
    }
}

#[test]
fn many_short_lines_take_linear_time() {
    for (line, expected) in [
        ("\n", vec![]),
        ("\r", vec![]),
        ("\r\n", vec![]),
        (":\n", vec![]),
        ("x\n", vec![]),
        ("id:1\n", vec![]),
        ("event:e\n", vec![]),
        ("data\n", vec![event_item("", "message", &"\n".repeat(999_999))]),
    ] {
        let stream = format!("{}\n", line.repeat(1_000_000)).into_bytes();
        check(&stream, 7, &expected);
        check(&stream, 16 * 1024, &expected);
    }
}

#[test]
fn many_malformed_bytes_take_linear_time() {
    let stream = [b"data:", &[0xff; MIB][..], b"\n\n"].concat();
    check(&stream, 16 * 1024, &[event_item("", "message", &"\u{fffd}".repeat(MIB))]);
}

#[test]
fn error_is_repeated_and_takes_nothing() {
    let limits = DecoderLimits { line_bytes_max: 2, event_bytes_max: 10 };
    let mut decoder = Decoder::new(limits);
    let error = DecodeError::LineTooLong { line_bytes_max: 2 };
    let (items, ended) = decode_chunks(&mut decoder, [&b"data:1\n\ndata:123\n\n"[..]]);
    assert_eq!((items, ended), (vec![event_item("", "message", "1")], Some(error)));
    let mut more = &b"data:2\n\n"[..];
    assert_eq!(decoder.decode(&mut more), Err(error));
    assert_eq!(more, b"data:2\n\n");
    decoder.finish();
    assert_eq!(decoder.decode(&mut more), Ok(Some(event_item("", "message", "2"))));
}

#[test]
fn input_in_pieces_is_taken_whole() {
    let mut pieces = b"data:1\r".chain(&b"\n\r"[..]).chain(&b"\nda"[..]).chain(&b"ta:2\n\n"[..]);
    let mut decoder = Decoder::default();
    for data in ["1", "2"] {
        let item = decoder.decode(&mut pieces).unwrap();
        assert_eq!(item, Some(event_item("", "message", data)));
    }
    assert!(!pieces.has_remaining());
}
