//! Whose turn it is to catch up.
//!
//! The tasks that pull what they send stand in one queue, those that deliver what is live behind those
//! that catch up. So of the subscribers of a shard only a few at a time are read for and woken; the
//! next follows when one of them has taken what it was given. A thousand that catch up at once are
//! served as fast as the machine can, and who is live waits for a few of them at most.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::{Interest, Millis, SubscriberKey};

/// A step of reading that a subscriber waits for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: SubscriberKey,
    pub(crate) interest: Arc<Interest>,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// The turns of one shard.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: VecDeque<Request>,
    /// Who is being read for, or was woken and has not taken anything yet, and since when.
    running: Vec<(SubscriberKey, Millis)>,
}

impl Turns {
    /// Puts a subscriber at the end of the queue.
    pub(crate) fn wait(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Begins the next turn, if there may be one more and somebody waits.
    pub(crate) fn next(&mut self, now: Millis) -> Option<Request> {
        // Who was woken and does something else does not hold up the others.
        self.running.retain(|&(_, since)| now < since + TURN_MS_MAX);
        let request = self.waiting.pop_front_if(|_| self.running.len() < TURNS_MAX)?;
        self.begin(request.key, now);
        Some(request)
    }

    pub(crate) fn begin(&mut self, key: SubscriberKey, now: Millis) {
        self.running.push((key, now));
    }

    /// Ends the turn of a subscriber, if it has one.
    pub(crate) fn end(&mut self, key: SubscriberKey) {
        self.running.retain(|&(running, _)| running != key);
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// When [`next`](Self::next) will give something, as far as that depends on time alone.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let first = self.running.first().filter(|_| self.running.len() >= TURNS_MAX);
        (!self.waiting.is_empty()).then(|| first.map_or(0, |(_, since)| since + TURN_MS_MAX))
    }
}

/// Enough to keep a core busy, and less than a millisecond of work for it.
const TURNS_MAX: usize = 8;
/// How long a turn may last: far longer than a task waits that is ready to run.
const TURN_MS_MAX: Millis = 100;

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;
    use tidings_core::{Rights, Selector};

    use super::*;

    #[test]
    fn a_few_at_a_time_have_their_turn_in_the_order_they_came() {
        let interest = Arc::new(Interest::new(vec![Selector::All], vec![], Rights::everything()));
        let mut keys = SlotMap::<SubscriberKey, ()>::with_key();
        let keys: Vec<_> = (0..30).map(|_| keys.insert(())).collect();
        let mut turns = Turns::default();
        assert_eq!(turns.deadline(), None);
        for &key in &keys {
            turns.wait(Request { key, interest: Arc::clone(&interest), from: 1, until: 2 });
        }
        let mut begun = Vec::new();
        let mut begin = |turns: &mut Turns, now| {
            assert_eq!(turns.deadline().is_some_and(|at| at <= now), begun.len() < keys.len());
            while let Some(request) = turns.next(now) {
                begun.push(request.key);
            }
            begun.len()
        };
        assert_eq!(begin(&mut turns, 0), TURNS_MAX);
        turns.end(keys[3]);
        turns.end(keys[20]);
        assert_eq!(begin(&mut turns, 10), TURNS_MAX + 1);
        assert_eq!(turns.deadline(), Some(TURN_MS_MAX));
        assert_eq!(begin(&mut turns, TURN_MS_MAX), 2 * TURNS_MAX);
        assert_eq!(begun, keys[..2 * TURNS_MAX]);
    }
}
