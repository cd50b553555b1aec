//! Bounds what all request bodies hold together, however many clients send them and however slowly.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Kind, Problem};

/// Memory for bodies, in pieces of a KiB.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// What one body holds of it; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(pieces(bytes_max))))
    }

    pub(crate) fn share(&self) -> Share {
        Share { budget: Arc::clone(&self.0), held: None }
    }
}

impl Share {
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
        let more = Arc::clone(&self.budget).try_acquire_many_owned((wanted - held) as u32);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_bound() {
        let budget = BodyBudget::new(10 << 10);
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
