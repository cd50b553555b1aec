//! The exact bytes of the encoder, and what a frame shares.

use tidings_sse::{
    DecodeError, Decoder, EncodeError, EventFields, Frame, HEARTBEAT, HEARTBEAT_CHUNK, Item,
    encode_comment, encode_retry,
};

#[track_caller]
fn check(fields: EventFields<'_>, expected: &str) {
    let mut out = Vec::new();
    fields.encode(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[track_caller]
fn check_refused(fields: EventFields<'_>, expected: EncodeError) {
    let mut out = b"kept".to_vec();
    assert_eq!(fields.encode(&mut out), Err(expected));
    assert_eq!(out, b"kept");
    assert_eq!(Frame::encode(&fields), Err(expected));
}

#[test]
fn fields_come_in_order_and_absent_ones_not_at_all() {
    let all = EventFields { id: Some("1"), event: Some("e"), retry_ms: Some(0), data: "d" };
    check(all, "id: 1\nevent: e\nretry: 0\ndata: d\n\n");
    check(EventFields::default(), "data: \n\n");
    check(EventFields { id: Some(""), event: Some(""), ..Default::default() }, "id: \ndata: \n\n");
}

#[test]
fn every_line_end_in_data_begins_a_line() {
    let data = |data| EventFields { data, ..Default::default() };
    check(data("a\nb\rc\r\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
    check(data("\n"), "data: \ndata: \n\n");
    check(data("\r\r\n\n"), "data: \ndata: \ndata: \ndata: \n\n");
    check(data(" a\u{2028}b\0"), "data:  a\u{2028}b\0\n\n");
    check(data("x\n\nid: forged"), "data: x\ndata: \ndata: id: forged\n\n");
}

#[test]
fn line_ends_and_nul_in_id_and_type_are_refused() {
    for (byte, text) in [(b'\n', "ab\n"), (b'\r', "ab\r\n"), (0, "ab\0")] {
        let id = EventFields { id: Some(text), event: Some(text), ..Default::default() };
        check_refused(id, EncodeError::IdForbidden { byte, at: 2 });
        let event = EventFields { event: Some(text), ..Default::default() };
        check_refused(event, EncodeError::TypeForbidden { byte, at: 2 });
    }
}

#[test]
fn retry_is_written_in_decimal() {
    for ms in [0, 1, 9, 10, 99, 100, 65_535, u64::MAX - 1, u64::MAX] {
        let mut out = Vec::new();
        encode_retry(ms, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("retry: {ms}\n"));
        let fields = EventFields { retry_ms: Some(ms), ..Default::default() };
        check(fields, &format!("retry: {ms}\ndata: \n\n"));
    }
}

#[test]
fn comments_cannot_leave_their_lines() {
    for (text, expected) in [
        ("", ":\n"),
        ("hi", ": hi\n"),
        ("a\n\ndata: x\n\n", ": a\n:\n: data: x\n:\n:\n"),
        ("a\rb\r\nc", ": a\n: b\n: c\n"),
    ] {
        let mut out = Vec::new();
        encode_comment(text, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn encode_reserves_the_exact_space() {
    let data = "line\nline\r\n".repeat(50);
    let fields =
        EventFields { id: Some("1-2"), event: Some("e"), retry_ms: Some(100), data: &data };
    let mut out = Vec::new();
    fields.encode(&mut out).unwrap();
    assert_eq!(out.len(), out.capacity());
    let frame = Frame::encode(&fields).unwrap();
    let chunk = frame.chunk();
    drop(frame);
    let chunk = chunk.try_into_mut().expect("the frame was its only other owner");
    assert_eq!(chunk.len(), chunk.capacity());
}

#[test]
fn frames_and_their_views_share_bytes() {
    let frame = Frame::encode(&EventFields { data: "shared", ..Default::default() }).unwrap();
    let (sse, chunk) = (frame.sse(), frame.clone().chunk());
    assert_eq!(chunk.as_ptr(), frame.chunk_bytes().as_ptr());
    assert!(chunk.as_ptr_range().contains(&sse.as_ptr()));
}

#[test]
fn chunk_head_is_the_length_in_hex() {
    for wire_bytes in [8, 15, 16, 17, 255, 256, 4095, 4096, 65_535, 65_536] {
        let data = "x".repeat(wire_bytes - "data: \n\n".len());
        let frame = Frame::encode(&EventFields { data: &data, ..Default::default() }).unwrap();
        assert_eq!(frame.len(), wire_bytes);
        let expected = format!("{wire_bytes:x}\r\ndata: {data}\n\n\r\n");
        assert_eq!(frame.chunk(), expected);
    }
}

#[test]
fn heartbeat_is_a_comment_between_events() -> Result<(), DecodeError> {
    let mut decoder = Decoder::default().with_comments();
    assert_eq!(decoder.decode(&mut &HEARTBEAT[..])?, Some(Item::Comment(String::new())));
    let head = format!("{:x}\r\n", HEARTBEAT.len());
    assert_eq!(HEARTBEAT_CHUNK, [head.as_bytes(), HEARTBEAT, b"\r\n"].concat());
    Ok(())
}
