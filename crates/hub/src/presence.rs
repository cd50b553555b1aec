//! Who is there: the members of topics, over all nodes, and news of who joined and left.
//!
//! A member is a user with a stream on a topic by its exact name. Each node knows its own streams
//! (`registry.rs`), and puts up for the others who is there on it (`note.rs`, `nodes.rs`). What was
//! told stands in the log alone (`ledger.rs`); one node tells what has changed (`announcer.rs`), and if
//! two think that they are to, the log takes it once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidings_core::{Identity, Interest, Position, ReadOutcome, Selector, Topic};
use tidings_sse::{Decoder, DecoderLimits, Item};
use tokio::sync::{mpsc, oneshot};

use crate::clock::unix_now;
use crate::delivery::Encoded;
use crate::journal::Work;
use crate::presence::attendance::{Attendance, Here, UnixSeconds};
use crate::presence::clerk::Clerk;
use crate::presence::ledger::Ledger;
use crate::presence::nodes::Nodes;
use crate::presence::registry::Registry;
use crate::surroundings::Surroundings;

mod announcer;
mod attendance;
mod clerk;
mod ledger;
mod nodes;
mod note;
mod registry;

pub use attendance::Member;
pub use ledger::RESERVED_KEYS;
pub use registry::PresenceScope;
pub(crate) use registry::Stay;

/// Of which topics it is known who is there.
#[derive(Debug, Clone)]
pub struct PresenceOptions {
    /// Topics of which those may know who is there, and be known to be, whose rights cover the topic's
    /// private events. Default none.
    pub topics: Vec<Selector>,
    /// Topics of which everybody may know how many are there. A topic that is among both needs the
    /// right. Default none.
    pub public_topics: Vec<Selector>,
    /// Who comes back within this time has not left. Should be longer than clients take to come back
    /// from a node that ends, which is up to five times [`HubOptions::retry`](crate::HubOptions::retry).
    /// Default 15 s.
    pub grace: Duration,
    /// Members to know at most on one node, each counted on each of its topics, and topics. More are
    /// counted as connections without a name, or on more topics not at all. Default 100,000.
    pub members_max: usize,
    /// Members to know at most of one topic on one node. Default 10,000.
    pub topic_members_max: usize,
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            public_topics: Vec::new(),
            grace: Duration::from_secs(15),
            members_max: 100_000,
            topic_members_max: 10_000,
        }
    }
}

impl PresenceOptions {
    /// Whether there is anything to know.
    pub(crate) fn is_on(&self) -> bool {
        !self.topics.is_empty() || !self.public_topics.is_empty()
    }
}

/// Who is there on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPresence {
    /// The topic.
    pub topic: Topic,
    /// Streams and polls that are open, of members and of others.
    pub connections: u64,
    /// How many members there are.
    pub users: u64,
    /// Some of them, in the order of their names.
    pub members: Vec<PresentMember>,
    /// Whether there are more behind the last of these.
    pub is_more: bool,
}

/// Somebody who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentMember {
    /// Who it is.
    pub member: Member,
    /// How many streams it has open; none if it has left less than the grace ago.
    pub connections: u64,
    /// Since when, in seconds since the beginning of 1970.
    pub since: u64,
}

/// What is counted of it.
#[derive(Debug, Clone, Default)]
pub struct PresenceFigures {
    /// Members on this node, each counted on each of its topics.
    pub members: u64,
    /// How often one joined who could not be named for a limit.
    pub unnamed: u64,
    /// Other nodes that are known to live.
    pub nodes: u64,
    /// Whether this node is the one that tells who joined and left.
    pub leads: bool,
    /// Changes that this node told, joined and left.
    pub told: [u64; 2],
    /// How often this node could not exchange notes with others, or tell of a change.
    pub failures: u64,
}

/// What the threads of a hub know of who is there.
pub(crate) struct Presence {
    registry: Arc<Registry>,
    around: Surroundings,
    /// The events that tell who joined and left.
    news: Interest,
    book: Mutex<Book>,
    leads: AtomicBool,
    told: [AtomicU64; 2],
    failures: AtomicU64,
}

/// What the clerk has found out.
struct Book {
    nodes: Nodes,
    ledger: Ledger,
}

/// Keeps the clerk at work until it is dropped.
pub(crate) struct Handle {
    pub(crate) presence: Arc<Presence>,
    clerk: std_mpsc::Sender<oneshot::Sender<()>>,
}

impl Handle {
    /// The clerk is to work in a thread of its own.
    pub(crate) fn new(
        presence: Arc<Presence>,
        around: Surroundings,
        journal: mpsc::WeakSender<Work>,
    ) -> (Self, Clerk) {
        let (clerk, finish) = std_mpsc::channel();
        let handle = Self { presence: Arc::clone(&presence), clerk };
        (handle, Clerk::new(presence, around, journal, finish))
    }

