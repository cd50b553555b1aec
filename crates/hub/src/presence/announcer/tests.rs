//! Random worlds: nodes that start, die and cannot reach the store, users that come and go, and more
//! than one node that thinks it leads. Whatever happens, joined and left take turns, nobody who is there
//! is told to have left, and in the end what was told is what is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use tidings_core::{Epoch, EventType};

use super::*;
use crate::presence::attendance::{Here, Member};
use crate::presence::ledger::Told;
use crate::presence::nodes::{Beat, NodeId, Nodes};
use crate::presence::note::{read_ledger, write_ledger};

const TICK_MS: u64 = 200;
const GRACE_MS: u64 = 6_000;
/// What takes no longer may go unseen.
const LAG_MS: u64 = BLIND_MS + 2 * TICK_MS;

/// On which nodes a user has streams on a topic.
type Stays = BTreeMap<(usize, usize), BTreeSet<NodeId>>;

struct Entry {
    event_type: EventType,
    data: String,
}

struct World {
    rng: Rng,
    seed: u64,
    now_ms: u64,
    unix: UnixSeconds,
    log: Vec<Entry>,
    keys: HashMap<String, u64>,
    beats: HashMap<NodeId, (Beat, Topics)>,
    ledger: Option<Vec<u8>>,
    stays: Stays,
    /// Since when a node that a user is on says so.
    seen_since: BTreeMap<(usize, usize), u64>,
    /// When users were last seen to be there, for long enough.
    last_seen: BTreeMap<(usize, usize), u64>,
    told: BTreeMap<(usize, usize), News>,
    repeated: usize,
    forgotten: usize,
    is_calm: bool,
}

struct Node {
    id: NodeId,
    version: u64,
    topics: Topics,
    beats: u64,
    nodes: Nodes,
    ledger: Ledger,
    announcer: Announcer,
    is_ready: bool,
    watched_ms: u64,
    last_ms: Option<u64>,
    /// Cannot reach the store until then.
    cut_until_ms: u64,
}

fn topic(place: usize) -> Topic {
    Topic::parse(&format!("chat/{place}")).unwrap()
}

fn member(place: usize) -> Arc<Member> {
    Arc::new(Member { issuer: None, user: format!("user-{place}").into() })
}

impl Node {
    fn start(world: &mut World) -> Self {
        let id = NodeId(world.rng.u64(..));
        let ledger = world.ledger.as_ref().map(|note| read_ledger(note).unwrap());
        let ledger = ledger.filter(|_| world.rng.bool());
        Self {
            id,
            version: 0,
            topics: Topics::new(),
            beats: 0,
            nodes: Nodes::new(id, world.now_ms),
            ledger: ledger.unwrap_or_else(|| Ledger::new(epoch(), 1)),
            announcer: Announcer::new(GRACE_MS, 100),
            is_ready: false,
            watched_ms: 0,
            last_ms: None,
            cut_until_ms: 0,
        }
    }

    fn connect(&mut self, (topic_of, user): (usize, usize)) {
        self.version += 1;
        let attendance = self.topics.entry(topic(topic_of)).or_default();
        attendance.connections += 1;
        attendance.members.insert(member(user), Here { connections: 1, since: 0 });
    }

    fn disconnect(&mut self, (topic_of, user): (usize, usize)) {
        self.version += 1;
        let attendance = self.topics.get_mut(&topic(topic_of)).unwrap();
        attendance.connections -= 1;
        attendance.members.remove(&member(user)).unwrap();
    }

    /// Looks as the clerk does; says whether it survives.
    fn look(&mut self, world: &mut World) -> bool {
        if self.cut_until_ms > world.now_ms {
            return true;
        }
        self.beats += 1;
        let beat = Beat {
            count: self.beats,
            started_ms: self.nodes.started_ms(),
            version: self.version,
            is_ready: self.is_ready,
            is_leaving: false,
        };
        world.beats.insert(self.id, (beat, self.topics.clone()));
        let elapsed_ms = self.last_ms.map_or(0, |last| world.now_ms - last);
        if elapsed_ms > BLIND_MS {
            self.announcer.handle_blind();
        }
        let elapsed_ms = elapsed_ms.min(1_000);
        self.last_ms = Some(world.now_ms);
        self.watched_ms += elapsed_ms;
        let beats = world.beats.iter().map(|(id, (beat, _))| (*id, *beat));
        for id in self.nodes.handle_beats(beats, elapsed_ms) {
            let (beat, topics) = &world.beats[&id];
            self.nodes.handle_topics(id, beat.version, topics.clone());
        }
        let unread = world.log.len() as u64 + 1 - self.ledger.position();
        let steps = if world.is_calm || world.rng.u8(..4) > 0 { unread } else { unread / 2 };
        for _ in 0..steps {
            let offset = self.ledger.position();
            let Entry { event_type, data } = &world.log[offset as usize - 1];
            self.ledger.handle_event(offset, Some(event_type), data);
        }
        let has_read = steps == unread;
        self.is_ready |= has_read && self.nodes.is_complete();
        let is_told_to = !world.is_calm && world.rng.u8(..3) == 0;
        let leads = self.is_ready && (has_read && self.nodes.leads() || is_told_to);
        let topics: Vec<Arc<Topics>> = self.nodes.topics().cloned().collect();
        let all: Vec<&Topics> =
            std::iter::once(&self.topics).chain(topics.iter().map(|it| &**it)).collect();
        let task = self.announcer.poll(&all, &self.ledger, self.watched_ms, world.unix, 8);
        if !leads {
            return true;
        }
        for change in task.changes {
            if !world.is_calm && world.rng.u8(..50) == 0 {
                return false;
            }
            let offset = world.append(&change);
            self.announcer.handle_proposed(&change, self.watched_ms);
            if !world.is_calm && world.rng.u8(..50) == 0 {
                // It is told, and the node dies before it knows.
                return false;
            }
            if let Some(offset) = offset.filter(|offset| *offset < self.ledger.position()) {
                world.forgotten += 1;
                self.announcer.handle_forgotten(&change, offset);
            }
        }
        if world.rng.u8(..10) == 0 {
            world.ledger = write_ledger(&self.ledger);
        }
        true
    }
}

