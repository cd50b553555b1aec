//! The engine against real servers: what every log must do, and each thing that goes wrong with a store.

mod server;
mod node;
mod conformance;
mod agreeing;
mod storing;
mod failing;
mod entering;
mod finding;
