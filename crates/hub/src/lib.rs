//! A Server-Sent Events hub to embed in a program.
//!
//! **A subscriber is a cursor in a log.** Publishing appends to a totally ordered log; live
//! delivery, replay after a reconnect and a slow reader catching up are all the same act, reading
//! the log after a position. So no subscriber has a queue that can grow, and nothing is lost that
//! is still kept.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use tidings::{Delivered, Hub, HubOptions, Interest, MemoryLog, Record, Rights, Selector, Topic};
//!
//! let log = MemoryLog::new(tidings::random_epoch()?, Default::default());
//! let hub = Hub::start(HubOptions::default(), Arc::new(log))?;
//!
//! let orders = Interest::new(vec![Selector::parse("orders/{id}")?], vec![], Rights::everything());
//! let mut subscription = hub.subscribe(orders, Default::default())?;
//!
//! hub.publish(vec![Record::new([Topic::parse("orders/42")?], "shipped")]).await?;
//!
//! let Some(Delivered::Event(event)) = subscription.next().await else { unreachable!() };
//! assert_eq!(event.data, "shipped");
//! # Ok(())
//! # }
//! ```
//!
//! It does not know HTTP routes or configuration files: `tidings-http` serves a hub over HTTP.

mod options;
mod client;
mod clock;
mod meter;
mod census;
mod arrivals;
mod replay;
mod delivery;
mod tail;
mod session;
mod joined;
mod socket;
mod backlog;
mod outlet;
mod reactor;
mod mailbox;
mod surroundings;
mod turns;
mod shard;
mod log_reader;
mod trimmer;
mod follower;
mod journal;
mod presence;
mod shared;
mod connections;
mod subscription;
mod admission;
mod hub;

pub use admission::Admission;
pub use backlog::Abort;
pub use client::{Client, OnEnd};
pub use connections::{
    ConnectionFigures, ConnectionFilter, ConnectionId, ConnectionIdError, ConnectionPage,
};
pub use hub::{Begin, Hub, PublishError, Published, SubscribeOptions};
pub use meter::{EndReason, Figures, HistogramFigures, StoreFigures};
pub use options::{HubOptions, Limits};
pub use presence::{
    Member, PresenceFigures, PresenceOptions, PresenceScope, PresentMember, RESERVED_KEYS,
    TopicPresence,
};
pub use session::Session;
pub use shared::SubscribeError;
pub use subscription::{Delivered, Event, Subscription};
pub use tidings_core::{
    Bounds, Epoch, EventType, EventTypeError, ExpiryReason, GapReason, Identity, Interest,
    Position, PositionError, Rights, Selector, SelectorError, Topic, TopicError,
};
pub use tidings_log::{
    AppendError, DiskLog, DiskLogOptions, Durability, EventLog, Key, KeyError, KeyWindow,
    MemoryLog, MemoryLogOptions, Record, Retention, RetentionRule, disk, shared as shared_log,
};

/// Makes an epoch that no log had before: 50 bits from the operating system's randomness.
///
/// # Errors
///
/// If the operating system has no randomness to give.
pub fn random_epoch() -> std::io::Result<Epoch> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(Epoch::from_random(u64::from_le_bytes(bits)))
}
