//! Who was told to be there: what the events of the log say, one after the other.
//!
//! Every node that reads the same events holds the same, so the log alone decides. An event that
//! tells of a change names by its key the event before it about the same member: whoever tells the
//! same change twice, or has not read of the last one, tells nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use tidings_core::{Epoch, EventType, Topic};
use tidings_log::{Key, Record};

use crate::presence::attendance::{Member, UnixSeconds};

/// A member of a topic.
pub(crate) type Place = (Topic, Arc<Member>);

/// What is told of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum News {
    Joined,
    Left,
}

/// A change that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) news: News,
    pub(crate) place: Place,
    /// The offset of the event about this member that it follows; 0 if none is known.
    pub(crate) after: u64,
    /// How many members the topic has with that.
    pub(crate) users: u64,
    pub(crate) at: UnixSeconds,
}

/// What was told last of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) offset: u64,
    pub(crate) is_present: bool,
    pub(crate) at: UnixSeconds,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    epoch: Epoch,
    /// Everything before this offset was read.
    position: u64,
    topics: HashMap<Topic, BTreeMap<Arc<Member>, Told>>,
    /// Members that are there, and as how many they are counted on each topic.
    present: usize,
    /// Those who left, in the order of the log. They are remembered for a while so that all nodes
    /// agree on what the next event about them follows.
    gone: VecDeque<(u64, UnixSeconds, Place)>,
}

/// The data of an event.
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    topic: String,
    user: Box<str>,
    issuer: Option<Box<str>>,
    users: u64,
    at: UnixSeconds,
}

impl News {
    const JOINED: &str = "tidings.joined";
    const LEFT: &str = "tidings.left";

    pub(crate) fn event_types() -> Vec<EventType> {
        [Self::Joined, Self::Left].map(Self::event_type).into()
    }

    fn event_type(self) -> EventType {
        let text = match self {
            Self::Joined => Self::JOINED,
            Self::Left => Self::LEFT,
        };
        EventType::parse(text).expect("it is short")
    }

    fn of(event_type: Option<&EventType>) -> Option<Self> {
        match event_type?.as_str() {
            Self::JOINED => Some(Self::Joined),
            Self::LEFT => Some(Self::Left),
            _ => None,
        }
    }
}

impl Change {
    /// The event that tells it; `None` if its topic is too long to have one.
    pub(crate) fn record(&self, epoch: Epoch) -> Option<Record> {
        let (topic, member) = &self.place;
        let presence = Topic::parse(Topic::PRESENCE).ok()?;
        let data = Data {
            topic: topic.to_string(),
            user: member.user.clone(),
            issuer: member.issuer.clone(),
            users: self.users,
            at: self.at,
        };
        let data = serde_json::to_string(&data).ok()?;
        let mut record = Record::new([topic.presence()?, presence], data);
        record.event_type = Some(self.news.event_type());
        record.private = true;
        record.key = Key::parse(&self.key(epoch)).ok();
        Some(record)
    }

    /// Names the change, on all nodes alike. An offset names its member already; without one the member
    /// does, as a hash.
    fn key(&self, epoch: Epoch) -> String {
        let news = match self.news {
            News::Joined => "joined",
            News::Left => "left",
        };
        if self.after > 0 {
            return format!("{RESERVED_KEYS}{news}:{epoch}:{}", self.after);
        }
        let (topic, member) = &self.place;
        let mut hasher = SipHasher13::new();
        for text in [topic.as_str(), member.issuer.as_deref().unwrap_or_default(), &member.user] {
            hasher.write_u64(text.len() as u64);
            hasher.write(text.as_bytes());
        }
        hasher.write_u8(u8::from(member.issuer.is_some()));
        format!("{RESERVED_KEYS}{news}:{epoch}:{:032x}-", hasher.finish128().as_u128())
    }
}

impl Ledger {
    /// Knows nothing yet of what the log tells from `position` on.
    pub(crate) fn new(epoch: Epoch, position: u64) -> Self {
        Self { epoch, position, topics: HashMap::new(), present: 0, gone: VecDeque::new() }
    }

    /// Goes on from what another node has read.
    pub(crate) fn from_told(
        epoch: Epoch,
        position: u64,
        told: impl IntoIterator<Item = (Place, Told)>,
    ) -> Self {
        let mut told: Vec<_> = told.into_iter().collect();
        told.sort_by_key(|(_, told)| told.offset);
        let mut ledger = Self::new(epoch, position);
        for (place, told) in told {
            ledger.note(place, told);
        }
        ledger
    }

    /// Reads an event. What was read before changes nothing.
    pub(crate) fn handle_event(&mut self, offset: u64, event_type: Option<&EventType>, data: &str) {
        if offset < self.position {
            return;
        }
        self.position = offset + 1;
        let Some(news) = News::of(event_type) else { return };
        let Ok(data) = serde_json::from_str::<Data>(data) else { return };
        let Ok(topic) = Topic::parse(&data.topic) else { return };
        let member = Arc::new(Member { issuer: data.issuer, user: data.user });
        let is_present = news == News::Joined;
        self.note((topic, member), Told { offset, is_present, at: data.at });
        self.forget(data.at);
    }

    /// Everything before this offset is read.
    pub(crate) fn handle_read(&mut self, next: u64) {
        self.position = self.position.max(next);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// What was told last of a member.
    pub(crate) fn told(&self, (topic, member): &Place) -> Option<Told> {
        self.topics.get(topic)?.get(member).copied()
    }

    /// What was told last of the members of a topic.
    pub(crate) fn members(&self, topic: &Topic) -> impl Iterator<Item = (&Arc<Member>, &Told)> {
        self.topics.get(topic).into_iter().flatten()
    }

    /// What was told last of everybody.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Topic, &Arc<Member>, &Told)> {
        self.topics.iter().flat_map(|(topic, members)| {
            members.iter().map(move |(member, told)| (topic, member, told))
        })
    }

    /// As how many all members are counted who were told to be there.
    pub(crate) fn present_count(&self) -> usize {
        self.present
    }

    fn note(&mut self, place: Place, told: Told) {
        let (topic, member) = &place;
        let members = self.topics.entry(topic.clone()).or_default();
        let before = members.insert(Arc::clone(member), told);
        self.present -= usize::from(before.is_some_and(|before| before.is_present));
        self.present += usize::from(told.is_present);
        if !told.is_present {
            self.gone.push_back((told.offset, told.at, place));
        }
    }

    /// Forgets those who left long ago. When is decided by what stands in the log alone.
    fn forget(&mut self, now: UnixSeconds) {
        while let Some((offset, at, (topic, member))) = self.gone.front()
            && (at.saturating_add(GONE_AGE_MAX_S) <= now || self.gone.len() > GONE_MAX)
        {
            if let Some(members) = self.topics.get_mut(topic) {
                if members.get(member).is_some_and(|told| told.offset == *offset) {
                    members.remove(member);
                }
                if members.is_empty() {
                    self.topics.remove(topic);
                }
            }
            self.gone.pop_front();
        }
    }
}

/// The beginning of the keys of events that tell who joined and left. Who publishes for others is not
/// to let them use such keys: they could keep a change from being told.
pub const RESERVED_KEYS: &str = "tidings.presence:";
/// How long those who left are remembered.
const GONE_AGE_MAX_S: u64 = 60 * 60;
/// And how many of them.
const GONE_MAX: usize = 100_000;

#[cfg(test)]
mod tests;
