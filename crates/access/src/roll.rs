//! Who is there, and what of it is to be told: a state machine that does not know clocks, servers
//! or files.
//!
//! **What was told last about a user is what is true, or will be told next.** A user is there from
//! the first stream on until the last has been gone for the debounce; streams that come and go in
//! between are no news. Where there is no room for news, only how things are once there is room is
//! told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::news::{Kind, News, User};

/// When something happens: on a clock that never goes back, and on the calendar's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since a moment that the caller chose.
    pub(crate) monotonic_ms: u64,
    /// Since 1970-01-01 00:00 UTC.
    pub(crate) unix_ms: u64,
}

/// The users who are there, were told to be, or left within the debounce.
#[derive(Debug)]
pub(crate) struct Roll {
    debounce_ms: u64,
    users_max: usize,
    users: HashMap<Arc<User>, Presence>,
    /// Who may be gone for good at the time beside them, in its order.
    leaving: VecDeque<(u64, Arc<User>)>,
    /// Who is not as was told, for want of room, by when that began.
    owed: BTreeMap<u64, Arc<User>>,
    owed_count: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Presence {
    streams: u64,
    /// What was told last.
    is_told: bool,
    /// Where its user waits in `owed`.
    owed: Option<u64>,
    ip: Option<IpAddr>,
    /// Since when there is no stream, and why the last one ended.
    left: Option<Left>,
}

#[derive(Debug)]
struct Left {
    gone_at_ms: u64,
    unix_ms: u64,
    reason: Option<Box<str>>,
}

impl Roll {
    pub(crate) fn new(debounce_ms: u64, users_max: usize) -> Self {
        Self {
            debounce_ms,
            users_max,
            users: HashMap::new(),
            leaving: VecDeque::new(),
            owed: BTreeMap::new(),
            owed_count: 0,
            dropped: 0,
        }
    }

    /// A user was told to be there by a process that is no more. Unless they come back within the
    /// debounce, they are gone.
    pub(crate) fn handle_remembered(&mut self, user: Arc<User>, ip: Option<IpAddr>, now: Moment) {
        let gone_at_ms = now.monotonic_ms + self.debounce_ms;
        let left = Left { gone_at_ms, unix_ms: now.unix_ms, reason: Some("restart".into()) };
        self.leaving.push_back((gone_at_ms, user.clone()));
        let presence = Presence { streams: 0, is_told: true, owed: None, ip, left: Some(left) };
        self.users.insert(user, presence);
    }

    /// A stream of the user opened. Returns the user to give back when it ends, and the news, if it
    /// is news; `None` if there are too many users to know one more.
    pub(crate) fn handle_connected(
        &mut self,
        user: User,
        ip: Option<IpAddr>,
        has_room: bool,
        now: Moment,
    ) -> Option<(Arc<User>, Option<News>)> {
        let user = match self.users.get_key_value(&user) {
            Some((user, _)) => user.clone(),
            None if self.users.len() >= self.users_max => {
                self.dropped += 1;
                return None;
            }
            None => Arc::new(user),
        };
        let presence = self.users.entry(user.clone()).or_insert_with(|| Presence {
            streams: 0,
            is_told: false,
            owed: None,
            ip,
            left: None,
        });
        presence.streams += 1;
        presence.left = None;
        presence.ip = ip.or(presence.ip);
        let is_news = !presence.is_told;
        let news = if is_news { self.tell(&user, has_room, now) } else { None };
        Some((user, news))
    }

    /// A stream of the user ended.
    pub(crate) fn handle_ended(&mut self, user: &Arc<User>, reason: Option<&str>, now: Moment) {
        let Some(presence) = self.users.get_mut(user) else { return };
        presence.streams = presence.streams.saturating_sub(1);
        if presence.streams > 0 {
            return;
        }
        let gone_at_ms = now.monotonic_ms + self.debounce_ms;
        presence.left =
            Some(Left { gone_at_ms, unix_ms: now.unix_ms, reason: reason.map(Into::into) });
        self.leaving.push_back((gone_at_ms, user.clone()));
    }

    /// Every stream ends, and nobody is waited for.
    pub(crate) fn handle_shutdown(&mut self, now: Moment) {
        self.debounce_ms = 0;
        self.leaving.clear();
        for (user, presence) in &mut self.users {
            presence.streams = 0;
            let left = presence.left.take();
            let (unix_ms, reason) = left.map_or_else(
                || (now.unix_ms, Some("shutdown".into())),
                |left| (left.unix_ms, left.reason),
            );
            presence.left = Some(Left { gone_at_ms: now.monotonic_ms, unix_ms, reason });
            self.leaving.push_back((now.monotonic_ms, user.clone()));
        }
    }

    /// The next news that time or room brings about; `None` if there is no more now.
    pub(crate) fn poll_news(&mut self, has_room: bool, now: Moment) -> Option<News> {
        while let Some((gone_at_ms, _)) = self.leaving.front()
            && *gone_at_ms <= now.monotonic_ms
        {
            let (gone_at_ms, user) = self.leaving.pop_front()?;
            // Who came back is not leaving, or leaves later.
            let is_gone = |presence: &Presence| {
                presence.left.as_ref().is_some_and(|left| left.gone_at_ms == gone_at_ms)
            };
            if self.users.get(&user).is_some_and(is_gone)
                && let Some(news) = self.tell(&user, has_room, now)
            {
                return Some(news);
            }
        }
        if !has_room {
            return None;
        }
        while let Some((_, user)) = self.owed.pop_first() {
            if let Some(news) = self.tell(&user, has_room, now) {
                return Some(news);
            }
        }
        None
    }

    /// When [`poll_news`](Self::poll_news) has something to say at the latest, room aside.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.leaving.front().map(|(gone_at_ms, _)| *gone_at_ms)
    }

    /// The users who were told to be there.
    pub(crate) fn told(&self) -> impl Iterator<Item = (&Arc<User>, Option<IpAddr>)> {
        let told = self.users.iter().filter(|(_, presence)| presence.is_told);
        told.map(|(user, presence)| (user, presence.ip))
    }

    pub(crate) fn user_count(&self) -> usize {
        self.users.len()
    }

    /// News that was left out: of users too many, and of those who came and went without room.
    pub(crate) fn dropped_count(&self) -> u64 {
        self.dropped
    }

    /// Makes news of how things are with the user, if that is not what was told last, and forgets
    /// who is gone.
    fn tell(&mut self, user: &Arc<User>, has_room: bool, now: Moment) -> Option<News> {
        let presence = self.users.get_mut(user)?;
        let is_gone =
            presence.left.as_ref().is_some_and(|left| left.gone_at_ms <= now.monotonic_ms);
        let is_there = !is_gone;
        if presence.is_told == is_there {
            if let Some(owed) = presence.owed.take() {
                self.owed.remove(&owed);
                // It changed and changed back, and neither was told.
                self.dropped += 2;
            }
            if is_gone {
                self.users.remove(user);
            }
            return None;
        }
        if !has_room {
            if presence.owed.is_none() {
                presence.owed = Some(self.owed_count);
                self.owed.insert(self.owed_count, user.clone());
                self.owed_count += 1;
            }
            return None;
        }
        if let Some(owed) = presence.owed.take() {
            self.owed.remove(&owed);
        }
        presence.is_told = is_there;
        let ip = presence.ip;
        if is_there {
            return Some(News::new(Kind::Connected, user.clone(), ip, now.unix_ms, None));
        }
        let left = self.users.remove(user)?.left?;
        Some(News::new(Kind::Disconnected, user.clone(), ip, left.unix_ms, left.reason))
    }
}

#[cfg(test)]
mod tests;
