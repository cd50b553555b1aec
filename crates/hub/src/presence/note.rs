//! What nodes tell each other, as JSON. What is read was written by others: it is bounded, and believed
//! as a whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_core::{Epoch, Topic};

use crate::presence::attendance::{Attendance, Here, Member, Topics, UnixSeconds};
use crate::presence::ledger::{Ledger, Told};
use crate::presence::nodes::Beat;

/// Grows with each change that others would misread.
const VERSION: u32 = 1;

/// Why a note is not believed.
pub(crate) type NoteError = String;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BeatNote {
    version: u32,
    count: u64,
    started_ms: u64,
    attendance: u64,
    is_ready: bool,
    is_leaving: bool,
}

/// Names of issuers stand once.
#[derive(Serialize, Deserialize)]
struct TopicsNote {
    version: u32,
    attendance: u64,
    issuers: Vec<Box<str>>,
    topics: Vec<(Box<str>, u64, Vec<HereNote>)>,
}

/// The issuer's place, the user, connections, since when.
type HereNote = (Option<usize>, Box<str>, u64, UnixSeconds);

#[derive(Serialize, Deserialize)]
struct LedgerNote {
    version: u32,
    epoch: String,
    position: u64,
    issuers: Vec<Box<str>>,
    topics: Vec<(Box<str>, Vec<ToldNote>)>,
}

/// The issuer's place, the user, the offset, whether it is there, when.
type ToldNote = (Option<usize>, Box<str>, u64, bool, UnixSeconds);

/// Gives each issuer a place.
#[derive(Default)]
struct Issuers<'a>(BTreeMap<&'a str, usize>);

impl<'a> Issuers<'a> {
    fn place_of(&mut self, member: &'a Member) -> Option<usize> {
        let next = self.0.len();
        Some(*self.0.entry(member.issuer.as_deref()?).or_insert(next))
    }

    fn into_list(self) -> Vec<Box<str>> {
        let mut list: Vec<_> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(_, place)| *place);
        list.into_iter().map(|(issuer, _)| issuer.into()).collect()
    }
}

pub(crate) fn write_beat(beat: &Beat) -> Vec<u8> {
    let &Beat { count, started_ms, version: attendance, is_ready, is_leaving } = beat;
    to_json(&BeatNote { version: VERSION, count, started_ms, attendance, is_ready, is_leaving })
}

pub(crate) fn read_beat(note: &[u8]) -> Result<Beat, NoteError> {
    let note: BeatNote = from_json(note)?;
    check_version(note.version)?;
    let BeatNote { version: _, count, started_ms, attendance, is_ready, is_leaving } = note;
    Ok(Beat { count, started_ms, version: attendance, is_ready, is_leaving })
}

pub(crate) fn write_topics(version: u64, topics: &Topics) -> Vec<u8> {
    let mut issuers = Issuers::default();
    let list = topics.iter().map(|(topic, attendance)| {
        let members = attendance.members.iter().map(|(member, here)| {
            (issuers.place_of(member), member.user.clone(), here.connections, here.since)
        });
        (topic.as_str().into(), attendance.connections, members.collect())
    });
    let topics = list.collect();
    let issuers = issuers.into_list();
    to_json(&TopicsNote { version: VERSION, attendance: version, issuers, topics })
}

/// Reads who is there on another node, `members_max` at most, and the version of that.
pub(crate) fn read_topics(note: &[u8], members_max: usize) -> Result<(u64, Topics), NoteError> {
    let note: TopicsNote = from_json(note)?;
    check_version(note.version)?;
    let count = note.topics.iter().map(|(_, _, members)| members.len()).sum();
    check_count(note.topics.len(), members_max)?;
    check_count(count, members_max)?;
    let mut topics = HashMap::with_capacity(note.topics.len());
    for (topic, connections, list) in note.topics {
        let mut members = BTreeMap::new();
        for (issuer, user, connections, since) in list {
            let member = member(&note.issuers, issuer, user)?;
            members.insert(Arc::new(member), Here { connections, since });
        }
        topics.insert(parse_topic(&topic)?, Attendance { connections, members });
    }
    Ok((note.attendance, topics))
}

/// `None` if there is too much to tell.
pub(crate) fn write_ledger(ledger: &Ledger) -> Option<Vec<u8>> {
    let mut issuers = Issuers::default();
    let mut topics: BTreeMap<&Topic, Vec<ToldNote>> = BTreeMap::new();
    for (topic, member, told) in ledger.all() {
        let &Told { offset, is_present, at } = told;
        let issuer = issuers.place_of(member);
        let note = (issuer, member.user.clone(), offset, is_present, at);
        topics.entry(topic).or_default().push(note);
    }
    let topics = topics.into_iter().map(|(topic, told)| (topic.as_str().into(), told)).collect();
    let note = to_json(&LedgerNote {
        version: VERSION,
        epoch: ledger.epoch().to_string(),
        position: ledger.position(),
        issuers: issuers.into_list(),
        topics,
    });
    (note.len() <= LEDGER_BYTES_MAX).then_some(note)
}

pub(crate) fn read_ledger(note: &[u8]) -> Result<Ledger, NoteError> {
    let note: LedgerNote = from_json(note)?;
    check_version(note.version)?;
    let epoch: Epoch = note.epoch.parse().map_err(|_| "it names no life of a log")?;
    let mut all = Vec::new();
    for (topic, list) in note.topics {
        let topic = parse_topic(&topic)?;
        for (issuer, user, offset, is_present, at) in list {
            if offset >= note.position {
                return Err("it tells of what it has not read".into());
            }
            let member = Arc::new(member(&note.issuers, issuer, user)?);
            all.push(((topic.clone(), member), Told { offset, is_present, at }));
        }
    }
    Ok(Ledger::from_told(epoch, note.position, all))
}

fn to_json(note: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(note).expect("a note is plain JSON")
}

fn from_json<'a, T: Deserialize<'a>>(note: &'a [u8]) -> Result<T, NoteError> {
    serde_json::from_slice(note).map_err(|error| error.to_string())
}

fn check_version(version: u32) -> Result<(), NoteError> {
    if version == VERSION { Ok(()) } else { Err(format!("it is of version {version}")) }
}

fn check_count(count: usize, count_max: usize) -> Result<(), NoteError> {
    if count <= count_max { Ok(()) } else { Err(format!("it has {count} entries")) }
}

fn parse_topic(text: &str) -> Result<Topic, NoteError> {
    Topic::parse(text).map_err(|error| error.to_string())
}

fn member(
    issuers: &[Box<str>],
    issuer: Option<usize>,
    user: Box<str>,
) -> Result<Member, NoteError> {
    let find = |place: usize| issuers.get(place).cloned().ok_or("it names no such issuer");
    let issuer = issuer.map(find).transpose()?;
    let is_name = |text: &str| text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    if is_name(&user) && issuer.as_deref().is_none_or(is_name) {
        Ok(Member { issuer, user })
    } else {
        Err("a name is too long, or has control characters".into())
    }
}

/// As those of tokens.
const NAME_BYTES_MAX: usize = 1_024;
/// Somewhat less than notes may have.
const LEDGER_BYTES_MAX: usize = 12 << 20;

#[cfg(test)]
mod tests;
