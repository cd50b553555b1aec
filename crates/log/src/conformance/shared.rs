//! What several nodes of one log can rely on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Entry, Epoch, Interest, Position, Topic};

use super::{
    Rule, ample, append, append_many, check, everything, interest, keyed, offsets, publish,
    read_all, record, rule_of, topic,
};
use crate::{
    AppendError, Appended, Body, EventLog, Followed, KeyWindow, ReadError, ReadLimit, ReadStep,
    Record, Refusal, Retention, SeekStep, UnixMillis,
};

/// Opens the log of one more node.
type Open<'a> = &'a dyn Fn() -> Box<dyn EventLog>;
type Case = fn(Open<'_>);

/// Runs every case on nodes of a new log of its own: `make` makes an empty store, and what it returns opens the log of
/// one more node in it. Then runs [`check`] on a log of which every append is made by another node, and all else is
/// asked of a third.
///
/// # Panics
///
/// If the log does not do what [`EventLog`] says.
pub fn check_shared<N>(make: impl Fn(Retention, KeyWindow) -> N)
where
    N: Fn() -> Box<dyn EventLog>,
{
    for case in CASES {
        case(&make(ample(), KeyWindow::default()));
    }
    for case in RULED_CASES {
        let rules = RULES.iter().map(|&rule| rule_of(rule)).collect();
        case(&make(Retention { rules, ..ample() }, KeyWindow::default()));
    }
    let narrow = Retention { events_max: 10, ..ample() };
    what_one_node_trims_is_gone_for_all(&make(narrow, KeyWindow::default()));
    check(|retention, keys| Box::new(Turns::new(&make(retention, keys))));
}

const CASES: [Case; 11] = [
    a_log_is_one_for_all_nodes,
    a_node_follows_what_comes_after_its_start,
    all_nodes_see_one_order,
    all_nodes_see_one_order_while_they_append_at_once,
    who_is_slow_misses_nothing,
    a_wait_ends_when_another_node_appends,
    a_key_is_known_to_all_nodes,
    a_topic_is_finished_for_all_nodes,
    a_position_is_confirmed_that_another_node_gave_out,
    notes_are_seen_by_all_nodes,
    a_closed_node_follows_on_and_stops_no_other,
];
const RULED_CASES: [Case; 2] =
    [a_node_that_starts_later_knows_what_was_dropped, nodes_that_drop_the_same_agree];
const RULES: [Rule; 2] = [("prices/{name}", 2, 0), ("old/{name}", 0, 1_000)];

fn a_log_is_one_for_all_nodes(open: Open<'_>) {
    let (one, other) = (open(), open());
    for node in [&one, &other] {
        assert!(node.is_shared() && node.is_known());
        assert_eq!((node.epoch(), node.failure()), (one.epoch(), None));
        assert_eq!(node.bounds(), Bounds { oldest: 1, next: 1 });
        assert_eq!(node.store().map(|store| (store.is_reached, store.next)), Some((true, 1)));
    }
    assert_eq!(one.append(vec![vec![record("a", "")]], 0).unwrap().epoch, one.epoch());
    assert_eq!(one.bounds(), Bounds { oldest: 1, next: 2 });
}

fn a_node_follows_what_comes_after_its_start(open: Open<'_>) {
    let first = open();
    append_many(&*first, 3, |_| "a");
    let later = open();
    assert_eq!(later.bounds(), Bounds { oldest: 1, next: 4 });
    append_many(&*first, 2, |_| "a");
    assert_eq!(offsets(&follow_up_to(&*later, 6)), [4, 5]);
    assert_eq!(offsets(&follow_up_to(&*first, 6)), [1, 2, 3, 4, 5]);
    assert_eq!(offsets(&read_all(&*later, &everything())), [1, 2, 3, 4, 5]);
}

fn all_nodes_see_one_order(open: Open<'_>) {
    let nodes = [open(), open(), open()];
    for round in 0..20 {
        for (number, node) in nodes.iter().enumerate() {
            append(&**node, vec![record("a", &format!("{round} {number}")); number + 1], 0);
        }
    }
    let followed = nodes.each_ref().map(|node| texts(&follow_up_to(&**node, 121)));
    assert_eq!(followed[0].len(), 120);
    assert!(followed.iter().all(|it| *it == followed[0]));
    assert_eq!(texts(&read_all(&*nodes[1], &everything())), followed[0]);
}

fn all_nodes_see_one_order_while_they_append_at_once(open: Open<'_>) {
    const APPENDS: u64 = 200;
    let nodes = [open(), open()];
    let reader = open();
    let all = [&nodes[0], &nodes[1], &reader];
    let next = 2 * 5 * APPENDS + 1;
    let followed: Vec<_> = std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            scope.spawn(move || {
                for append_number in 0..APPENDS {
                    let data = format!("{number} {append_number}");
                    let offsets = publish(&**node, vec![record("a", &data); 5], 0).unwrap();
                    assert_eq!(offsets.runs().len(), 1, "one append is together");
                    assert!(node.bounds().next > offsets.runs()[0].start + 4);
                }
            });
        }
        let follow = |node| scope.spawn(move || texts(&follow_up_to(node, next)));
        let followers = all.map(|node| follow(&**node));
        followers.map(|it| it.join().expect("a follower does not panic")).into()
    });
    assert_eq!(followed[0].len() as u64, next - 1);
    assert!(followed.iter().all(|it| *it == followed[0]));
}

