//! The wire format from outside: the shared vectors, an obvious oracle, properties, a peer.

mod conformance;
mod corpus;
mod encoder;
mod fuzz_body;
mod grammar;
mod hostile;
mod oracle;
mod peer;
mod properties;