    /// Ends the work of the clerk, and tells the other nodes.
    pub(crate) async fn finish(&self, within: Duration) {
        let (done, finished) = oneshot::channel();
        if self.clerk.send(done).is_ok() {
            let _ = tokio::time::timeout(within, finished).await;
        }
    }
}

impl Presence {
    /// A stream begins; it is there until what is returned is dropped.
    pub(crate) fn join(&self, interest: &Interest, identity: Option<&Identity>) -> Option<Stay> {
        self.registry.join(interest, identity, unix_seconds())
    }

    pub(crate) fn scope(&self, topic: &Topic) -> Option<PresenceScope> {
        self.registry.scope(topic)
    }

    /// Who is there on some topics, at most `limit` members of each, from the one after `after` on; and
    /// the position after which the events follow that tell of changes to that.
    pub(crate) fn of(
        &self,
        topics: &[Topic],
        after: Option<&Member>,
        limit: usize,
    ) -> (Position, Vec<TopicPresence>) {
        let mut book = self.book();
        // Who has received an event finds the list up to it.
        self.read_tail(&mut book);
        let Book { nodes, ledger } = &*book;
        let offset = ledger.position().saturating_sub(1);
        let of = |topic: &Topic| {
            self.registry.with_topics(|own| {
                let others = nodes.topics().filter_map(|topics| topics.get(topic));
                let present = gather(own.get(topic).into_iter().chain(others), topic, ledger);
                present.page(topic, after, limit)
            })
        };
        (Position { epoch: ledger.epoch(), offset }, topics.iter().map(of).collect())
    }

    /// Reads what was told since, as far as the tail holds it, and says whether that is all.
    fn read_tail(&self, book: &mut Book) -> bool {
        let Surroundings { tail, log, read_limit, .. } = &self.around;
        let ledger = &mut book.ledger;
        loop {
            let (from, until) = (ledger.position(), tail.next());
            if tail.life().epoch != ledger.epoch() {
                return false;
            }
            if from >= until {
                return true;
            }
            let read = tail.read(ledger.epoch(), from, until, &self.news, &**log, *read_limit);
            let Some(ReadOutcome::Entries { entries, next, .. }) = read else { return false };
            for entry in entries {
                ledger.handle_event(entry.offset, entry.event_type.as_ref(), &data_of(&entry));
            }
            ledger.handle_read(next);
        }
    }

    pub(crate) fn figures(&self) -> PresenceFigures {
        let (members, unnamed) = self.registry.counts();
        PresenceFigures {
            members,
            unnamed,
            nodes: self.book().nodes.count(),
            leads: self.leads.load(Relaxed),
            told: [0, 1].map(|place| self.told[place].load(Relaxed)),
            failures: self.failures.load(Relaxed),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread panics while it holds the book")
    }
}

/// Who is there on one topic, over all nodes.
struct Gathered<'a> {
    connections: u64,
    members: BTreeMap<&'a Member, Here>,
}

fn gather<'a>(
    attendances: impl Iterator<Item = &'a Attendance>,
    topic: &Topic,
    ledger: &'a Ledger,
) -> Gathered<'a> {
    let mut gathered = Gathered { connections: 0, members: BTreeMap::new() };
    for attendance in attendances {
        gathered.connections = gathered.connections.saturating_add(attendance.connections);
        for (member, here) in &attendance.members {
            match gathered.members.entry(member) {
                Entry::Occupied(mut known) => *known.get_mut() = known.get().and(*here),
                Entry::Vacant(place) => drop(place.insert(*here)),
            }
        }
    }
    // Who was told to be there is, until told to have left.
    for (member, told) in ledger.members(topic).filter(|(_, told)| told.is_present) {
        let told = Here { connections: 0, since: told.at };
        match gathered.members.entry(member) {
            Entry::Occupied(mut known) => *known.get_mut() = known.get().and(told),
            Entry::Vacant(place) => drop(place.insert(told)),
        }
    }
    gathered
}

impl Gathered<'_> {
    fn page(&self, topic: &Topic, after: Option<&Member>, limit: usize) -> TopicPresence {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.members.range::<&Member, _>((from, Bound::Unbounded));
        let members = rest.by_ref().take(limit).map(|(member, here)| PresentMember {
            member: Member::clone(member),
            connections: here.connections,
            since: here.since,
        });
        TopicPresence {
            topic: topic.clone(),
            connections: self.connections,
            users: self.members.len() as u64,
            members: members.collect(),
            is_more: rest.next().is_some(),
        }
    }
}

/// The data of an event, as a client reads it.
fn data_of(entry: &Encoded) -> String {
    let mut bytes = entry.payload.frame.sse();
    let bytes_max = bytes.len();
    let limits = DecoderLimits { line_bytes_max: bytes_max, event_bytes_max: bytes_max };
    match Decoder::new(limits).decode(&mut bytes) {
        Ok(Some(Item::Event(event))) => event.data,
        _ => String::new(),
    }
}

fn unix_seconds() -> UnixSeconds {
    unix_now() / 1_000
}
