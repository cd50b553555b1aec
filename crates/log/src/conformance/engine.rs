//! What a log can rely on that is made of an engine.

use std::time::{Duration, Instant};

use tidings_core::{Bounds, Entry, Epoch, Topic};

use super::{keyed, offsets, record, topic};
use crate::shared::{
    Append, Cut, Engine, EngineError, Fetched, Life, Opened, Outcome, Placed, Seen, StepLimit, Wish,
};
use crate::{Body, KeyWindow, Record};

/// Runs every case on a new store of its own: `make` makes an empty one, and what it returns is the way of one more
/// node to it.
///
/// # Panics
///
/// If the engine does not do what [`Engine`] says.
pub fn check_engine<E, N>(make: impl Fn() -> N)
where
    E: Engine,
    N: Fn() -> E,
{
    let cases: [fn(&dyn Fn() -> E); 10] = [
        a_life_goes_on_for_all_who_open,
        a_life_that_is_not_the_present_one_is_refused,
        an_append_that_is_repeated_has_one_effect,
        an_append_that_comes_late_has_none,
        an_append_without_publishes_leaves_no_trace,
        reads_make_progress_within_their_limits,
        reads_backwards_make_progress_within_their_limits,
        topics_are_a_hint_that_loses_nothing,
        a_wait_returns_what_is_there_and_ends_in_time,
        what_is_let_go_of_is_gone_once_and_remembered,
    ];
    for case in cases {
        case(&make());
    }
}

fn a_life_goes_on_for_all_who_open<E: Engine>(engine: &dyn Fn() -> E) {
    let one = engine();
    let Opened { life, bounds, finished, dropped } = one.open(None, epoch(1)).unwrap();
    assert_eq!((life.epoch, bounds), (epoch(1), Bounds { oldest: 1, next: 1 }));
    assert!(finished.is_empty() && dropped.is_empty());
    let node = Node { engine: one, life: life.clone(), writer: 1 };
    node.append(1, &[vec![Record { is_final: true, ..record("job", "") }]]).unwrap();
    let other = engine().open(None, epoch(2)).unwrap();
    assert_eq!((&other.life, other.bounds), (&life, Bounds { oldest: 1, next: 2 }));
    assert_eq!(other.finished, [(topic("job"), 1)]);
    let seen = Seen { life: life.clone(), next: 2 };
    assert_eq!(node.engine.open(Some(&seen), epoch(3)).unwrap().life, life);
    // A node that has seen more than there is, was told of events that are lost.
    let seen = Seen { life: life.clone(), next: 3 };
    let lost = node.engine.open(Some(&seen), epoch(4)).unwrap();
    assert_eq!((lost.life.epoch, lost.bounds.next), (epoch(4), 2));
    assert_eq!(engine().open(Some(&seen), epoch(5)).unwrap().life, lost.life);
}

fn a_life_that_is_not_the_present_one_is_refused<E: Engine>(engine: &dyn Fn() -> E) {
    let node = open(engine, 1);
    node.append(1, &[vec![record("a", "")]]).unwrap();
    let other_epoch = Life { epoch: epoch(9), ..node.life.clone() };
    let other_server = Life { server: "another".to_owned(), ..node.life.clone() };
    for life in [other_epoch, other_server] {
        let stranger = Node { engine: engine(), life, writer: 7 };
        stranger.engine.open(None, epoch(8)).unwrap();
        let outcome = stranger.append(1, &[vec![record("a", "")]]);
        assert_eq!(outcome, Err(EngineError::OtherLife));
        let Node { engine, life, .. } = &stranger;
        assert_eq!(engine.bounds(life), Err(EngineError::OtherLife));
        let answers = [
            engine.read(life, &wish(1, 2, None, AMPLE)),
            engine.read_backwards(life, &wish(1, 2, None, AMPLE)),
            engine.wait(life, 2, AMPLE, Duration::from_millis(1)),
        ];
        for answer in answers {
            assert_eq!(answer.map(|it| it.end), Err(EngineError::OtherLife));
        }
        assert_eq!(engine.trim(life, &cut(0, &[], &[])), Err(EngineError::OtherLife));
    }
    assert_eq!(node.engine.bounds(&node.life), Ok(Bounds { oldest: 1, next: 2 }));
}

