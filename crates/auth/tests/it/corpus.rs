//! Replays what the fuzzer found interesting.

use std::{fs, path::Path};

use crate::fuzz_body::check_token;

#[test]
fn token_corpus_is_read_as_a_lenient_reader_reads_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/token");
    let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        println!("{}", seed.display());
        check_token(&fs::read(seed).unwrap());
    }
}
