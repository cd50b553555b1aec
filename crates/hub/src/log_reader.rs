//! The threads that read from the log what is no longer in the tail.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, Weak};

use tidings_core::{Interest, SeekOutcome, SubscriberKey};
use tidings_log::SeekStep;

use crate::mailbox::{Command, Mailbox};
use crate::surroundings::Surroundings;

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

/// One of the threads, which share their questions.
#[derive(Clone)]
pub(crate) struct LogReader {
    pub(crate) around: Surroundings,
    pub(crate) questions: Arc<Mutex<Receiver<Question>>>,
}

impl LogReader {
    /// Answers until nobody can ask any more.
    pub(crate) fn run(&self) {
        while let Some(question) = self.next() {
            let Question { from, asker, key, interest, wish } = question;
            if asker.strong_count() > 0 {
                from.send(self.answer(key, &interest, wish));
            }
        }
    }

    fn next(&self) -> Option<Question> {
        self.questions.lock().expect("no thread panics while it waits for a question").recv().ok()
    }

    fn answer(&self, key: SubscriberKey, interest: &Arc<Interest>, wish: Wish) -> Command {
        match wish {
            Wish::Read { from, until } => {
                Command::Read(key, self.around.replay.read(from, until, interest))
            }
            Wish::Seek { before, wanted } => {
                let Surroundings { log, read_limit, .. } = &self.around;
                let outcome = match log.seek(before, wanted, interest, *read_limit) {
                    Ok(step) => seek_outcome(step),
                    Err(_) => SeekOutcome::Failed,
                };
                Command::Sought(key, outcome)
            }
        }
    }
}

/// Says a step of a search in the words of the state machine.
pub(crate) fn seek_outcome(step: SeekStep) -> SeekOutcome {
    let SeekStep { found, lowest, before, complete } = step;
    SeekOutcome::Found { found, lowest, before, complete }
}