impl World {
    /// Appends an event, unless its key is known: then it says the offset of the first.
    fn append(&mut self, change: &Change) -> Option<u64> {
        let record = change.record(epoch()).unwrap();
        let key = record.key.unwrap().to_string();
        if let Some(offset) = self.keys.get(&key) {
            self.repeated += 1;
            return Some(*offset);
        }
        self.keys.insert(key, self.log.len() as u64 + 1);
        let event_type = record.event_type.unwrap();
        self.log.push(Entry { event_type, data: record.data.to_string() });
        let (topic, member) = &change.place;
        let digit = |text: &str| text.rsplit(['/', '-']).next().unwrap().parse().unwrap();
        let place = (digit(topic.as_str()), digit(&member.user));
        let before = self.told.insert(place, change.news).unwrap_or(News::Left);
        assert_ne!(before, change.news, "seed {}: {place:?} twice", self.seed);
        if change.news == News::Left {
            let last = self.last_seen.get(&place).copied().unwrap_or(0);
            let away_ms = self.now_ms - last;
            assert!(away_ms >= GRACE_MS, "seed {}: {place:?} left {away_ms} ms ago", self.seed);
        }
        None
    }

    fn see(&mut self) {
        let is_up = |place: &(usize, usize), id: &NodeId| {
            let attendance = self.beats.get(id).and_then(|(_, topics)| topics.get(&topic(place.0)));
            attendance.is_some_and(|it| it.members.contains_key(&member(place.1)))
        };
        let seen = self.stays.iter().filter(|(place, on)| on.iter().any(|id| is_up(place, id)));
        let seen: BTreeSet<_> = seen.map(|(place, _)| *place).collect();
        self.seen_since.retain(|place, _| seen.contains(place));
        for place in seen {
            if *self.seen_since.entry(place).or_insert(self.now_ms) + LAG_MS <= self.now_ms {
                self.last_seen.insert(place, self.now_ms);
            }
        }
    }

    fn end(&mut self, node: NodeId) {
        self.stays.retain(|_, on| {
            on.remove(&node);
            !on.is_empty()
        });
    }
}

fn epoch() -> Epoch {
    Epoch::from_random(7)
}

/// How many events were told, told twice, and told after what was forgotten.
fn check(seed: u64) -> [usize; 3] {
    let mut world = World {
        rng: Rng::with_seed(seed),
        seed,
        now_ms: 0,
        unix: 1_000_000,
        log: Vec::new(),
        keys: HashMap::new(),
        beats: HashMap::new(),
        ledger: None,
        stays: Stays::new(),
        seen_since: BTreeMap::new(),
        last_seen: BTreeMap::new(),
        told: BTreeMap::new(),
        repeated: 0,
        forgotten: 0,
        is_calm: false,
    };
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&mut world)).collect();
    for step in 0..1_500 {
        world.is_calm = step >= 1_300;
        world.now_ms += TICK_MS;
        world.see();
        if !world.is_calm {
            stir(&mut world, &mut nodes);
        }
        let mut alive = Vec::new();
        for mut node in nodes {
            if world.rng.u8(..5) > 0 && !node.look(&mut world) {
                world.end(node.id);
            } else {
                alive.push(node);
            }
        }
        nodes = alive;
        while nodes.len() < 3 && (world.is_calm || world.rng.u8(..20) == 0) {
            nodes.push(Node::start(&mut world));
        }
    }
    let present: BTreeSet<_> = world.stays.keys().copied().collect();
    let told = world.told.iter().filter(|(_, news)| **news == News::Joined);
    let told: BTreeSet<_> = told.map(|(place, _)| *place).collect();
    assert_eq!(told, present, "seed {seed}");
    for node in &nodes {
        let all = node.ledger.all().filter(|(_, _, told)| told.is_present);
        assert_eq!(all.count(), present.len(), "seed {seed}");
        assert_eq!(node.ledger.present_count(), present.len(), "seed {seed}");
    }
    [world.log.len(), world.repeated, world.forgotten]
}

