//! What only shows from outside: real keys, other implementations, attacks and mutations.

mod vectors;
