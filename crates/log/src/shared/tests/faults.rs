//! What becomes of one call when the store fails, loses something, or begins anew.

use tidings_core::{Bounds, Epoch, Interest, Position, Rights, Selector, Topic};

use super::*;
use crate::conformance::{everything, record};
use crate::{AppendError, Followed, ReadError, ReadLimit, RetentionRule};

const LIMIT: ReadLimit =
    ReadLimit { events_max: 100, bytes_max: 1 << 20, candidates_max: 100, comparisons_max: 100 };

/// A store, and the time of its nodes.
struct Scene {
    store: InMemoryStore,
    time: Virtual,
}

type Node = SharedLog<InMemoryEngine>;

impl Scene {
    fn new() -> Self {
        Self { store: InMemoryStore::new(false), time: Virtual::new(1) }
    }

    fn node(&self) -> Node {
        self.try_node(self.store.engine()).unwrap()
    }

    fn try_node(&self, engine: InMemoryEngine) -> Result<Node, SharedLogError> {
        let options = SharedLogOptions::default();
        SharedLog::open_in(engine, options, Box::new(self.time.clone()))
    }

    /// Has a node follow until it has nothing more to tell, however often it has to be called.
    fn follow(&self, node: &Node) -> Vec<Told> {
        let mut told = Vec::new();
        let mut silent = 0;
        while silent < 20 {
            self.time.advance(Duration::from_secs(1));
            silent += 1;
            match node.follow(Duration::ZERO) {
                Followed::Nothing => continue,
                Followed::Entries(entries) => {
                    told.extend(
                        entries
                            .iter()
                            .map(|entry| Told::Entry(entry.offset, entry.payload.data.to_string())),
                    );
                }
                Followed::Skipped { next } => told.push(Told::Skipped(next)),
                Followed::NewLife { epoch, bounds } => told.push(Told::NewLife(epoch, bounds)),
            }
            silent = 0;
        }
        told
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Entry(u64, String),
    Skipped(u64),
    NewLife(Epoch, Bounds),
}

fn entry(offset: u64, text: &str) -> Told {
    Told::Entry(offset, text.to_owned())
}

fn publish(node: &Node, text: &str) -> Result<u64, AppendError> {
    let appended = node.append(vec![vec![record("a", text)]], 0)?;
    assert_eq!(appended.epoch, node.epoch());
    Ok(appended.entries[0].offset)
}

fn texts(scene: &Scene) -> Vec<String> {
    scene.store.entries().iter().map(|entry| entry.payload.data.to_string()).collect()
}

fn unavailable() -> Fault {
    Fault::Fails(EngineError::Unavailable("no route".to_owned()))
}

#[test]
fn an_append_whose_answer_is_lost_is_repeated_and_has_one_effect() {
    for faults in [
        vec![Fault::AnswerLost],
        vec![unavailable(), Fault::AnswerLost, unavailable()],
        vec![Fault::Late, Fault::AnswerLost],
        vec![Fault::Fails(EngineError::OtherLife)],
        vec![Fault::AnswerLost, Fault::Fails(EngineError::Refused("not now".to_owned()))],
    ] {
        let scene = Scene::new();
        let (node, other) = (scene.node(), scene.node());
        assert_eq!(publish(&node, "1"), Ok(1));
        for fault in &faults {
            node.engine.fail_next(Call::Append, fault.clone());
        }
        assert_eq!(publish(&node, "2"), Ok(2), "{faults:?}");
        scene.store.deliver_late();
        assert_eq!(publish(&other, "3"), Ok(3));
        scene.store.deliver_late();
        assert_eq!(node.failure(), None);
        for node in [&node, &other] {
            assert_eq!(scene.follow(node), [entry(1, "1"), entry(2, "2"), entry(3, "3")]);
        }
    }
}

#[test]
fn an_append_is_given_up_after_a_while_and_those_after_it_at_once() {
    let scene = Scene::new();
    let node = scene.node();
    scene.follow(&node);
    node.engine.fail_next(Call::Append, Fault::Late);
    (0..40).for_each(|_| node.engine.fail_next(Call::Open, unavailable()));
    let began = scene.time.now();
    assert_eq!(publish(&node, "1"), Err(AppendError::Unknown("no route".to_owned())));
    let took = scene.time.now() - began;
    assert!((4..=6).contains(&took.as_secs()), "{took:?}");
    let (opened, began) = (node.engine.opened(), scene.time.now());
    assert!((3..100).contains(&opened), "{opened}");
    let read = node.read(1, 2, &everything(), LIMIT).unwrap_err();
    assert_eq!(read, ReadError::Unavailable("no route".to_owned()));
    assert_eq!(publish(&node, "2"), Err(AppendError::Unavailable("no route".to_owned())));
    assert!(node.confirm(Position { epoch: node.epoch(), offset: 9 }).is_err());
    assert!(node.board().unwrap().put("n", b"", Duration::MAX).is_err());
    node.trim(0);
    assert_eq!((node.engine.opened(), scene.time.now()), (opened, began), "only who follows tries");
    assert_eq!(node.failure().as_deref(), Some("no route"));
    // The store had it after all, and has it once.
    scene.store.deliver_late();
    scene.time.advance(Duration::from_secs(3_600));
    let mut told = Vec::new();
    for _ in 0..100 {
        told.extend(scene.follow(&node));
    }
    assert_eq!(told, [entry(1, "1")]);
    assert_eq!((node.failure(), publish(&node, "3")), (None, Ok(2)));
}

#[test]
fn an_append_that_comes_late_has_no_effect_after_a_later_one() {
    let scene = Scene::new();
    let node = scene.node();
    node.engine.fail_next(Call::Append, Fault::Late);
    (0..40).for_each(|_| node.engine.fail_next(Call::Open, unavailable()));
    assert!(publish(&node, "1").is_err());
    let scene_node = scene.try_node(scene.store.engine()).unwrap();
    assert_eq!(publish(&scene_node, "2"), Ok(1));
    for _ in 0..100 {
        scene.follow(&node);
    }
    assert_eq!(publish(&node, "3"), Ok(2));
    scene.store.deliver_late();
    assert_eq!(texts(&scene), ["2", "3"]);
}

#[test]
fn a_store_that_is_lost_is_tried_with_growing_delays() {
    let scene = Scene::new();
    let node = scene.node();
    scene.store.set_down(true);
    let mut times = Vec::new();
    let began = scene.time.now();
    let mut opened = node.engine.opened();
    while scene.time.now() - began < Duration::from_secs(3_600) {
        assert!(matches!(node.follow(Duration::from_millis(10)), Followed::Nothing));
        if node.engine.opened() > opened {
            opened = node.engine.opened();
            times.push(scene.time.now() - began);
        }
    }
    let early = times.iter().filter(|time| time.as_secs() < 1).count();
    assert!((2..40).contains(&early), "{early} in the first second");
    assert!((1_000..2_000).contains(&times.len()), "{} in an hour", times.len());
    assert_eq!(node.failure().as_deref(), Some("connection refused"));
    assert_eq!(node.store().map(|it| it.is_reached), Some(false));
    scene.store.set_down(false);
    scene.follow(&node);
    assert_eq!((node.failure(), publish(&node, "1")), (None, Ok(1)));
}

#[test]
fn a_store_that_cannot_be_written_is_read_and_seen_to_recover() {
    let scene = Scene::new();
    let node = scene.node();
    assert_eq!(publish(&node, "1"), Ok(1));
    scene.store.set_unwritable(Some("it is full: make room"));
    let words = Err(AppendError::Unavailable("it is full: make room".to_owned()));
    assert_eq!(publish(&node, "2"), words);
    assert_eq!(scene.follow(&node), [entry(1, "1")]);
    assert_eq!(node.failure().as_deref(), Some("it is full: make room"));
    assert_eq!(node.read(1, 2, &everything(), LIMIT).unwrap().entries.len(), 1);
    assert_eq!(publish(&node, "3"), words);
    scene.store.set_unwritable(None);
    assert_eq!(scene.follow(&node), []);
    assert_eq!((node.failure(), publish(&node, "4")), (None, Ok(2)));
    assert_eq!(texts(&scene), ["1", "4"]);
}

#[test]
fn a_hub_that_is_refused_says_so_at_the_start_and_tries_again_later() {
    let scene = Scene::new();
    let refused = |reason: &str| Fault::Fails(EngineError::Refused(reason.to_owned()));
    let engine = scene.store.engine();
    engine.fail_next(Call::Open, refused("the password is wrong"));
    let error = scene.try_node(engine).unwrap_err();
    assert_eq!(error.to_string(), "a store in memory refuses this hub: the password is wrong");
    let engine = scene.store.engine();
    engine.fail_next(Call::Open, Fault::Fails(EngineError::Damaged("a life is none".to_owned())));
    assert!(matches!(scene.try_node(engine), Err(SharedLogError::Damaged { .. })));

    let node = scene.node();
    node.engine.fail_next(Call::Wait, refused("the password was changed"));
    node.engine.fail_next(Call::Open, refused("the password was changed"));
    node.follow(Duration::ZERO);
    assert_eq!(node.failure().as_deref(), Some("the password was changed"));
    assert_eq!(scene.follow(&node), []);
    assert_eq!(node.failure(), None);
}

#[test]
fn a_node_starts_while_the_store_is_down() {
    let scene = Scene::new();
    let first = scene.node();
    publish(&first, "1").unwrap();
    scene.store.set_down(true);
    let node = scene.node();
    assert!(!node.is_known() && node.epoch() != first.epoch());
    assert_eq!(node.failure().as_deref(), Some("connection refused"));
    assert_eq!(scene.follow(&node), []);
    assert!(publish(&node, "2").is_err());
    assert!(node.read(1, 1, &everything(), LIMIT).is_err());
    scene.store.set_down(false);
    let bounds = Bounds { oldest: 1, next: 2 };
    assert_eq!(scene.follow(&node), [Told::NewLife(first.epoch(), bounds)]);
    assert!(node.is_known());
    assert_eq!((node.failure(), publish(&node, "3")), (None, Ok(2)));
    assert_eq!(scene.follow(&node), [entry(2, "3")]);
}

#[test]
fn a_restart_that_loses_nothing_is_not_noticed() {
    let scene = Scene::new();
    let (node, other) = (scene.node(), scene.node());
    publish(&node, "1").unwrap();
    let epoch = node.epoch();
    scene.store.restart();
    assert_eq!(publish(&node, "2"), Ok(2));
    for node in [&node, &other] {
        assert_eq!(scene.follow(node), [entry(1, "1"), entry(2, "2")]);
        assert_eq!(node.epoch(), epoch);
    }
}

#[test]
fn what_is_lost_begins_another_life_whoever_finds_it() {
    // What happens to the store, and whether who saw more comes after it has grown again.
    let lose: fn(&InMemoryStore) = |store| {
        store.lose_tail(2);
        store.restart();
    };
    let secretly: fn(&InMemoryStore) = |store| store.lose_tail(2);
    let empty: fn(&InMemoryStore) = InMemoryStore::empty;
    for (happens, kept, growing) in
        [(lose, 1, &[false, true][..]), (secretly, 1, &[false]), (empty, 0, &[false, true])]
    {
        for &grows in growing {
            let scene = Scene::new();
            let (more, less) = (scene.node(), scene.node());
            for _ in 0..3 {
                publish(&more, "old").unwrap();
            }
            scene.follow(&more);
            let old = more.epoch();
            happens(&scene.store);
            if grows {
                for _ in 0..5 {
                    publish(&less, "new").unwrap();
                }
            }
            let told = scene.follow(&more);
            let present = more.epoch();
            let next = scene.store.bounds().next;
            let bounds = Bounds { oldest: 1, next };
            assert_eq!(told, [Told::NewLife(present, bounds)], "{kept} {grows}");
            assert_ne!(present, old);
            assert_eq!(next, kept + 1 + if grows { 5 } else { 0 });
            scene.follow(&less);
            assert_eq!((less.epoch(), less.bounds()), (present, bounds));
            // What comes then is told to both alike.
            assert_eq!(publish(&less, "1"), Ok(next));
            assert_eq!(scene.follow(&more), [entry(next, "1")]);
            assert_eq!(scene.follow(&less), [entry(next, "1")]);
        }
    }
}

#[test]
fn a_read_that_finds_another_life_has_it_followed() {
    let scene = Scene::new();
    let node = scene.node();
    publish(&node, "1").unwrap();
    scene.store.empty();
    let error = node.read(1, 2, &everything(), LIMIT).unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)));
    let Followed::Entries(entries) = node.follow(Duration::ZERO) else { panic!("it has entries") };
    assert_eq!(entries[0].offset, 1);
    assert!(matches!(node.follow(Duration::ZERO), Followed::NewLife { .. }));
    assert!(node.read(1, 1, &everything(), LIMIT).is_ok());
}

