//! The engine against real servers: what every log must do, and each thing that goes wrong with a store.

#[allow(dead_code)]
mod server;
mod conformance;