fn who_is_slow_misses_nothing(open: Open<'_>) {
    // More than a node keeps for whoever follows it.
    const COUNT: u64 = 70_000;
    let (one, other) = (open(), open());
    for turn in 0..COUNT / 2_000 {
        let node = if turn % 7 == 0 { &other } else { &one };
        append(&**node, (0..2_000).map(|_| record("a", "")).collect(), 0);
    }
    for node in [&one, &other] {
        assert_eq!(offsets(&follow_up_to(&**node, COUNT + 1)), (1..=COUNT).collect::<Vec<_>>());
    }
}

fn a_wait_ends_when_another_node_appends(open: Open<'_>) {
    let (one, other) = (open(), open());
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow_up_to(&*one, 3));
        append_many(&*other, 1, |_| "a");
        append_many(&*other, 1, |_| "b");
        assert_eq!(offsets(&follower.join().expect("a follower does not panic")), [1, 2]);
    });
    let started = Instant::now();
    assert!(matches!(one.follow(Duration::from_millis(50)), Followed::Nothing));
    assert!(started.elapsed() >= Duration::from_millis(50), "it waits for what is new");
    assert!(started.elapsed() < PATIENCE, "it does not wait for longer");
}

fn a_key_is_known_to_all_nodes(open: Open<'_>) {
    let (one, other) = (open(), open());
    publish(&*one, vec![keyed("a", "k"), keyed("a", "p:1")], 0).unwrap();
    let again = publish(&*other, vec![keyed("a", "p:1"), keyed("a", "new")], 10).unwrap();
    assert_eq!((again.iter().collect::<Vec<_>>(), again.repeated()), (vec![2, 3], 1));
    let later = publish(&*open(), vec![keyed("a", "k"), keyed("a", "new")], 10).unwrap();
    assert_eq!((later.iter().collect::<Vec<_>>(), later.repeated()), (vec![1, 3], 2));
}

fn a_topic_is_finished_for_all_nodes(open: Open<'_>) {
    let (one, other) = (open(), open());
    publish(&*one, vec![Record { is_final: true, ..record("job", "") }], 0).unwrap();
    let finished = Refusal::Finished { topic: topic("job"), offset: 1 };
    assert_eq!(publish(&*other, vec![record("job", "")], 0), Err(finished));
    assert_eq!(one.finished(&topic("job")), Some(1));
    follow_up_to(&*other, 2);
    assert_eq!(other.finished(&topic("job")), Some(1));
    assert_eq!(open().finished(&topic("job")), Some(1));
}

fn a_position_is_confirmed_that_another_node_gave_out(open: Open<'_>) {
    let (one, other) = (open(), open());
    append_many(&*one, 3, |_| "a");
    let epoch = one.epoch();
    let strange = Epoch::from_random(15);
    for node in [&one, &other] {
        for (epoch, offset, expected) in
            [(epoch, 0, true), (epoch, 3, true), (epoch, 4, false), (strange, 1, false)]
        {
            assert_eq!(node.confirm(Position { epoch, offset }), Ok(expected), "{offset}");
        }
    }
}