#[test]
fn a_position_of_a_life_that_the_node_does_not_know_yet_is_confirmed() {
    let scene = Scene::new();
    let (node, other) = (scene.node(), scene.node());
    publish(&node, "1").unwrap();
    let old = Position { epoch: node.epoch(), offset: 1 };
    scene.store.empty();
    scene.follow(&other);
    publish(&other, "2").unwrap();
    let present = Position { epoch: other.epoch(), offset: 1 };
    assert_eq!(node.confirm(present), Ok(true));
    assert_eq!(node.confirm(Position { offset: 2, ..present }), Ok(false));
    assert_eq!(node.confirm(old), Ok(false));
    let bounds = Bounds { oldest: 1, next: 2 };
    assert_eq!(scene.follow(&node), [Told::NewLife(present.epoch, bounds)]);
}

#[test]
fn an_unanswered_append_is_not_repeated_in_another_life() {
    let scene = Scene::new();
    let node = scene.node();
    assert_eq!(publish(&node, "1"), Ok(1));
    node.engine.fail_next(Call::Append, Fault::AnswerLost);
    node.engine.fail_next(Call::Open, Fault::Emptied);
    let refused = publish(&node, "2").unwrap_err();
    assert!(matches!(&refused, AppendError::Unknown(words) if words.contains("begun anew")));
    assert_eq!(texts(&scene), Vec::<String>::new());
}

