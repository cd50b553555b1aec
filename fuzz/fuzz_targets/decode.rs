//! See `check_decode`, which the stable tests call too.

#![no_main]
#![allow(dead_code, reason = "each target uses a part of what the tests share")]

#[path = "../../crates/sse/tests/it/fuzz_body.rs"]
mod fuzz_body;
#[path = "../../crates/sse/tests/it/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_body::check_decode(input));
