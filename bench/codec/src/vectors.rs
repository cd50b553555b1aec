//! Replays `conformance/sse` through a decoder and compares the events; what peers do not give
//! (comments, retries of their own, limits) is left out.

use std::{fs, panic, path::Path};

use serde_json::Value;

use crate::engine::{Engine, Triple};

/// The number of vectors that are right, and the names of those that are not.
pub fn replay(engine: &Engine) -> (usize, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/sse");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the vectors are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let (mut right, mut wrong) = (0, Vec::new());
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    for path in paths {
        let text = fs::read(&path).expect("the vector can be read");
        let vector: Value = serde_json::from_slice(&text).expect("the vector is JSON");
        if vector.get("limits").is_some() {
            continue;
        }
        let connections = vector["connections"].as_array().expect("an array");
        let bodies: Vec<Vec<u8>> = connections.iter().map(|c| body(&c["input"])).collect();
        if bodies.iter().map(Vec::len).sum::<usize>() > VECTOR_BYTES_MAX {
            continue;
        }
        let expected: Vec<Triple> = connections.iter().flat_map(|c| events(&c["items"])).collect();
        // A peer may panic on a vector, which makes it wrong like any other answer.
        let events = panic::catch_unwind(|| (engine.decode)(&bodies)).ok().flatten();
        if events == Some(expected) {
            right += 1;
        } else {
            wrong.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    }
    panic::set_hook(hook);
    (right, wrong)
}

fn body(input: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in input.as_array().expect("an array") {
        let repeat = piece.get("repeat").map_or(1, |repeat| repeat.as_u64().expect("a number"));
        let text = piece.get("bytes").unwrap_or(piece).as_str().expect("a string");
        let once: Vec<u8> = text.chars().map(|c| u8::try_from(c).expect("a byte")).collect();
        bytes.extend(once.repeat(usize::try_from(repeat).expect("a size")));
    }
    bytes
}

fn events(items: &Value) -> Vec<Triple> {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let items = items.as_array().expect("an array").iter();
    items
        .filter_map(|item| item.get("event"))
        .map(|event| (text(&event["id"]), text(&event["type"]), text(&event["data"])))
        .collect()
}

/// Longer vectors test time, not meaning, and would take a quadratic peer minutes.
const VECTOR_BYTES_MAX: usize = 10_000;