/// One that keeps the last event of each topic `last/..`, and all others for a while.
fn ruled(scene: &Scene) -> Node {
    let rules = vec![RetentionRule {
        topics: Selector::parse("last/{name}").unwrap(),
        events_max: Some(1),
        age_max_ms: None,
    }];
    let retention = Retention { rules, ..SharedLogOptions::default().retention };
    let options = SharedLogOptions { retention, ..SharedLogOptions::default() };
    SharedLog::open_in(scene.store.engine(), options, Box::new(scene.time.clone())).unwrap()
}

fn append_under(node: &Node, topics: &[&str]) {
    let records = topics.iter().map(|topic| record(topic, "")).collect();
    node.append(vec![records], 0).unwrap();
}

fn stored(scene: &Scene) -> Vec<u64> {
    scene.store.entries().iter().map(|entry| entry.offset).collect()
}

fn interest(text: &str) -> Interest {
    Interest::new(vec![Selector::parse(text).unwrap()], Vec::new(), Rights::everything())
}

#[test]
fn trims_of_a_store_that_fails_let_go_of_all_in_the_end() {
    let scene = Scene::new();
    let node = ruled(&scene);
    append_under(&node, &["last/a"; 4]);
    for fault in [unavailable(), Fault::AnswerLost] {
        node.engine.fail_next(Call::Trim, fault);
        node.trim(5_000);
    }
    append_under(&node, &["last/a"]);
    node.trim(5_000);
    assert_eq!(stored(&scene), [5]);
}

