//! Who has streams open on this node.
//!
//! Bounded: beyond the bounds streams are counted and not named, and beyond those of topics not
//! counted either.

use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidings_core::{Identity, Interest, Selector, Topic};

use crate::PresenceOptions;
use crate::presence::attendance::{Here, Member, Topics, UnixSeconds};

#[derive(Debug)]
pub(crate) struct Registry {
    options: PresenceOptions,
    held: Mutex<Held>,
    unnamed: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    topics: Topics,
    /// Members of all topics; who is there on several counts for each.
    members: usize,
    /// Bytes of the names of topics and members.
    bytes: usize,
    version: u64,
}

/// Who may know, and be known, to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceScope {
    /// Those who may receive the topic's private events.
    Private,
    /// Whoever the hub admits.
    Public,
}

/// A stream that is there until this is dropped.
#[derive(Debug)]
pub(crate) struct Stay {
    registry: Arc<Registry>,
    /// With whether it is there by name.
    topics: Box<[(Topic, bool)]>,
    member: Option<Arc<Member>>,
}

impl Registry {
    pub(crate) fn new(options: PresenceOptions) -> Self {
        Self { options, held: Mutex::default(), unnamed: AtomicU64::new(0) }
    }

    pub(crate) fn options(&self) -> &PresenceOptions {
        &self.options
    }

    /// For whom it is known who is there on a topic; `None` if for nobody.
    pub(crate) fn scope(&self, topic: &Topic) -> Option<PresenceScope> {
        let is_among = |selectors: &[Selector]| selectors.iter().any(|it| it.matches(topic));
        if topic.is_reserved() || topic.presence().is_none() {
            None
        } else if is_among(&self.options.topics) {
            Some(PresenceScope::Private)
        } else if is_among(&self.options.public_topics) {
            Some(PresenceScope::Public)
        } else {
            None
        }
    }

    /// Takes note of a stream; `None` if it is there on no topic.
    pub(crate) fn join(
        self: &Arc<Self>,
        interest: &Interest,
        identity: Option<&Identity>,
        now: UnixSeconds,
    ) -> Option<Stay> {
        let counts = |topic: &&Topic| match self.scope(topic) {
            Some(PresenceScope::Private) => interest.may_receive(std::slice::from_ref(topic), true),
            Some(PresenceScope::Public) => true,
            None => false,
        };
        let exact = interest.selectors().iter().filter_map(|selector| match selector {
            Selector::Exact(topic) => Some(topic),
            Selector::All | Selector::Template(_) => None,
        });
        let mut topics = exact.filter(counts).peekable();
        topics.peek()?;
        let member = identity.and_then(Member::of).map(Arc::new);
        let mut held = self.held();
        let topics: Box<[_]> = topics
            .filter_map(|topic| {
                let is_named = held.join(topic, member.as_ref(), now, &self.options)?;
                if member.is_some() && !is_named {
                    self.unnamed.fetch_add(1, Ordering::Relaxed);
                }
                Some((topic.clone(), is_named))
            })
            .collect();
        held.version += 1;
        drop(held);
        Some(Stay { registry: Arc::clone(self), topics, member })
    }

    /// Changes whenever something else does.
    pub(crate) fn version(&self) -> u64 {
        self.held().version
    }

    /// Who is there, and the version of that.
    pub(crate) fn topics(&self) -> (u64, Topics) {
        let held = self.held();
        (held.version, held.topics.clone())
    }

    /// Looks at who is there. The node's streams wait for it.
    pub(crate) fn with_topics<T>(&self, look: impl FnOnce(&Topics) -> T) -> T {
        look(&self.held().topics)
    }

    /// Members that are there, counted on each topic, and how many joined and were not named for a
    /// limit.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.held().members as u64, self.unnamed.load(Ordering::Relaxed))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no thread panics while it holds who is there")
    }
}

impl Held {
    /// Says whether it is there by name; `None` if there are too many topics to know one more.
    fn join(
        &mut self,
        topic: &Topic,
        member: Option<&Arc<Member>>,
        now: UnixSeconds,
        options: &PresenceOptions,
    ) -> Option<bool> {
        if !self.topics.contains_key(topic) {
            let bytes = topic.as_str().len();
            if self.topics.len() >= options.members_max || self.bytes + bytes > NAMES_BYTES_MAX {
                return None;
            }
            self.bytes += bytes;
        }
        let attendance = self.topics.entry(topic.clone()).or_default();
        attendance.connections += 1;
        let Some(member) = member else { return Some(false) };
        let has_room = self.members < options.members_max
            && attendance.members.len() < options.topic_members_max
            && self.bytes + member.bytes() <= NAMES_BYTES_MAX;
        match attendance.members.entry(Arc::clone(member)) {
            Entry::Occupied(here) => here.into_mut().connections += 1,
            Entry::Vacant(place) if has_room => {
                self.members += 1;
                self.bytes += member.bytes();
                place.insert(Here { connections: 1, since: now });
            }
            Entry::Vacant(_) => return Some(false),
        }
        Some(true)
    }

    fn leave(&mut self, topic: &Topic, member: Option<&Arc<Member>>) {
        let Some(attendance) = self.topics.get_mut(topic) else { return };
        attendance.connections -= 1;
        if let Some(member) = member
            && let Some(here) = attendance.members.get_mut(member)
        {
            here.connections -= 1;
            if here.connections == 0 {
                attendance.members.remove(member);
                self.members -= 1;
                self.bytes -= member.bytes();
            }
        }
        if attendance.connections == 0 {
            self.topics.remove(topic);
            self.bytes -= topic.as_str().len();
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut held = self.registry.held();
        for (topic, is_named) in &self.topics {
            held.leave(topic, self.member.as_ref().filter(|_| *is_named));
        }
        held.version += 1;
    }
}

/// What all names together may have, so that they fit into one note for other nodes: written as JSON
/// they take at most twice as much, and some 40 bytes each.
const NAMES_BYTES_MAX: usize = 4 << 20;
