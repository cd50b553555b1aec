//! The threads that read from the log what is no longer in the tail.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, Weak};

use tidings_core::{ConfirmOutcome, Epoch, Interest, Position, SeekOutcome, SubscriberKey};
use tidings_log::SeekStep;

use crate::mailbox::{Command, Mailbox};
use crate::surroundings::Surroundings;

/// What a shard asks for one of its subscribers, which has one question open at most.
pub(crate) struct Question {
    pub(crate) from: Arc<Mailbox>,
    /// Gone with the subscriber; the question is then passed over.
    pub(crate) asker: Weak<()>,
    pub(crate) key: SubscriberKey,
    /// The life of the log that it is about; if that is over, nobody needs the answer.
    pub(crate) epoch: Epoch,
    pub(crate) interest: Arc<Interest>,
    pub(crate) wish: Wish,
}

/// As in the effects of the state machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Read { from: u64, until: u64 },
    Seek { before: u64, wanted: u32 },
    Confirm { position: Position },
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
            let is_wanted = question.asker.strong_count() > 0 && self.around.is_in(question.epoch);
            if !is_wanted {
                continue;
            }
            let answer = self.answer(&question);
            // What another life of the log has said is of no use.
            if self.around.is_in(question.epoch) {
                question.from.send(answer);
            }
        }
    }

    fn next(&self) -> Option<Question> {
        self.questions.lock().expect("no thread panics while it waits for a question").recv().ok()
    }

    fn answer(&self, question: &Question) -> Command {
        let &Question { key, epoch, ref interest, wish, .. } = question;
        let Surroundings { log, read_limit, replay, .. } = &self.around;
        match wish {
            Wish::Read { from, until } => {
                Command::Read(key, epoch, replay.read(epoch, from, until, interest))
            }
            Wish::Confirm { position } => {
                let outcome = match log.confirm(position) {
                    Ok(true) => ConfirmOutcome::GivenOut,
                    Ok(false) => ConfirmOutcome::Unknown { oldest: log.bounds().oldest },
                    Err(_) => ConfirmOutcome::Failed,
                };
                Command::Confirmed(key, epoch, outcome)
            }
            Wish::Seek { before, wanted } => {
                let outcome = match log.seek(before, wanted, interest, *read_limit) {
                    Ok(step) => seek_outcome(step),
                    Err(_) => SeekOutcome::Failed,
                };
                Command::Sought(key, epoch, outcome)
            }
        }
    }
}

/// Says a step of a search in the words of the state machine.
pub(crate) fn seek_outcome(step: SeekStep) -> SeekOutcome {
    let SeekStep { found, lowest, before, complete } = step;
    SeekOutcome::Found { found, lowest, before, complete }
}
