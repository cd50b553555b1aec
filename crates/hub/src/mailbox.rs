//! How other threads reach a shard.
//!
//! The queue needs no bound of its own: a subscriber has at most one of each kind of command under
//! way. Those of subscribers that have gone are passed over in no time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use mio::Waker;
use tidings_core::{
    ConfirmOutcome, Epoch, Interest, Millis, ReadOutcome, SeekOutcome, StreamOptions, SubscriberKey,
};
use tokio::sync::oneshot;

use crate::admission::{Beginning, Owner};
use crate::connections::{Expulsion, Listing};
use crate::delivery::Delivery;
use crate::meter::EndReason;
use crate::outlet::{End, Outlet};

/// What a shard can be told.
pub(crate) enum Command {
    Subscribe(Box<Subscribe>),
    Unsubscribe(SubscriberKey),
    Writable(SubscriberKey),
    /// It has taken what it was woken for.
    Taken(SubscriberKey),
    /// What the log says in this life of it.
    Read(SubscriberKey, Epoch, ReadOutcome<Delivery>),
    Sought(SubscriberKey, Epoch, SeekOutcome),
    Confirmed(SubscriberKey, Epoch, ConfirmOutcome),
    List(Box<Listing>),
    Expel(Box<Expulsion>),
    /// Gives a sign of life.
    Answer(oneshot::Sender<()>),
    Shutdown {
        retry_ms: Millis,
        drain_ms: Millis,
    },
    Stop,
    /// Fails, as a defect would.
    #[cfg(test)]
    Fail,
}

/// A new subscriber.
pub(crate) struct Subscribe {
    pub(crate) interest: Interest,
    pub(crate) beginning: Beginning,
    pub(crate) stream: StreamOptions,
    pub(crate) outlet: Outlet,
    pub(crate) owner: Option<Box<Owner>>,
}

/// The commands that wait for one shard, and the shard's sleep.
pub(crate) struct Mailbox {
    /// `None` once the shard has ended.
    commands: Mutex<Option<VecDeque<Command>>>,
    /// One of the constants below.
    sleep: AtomicU8,
    waker: Arc<Waker>,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Nothing that is published needs to wake it: it has no subscribers.
const FAST_ASLEEP: u8 = 2;

impl Mailbox {
    /// `waker` wakes the shard.
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { commands: Mutex::new(Some(VecDeque::new())), sleep: AtomicU8::new(AWAKE), waker }
    }

    /// Leaves a command and wakes the shard. If the shard has ended, a new subscriber is ended at
    /// once, and nothing else matters.
    pub(crate) fn send(&self, command: Command) {
        if let Some(unheard) = self.leave(command) {
            return unheard.end_unheard();
        }
        if self.sleep.swap(AWAKE, Ordering::SeqCst) != AWAKE {
            self.wake();
        }
    }

    /// Gives the command back if the shard has ended.
    fn leave(&self, command: Command) -> Option<Command> {
        match &mut *self.commands() {
            Some(commands) => commands.push_back(command),
            None => return Some(command),
        }
        None
    }

    /// Wakes the shard for events, if it sleeps and has subscribers. What happened before is seen by
    /// the shard when it is awake.
    pub(crate) fn wake_for_events(&self) {
        let woken = self.sleep.compare_exchange(ASLEEP, AWAKE, Ordering::SeqCst, Ordering::SeqCst);
        if woken.is_ok() {
            self.wake();
        }
    }

    pub(crate) fn take(&self, taken: &mut VecDeque<Command>) {
        if let Some(commands) = &mut *self.commands() {
            std::mem::swap(commands, taken);
        }
    }

    /// Falls asleep, and says whether the shard may wait: unless a command waits or, for one who
    /// `listens` to events, `is_idle` denies it at the last moment. Either way [`rise`](Self::rise)
    /// follows.
    pub(crate) fn doze(&self, listens: bool, is_idle: impl Fn() -> bool) -> bool {
        self.sleep.store(if listens { ASLEEP } else { FAST_ASLEEP }, Ordering::SeqCst);
        // From here on every sender sees that the shard sleeps, so nothing can be missed.
        (!listens || is_idle()) && self.commands().as_ref().is_none_or(VecDeque::is_empty)
    }

    pub(crate) fn rise(&self) {
        self.sleep.store(AWAKE, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.commands().is_some()
    }

    /// Takes no more commands; those that wait are ended.
    pub(crate) fn close(&self) {
        let commands = self.commands().take();
        commands.into_iter().flatten().for_each(Command::end_unheard);
    }

    fn commands(&self) -> MutexGuard<'_, Option<VecDeque<Command>>> {
        self.commands.lock().expect("no thread panics while it holds a mailbox")
    }

    fn wake(&self) {
        // It fails only when so many wakes wait that one more makes no difference.
        let _ = self.waker.wake();
    }
}

impl Command {
    /// Ends a subscriber that no shard will have.
    pub(crate) fn end_unheard(self) {
        if let Self::Subscribe(subscribe) = self {
            let end = End { reason: EndReason::Failed, settled: None };
            // A socket that takes nothing now is closed as it is.
            subscribe.outlet.end(end, 0);
        }
    }
}