/// Something happens, or nothing.
fn stir(world: &mut World, nodes: &mut Vec<Node>) {
    if nodes.is_empty() {
        return;
    }
    let at = world.rng.usize(..nodes.len());
    let place = (world.rng.usize(..2), world.rng.usize(..4));
    match world.rng.u8(..100) {
        0 => {
            let node = nodes.remove(at);
            world.end(node.id);
        }
        // Not for so long that others think it is dead: its users would be gone, as far as anybody knows.
        1 | 2 => nodes[at].cut_until_ms = world.now_ms + world.rng.u64(..6_000),
        // Who left before is forgotten.
        3 => world.unix += 2 * 60 * 60,
        4..10 => {
            let node = &mut nodes[at];
            if world.stays.entry(place).or_default().insert(node.id) {
                node.connect(place);
            }
        }
        10..15 => {
            let node = &mut nodes[at];
            if world.stays.get_mut(&place).is_some_and(|on| on.remove(&node.id)) {
                node.disconnect(place);
                world.stays.retain(|_, on| !on.is_empty());
            }
        }
        _ => {}
    }
}

#[test]
fn joined_and_left_take_turns_and_end_up_true() {
    let mut totals = [0; 3];
    for seed in 0..60 {
        for (total, count) in totals.iter_mut().zip(check(seed)) {
            *total += count;
        }
    }
    let [events, repeated, forgotten] = totals;
    assert!(events > 1_000 && repeated > 50 && forgotten > 3, "{totals:?}");
}

fn attendance(topics: &[(usize, &[usize])]) -> Topics {
    let here = Here { connections: 1, since: 0 };
    let mut all = Topics::new();
    for (place, users) in topics {
        let attendance = all.entry(topic(*place)).or_default();
        attendance.members.extend(users.iter().map(|user| (member(*user), here)));
    }
    all
}

#[track_caller]
fn check_changes(task: &Task, expected: &[(News, usize, u64, u64)]) {
    let changes = task.changes.iter();
    let changes: BTreeSet<_> = changes
        .map(|it| (format!("{:?} {}", it.news, it.place.1.user), it.after, it.users))
        .collect();
    let expected = expected.iter();
    let expected = expected
        .map(|(news, user, after, users)| (format!("{news:?} user-{user}"), *after, *users))
        .collect();
    assert_eq!(changes, expected);
}

#[test]
fn a_change_is_proposed_again_only_when_it_may_be_lost() {
    let mut announcer = Announcer::new(GRACE_MS, 100);
    let ledger = Ledger::new(epoch(), 1);
    let here = attendance(&[(0, &[1])]);
    let task = announcer.poll(&[&here], &ledger, 0, 0, 10);
    check_changes(&task, &[(News::Joined, 1, 0, 1)]);
    announcer.handle_proposed(&task.changes[0], 0);
    let again = announcer.poll(&[&here], &ledger, REPEAT_MS - 1, 0, 10);
    check_changes(&again, &[]);
    assert_eq!(again.due_ms, Some(REPEAT_MS));
    check_changes(&announcer.poll(&[&here], &ledger, REPEAT_MS, 0, 10), &[(News::Joined, 1, 0, 1)]);
    announcer.handle_failed(&task.changes[0]);
    check_changes(&announcer.poll(&[&here], &ledger, 1, 0, 10), &[(News::Joined, 1, 0, 1)]);
    // What is in the log without being in the ledger is what follows.
    announcer.handle_forgotten(&task.changes[0], 41);
    check_changes(&announcer.poll(&[&here], &ledger, 1, 0, 10), &[(News::Joined, 1, 41, 1)]);
}

#[test]
fn no_more_are_told_to_be_there_than_may_be_known() {
    let mut announcer = Announcer::new(GRACE_MS, 2);
    let place = |user| (topic(0), member(user));
    let told = Told { offset: 3, is_present: true, at: 0 };
    let ledger = Ledger::from_told(epoch(), 4, [(place(1), told)]);
    let here = attendance(&[(0, &[1, 2, 3, 4])]);
    let task = announcer.poll(&[&here], &ledger, 0, 0, 10);
    assert_eq!(task.changes.len(), 1);
    // Nobody else is there: after the grace, and not before, the first one has left.
    let elsewhere = attendance(&[(1, &[1])]);
    let waiting = announcer.poll(&[&elsewhere], &ledger, 100, 0, 10);
    check_changes(&waiting, &[(News::Joined, 1, 0, 1)]);
    assert_eq!(waiting.due_ms, Some(100 + GRACE_MS));
    let due = announcer.poll(&[&elsewhere], &ledger, 100 + GRACE_MS, 0, 10);
    check_changes(&due, &[(News::Left, 1, 3, 0), (News::Joined, 1, 0, 1)]);
}
