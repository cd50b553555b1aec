//! Bounds what request bodies hold, all of them together, and for how long each may hold it, however
//! many clients send them and however slowly.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::problem::{Kind, Problem, slow_body};

/// Memory for bodies, in pieces of a KiB, and time for each.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget {
    memory: Arc<Semaphore>,
    bytes_max: usize,
    timeout: Duration,
}

/// What one body holds of it; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    timeout: Duration,
    /// When the next step of the body has to be there, and what of it is.
    deadline: Instant,
    step_bytes: usize,
}

impl BodyBudget {
    /// A body, or [`STEP_BYTES`] more of it, has to come within `timeout`.
    pub(crate) fn new(bytes_max: usize, timeout: Duration) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(pieces(bytes_max))),
            bytes_max,
            timeout: timeout.min(TIMEOUT_MAX),
        }
    }

    /// What all bodies together may hold.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(crate) fn share(&self) -> Share {
        Share {
            memory: Arc::clone(&self.memory),
            held: None,
            timeout: self.timeout,
            deadline: Instant::now() + self.timeout,
            step_bytes: 0,
        }
    }
}

impl Share {
    /// Waits for the next part of the body.
    ///
    /// # Errors
    ///
    /// It comes too slowly.
    pub(crate) async fn in_time<F: Future>(&self, part: F) -> Result<F::Output, Problem> {
        timeout_at(self.deadline, part).await.map_err(|_| slow_body(self.timeout))
    }

    /// Takes note of a part of the body.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.step_bytes += bytes;
        if self.step_bytes >= STEP_BYTES {
            self.begin_anew();
        }
    }

    /// Gives the next step its whole time.
    pub(crate) fn begin_anew(&mut self) {
        self.step_bytes = 0;
        self.deadline = Instant::now() + self.timeout;
    }

    /// Makes the share `bytes` large.
    ///
    /// # Errors
    ///
    /// If that is more than is left. Nothing waits for it: those who wait for each other's memory
    /// would wait for ever.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Problem> {
        let (wanted, held) =
            (pieces(bytes), self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if wanted <= held {
            // Splitting off what is not needed and dropping it gives it back.
            drop(self.held.as_mut().and_then(|permit| permit.split(held - wanted)));
            return Ok(());
        }
        let more = Arc::clone(&self.memory).try_acquire_many_owned((wanted - held) as u32);
        let more = more.map_err(|_| {
            let detail = "Try again after a while: other publishers fill the memory for bodies.";
            Problem::new(Kind::TooBusy, detail).retry_after(1)
        })?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES)
}

const PIECE_BYTES: usize = 1 << 10;
/// Beyond any patience, and a time that can be added to the present.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// So much of a body comes in the time it has for it even on a very bad line.
const STEP_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_bound() {
        let budget = BodyBudget::new(10 << 10, Duration::MAX);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.resize(6 << 10).unwrap();
        other.resize(4 << 10).unwrap();
        assert!(other.resize((4 << 10) + 1).is_err());
        one.resize(1 << 10).unwrap();
        other.resize(9 << 10).unwrap();
        drop(one);
        other.resize(10 << 10).unwrap();
        other.resize(0).unwrap();
        budget.share().resize(10 << 10).unwrap();
    }
}