#[test]
fn a_rule_waits_for_other_nodes_before_the_store_drops_anything() {
    let scene = Scene::new();
    let (node, other) = (ruled(&scene), ruled(&scene));
    append_under(&node, &["last/a", "last/a"]);
    node.trim(1_999);
    assert_eq!(stored(&scene), [1, 2]);
    assert_eq!(node.read(1, 3, &everything(), LIMIT).unwrap().entries.len(), 1);
    scene.follow(&other);
    node.trim(2_000);
    assert_eq!(stored(&scene), [2]);
    assert_eq!(other.dropped(&interest("last/a"), 1), None);
    // Who reads finds out before it drops the event itself.
    assert_eq!(other.read(1, 3, &interest("last/a"), LIMIT).unwrap().entries.len(), 1);
    assert_eq!(other.dropped(&interest("last/a"), 1), Some(1));
    assert!(!other.is_kept(1, &[Topic::parse("last/a").unwrap()]));
}

#[test]
fn a_node_that_never_saw_what_was_dropped_says_that_it_may_have_missed_something() {
    let scene = Scene::new();
    let (node, slow) = (ruled(&scene), ruled(&scene));
    append_under(&node, &["x", "last/a", "last/a", "last/a", "x"]);
    node.trim(5_000);
    assert_eq!(stored(&scene), [1, 4, 5]);
    let told = scene.follow(&slow);
    assert_eq!(told, [entry(1, ""), Told::Skipped(4), entry(4, ""), entry(5, "")]);
    for (topic, expected) in
        [("last/a", Some(3)), ("last/{x}", Some(3)), ("*", Some(3)), ("x", None)]
    {
        assert_eq!(slow.dropped(&interest(topic), 1), expected, "{topic}");
        assert_eq!(slow.dropped(&interest(topic), 4), None, "{topic}");
    }
}