fn notes_are_seen_by_all_nodes(open: Open<'_>) {
    let (one, other) = (open(), open());
    let (one, other) = (one.board().expect("it is shared"), other.board().expect("it is shared"));
    let long = Duration::from_secs(600);
    one.put("n/2", b"two", long).unwrap();
    one.put("n/1", b"one\0\xFF", long).unwrap();
    other.put("m/1", b"", long).unwrap();
    other.put("n/2", b"2", long).unwrap();
    let expected = [("n/1".to_owned(), b"one\0\xFF".to_vec()), ("n/2".to_owned(), b"2".to_vec())];
    for board in [one, other] {
        assert_eq!(board.notes("n/").unwrap(), expected);
        assert_eq!(board.notes("").unwrap().len(), 3);
        assert_eq!(board.notes("n/*").unwrap(), []);
    }
    other.put("n/1", b"", Duration::from_millis(1)).unwrap();
    until(|| one.notes("n/").unwrap().len() == 1);
}

fn a_closed_node_follows_on_and_stops_no_other(open: Open<'_>) {
    let (one, other) = (open(), open());
    one.close();
    assert!(one.append(vec![vec![record("a", "")]], 0).is_err());
    append_many(&*other, 2, |_| "a");
    assert_eq!(offsets(&follow_up_to(&*one, 3)), [1, 2]);
    assert_eq!(other.failure(), None);
}

fn what_one_node_trims_is_gone_for_all(open: Open<'_>) {
    let (one, other) = (open(), open());
    append_many(&*one, 12, |_| "a");
    follow_up_to(&*other, 13);
    one.trim(0);
    assert_eq!(one.bounds(), Bounds { oldest: 3, next: 13 });
    let trimmed = other.read(1, 13, &everything(), super::NO_LIMIT).unwrap_err();
    assert_eq!(trimmed, ReadError::Trimmed { oldest: 3 });
    other.trim(0);
    assert_eq!(other.bounds(), Bounds { oldest: 3, next: 13 });
    assert_eq!(offsets(&read_all(&*other, &everything())), (3..13).collect::<Vec<_>>());
    // One that follows from before the oldest kept event is told that it skips some.
    let late = open();
    append_many(&*one, 20, |_| "a");
    one.trim(0);
    let mut told = Vec::new();
    until(|| {
        match late.follow(MOMENT) {
            Followed::Skipped { next } => told.push((next, 0)),
            Followed::Entries(entries) => told.push((entries[0].offset, entries.len())),
            Followed::Nothing => {}
            Followed::NewLife { .. } => panic!("it is the same life"),
        }
        late.bounds().next == 33 && told.iter().map(|(_, count)| count).sum::<usize>() == 10
    });
    assert_eq!(told[0], (23, 0));
}

fn a_node_that_starts_later_knows_what_was_dropped(open: Open<'_>) {
    let one = open();
    append_many(&*one, 6, |offset| if offset % 2 == 0 { "prices/a" } else { "x" });
    append(&*one, vec![record("old/a", ""), record("x", "")], 0);
    append(&*one, vec![record("old/a", "")], 2_000);
    one.trim(2_000);
    let later = open();
    for node in [&one, &later] {
        assert_eq!(node.dropped(&interest(&["prices/a"], &[]), 1), Some(2));
        assert!(matches!(node.dropped(&interest(&["old/a"], &[]), 1), Some(7 | 8)));
        assert_eq!(node.dropped(&interest(&["x"], &[]), 1), None);
        assert!(!node.is_kept(2, &[topic("prices/a")]) && node.is_kept(4, &[topic("prices/a")]));
        assert_eq!(offsets(&read_all(&**node, &everything())), [1, 3, 4, 5, 6, 8, 9]);
    }
    // It goes on to count where the other one was.
    append(&*later, vec![record("prices/a", "")], 2_000);
    later.trim(2_000);
    assert_eq!(later.dropped(&interest(&["prices/a"], &[]), 1), Some(4));
}

