//! When events were published that this node has appended to a shared log, for who follows it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use tidings_core::{Entry, Epoch};
use tidings_log::{Body, UnixMillis};

/// What the journal tells the follower. Bounded: what is forgotten counts from when it is received.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is being appended: the time by the clock on the wall that it is given, and when its first event
    /// was published.
    under_way: Option<(UnixMillis, u64)>,
    /// Offsets, in order, and when they were published.
    appended: VecDeque<(Epoch, Range<u64>, u64)>,
}

impl Arrivals {
    /// Takes note that events are going to be appended, the first of which was published at this time.
    pub(crate) fn begin(&self, now: UnixMillis, at_micros: u64) {
        self.state().under_way = Some((now, at_micros));
    }

    /// Takes note of what was appended, and when each of it was published.
    pub(crate) fn end(&self, epoch: Epoch, published: impl Iterator<Item = (u64, u64)>) {
        let mut state = self.state();
        state.under_way = None;
        for (offset, at_micros) in published {
            match state.appended.back_mut() {
                Some((of, offsets, at))
                    if (*of, offsets.end, *at) == (epoch, offset, at_micros) =>
                {
                    offsets.end += 1;
                }
                _ => state.appended.push_back((epoch, offset..offset + 1, at_micros)),
            }
        }
        let surplus = state.appended.len().saturating_sub(RUNS_MAX);
        state.appended.drain(..surplus);
    }

    /// When each of some entries was published, if this node has published it.
    pub(crate) fn take(&self, epoch: Epoch, entries: &[Entry<Body>]) -> Vec<Option<u64>> {
        let mut state = self.state();
        let State { under_way, appended } = &mut *state;
        let published_at = |entry: &Entry<Body>| {
            while appended
                .pop_front_if(|(of, offsets, _)| *of != epoch || offsets.end <= entry.offset)
                .is_some()
            {}
            let known = appended.front().filter(|(_, offsets, _)| offsets.contains(&entry.offset));
            // The answer to an append may come later than what was appended. Another node that appends at
            // the same time is taken for this one: it is a matter of milliseconds.
            let under_way = || under_way.filter(|&(now, _)| now == entry.payload.appended_at);
            known.map(|&(_, _, at)| at).or_else(|| under_way().map(|(_, at)| at))
        };
        entries.iter().map(published_at).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the arrivals")
    }
}

/// Runs of events that were published together: more than one append has.
const RUNS_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use tidings_core::Topic;

    use super::*;

    fn entry(offset: u64, appended_at: UnixMillis) -> Entry<Body> {
        let payload = Body { data: "x".into(), retry_ms: None, appended_at };
        Entry {
            offset,
            topics: [Topic::parse("a").unwrap()].into(),
            event_type: None,
            private: false,
            is_final: false,
            payload,
        }
    }

    #[test]
    fn what_this_node_has_appended_counts_from_its_publish() {
        let (arrivals, epoch) = (Arrivals::default(), Epoch::from_random(1));
        let entries: Vec<_> = (1..=6).map(|offset| entry(offset, 50)).collect();
        arrivals.begin(40, 7);
        arrivals.end(epoch, [(2, 7), (3, 7), (5, 9)].into_iter());
        assert_eq!(arrivals.take(epoch, &entries[..2]), [None, Some(7)]);
        arrivals.begin(50, 11);
        assert_eq!(arrivals.take(epoch, &entries[2..]), [Some(7), Some(11), Some(9), Some(11)]);
        arrivals.end(epoch, std::iter::empty());
        assert_eq!(arrivals.take(epoch, &[entry(7, 50)]), [None]);
    }

    #[test]
    fn what_nobody_takes_is_forgotten() {
        let (arrivals, epoch) = (Arrivals::default(), Epoch::from_random(1));
        arrivals.end(epoch, (0..10_000).map(|nth| (2 * nth + 1, nth)));
        assert_eq!(arrivals.state().appended.len(), RUNS_MAX);
        let other = Epoch::from_random(2);
        assert_eq!(arrivals.take(other, &[entry(19_999, 0)]), [None]);
        assert_eq!(arrivals.state().appended.len(), 0);
    }
}
