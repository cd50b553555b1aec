//! Everything the core can cause.

use std::sync::Arc;

use slotmap::new_key_type;

use crate::{Entry, Gap, Interest, Millis, Position, Topic};

new_key_type! {
    /// Names a subscriber of one [`HubState`](crate::HubState); never used twice.
    pub struct SubscriberKey;
}

/// Events that leave together, shared by all who receive them.
#[derive(Debug)]
pub struct Batch<P> {
    /// In the order of the log, at least one.
    pub entries: Vec<Arc<Entry<P>>>,
    /// Everything before this offset is settled for those who took the whole batch.
    pub next: u64,
}

/// Offers a batch to one subscriber.
#[derive(Debug)]
pub struct Write<P> {
    /// Who receives it.
    pub subscriber: SubscriberKey,
    /// What it receives.
    pub batch: Arc<Batch<P>>,
    /// Whether the events have only just been published, as opposed to replayed.
    pub live: bool,
}

/// What the shell must do. Answers are due where a variant says so, in any order and at any time.
#[derive(Debug)]
pub enum Effect<P> {
    /// Offer events; answer with [`handle_written`](crate::HubState::handle_written) before the
    /// next effect is taken.
    Write(Write<P>),
    /// Tell the subscriber something about its own stream. Always accepted.
    Announce {
        /// Who is told.
        subscriber: SubscriberKey,
        /// What it is told.
        notice: Notice,
    },
    /// Look after a stream: where earlier bytes still wait to be sent, answer with
    /// [`handle_backlog`](crate::HubState::handle_backlog); else, if it has been silent, send a
    /// heartbeat.
    Heartbeat {
        /// Whose stream it is.
        subscriber: SubscriberKey,
        /// Whether nothing was written for the heartbeat's time.
        is_silent: bool,
    },
    /// Read kept events from `from` up to, not including, `until`, in one bounded step; answer
    /// with [`handle_read`](crate::HubState::handle_read).
    Read {
        /// For whom.
        subscriber: SubscriberKey,
        /// What it wants; events that do not interest it may be left out.
        interest: Arc<Interest>,
        /// The first offset to read.
        from: u64,
        /// The offset to stop before.
        until: u64,
    },
    /// Find the last `wanted` kept events before `before` that interest the subscriber, in one
    /// bounded step; answer with [`handle_sought`](crate::HubState::handle_sought).
    Seek {
        /// For whom.
        subscriber: SubscriberKey,
        /// What it wants.
        interest: Arc<Interest>,
        /// The offset to look below.
        before: u64,
        /// How many to find.
        wanted: u32,
    },
    /// Find out whether a position was given out that this node has not seen, of this life of the log or
    /// another one; answer with [`handle_confirmed`](crate::HubState::handle_confirmed).
    Confirm {
        /// For whom.
        subscriber: SubscriberKey,
        /// The position.
        position: Position,
    },
    /// End the stream; the subscriber is already forgotten.
    Close {
        /// Whose stream ends.
        subscriber: SubscriberKey,
        /// Why.
        reason: CloseReason,
        /// Everything up to here is settled: where it would go on.
        settled: Position,
    },
}

/// Something about a subscriber's own stream that is no event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Events after the id it asked for are gone.
    Gap(Gap),
    /// It fell behind what is kept: offsets from `missed` up to, not including, `oldest` are gone,
    /// all of them or, where a rule keeps fewer events of some topics, the last one and perhaps
    /// others.
    Lagged {
        /// The first offset it did not receive.
        missed: u64,
        /// Where it goes on.
        oldest: u64,
    },
    /// It was behind, and of some topics it is offered the newest event alone. The events that
    /// follow are those that were not left out.
    Conflated {
        /// How many events were left out that it has not been told of before, at least 1.
        skipped: u64,
    },
    /// The hub is going away; come back after this time.
    Shutdown {
        /// The reconnection time to use.
        retry_ms: Millis,
    },
    /// It may no longer receive what it asked for. The stream ends after this.
    Expired {
        /// Why.
        reason: ExpiryReason,
    },
    /// All topics it asked for have had their last event, and it has received what was for it. The
    /// stream ends after this.
    Finished {
        /// These topics, sorted.
        topics: Vec<Topic>,
    },
}

/// Why a subscriber may no longer receive what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpiryReason {
    /// The time for which it was let in is over.
    Expired,
    /// What it was let in by was withdrawn.
    Revoked,
    /// An operator closed it.
    Closed,
}

impl ExpiryReason {
    /// The word for it on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
        }
    }
}

/// Why the hub ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It asked for one batch and has received it.
    PollDone,
    /// It asked for one batch and the wait is over.
    PollElapsed,
    /// It read nothing for the write timeout.
    WriteTimeout,
    /// The hub is shutting down.
    Shutdown,
    /// All topics it asked for are finished, and nothing is left to deliver.
    Finished,
    /// It may no longer receive what it asked for.
    Expired(ExpiryReason),
}

/// How a read step ended.
#[derive(Debug)]
pub enum ReadOutcome<P> {
    /// The interesting events among those from `from` up to `next`.
    Entries {
        /// In order; others than interesting ones may be among them.
        entries: Vec<Arc<Entry<P>>>,
        /// Everything before this offset was looked at. Greater than `from`.
        next: u64,
        /// The highest offset from `from` on, even beyond `next`, of what may interest the
        /// subscriber and was removed although older events are kept; `None` if there is none.
        /// Ask for it after the entries: what is removed in between would never be told of.
        dropped: Option<u64>,
        /// Whether memory for what is read back is scarce: nothing of it is held then for longer
        /// than it takes to offer it.
        is_scarce: bool,
    },
    /// The first offsets asked for are no longer kept.
    Trimmed {
        /// The oldest kept offset, or the next one if nothing is kept.
        oldest: u64,
    },
    /// The log cannot be read now.
    Failed,
}

/// How a seek step ended.
#[derive(Debug, Clone, Copy)]
pub enum SeekOutcome {
    /// Everything from `before` on was looked at.
    Found {
        /// How many interesting events were found in this step, at most as many as wanted.
        found: u32,
        /// The lowest of their offsets.
        lowest: Option<u64>,
        /// Where the search goes on, below this offset.
        before: u64,
        /// Whether nothing is kept below `before`.
        complete: bool,
    },
    /// The log cannot be read now.
    Failed,
}

/// What the log says of a position that this node has not seen.
#[derive(Debug, Clone, Copy)]
pub enum ConfirmOutcome {
    /// It was given out, by another node: this one will learn of it.
    GivenOut,
    /// Nobody has given it out in the present life of the log.
    Unknown {
        /// The oldest kept offset, or the next one if nothing is kept.
        oldest: u64,
    },
    /// The log cannot be asked now.
    Failed,
}
