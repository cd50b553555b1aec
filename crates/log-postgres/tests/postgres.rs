//! The engine on real servers, which each test starts for itself.

#[path = "postgres/server.rs"]
mod server;
#[path = "postgres/calls.rs"]
mod calls;
#[path = "postgres/conforming.rs"]
mod conforming;
#[path = "postgres/storing.rs"]
mod storing;
#[path = "postgres/traps.rs"]
mod traps;
#[path = "postgres/outbox.rs"]
mod outbox;
#[path = "postgres/crashing.rs"]
mod crashing;
#[path = "postgres/refusing.rs"]
mod refusing;
#[path = "postgres/taking_over.rs"]
mod taking_over;
#[path = "postgres/misbehaving.rs"]
mod misbehaving;
#[path = "postgres/encrypting.rs"]
mod encrypting;
