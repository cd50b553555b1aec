//! What wakes the threads and tasks of an engine: appends of this node, notifications of others.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_postgres::Notification;

use crate::session::UNPOISONED;

#[derive(Debug)]
pub(crate) struct Signals {
    events: String,
    outbox: String,
    /// For the thread that waits for entries.
    pub(crate) wake: Notify,
    /// For the task that notifies other nodes.
    pub(crate) appended: Notify,
    /// For the task that empties the outbox.
    pub(crate) published: Notify,
    kicked: AtomicBool,
    news: AtomicU64,
    notifier: AtomicI32,
    echo: Mutex<Echo>,
}

/// Whether this node hears its own notifications: if it does not, it does not hear those of others either, as
/// behind a pooler that gives each transaction another connection.
#[derive(Debug, Clone, Copy, Default)]
struct Echo {
    /// Since when one is on its way.
    sent: Option<Instant>,
    was_heard: bool,
}

/// How much notifications can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// They come.
    Good,
    /// It is not known yet.
    Unknown,
    /// They were sent and did not come.
    Lost,
}

impl Signals {
    pub(crate) fn new(log: &str) -> Self {
        Self {
            events: format!("tidings_{log}"),
            outbox: format!("tidings_outbox_{log}"),
            wake: Notify::new(),
            appended: Notify::new(),
            published: Notify::new(),
            kicked: AtomicBool::new(false),
            news: AtomicU64::new(0),
            notifier: AtomicI32::new(0),
            echo: Mutex::default(),
        }
    }

    /// Under what name nodes tell each other of events.
    pub(crate) fn events(&self) -> &str {
        &self.events
    }

    pub(crate) fn listen_sql(&self) -> String {
        format!("listen \"{}\"; listen \"{}\"", self.events, self.outbox)
    }

    /// Called for what comes over the listening connection.
    pub(crate) fn handle_notification(&self, notification: &Notification) {
        if notification.channel() == self.outbox {
            self.published.notify_one();
        } else if notification.process_id() == self.notifier.load(Ordering::SeqCst) {
            *self.echo() = Echo { sent: None, was_heard: true };
        } else {
            self.handle_news();
        }
    }

    /// There is something that this node has not appended.
    pub(crate) fn handle_news(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Counts what was heard: what is read after this was taken contains all that it counts.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    pub(crate) fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(crate) fn take_kick(&self) -> bool {
        self.kicked.swap(false, Ordering::SeqCst)
    }

    /// The connection listens from now on.
    pub(crate) fn note_listening(&self) {
        *self.echo() = Echo::default();
        self.appended.notify_one();
    }

    /// A notification is about to be sent.
    pub(crate) fn note_sending(&self, process_id: i32) {
        self.notifier.store(process_id, Ordering::SeqCst);
        self.echo().sent.get_or_insert_with(Instant::now);
    }

    pub(crate) fn note_not_sent(&self) {
        self.echo().sent = None;
    }

    pub(crate) fn hearing(&self, now: Instant) -> Hearing {
        let echo = *self.echo();
        match echo.sent {
            Some(sent) if now.duration_since(sent) > ECHO_MAX => Hearing::Lost,
            _ if echo.was_heard => Hearing::Good,
            _ => Hearing::Unknown,
        }
    }

    fn echo(&self) -> MutexGuard<'_, Echo> {
        self.echo.lock().expect(UNPOISONED)
    }
}

/// A notification that is not back after this does not come.
const ECHO_MAX: Duration = Duration::from_secs(2);
