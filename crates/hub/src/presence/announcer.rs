//! What is to be told: the difference between who is there and who was told to be.
//!
//! Pure: time is an argument, and it stands still while nobody can see who is there. Every node
//! looks, so that none begins anew when another one has died; only the one that leads tells.

use std::collections::{HashMap, HashSet};

use tidings_core::Topic;

use crate::presence::attendance::{Topics, UnixSeconds};
use crate::presence::ledger::{Change, Ledger, News, Place};

#[derive(Debug)]
pub(crate) struct Announcer {
    grace_ms: u64,
    members_max: usize,
    /// Who was told to be there and is not, since when.
    absent: HashMap<Place, u64>,
    /// What was told to follow which event, and when, but not read back yet.
    proposed: HashMap<Place, (u64, u64)>,
    /// What the next event about a member follows, where that is forgotten.
    forgotten: HashMap<Place, u64>,
}

/// What to do.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// Changes to tell, at most as many as were asked for.
    pub(crate) changes: Vec<Change>,
    /// When there may be more although nothing else happens.
    pub(crate) due_ms: Option<u64>,
}

impl Announcer {
    pub(crate) fn new(grace_ms: u64, members_max: usize) -> Self {
        Self {
            grace_ms,
            members_max,
            absent: HashMap::new(),
            proposed: HashMap::new(),
            forgotten: HashMap::new(),
        }
    }

    /// Looks at who is there on each node, and was told to be.
    pub(crate) fn poll(
        &mut self,
        nodes: &[&Topics],
        ledger: &Ledger,
        now_ms: u64,
        now: UnixSeconds,
        changes_max: usize,
    ) -> Task {
        let mut task = Task::default();
        let mut users: HashMap<Topic, u64> = HashMap::new();
        let mut absent = HashMap::new();
        let mut forgotten = HashMap::new();
        let mut follows = |place: &Place, told: u64| {
            let known = self.forgotten.get(place).copied().filter(|it| *it > told);
            if let Some(known) = known {
                forgotten.insert(place.clone(), known);
            }
            known.unwrap_or(told)
        };
        for (topic, member, told) in ledger.all().filter(|(_, _, told)| told.is_present) {
            *users.entry(topic.clone()).or_default() += 1;
            let is_here = |node: &&Topics| {
                node.get(topic).is_some_and(|attendance| attendance.members.contains_key(member))
            };
            if nodes.iter().any(is_here) {
                continue;
            }
            let place = (topic.clone(), member.clone());
            let since = self.absent.get(&place).copied().unwrap_or(now_ms);
            absent.insert(place.clone(), since);
            let gone_at = since.saturating_add(self.grace_ms);
            if gone_at > now_ms {
                task.due_ms = Some(task.due_ms.map_or(gone_at, |due| due.min(gone_at)));
            } else {
                let after = follows(&place, told.offset);
                let change = Change { news: News::Left, place, after, users: 0, at: now };
                self.propose(change, now_ms, &mut task);
            }
        }
        let mut joining = HashSet::new();
        let mut room = self.members_max.saturating_sub(ledger.present_count());
        for (topic, attendance) in nodes.iter().flat_map(|node| node.iter()) {
            for member in attendance.members.keys() {
                let place = (topic.clone(), member.clone());
                let told = ledger.told(&place);
                if told.is_some_and(|told| told.is_present) || !joining.insert(place.clone()) {
                    continue;
                }
                let after = follows(&place, told.map_or(0, |told| told.offset));
                if let Some(left) = room.checked_sub(1) {
                    room = left;
                    let change = Change { news: News::Joined, place, after, users: 0, at: now };
                    self.propose(change, now_ms, &mut task);
                }
            }
        }
        self.absent = absent;
        self.forgotten = forgotten;
        let absent = &self.absent;
        self.proposed.retain(|place, _| absent.contains_key(place) || joining.contains(place));
        task.changes.truncate(changes_max);
        for change in &mut task.changes {
            let users = users.entry(change.place.0.clone()).or_default();
            *users = match change.news {
                News::Joined => *users + 1,
                News::Left => users.saturating_sub(1),
            };
            change.users = *users;
        }
        task
    }

    /// Nobody has looked for so long that who was absent may have been there meanwhile.
    pub(crate) fn handle_blind(&mut self) {
        self.absent.clear();
    }

    /// A change is on its way into the log.
    pub(crate) fn handle_proposed(&mut self, change: &Change, now_ms: u64) {
        self.proposed.insert(change.place.clone(), (change.after, now_ms));
    }

    /// A change did not get into the log.
    pub(crate) fn handle_failed(&mut self, change: &Change) {
        self.proposed.remove(&change.place);
    }

    /// A change was told before, by the event at `offset`, and the ledger had read that when it was
    /// proposed: so it is forgotten, and what follows it is the change.
    pub(crate) fn handle_forgotten(&mut self, change: &Change, offset: u64) {
        self.proposed.remove(&change.place);
        self.forgotten.insert(change.place.clone(), offset);
    }

    /// Adds a change to the task, unless it was proposed just now.
    fn propose(&self, change: Change, now_ms: u64, task: &mut Task) {
        if let Some((after, at)) = self.proposed.get(&change.place)
            && *after == change.after
            && *at + REPEAT_MS > now_ms
        {
            let due = *at + REPEAT_MS;
            task.due_ms = Some(task.due_ms.map_or(due, |it| it.min(due)));
            return;
        }
        task.changes.push(change);
    }
}

/// Who is there for less than this may go unseen; after more, those who look have been blind.
pub(crate) const BLIND_MS: u64 = 3_000;
/// How long to wait until what is in the log is read back, before it is told again.
const REPEAT_MS: u64 = 2_000;

#[cfg(test)]
mod tests;
