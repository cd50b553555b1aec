//! What is asked of other servers, against servers: they change their mind, go down, hang, and answer
//! nonsense.

mod stand;
mod issuer;
mod key_sets;
mod authorization;
mod connections;
