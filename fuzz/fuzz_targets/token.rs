//! See `check_token`, which the stable tests call too.

#![no_main]

#[path = "../../crates/auth/tests/it/fuzz_body.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_body::check_token(input));
