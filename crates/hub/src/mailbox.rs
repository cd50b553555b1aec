//! How other threads reach a shard.
//!
//! The queue needs no bound of its own: a subscriber has at most one of each kind of command under
//! way. Those of subscribers that have gone are passed over in no time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use tidings_core::{
    Gap, Interest, Millis, ReadOutcome, SeekOutcome, Start, StreamOptions, SubscriberKey,
};

use crate::delivery::Delivery;
use crate::outlet::Backlog;

/// What a shard can be told.
pub(crate) enum Command {
    Subscribe(Box<Subscribe>),
    Unsubscribe(SubscriberKey),
    Writable(SubscriberKey),
    /// It has taken what it was woken for.
    Taken(SubscriberKey),
    Read(SubscriberKey, ReadOutcome<Delivery>),
    Sought(SubscriberKey, SeekOutcome),
    Shutdown {
        retry_ms: Millis,
        drain_ms: Millis,
    },
    Stop,
}

/// A new subscriber.
pub(crate) struct Subscribe {
    pub(crate) interest: Interest,
    pub(crate) start: Start,
    pub(crate) gap: Option<Gap>,
    pub(crate) stream: StreamOptions,
    pub(crate) backlog: Arc<Backlog>,
}

/// The commands that wait for one shard, and the shard's sleep.
#[derive(Default)]
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Mailbox {
    /// Leaves a command and wakes the shard.
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().expect(UNPOISONED).push(command);
        self.wake();
    }

    /// Wakes the shard if it sleeps. What happened before is seen by the shard when it is awake.
    pub(crate) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Makes the calling thread the one that is woken.
    pub(crate) fn attach(&self) {
        self.thread.get_or_init(std::thread::current);
    }

    pub(crate) fn take(&self, commands: &mut Vec<Command>) {
        std::mem::swap(&mut *self.commands.lock().expect(UNPOISONED), commands);
    }

    /// Sleeps until woken or until the deadline, unless `is_idle` denies it at the last moment or
    /// a command waits.
    pub(crate) fn sleep(&self, deadline: Option<Instant>, is_idle: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        // From here on every sender sees that the shard sleeps, so nothing can be missed.
        if is_idle() && self.commands.lock().expect(UNPOISONED).is_empty() {
            match deadline {
                Some(deadline) => {
                    std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
                }
                None => std::thread::park(),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

const UNPOISONED: &str = "no thread panics while it holds a mailbox";