fn an_append_that_is_repeated_has_one_effect<E: Engine>(engine: &dyn Fn() -> E) {
    let (one, other) = (open(engine, 1), open(engine, 2));
    let ended = Record { is_final: true, ..record("job", "") };
    let publishes = [
        vec![record("a", ""), keyed("a", "k"), keyed("b", "k")],
        vec![ended],
        vec![],
        vec![record("job", "")],
    ];
    let first = one.append(1, &publishes).unwrap();
    let placed = |offset, is_repeated| Placed { offset, is_repeated };
    let expected = [
        Outcome::Appended(vec![placed(1, false), placed(2, false), placed(2, true)]),
        Outcome::Appended(vec![placed(3, false)]),
        Outcome::Appended(Vec::new()),
        Outcome::Finished { topic: topic("job"), offset: 3 },
    ];
    assert_eq!(first, expected);
    // Also when others have appended since, and by another connection of the node.
    other.append(1, &[vec![record("c", "")]]).unwrap();
    assert_eq!(one.append(1, &publishes).unwrap(), expected);
    let again = Node { engine: engine(), life: one.life.clone(), writer: one.writer };
    again.engine.open(None, epoch(8)).unwrap();
    assert_eq!(again.append(1, &publishes).unwrap(), expected);
    assert_eq!(one.engine.bounds(&one.life).unwrap().next, 5);
    // What is only refused is remembered as well.
    let refused = one.append(2, &[vec![record("job", "")]]).unwrap();
    assert_eq!(one.append(2, &[vec![record("job", "")]]).unwrap(), refused);
}

fn an_append_that_comes_late_has_none<E: Engine>(engine: &dyn Fn() -> E) {
    let node = open(engine, 1);
    node.append(2, &[vec![record("a", "2")]]).unwrap();
    // Nobody waits for the answer.
    let _ = node.append(1, &[vec![record("a", "1")]]);
    assert_eq!(node.engine.bounds(&node.life).unwrap().next, 2);
    node.append(5, &[vec![record("a", "5")]]).unwrap();
    let read = node.engine.read(&node.life, &wish(1, 9, None, AMPLE)).unwrap();
    let texts: Vec<_> = read.entries.iter().map(|it| it.payload.data.to_string()).collect();
    assert_eq!(texts, ["2", "5"]);
}

fn an_append_without_publishes_leaves_no_trace<E: Engine>(engine: &dyn Fn() -> E) {
    let node = open(engine, 1);
    node.append(1, &[vec![record("a", "")]]).unwrap();
    assert_eq!(node.append(2, &[]).unwrap(), []);
    assert_eq!(node.engine.bounds(&node.life), Ok(Bounds { oldest: 1, next: 2 }));
}

fn reads_make_progress_within_their_limits<E: Engine>(engine: &dyn Fn() -> E) {
    let node = filled(engine);
    for limit in LIMITS {
        let mut read = Vec::new();
        let mut from = 1;
        while from < 101 {
            let Fetched { entries, end, bounds } =
                node.engine.read(&node.life, &wish(from, 101, None, limit)).unwrap();
            assert_eq!(bounds, Bounds { oldest: 1, next: 101 });
            assert!(from < end && end <= 101, "a step from {from} led to {end}");
            check_step(&entries, limit);
            read.extend(offsets(&entries));
            from = end;
        }
        assert_eq!(read, (1..101).collect::<Vec<_>>());
    }
    let part = node.engine.read(&node.life, &wish(40, 43, None, AMPLE)).unwrap();
    assert_eq!((offsets(&part.entries), part.end), (vec![40, 41, 42], 43));
    let beyond = node.engine.read(&node.life, &wish(99, 200, None, AMPLE)).unwrap();
    assert_eq!((offsets(&beyond.entries), beyond.end), (vec![99, 100], 101));
    for (from, until) in [(101, 200), (7, 7)] {
        let nothing = node.engine.read(&node.life, &wish(from, until, None, AMPLE)).unwrap();
        assert_eq!((offsets(&nothing.entries), nothing.end), (Vec::new(), from));
    }
}