#[test]
fn a_store_that_is_another_one_again_and_again_is_not_opened_again_and_again() {
    let scene = Scene::new();
    let node = scene.node();
    for _ in 0..100 {
        node.engine.fail_next(Call::Wait, Fault::Fails(EngineError::OtherLife));
    }
    let (began, opened) = (scene.time.now(), node.engine.opened());
    while scene.time.now() - began < Duration::from_secs(60) {
        node.follow(Duration::from_millis(100));
        scene.time.advance(Duration::from_millis(1));
    }
    let opened = node.engine.opened() - opened;
    assert!((10..60).contains(&opened), "{opened}");
}

#[test]
fn who_reads_does_not_wait_for_who_appends() {
    let scene = Scene::new();
    let node = scene.node();
    publish(&node, "1").unwrap();
    let slow = Duration::from_millis(300);
    node.engine.fail_next(Call::Append, Fault::Slow(slow));
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| publish(&node, "2"));
        let began = Instant::now();
        while !appending.is_finished() {
            let read = node.read(1, 2, &everything(), LIMIT).unwrap();
            assert_eq!((read.entries.len(), node.bounds().next < 4), (1, true));
            std::thread::yield_now();
        }
        assert!(began.elapsed() >= slow / 2, "nothing was read meanwhile");
        assert_eq!(appending.join().unwrap(), Ok(2));
    });
}

