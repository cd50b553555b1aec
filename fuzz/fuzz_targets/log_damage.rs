//! See `check_damage`, which the stable tests call too.

#![no_main]
#![allow(dead_code, unused_imports, reason = "each target uses a part of what the tests share")]

#[path = "../../crates/log/tests/format/fuzz_body.rs"]
mod fuzz_body;
#[path = "../../crates/log/tests/format/kept.rs"]
mod kept;
#[path = "../../crates/log/tests/format/layout.rs"]
mod layout;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_body::check_damage(input));