fn nodes_that_drop_the_same_agree(open: Open<'_>) {
    let nodes = [open(), open()];
    for turn in 0..12 {
        append(&*nodes[turn % 2], vec![record("prices/a", ""), record("x", "")], turn as u64);
    }
    nodes.iter().for_each(|node| drop(follow_up_to(&**node, 25)));
    for node in &nodes {
        node.trim(12);
        node.trim(12);
    }
    for node in &nodes {
        assert_eq!(offsets(&read_all(&**node, &interest(&["prices/a"], &[]))), [21, 23]);
        assert_eq!(node.dropped(&interest(&["prices/a"], &[]), 1), Some(19));
    }
}

/// Follows until everything below `next` was seen, and checks that it comes in order and without a hole.
fn follow_up_to(node: &dyn EventLog, next: u64) -> Vec<Entry<Body>> {
    let mut followed: Vec<Entry<Body>> = Vec::new();
    until(|| {
        match node.follow(MOMENT) {
            Followed::Entries(entries) => followed.extend(entries),
            Followed::Nothing => {}
            other => panic!("{other:?} instead of entries"),
        }
        followed.last().is_some_and(|entry| entry.offset + 1 >= next)
    });
    let first = followed[0].offset;
    let dense: Vec<u64> = (first..first + followed.len() as u64).collect();
    assert_eq!(offsets(&followed), dense);
    assert!(node.bounds().next >= next);
    followed
}

fn until(mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < deadline, "it does not come to pass");
        std::thread::yield_now();
    }
}

fn texts(entries: &[Entry<Body>]) -> Vec<(u64, String)> {
    entries.iter().map(|entry| (entry.offset, entry.payload.data.to_string())).collect()
}

/// A log of which every append is made by another node, and all else is asked of a third.
#[derive(Debug)]
struct Turns {
    nodes: [Box<dyn EventLog>; 2],
    reader: Box<dyn EventLog>,
    turn: AtomicUsize,
    /// The offset after the last that was appended; held by who has the reader follow.
    next: Mutex<u64>,
}

impl Turns {
    fn new(open: Open<'_>) -> Self {
        let turn = AtomicUsize::new(0);
        Self { nodes: [open(), open()], reader: open(), turn, next: Mutex::new(0) }
    }

    /// The reader, up to date.
    fn reader(&self) -> &dyn EventLog {
        let next = self.next.lock().expect("no case panics meanwhile");
        until(|| {
            self.reader.bounds().next >= *next || {
                self.reader.follow(MOMENT);
                false
            }
        });
        &*self.reader
    }
}

impl EventLog for Turns {
    fn epoch(&self) -> Epoch {
        self.reader.epoch()
    }

    fn bounds(&self) -> Bounds {
        self.reader().bounds()
    }

    fn append(
        &self,
        publishes: Vec<Vec<Record>>,
        now: UnixMillis,
    ) -> Result<Appended, AppendError> {
        let node = &self.nodes[self.turn.fetch_add(1, Ordering::Relaxed) % 2];
        let appended = node.append(publishes, now)?;
        let mut next = self.next.lock().expect("no case panics meanwhile");
        *next = (*next).max(node.bounds().next);
        Ok(appended)
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        self.reader().read(from, until, interest, limit)
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        self.reader().seek(before, wanted, interest, limit)
    }

    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        self.reader().is_kept(offset, topics)
    }

    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        self.reader().dropped(interest, from)
    }

    fn finished(&self, topic: &Topic) -> Option<u64> {
        self.reader().finished(topic)
    }

    fn trim(&self, now: UnixMillis) {
        self.reader().trim(now);
    }

    fn failure(&self) -> Option<String> {
        self.nodes.iter().chain([&self.reader]).find_map(|node| node.failure())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn close(&self) {
        self.nodes.iter().for_each(|node| node.close());
        self.reader.close();
    }
}

/// How long one call waits for what is there.
const MOMENT: Duration = Duration::from_millis(10);
/// How long something may take that happens.
const PATIENCE: Duration = Duration::from_secs(30);
