//! The vectors of `conformance/sse`: whole, in single bytes, and cut in two at each place.

use std::{fs, path::Path};

use serde::Deserialize;
use tidings_sse::{DecodeError, Decoder, DecoderLimits, Event, Item};

use crate::oracle::{Oracle, decode_chunks};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    #[serde(rename = "about")]
    _about: String,
    limits: Option<Limits>,
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    line_bytes_max: usize,
    event_bytes_max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connection {
    input: Vec<Piece>,
    items: Vec<ExpectedItem>,
    error: Option<ExpectedError>,
    last_event_id: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Once(String),
    Repeated { repeat: usize, bytes: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectedItem {
    Event(ExpectedEvent),
    RetryMs(u64),
    RetryMsMin(u64),
    Comment(Text),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedEvent {
    id: String,
    r#type: String,
    data: Text,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Once(String),
    Repeated { repeat: usize, text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectedError {
    LineTooLong,
    EventTooLong,
}

#[test]
fn vectors_hold_whole() {
    for_each_vector(|vector| check(vector, |input| vec![input]));
}

#[test]
fn vectors_hold_in_single_bytes() {
    for_each_vector(|vector| check(vector, |input| input.chunks(1).collect()));
}

#[test]
fn vectors_hold_in_chunks_with_empty_ones_between() {
    for_each_vector(|vector| {
        check(vector, |input| {
            let mut chunks = vec![&b""[..]];
            for chunk in input.chunks(10) {
                chunks.extend([chunk, b""]);
            }
            chunks
        });
    });
}

#[test]
fn vectors_hold_cut_in_two_at_each_place() {
    for_each_vector(|vector| {
        let longest = vector.connections.iter().map(|c| bytes_of(&c.input).len()).max().unwrap();
        if longest > CUT_BYTES_MAX {
            return;
        }
        for cut in 0..=longest {
            check(vector, |input| {
                let (before, after) = input.split_at(cut.min(input.len()));
                vec![before, after]
            });
        }
    });
}

#[test]
fn oracle_agrees_with_the_vectors() {
    for_each_vector(|vector| {
        if vector.limits.is_some() {
            return;
        }
        let mut oracle = Oracle::default();
        for connection in &vector.connections {
            let items = oracle.decode(&bytes_of(&connection.input));
            assert_items(&items, &connection.items, true);
            assert_eq!(oracle.last_event_id, connection.last_event_id);
        }
    });
}

/// Replays a vector with and without comments, each connection cut by `cut`.
fn check(vector: &Vector, cut: impl Fn(&[u8]) -> Vec<&[u8]>) {
    let limits = vector.limits.as_ref().map_or_else(DecoderLimits::default, |limits| {
        let Limits { line_bytes_max, event_bytes_max } = *limits;
        DecoderLimits { line_bytes_max, event_bytes_max }
    });
    for comments_kept in [false, true] {
        let mut decoder = Decoder::new(limits);
        if comments_kept {
            decoder = decoder.with_comments();
        }
        for connection in &vector.connections {
            let input = bytes_of(&connection.input);
            let (items, error) = decode_chunks(&mut decoder, cut(&input));
            assert_items(&items, &connection.items, comments_kept);
            let error = error.map(|error| match error {
                DecodeError::LineTooLong { .. } => ExpectedError::LineTooLong,
                DecodeError::EventTooLong { .. } => ExpectedError::EventTooLong,
            });
            assert_eq!(error, connection.error);
            decoder.finish();
            assert_eq!(decoder.last_event_id(), connection.last_event_id);
        }
    }
}

fn assert_items(items: &[Item], expected: &[ExpectedItem], comments_kept: bool) {
    let expected: Vec<_> = expected
        .iter()
        .filter(|item| comments_kept || !matches!(item, ExpectedItem::Comment(_)))
        .collect();
    let equal = items.len() == expected.len()
        && items.iter().zip(&expected).all(|(item, expected)| matches(item, expected));
    assert!(equal, "got {items:?}, expected {expected:?}");
}

fn matches(item: &Item, expected: &ExpectedItem) -> bool {
    match (item, expected) {
        (Item::Event(Event { id, event, data }), ExpectedItem::Event(expected)) => {
            **id == expected.id && **event == expected.r#type && *data == expected.data.to_text()
        }
        (Item::Retry(ms), ExpectedItem::RetryMs(expected)) => ms == expected,
        (Item::Retry(ms), ExpectedItem::RetryMsMin(expected)) => ms >= expected,
        (Item::Comment(text), ExpectedItem::Comment(expected)) => *text == expected.to_text(),
        _ => false,
    }
}

fn bytes_of(input: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in input {
        let (repeat, text) = match piece {
            Piece::Once(text) => (1, text),
            Piece::Repeated { repeat, bytes } => (*repeat, bytes),
        };
        let piece: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
        bytes.extend(piece.repeat(repeat));
    }
    bytes
}

impl Text {
    fn to_text(&self) -> String {
        match self {
            Self::Once(text) => text.clone(),
            Self::Repeated { repeat, text } => text.repeat(*repeat),
        }
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Once(text) => write!(f, "{text:?}"),
            Self::Repeated { repeat, text } => write!(f, "{repeat} times {text:?}"),
        }
    }
}

fn for_each_vector(mut check: impl FnMut(&Vector)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/sse");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert!(paths.len() >= VECTORS_MIN, "the vectors are there");
    for path in paths {
        println!("{}", path.display());
        let vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        check(&vector);
    }
}

/// Long inputs are cut in two at too many places to try them all.
const CUT_BYTES_MAX: usize = 10_000;

/// At least as many vectors as there were when the suite began.
const VECTORS_MIN: usize = 80;
