//! The served hub, seen from outside: by clients that are written here and know only the wire.

#![cfg(target_os = "linux")]

mod bad_input;
mod bounded_memory;
mod exactly_once;
mod hub;
mod ndjson;
mod shutdown;
mod stream;
mod turned_away;
