//! The thread that reads from the log what is no longer in the tail, and lets the log trim.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidings_core::{Interest, ReadOutcome, SeekOutcome, SubscriberKey};
use tidings_log::{EventLog, ReadError, ReadLimit, SeekStep};

use crate::clock::unix_now;
use crate::delivery::{Delivery, encode};
use crate::mailbox::{Command, Mailbox};

/// What a shard asks for one of its subscribers, which has one question open at most.
pub(crate) struct Question {
    pub(crate) from: Arc<Mailbox>,
    /// Gone with the subscriber; the question is then passed over.
    pub(crate) asker: Weak<()>,
    pub(crate) key: SubscriberKey,
    pub(crate) interest: Arc<Interest>,
    pub(crate) wish: Wish,
}

/// As in the effects of the state machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Read { from: u64, until: u64 },
    Seek { before: u64, wanted: u32 },
}

/// Answers until nobody can ask any more.
pub(crate) fn run(log: &dyn EventLog, questions: &Receiver<Question>, limit: ReadLimit) {
    let mut trim_at = Instant::now() + TRIM_INTERVAL;
    loop {
        match questions.recv_timeout(trim_at.saturating_duration_since(Instant::now())) {
            Ok(Question { from, asker, key, interest, wish }) => {
                if asker.strong_count() > 0 {
                    from.send(answer(log, key, &interest, wish, limit));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if trim_at <= Instant::now() {
            log.trim(unix_now());
            trim_at = Instant::now() + TRIM_INTERVAL;
        }
    }
}

fn answer(
    log: &dyn EventLog,
    key: SubscriberKey,
    interest: &Interest,
    wish: Wish,
    limit: ReadLimit,
) -> Command {
    match wish {
        Wish::Read { from, until } => Command::Read(key, read(log, from, until, interest, limit)),
        Wish::Seek { before, wanted } => {
            let outcome = match log.seek(before, wanted, interest, limit) {
                Ok(step) => seek_outcome(step),
                Err(_) => SeekOutcome::Failed,
            };
            Command::Sought(key, outcome)
        }
    }
}

fn read(
    log: &dyn EventLog,
    from: u64,
    until: u64,
    interest: &Interest,
    limit: ReadLimit,
) -> ReadOutcome<Delivery> {
    match log.read(from, until, interest, limit) {
        Ok(step) => {
            let encoded = |entry| Arc::new(encode(log.epoch(), entry, 0));
            let entries = step.entries.iter().map(|entry| encoded(entry)).collect();
            let dropped = log.dropped(interest, from);
            ReadOutcome::Entries { entries, next: step.next, dropped }
        }
        Err(ReadError::Trimmed { oldest }) => ReadOutcome::Trimmed { oldest },
        Err(ReadError::Unavailable(reason)) => {
            tracing::warn!(reason, "the log cannot be read");
            ReadOutcome::Failed
        }
    }
}

/// Says a step of a search in the words of the state machine.
pub(crate) fn seek_outcome(step: SeekStep) -> SeekOutcome {
    let SeekStep { found, lowest, before, complete } = step;
    SeekOutcome::Found { found, lowest, before, complete }
}

/// How long an event may outlive its age.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