fn reads_backwards_make_progress_within_their_limits<E: Engine>(engine: &dyn Fn() -> E) {
    let node = filled(engine);
    for limit in LIMITS {
        let mut read = Vec::new();
        let mut until = 101;
        while until > 5 {
            let Fetched { entries, end, .. } =
                node.engine.read_backwards(&node.life, &wish(5, until, None, limit)).unwrap();
            assert!((5..until).contains(&end), "a step from {until} led to {end}");
            check_step(&entries, limit);
            read.extend(offsets(&entries));
            until = end;
        }
        assert_eq!(read, (5..101).rev().collect::<Vec<_>>());
    }
}

fn topics_are_a_hint_that_loses_nothing<E: Engine>(engine: &dyn Fn() -> E) {
    let node = filled(engine);
    let rare = |entry: &Entry<Body>| entry.topics.iter().any(|it| it.as_str() == "rare");
    for topics in [vec![topic("rare")], vec![topic("rare"), topic("absent")]] {
        for limit in LIMITS {
            let (mut forwards, mut from) = (Vec::new(), 1);
            while from < 101 {
                let wish = wish(from, 101, Some(&topics), limit);
                let Fetched { entries, end, .. } = node.engine.read(&node.life, &wish).unwrap();
                assert!(from < end && end <= 101, "a step from {from} led to {end}");
                forwards.extend(offsets(&entries.into_iter().filter(rare).collect::<Vec<_>>()));
                from = end;
            }
            assert_eq!(forwards, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
            let (mut backwards, mut until) = (Vec::new(), 101);
            while until > 1 {
                let wish = wish(1, until, Some(&topics), limit);
                let fetched = node.engine.read_backwards(&node.life, &wish).unwrap();
                assert!(fetched.end < until, "a step from {until} led to {}", fetched.end);
                let entries: Vec<_> = fetched.entries.into_iter().filter(rare).collect();
                backwards.extend(offsets(&entries));
                until = fetched.end;
            }
            backwards.reverse();
            assert_eq!(backwards, forwards);
        }
    }
}

fn a_wait_returns_what_is_there_and_ends_in_time<E: Engine>(engine: &dyn Fn() -> E) {
    let (one, other) = (open(engine, 1), open(engine, 2));
    let wait = |from, timeout| one.engine.wait(&one.life, from, AMPLE, timeout);
    for timeout in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(30)] {
        let started = Instant::now();
        let nothing = wait(1, timeout).unwrap();
        assert_eq!((offsets(&nothing.entries), nothing.end), (Vec::new(), 1));
        assert!(nothing.bounds.next >= 1);
        assert!(started.elapsed() < LONG, "it waits for no longer than it is told");
    }
    other.append(1, &[vec![record("a", ""); 3]]).unwrap();
    for timeout in [Duration::ZERO, LONG] {
        let all = wait(1, timeout).unwrap();
        assert_eq!((offsets(&all.entries), all.end), (vec![1, 2, 3], 4));
        assert_eq!(offsets(&wait(3, timeout).unwrap().entries), [3]);
    }
    let two = StepLimit { events_max: 2, bytes_max: usize::MAX };
    let some = one.engine.wait(&one.life, 1, two, LONG).unwrap();
    assert_eq!((offsets(&some.entries), some.end), (vec![1, 2], 3));
    // What another node appends, and what this one does, ends a wait that is under way.
    for (number, node) in [&other, &one].into_iter().enumerate() {
        let from = 4 + number as u64;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_for(&one.engine, &one.life, from));
            node.append(2, &[vec![record("a", "")]]).unwrap();
            one.engine.kick();
            assert_eq!(waiting.join().expect("a wait does not panic"), [from]);
        });
    }
}

