//! What a hub and its subscriptions have in common.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};

use tokio::sync::mpsc;

use crate::census::Admitted;
use crate::client::OnEnd;
use crate::journal::Work;
use crate::mailbox::{Command, Mailbox};
use crate::surroundings::Surroundings;
use crate::{HubOptions, presence};

/// Lives until the last clone of the hub and the last subscription are dropped; then the shards
/// stop, and with them every other thread.
pub(crate) struct Shared {
    pub(crate) options: HubOptions,
    pub(crate) around: Surroundings,
    pub(crate) journal: mpsc::Sender<Work>,
    pub(crate) shards: Shards,
    /// `None` if of no topic it is known who is there.
    pub(crate) presence: Option<presence::Handle>,
    /// Trimming and following end when they are dropped.
    _at_work: [std_mpsc::Sender<Infallible>; 2],
    /// A thread has failed.
    pub(crate) failed: Arc<AtomicBool>,
    next_shard: AtomicUsize,
    draining: AtomicBool,
    refuses_publishes: AtomicBool,
    /// These two begin as the options have them.
    pub(crate) connections_max: AtomicUsize,
    pub(crate) event_bytes_max: AtomicUsize,
}

/// The shards that run; they stop when this is dropped.
#[derive(Default)]
pub(crate) struct Shards {
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
}

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// As many are open as the hub takes; try again later.
    #[error("{connections_max} subscriptions are open, and no more are taken")]
    TooManyConnections {
        /// The limit.
        connections_max: usize,
    },
    /// All topics asked for are finished, and nothing is left of them to deliver: there is no
    /// reason to come back.
    #[error("the topics are finished")]
    Finished,
    /// The store of the log has not been reached since the hub was started, so nobody knows what there is; come
    /// back, or go to another node.
    #[error("the log has not been reached yet")]
    LogUnavailable,
    /// The hub is shutting down, or all its shards have failed; go elsewhere or come back.
    #[error("the hub is shutting down")]
    ShuttingDown,
}

impl Shared {
    pub(crate) fn new(
        options: HubOptions,
        around: Surroundings,
        journal: mpsc::Sender<Work>,
        shards: Shards,
        presence: Option<presence::Handle>,
        at_work: [std_mpsc::Sender<Infallible>; 2],
        failed: Arc<AtomicBool>,
    ) -> Self {
        let connections_max = AtomicUsize::new(options.limits.connections_max);
        let event_bytes_max = AtomicUsize::new(options.limits.event_bytes_max);
        Self {
            options,
            around,
            journal,
            shards,
            presence,
            _at_work: at_work,
            failed,
            next_shard: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            refuses_publishes: AtomicBool::new(false),
            connections_max,
            event_bytes_max,
        }
    }

    /// The mailbox of the shard whose turn it is; `None` if all shards have failed.
    pub(crate) fn next_mailbox(&self) -> Option<&Arc<Mailbox>> {
        let mailboxes = &self.shards.mailboxes;
        let first = self.next_shard.fetch_add(1, Ordering::Relaxed);
        let turns = (0..mailboxes.len()).map(|turn| &mailboxes[(first + turn) % mailboxes.len()]);
        turns.into_iter().find(|mailbox| mailbox.is_open())
    }

    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn refuse_publishes(&self) {
        self.refuses_publishes.store(true, Ordering::SeqCst);
    }

    pub(crate) fn refuses_publishes(&self) -> bool {
        self.refuses_publishes.load(Ordering::SeqCst)
    }

    /// Counts a connection in, if there may be one more.
    pub(crate) fn admit_connection(
        &self,
        on_end: Option<OnEnd>,
    ) -> Result<Admitted, SubscribeError> {
        if self.is_draining() {
            return Err(SubscribeError::ShuttingDown);
        }
        let connections_max = self.connections_max.load(Ordering::Relaxed);
        let admitted = self.around.census.admit(connections_max, on_end);
        admitted.ok_or(SubscribeError::TooManyConnections { connections_max })
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
    }
}
