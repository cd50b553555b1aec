use std::io::BufReader;

use super::{EventKind, IdPrinter, print_answer, read_lines};

/// Feeds `input` in a buffer of `capacity` bytes, and compares what is sent and how it ends.
#[track_caller]
fn check_lines(input: &[u8], capacity: usize, expected: &[&str], failure: Option<&str>) {
    let kind = EventKind { topic: "t".into(), event: None };
    let mut sent = Vec::new();
    let read = read_lines(BufReader::with_capacity(capacity, input), &kind, |chunk| {
        sent.extend_from_slice(&chunk);
        true
    });
    let bodies: String =
        expected.iter().map(|data| format!("{{\"topic\":\"t\",\"data\":{data}}}\n")).collect();
    assert_eq!(String::from_utf8(sent).as_deref(), Ok(bodies.as_str()));
    assert_eq!(read.map_err(|failure| failure.to_string()).err().as_deref(), failure);
}

#[test]
fn each_line_is_one_event() {
    for capacity in [1, 2, 64, 4096] {
        check_lines(b"", capacity, &[], None);
        check_lines(b"a\nb\n", capacity, &[r#""a""#, r#""b""#], None);
        check_lines(b"a\r\nb", capacity, &[r#""a""#, r#""b""#], None);
        check_lines(b"\n\n", capacity, &[r#""""#, r#""""#], None);
        check_lines(b"say \"hi\"\\", capacity, &[r#""say \"hi\"\\""#], None);
        check_lines("späť\n".as_bytes(), capacity, &[r#""späť""#], None);
    }
}

#[test]
fn a_line_that_is_no_text_ends_the_request_after_the_lines_before_it() {
    check_lines(
        b"a\nb\n\xff\nc\n",
        4096,
        &[r#""a""#, r#""b""#],
        Some(
            "line 3 of standard input: this is not text (UTF-8); the lines before it are published",
        ),
    );
}

#[test]
fn reading_stops_when_nobody_takes_the_lines() {
    let kind = EventKind { topic: "t".into(), event: Some("e".into()) };
    let mut calls = 0;
    let read = read_lines(BufReader::with_capacity(2, &b"a\nb\nc\n"[..]), &kind, |_| {
        calls += 1;
        false
    });
    assert!(read.is_ok());
    assert_eq!(calls, 1);
}

/// Prints the ids of `answer`, or tells why not.
#[track_caller]
fn check_answer(answer: &str, json: bool, expected: Result<&str, &str>) {
    let mut out = Vec::new();
    let printed = print_answer(answer.as_bytes(), IdPrinter { json }, &mut out);
    let printed = printed
        .map(|()| String::from_utf8_lossy(&out).into_owned())
        .map_err(|failure| failure.to_string());
    assert_eq!(printed, expected.map(str::to_owned).map_err(str::to_owned), "{answer}");
}

#[test]
fn ids_are_printed_one_a_line() {
    let strange = Err("the answer is not that of a tidings hub");
    check_answer(r#"{"id":"a-1"}"#, false, Ok("a-1\n"));
    check_answer(r#"{"id":"a-1"}"#, true, Ok("{\"id\":\"a-1\"}\n"));
    check_answer(r#"{"ids":["a-1","a-2"]}"#, false, Ok("a-1\na-2\n"));
    check_answer(r#"{"more":{"x":[1]},"ids":["a-1"]}"#, true, Ok("{\"id\":\"a-1\"}\n"));
    check_answer("{}", false, strange);
    check_answer("<html>", false, strange);
    check_answer(r#"{"ids":[1]}"#, false, strange);
}
