//! How other threads reach a shard.
//!
//! The queue needs no bound of its own: a subscriber has at most one of each kind of command under
//! way. Those of subscribers that have gone are passed over in no time.

use std::sync::atomic::{AtomicU8, Ordering};
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
    /// One of the constants below.
    sleep: AtomicU8,
    thread: OnceLock<Thread>,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Nothing that is published needs to wake it: it has no subscribers.
const FAST_ASLEEP: u8 = 2;

impl Mailbox {
    /// Leaves a command and wakes the shard.
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().expect(UNPOISONED).push(command);
        if self.sleep.swap(AWAKE, Ordering::SeqCst) != AWAKE {
            self.unpark();
        }
    }

    /// Wakes the shard for events, if it sleeps and has subscribers. What happened before is seen by
    /// the shard when it is awake.
    pub(crate) fn wake_for_events(&self) {
        let woken = self.sleep.compare_exchange(ASLEEP, AWAKE, Ordering::SeqCst, Ordering::SeqCst);
        if woken.is_ok() {
            self.unpark();
        }
    }

    /// Makes the calling thread the one that is woken.
    pub(crate) fn attach(&self) {
        self.thread.get_or_init(std::thread::current);
    }

    pub(crate) fn take(&self, commands: &mut Vec<Command>) {
        std::mem::swap(&mut *self.commands.lock().expect(UNPOISONED), commands);
    }

    /// Sleeps until woken or until the deadline, unless a command waits or, for one who `listens` to
    /// events, `is_idle` denies it at the last moment.
    pub(crate) fn sleep(
        &self,
        deadline: Option<Instant>,
        listens: bool,
        is_idle: impl Fn() -> bool,
    ) {
        self.sleep.store(if listens { ASLEEP } else { FAST_ASLEEP }, Ordering::SeqCst);
        // From here on every sender sees that the shard sleeps, so nothing can be missed.
        let may_sleep = !listens || is_idle();
        if may_sleep && self.commands.lock().expect(UNPOISONED).is_empty() {
            match deadline {
                Some(deadline) => {
                    std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
                }
                None => std::thread::park(),
            }
        }
        self.sleep.store(AWAKE, Ordering::SeqCst);
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

const UNPOISONED: &str = "no thread panics while it holds a mailbox";
