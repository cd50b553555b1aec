//! Replays what the fuzzers found interesting.

use std::fs;
use std::path::Path;

use crate::fuzz_body::{check_damage, check_forged};

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
fn damaged_logs_answer_nothing_that_was_not_published() {
    check("log_damage", check_damage);
}

#[test]
fn forged_files_make_nothing_panic() {
    check("log_forged", check_forged);
}
