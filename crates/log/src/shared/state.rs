//! Whether the store is there, and what is known of the log in it.

use std::time::Instant;

use super::backoff;
use super::environment::Environment;
use super::mirror::Mirror;
use crate::StoreFigures;

/// What the threads of a node share of a log.
#[derive(Debug)]
pub(super) struct State {
    pub(super) mirror: Mirror,
    pub(super) link: Link,
    /// Why nothing can be appended although the store answers.
    pub(super) unwritable: Option<Trouble>,
    pub(super) figures: StoreFigures,
    /// Failures in a row, without anything between them that went well.
    attempts: u32,
}

/// Whether the store is there.
#[derive(Debug)]
pub(super) enum Link {
    /// As far as is known.
    Up,
    /// It has to be opened anew, and nobody but who does so talks to it.
    Down {
        trouble: Trouble,
        /// Whether it answers, and is to be opened because the log in it may be another one.
        is_doubted: bool,
        /// Whether somebody opens it just now.
        is_opening: bool,
    },
}

/// What is wrong, and when to see whether it still is.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) retry_at: Instant,
}

impl State {
    pub(super) fn new(mirror: Mirror, now: Instant) -> Self {
        let trouble = Trouble { reason: "it was not reached yet".to_owned(), retry_at: now };
        let figures = StoreFigures { is_reached: false, next: 0, failures: 0, answered_at: None };
        let link = Link::Down { trouble, is_doubted: true, is_opening: false };
        Self { mirror, link, unwritable: None, figures, attempts: 0 }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// Whether the store answers, and is to be opened because the log in it may be another one.
    pub(super) fn is_doubted(&self) -> bool {
        matches!(self.link, Link::Down { is_doubted: true, .. })
    }

    /// Takes note that somebody opens the store.
    pub(super) fn begin_opening(&mut self) {
        if let Link::Down { is_opening, .. } = &mut self.link {
            *is_opening = true;
        }
    }

    /// Takes note that the store is open, and where the log in it ends.
    pub(super) fn came_up(&mut self, next: u64, now: Instant) {
        self.link = Link::Up;
        self.figures.is_reached = true;
        self.figures.next = next;
        self.figures.answered_at = Some(now);
    }

    /// Takes note that the store did what it was asked to.
    pub(super) fn went_well(&mut self, now: Instant) {
        self.attempts = 0;
        self.figures.answered_at = Some(now);
    }

    /// Takes note that the store has to be opened anew, after a while.
    pub(super) fn went_down(&mut self, reason: String, environment: &dyn Environment) {
        self.figures.failures += 1;
        self.figures.is_reached = false;
        let trouble = self.trouble(reason, environment);
        self.link = Link::Down { trouble, is_doubted: false, is_opening: false };
    }

    /// Takes note that the log in the store may be another one: it is to be opened at once, unless that has
    /// just been tried and nothing went well since.
    pub(super) fn doubt(&mut self, reason: String, environment: &dyn Environment) {
        let is_first = self.attempts == 0;
        let mut trouble = self.trouble(reason, environment);
        if is_first {
            trouble.retry_at = environment.now();
        }
        self.link = Link::Down { trouble, is_doubted: true, is_opening: false };
    }

    /// Takes note that nothing can be appended for a while.
    pub(super) fn became_unwritable(&mut self, reason: String, environment: &dyn Environment) {
        self.figures.failures += 1;
        self.unwritable = Some(self.trouble(reason, environment));
    }

    /// When it is time to see whether something can be appended again; `None` if it can.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.unwritable.as_ref().map(|trouble| trouble.retry_at)
    }

    /// Why nothing can be done now; `None` if something can.
    pub(super) fn failure(&self) -> Option<&str> {
        match &self.link {
            Link::Down { trouble, .. } => Some(&trouble.reason),
            Link::Up => self.unwritable.as_ref().map(|trouble| &*trouble.reason),
        }
    }

    fn trouble(&mut self, reason: String, environment: &dyn Environment) -> Trouble {
        let delay = backoff::delay(self.attempts, environment.jitter());
        self.attempts = self.attempts.saturating_add(1);
        Trouble { reason, retry_at: environment.now() + delay }
    }
}
