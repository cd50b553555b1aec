//! How often each kind of problem was answered.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::problem::Problem;

/// Counts problems by the last part of their type: as many names as there are kinds.
#[derive(Debug, Default)]
pub(crate) struct ProblemCounts(Mutex<BTreeMap<&'static str, u64>>);

impl ProblemCounts {
    pub(crate) fn count(&self, problem: &Problem) {
        *self.0.lock().expect(UNPOISONED).entry(problem.slug()).or_default() += 1;
    }

    /// The kinds that there were, in the order of their names.
    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().expect(UNPOISONED).iter().map(|(&slug, &count)| (slug, count)).collect()
    }
}

const UNPOISONED: &str = "no thread panics while it counts";