#[test]
fn what_was_waited_for_in_an_older_life_is_not_told_in_another() {
    let scene = Scene::new();
    let (node, other) = (scene.node(), scene.node());
    publish(&other, "old").unwrap();
    publish(&other, "old as well").unwrap();
    node.engine.fail_next(Call::Wait, Fault::Slow(Duration::from_millis(300)));
    std::thread::scope(|scope| {
        let following = scope.spawn(|| node.follow(Duration::from_secs(1)));
        while !node.engine.has_failed(Call::Wait) {
            std::thread::yield_now();
        }
        // The old events are on their way to who follows.
        scene.store.empty();
        assert_eq!(publish(&node, "new"), Ok(1));
        assert!(!following.is_finished(), "all that took too long for this test");
        let bounds = Bounds { oldest: 1, next: 1 };
        let Followed::NewLife { epoch, bounds: told } = following.join().unwrap() else {
            panic!("another life is told first")
        };
        assert_eq!((epoch, told), (node.epoch(), bounds));
    });
    assert_eq!(scene.follow(&node), [entry(1, "new")]);
}

/// With the time of the machine, and as many threads as a hub has.
#[test]
fn nodes_that_publish_while_the_store_comes_and_goes_lose_and_double_nothing() {
    const APPENDS: u64 = 400;
    let store = InMemoryStore::new(true);
    let open = || SharedLog::open(store.engine(), SharedLogOptions::default()).unwrap();
    let nodes = [open(), open(), open()];
    let is_done = AtomicBool::new(false);
    let (acknowledged, followed) = std::thread::scope(|scope| {
        let publish = |node: &Node, name: usize| {
            let mut acknowledged = Vec::new();
            for number in 0..APPENDS {
                let text = format!("{name} {number}");
                loop {
                    match publish(node, &text) {
                        Ok(offset) => acknowledged.push((offset, text)),
                        Err(error) if !error.to_string().contains("not known whether") => {
                            std::thread::yield_now();
                            continue;
                        }
                        // It may be there, once.
                        Err(_) => {}
                    }
                    break;
                }
            }
            acknowledged
        };
        let follow = |node: &Node| {
            let mut followed = Vec::new();
            while !is_done.load(Ordering::SeqCst) || node.bounds().next > followed.len() as u64 + 1
            {
                match node.follow(Duration::from_millis(20)) {
                    Followed::Entries(entries) => followed
                        .extend(entries.iter().map(|it| (it.offset, it.payload.data.to_string()))),
                    Followed::Nothing => {}
                    other => panic!("{other:?}"),
                }
            }
            followed
        };
        let followers = nodes.each_ref().map(|node| scope.spawn(move || follow(node)));
        let numbers = [0, 1, 2];
        let publishers = numbers.map(|name| {
            let node = &nodes[name];
            scope.spawn(move || publish(node, name))
        });
        while !publishers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.restart();
            std::thread::yield_now();
            store.set_down(true);
            nodes[0].engine.fail_next(Call::Append, Fault::AnswerLost);
            store.set_down(false);
            // So that something is published in between.
            let next = store.bounds().next;
            while store.bounds().next < next + 20
                && !publishers.iter().all(std::thread::ScopedJoinHandle::is_finished)
            {
                std::thread::yield_now();
            }
        }
        let acknowledged: Vec<_> =
            publishers.into_iter().flat_map(|it| it.join().unwrap()).collect();
        // Until all have come to the end, whatever was lost before.
        let next = store.bounds().next;
        while nodes.iter().any(|node| node.bounds().next < next) {
            std::thread::yield_now();
        }
        is_done.store(true, Ordering::SeqCst);
        (acknowledged, followers.map(|it| it.join().unwrap()))
    });
    let stored: Vec<(u64, String)> =
        store.entries().iter().map(|it| (it.offset, it.payload.data.to_string())).collect();
    assert!(followed.iter().all(|it| *it == stored));
    let texts: std::collections::HashSet<_> = stored.iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), stored.len(), "something is there twice");
    for (offset, text) in &acknowledged {
        assert_eq!(&stored[*offset as usize - 1].1, text);
    }
    assert!(acknowledged.len() as u64 > 2 * APPENDS, "{}", acknowledged.len());
}