fn what_is_let_go_of_is_gone_once_and_remembered<E: Engine>(engine: &dyn Fn() -> E) {
    let (one, other) = (filled(engine), open(engine, 2));
    let dropped = [(topic("rare"), 70), (topic("common"), 5)];
    for node in [&one, &other, &one] {
        let bounds = node.engine.trim(&node.life, &cut(50, &[60, 70, 71], &dropped)).unwrap();
        assert_eq!(bounds, Bounds { oldest: 51, next: 101 });
        assert_eq!(node.engine.bounds(&node.life), Ok(bounds));
    }
    let kept: Vec<u64> = (51..101).filter(|offset| ![60, 70, 71].contains(offset)).collect();
    let (mut read, mut from) = (Vec::new(), 51);
    while from < 101 {
        let fetched = other.engine.read(&other.life, &wish(from, 101, None, AMPLE)).unwrap();
        assert!(fetched.end > from, "a step from {from} led nowhere");
        read.extend(offsets(&fetched.entries));
        from = fetched.end;
    }
    assert_eq!(read, kept);
    let early = one.engine.read(&one.life, &wish(1, 101, None, AMPLE)).unwrap();
    assert_eq!(early.bounds.oldest, 51);
    let opened = engine().open(None, epoch(9)).unwrap();
    assert!(opened.dropped.contains(&(topic("rare"), 70)), "{:?}", opened.dropped);
    // A topic is open again when its last event is dropped.
    let ended = Record { is_final: true, ..record("job", "") };
    one.append(2, &[vec![ended]]).unwrap();
    one.engine.trim(&one.life, &cut(1_000, &[101], &[(topic("job"), 101)])).unwrap();
    let again = other.append(1, &[vec![record("job", "")]]).unwrap();
    assert_eq!(again, [Outcome::Appended(vec![Placed { offset: 102, is_repeated: false }])]);
}

/// A node as the store sees it.
struct Node<E> {
    engine: E,
    life: Life,
    writer: u64,
}

impl<E: Engine> Node<E> {
    fn append(
        &self,
        sequence: u64,
        publishes: &[Vec<Record>],
    ) -> Result<Vec<Outcome>, EngineError> {
        let Self { engine, life, writer } = self;
        let keys = KeyWindow::default();
        engine.append(&Append { life, writer: *writer, sequence, publishes, now: 0, keys })
    }
}

fn open<E: Engine>(engine: &dyn Fn() -> E, writer: u64) -> Node<E> {
    let engine = engine();
    let life = engine.open(None, epoch(writer)).unwrap().life;
    Node { engine, life, writer }
}

/// One with a hundred events, of which every tenth is rare.
fn filled<E: Engine>(engine: &dyn Fn() -> E) -> Node<E> {
    let node = open(engine, 1);
    let topic = |offset: u64| if offset.is_multiple_of(10) { "rare" } else { "common" };
    let records = (1..101).map(|offset| record(topic(offset), "some data")).collect();
    node.append(1, &[records]).unwrap();
    node
}

fn wait_for<E: Engine>(engine: &E, life: &Life, from: u64) -> Vec<u64> {
    loop {
        let fetched = engine.wait(life, from, AMPLE, LONG).unwrap();
        if !fetched.entries.is_empty() {
            return offsets(&fetched.entries);
        }
    }
}

fn check_step(entries: &[Entry<Body>], limit: StepLimit) {
    assert!(entries.len() <= limit.events_max);
    assert!(limit.bytes_max > 1 || entries.len() <= 1, "the limit of bytes is kept");
}

fn wish(from: u64, until: u64, topics: Option<&[Topic]>, limit: StepLimit) -> Wish<'_> {
    Wish { from, until, topics, limit }
}

fn cut<'a>(events_max: u64, offsets: &'a [u64], dropped: &'a [(Topic, u64)]) -> Cut<'a> {
    let (bytes_max, keys) = (u64::MAX, KeyWindow::default());
    Cut { events_max, bytes_max, appended_before: 0, offsets, dropped, now: 0, keys }
}

fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

const AMPLE: StepLimit = StepLimit { events_max: 1_000, bytes_max: 1 << 20 };
const LIMITS: [StepLimit; 3] =
    [AMPLE, StepLimit { events_max: 7, ..AMPLE }, StepLimit { bytes_max: 1, ..AMPLE }];
/// Longer than anything takes that does not wait.
const LONG: Duration = Duration::from_secs(10);
