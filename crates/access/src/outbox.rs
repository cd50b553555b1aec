//! News that waits to be delivered, and when to try: a state machine that does not know clocks or
//! servers.
//!
//! - News of one user is tried in its order, and the next only after the one before was delivered.
//! - While the receiver fails, everything waits, and one attempt at a time finds out whether it is
//!   back.
//! - News that the receiver refuses as wrong keeps back the news of its user alone, and is dropped
//!   after a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::Backoff;
use crate::news::{News, User};

/// The news that is not delivered yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    options: OutboxOptions,
    lanes: HashMap<Arc<User>, Lane>,
    /// The users whose first news can be tried now.
    ready: VecDeque<Arc<User>>,
    /// The users whose first news was refused: when it is tried again, and a number that tells
    /// them apart.
    refused: BTreeSet<(u64, u64)>,
    refused_users: HashMap<u64, Arc<User>>,
    refused_count: u64,
    news_count: usize,
    under_way: usize,
    /// Failures of the receiver without a success in between.
    failures: u32,
    /// When it is tried again.
    wait_until_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxOptions {
    pub(crate) calls_max: usize,
    pub(crate) refused_for_max_ms: u64,
    pub(crate) backoff: Backoff,
}

/// The news of one user, oldest first; never empty.
#[derive(Debug, Default)]
struct Lane {
    news: VecDeque<Arc<News>>,
    /// Since when, and how often, the first one was refused.
    refused: Option<(u64, u32)>,
}

impl Outbox {
    pub(crate) fn new(options: OutboxOptions) -> Self {
        Self {
            options,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            refused: BTreeSet::new(),
            refused_users: HashMap::new(),
            refused_count: 0,
            news_count: 0,
            under_way: 0,
            failures: 0,
            wait_until_ms: 0,
        }
    }

    /// News that is not delivered, attempts under way included.
    pub(crate) fn len(&self) -> usize {
        self.news_count
    }

    /// Takes news in, behind all of the same user. Whether there is room is for the caller to ask.
    pub(crate) fn push(&mut self, news: News) {
        let user = news.user.clone();
        let lane = self.lanes.entry(user.clone()).or_default();
        lane.news.push_back(Arc::new(news));
        self.news_count += 1;
        if lane.news.len() == 1 {
            self.ready.push_back(user);
        }
    }

    /// The next news to try. What became of it has to be told by one of
    /// [`handle_delivered`](Self::handle_delivered), [`handle_failed`](Self::handle_failed) and
    /// [`handle_refused`](Self::handle_refused).
    pub(crate) fn poll_attempt(&mut self, now_ms: u64) -> Option<Arc<News>> {
        while let Some(&(at_ms, number)) = self.refused.first()
            && at_ms <= now_ms
        {
            self.refused.pop_first();
            self.ready.extend(self.refused_users.remove(&number));
        }
        let calls_max = if self.failures > 0 { 1 } else { self.options.calls_max };
        if self.under_way >= calls_max || now_ms < self.wait_until_ms {
            return None;
        }
        let user = self.ready.pop_front()?;
        let news = self.lanes.get(&user)?.news.front()?.clone();
        self.under_way += 1;
        Some(news)
    }

    /// When [`poll_attempt`](Self::poll_attempt) has something that it has not now, unless an attempt
    /// comes to its end before.
    pub(crate) fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let refused = self.refused.first().map(|(at_ms, _)| *at_ms);
        let ready = (!self.ready.is_empty() && self.under_way == 0).then_some(self.wait_until_ms);
        refused.into_iter().chain(ready).filter(|at_ms| *at_ms > now_ms).min()
    }

    /// The receiver has it.
    pub(crate) fn handle_delivered(&mut self, news: &News) {
        self.failures = 0;
        self.wait_until_ms = 0;
        self.under_way -= 1;
        self.remove_first(&news.user);
    }

    /// The receiver cannot be reached, or cannot take anything now.
    pub(crate) fn handle_failed(&mut self, news: &News, now_ms: u64, chance: f64) {
        self.under_way -= 1;
        self.ready.push_front(news.user.clone());
        // What was under way at the same time fails for the same reason.
        if now_ms >= self.wait_until_ms {
            self.failures = self.failures.saturating_add(1);
            self.wait_until_ms = now_ms + self.delay_ms(self.failures, chance);
        }
    }

    /// The receiver is there, and refuses this. Returns whether it is dropped.
    pub(crate) fn handle_refused(&mut self, news: &News, now_ms: u64, chance: f64) -> bool {
        self.failures = 0;
        self.wait_until_ms = 0;
        self.under_way -= 1;
        let Some(lane) = self.lanes.get_mut(&news.user) else { return false };
        let (since_ms, times) = lane.refused.unwrap_or((now_ms, 0));
        if now_ms - since_ms >= self.options.refused_for_max_ms {
            self.remove_first(&news.user);
            return true;
        }
        let times = times.saturating_add(1);
        lane.refused = Some((since_ms, times));
        self.refused_count += 1;
        self.refused.insert((now_ms + self.delay_ms(times, chance), self.refused_count));
        self.refused_users.insert(self.refused_count, news.user.clone());
        false
    }

    /// All of it, in an order that keeps that of each user.
    pub(crate) fn news(&self) -> impl Iterator<Item = &Arc<News>> {
        self.lanes.values().flat_map(|lane| &lane.news)
    }

    fn remove_first(&mut self, user: &Arc<User>) {
        let Some(lane) = self.lanes.get_mut(user) else { return };
        lane.news.pop_front();
        lane.refused = None;
        self.news_count -= 1;
        if lane.news.is_empty() {
            self.lanes.remove(user);
        } else {
            self.ready.push_back(user.clone());
        }
    }

    fn delay_ms(&self, times: u32, chance: f64) -> u64 {
        u64::try_from(self.options.backoff.delay(times, chance).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
