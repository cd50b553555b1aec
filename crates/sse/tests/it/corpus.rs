//! Replays what the fuzzers found interesting.

use std::{fs, path::Path};

use crate::fuzz_body::{check_decode, check_roundtrip};

#[track_caller]
fn check(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        println!("{}", seed.display());
        body(&fs::read(seed).unwrap());
    }
}

#[test]
fn decode_corpus_agrees_with_the_oracle() {
    check("decode", check_decode);
}

#[test]
fn roundtrip_corpus_decodes_to_itself() {
    check("roundtrip", check_roundtrip);
}
