//! What shows from outside: real keys, another implementation, attacks and mutations.

mod attacks;
mod claims;
mod corpus;
mod forge;
mod fuzz_body;
mod keys;
mod mutations;
mod round_trip;
mod vectors;
