//! Hubs on a log that they share.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tidings::{
    Begin, Bounds, Delivered, Epoch, EventLog, GapReason, Hub, HubOptions, Interest, Limits,
    Position, PublishError, Record, SubscribeError, SubscribeOptions, Subscription, Topic,
};
use tidings_core::Entry;
use tidings_log::shared::{InMemoryEngine, InMemoryStore, SharedLog, SharedLogOptions};
use tidings_log::{
    AppendError, Appended, Body, Followed, ReadError, ReadLimit, ReadStep, SeekStep, StoreFigures,
};

use crate::{interest, next_control, next_event, publish_numbers, record, subscribe};

/// One node's log, which says what was asked of it and can be kept from following.
#[derive(Debug)]
struct NodeLog {
    log: SharedLog<InMemoryEngine>,
    is_frozen: Mutex<bool>,
    thawed: Condvar,
    /// The lowest offset that was read.
    lowest_read: AtomicU64,
    seeks: AtomicU64,
    confirms: AtomicU64,
}

/// A hub and its log.
struct Node {
    hub: Hub,
    log: Arc<NodeLog>,
}

impl Node {
    fn start(store: &InMemoryStore, limits: Limits) -> Self {
        let log = SharedLog::open(store.engine(), SharedLogOptions::default()).unwrap();
        let log = Arc::new(NodeLog {
            log,
            is_frozen: Mutex::new(false),
            thawed: Condvar::new(),
            lowest_read: AtomicU64::new(u64::MAX),
            seeks: AtomicU64::new(0),
            confirms: AtomicU64::new(0),
        });
        let options = HubOptions { shards: 2, limits, ..Default::default() };
        let hub = Hub::start(options, Arc::clone(&log) as Arc<dyn EventLog>).unwrap();
        Self { hub, log }
    }

    fn pair(store: &InMemoryStore) -> [Self; 2] {
        [(); 2].map(|()| Self::start(store, Limits::default()))
    }

    fn freeze(&self, is_frozen: bool) {
        *self.log.is_frozen.lock().unwrap() = is_frozen;
        self.log.thawed.notify_all();
    }

    /// Waits until the node has seen what the store holds.
    fn catch_up(&self, store: &InMemoryStore) {
        let newest = store.entries().last().map_or(0, |entry| entry.offset);
        eventually(|| self.hub.bounds().next > newest);
    }
}

impl EventLog for NodeLog {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn is_known(&self) -> bool {
        self.log.is_known()
    }

    fn bounds(&self) -> Bounds {
        self.log.bounds()
    }

    fn append(&self, publishes: Vec<Vec<Record>>, now: u64) -> Result<Appended, AppendError> {
        self.log.append(publishes, now)
    }

    fn read(
        &self,
        from: u64,
        until: u64,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<ReadStep<Entry<Body>>, ReadError> {
        let step = self.log.read(from, until, interest, limit);
        self.lowest_read.fetch_min(from, SeqCst);
        step
    }

    fn seek(
        &self,
        before: u64,
        wanted: u32,
        interest: &Interest,
        limit: ReadLimit,
    ) -> Result<SeekStep, ReadError> {
        self.seeks.fetch_add(1, SeqCst);
        self.log.seek(before, wanted, interest, limit)
    }

    fn is_kept(&self, offset: u64, topics: &[Topic]) -> bool {
        self.log.is_kept(offset, topics)
    }

    fn dropped(&self, interest: &Interest, from: u64) -> Option<u64> {
        self.log.dropped(interest, from)
    }

    fn finished(&self, topic: &Topic) -> Option<u64> {
        self.log.finished(topic)
    }

    fn trim(&self, now: u64) {
        self.log.trim(now);
    }

    fn failure(&self) -> Option<String> {
        self.log.failure()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn follow(&self, timeout: Duration) -> Followed {
        let is_frozen = self.is_frozen.lock().unwrap();
        if *self.thawed.wait_timeout_while(is_frozen, timeout, |it| *it).unwrap().0 {
            return Followed::Nothing;
        }
        self.log.follow(timeout)
    }

    fn confirm(&self, position: Position) -> Result<bool, ReadError> {
        self.confirms.fetch_add(1, SeqCst);
        self.log.confirm(position)
    }

    fn store(&self) -> Option<StoreFigures> {
        self.log.store()
    }

    fn close(&self) {
        self.log.close();
    }
}

fn eventually(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to it");
        std::thread::yield_now();
    }
}

async fn receive_numbers(subscription: &mut Subscription, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(next_event(subscription).await.data, number.to_string());
    }
}

async fn publish_one(hub: &Hub, data: &str) -> Position {
    hub.publish(vec![record("a", data)]).await.unwrap().last().unwrap()
}

fn after(position: Position) -> Begin {
    Begin::After(position.to_string().into_bytes())
}

fn gap(requested: &str, oldest: Position, reason: GapReason) -> (String, String) {
    let reason = reason.as_str();
    let data = format!(r#"{{"requested":"{requested}","oldest":"{oldest}","reason":"{reason}"}}"#);
    ("tidings.gap".to_owned(), data)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_deliver_what_any_of_them_publishes_in_one_order() {
    let store = InMemoryStore::new(true);
    let nodes = Node::pair(&store);
    let mut streams = [0, 0, 1, 1].map(|nth: usize| subscribe(&nodes[nth].hub, "*", Begin::Now));
    let publishers: Vec<_> = (0..4_usize)
        .map(|nth| {
            let hub = nodes[nth % 2].hub.clone();
            tokio::spawn(async move {
                for number in 0..250 {
                    let record = record(&format!("t{nth}"), &number.to_string());
                    hub.publish(vec![record]).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let mut received = Vec::new();
    for stream in &mut streams {
        let mut events = Vec::new();
        for _ in 0..1_000 {
            events.push(next_event(stream).await);
        }
        assert!(events.windows(2).all(|two| two[0].id.offset + 1 == two[1].id.offset));
        received.push(events);
    }
    assert!(received.windows(2).all(|two| two[0] == two[1]));
    for node in &nodes {
        let figures = node.hub.figures();
        assert_eq!((figures.published, figures.followed), (500, 1_000));
        assert_eq!(figures.store.map(|store| (store.is_reached, store.behind)), Some((true, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_between_nodes_receives_everything_once() {
    let seed =
        std::env::var("TIDINGS_SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("TIDINGS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let store = InMemoryStore::new(true);
    let nodes = Node::pair(&store);
    let mut last = publish_one(&nodes[0].hub, "0").await;
    let publisher = tokio::spawn({
        let hubs = [0, 1].map(|nth: usize| nodes[nth].hub.clone());
        let mut rng = rng.fork();
        async move {
            for number in 1..6_000 {
                publish_one(&hubs[rng.usize(..2)], &number.to_string()).await;
            }
        }
    });
    let (mut expected, mut moves) = (1, 0);
    while expected < 6_000 {
        if moves % 50 == 0 {
            nodes[0].freeze(rng.bool());
            nodes[1].freeze(rng.u32(..4) == 0);
        }
        moves += 1;
        let node = &nodes[moves % 2];
        let mut stream = subscribe(&node.hub, "a", after(last));
        for _ in 0..rng.usize(..6) {
            let Ok(delivered) = tokio::time::timeout(Duration::from_millis(2), stream.next()).await
            else {
                break;
            };
            let Some(Delivered::Event(event)) = delivered else { panic!("{delivered:?}") };
            assert_eq!(event.data, expected.to_string(), "after {moves} moves");
            (last, expected) = (event.id, expected + 1);
        }
    }
    publisher.await.unwrap();
    assert!(moves > 1_500, "{moves} moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_a_faster_node_waits_for_the_slower_one() {
    let store = InMemoryStore::new(true);
    let [fast, slow] = Node::pair(&store);
    publish_numbers(&fast.hub, "a", 0..5).await;
    slow.catch_up(&store);
    slow.freeze(true);
    // A call that was under way may still bring something.
    publish_numbers(&fast.hub, "a", 5..6).await;
    let last = publish_one(&fast.hub, "6").await;
    publish_numbers(&fast.hub, "a", 7..9).await;
    let mut stream = subscribe(&slow.hub, "a", after(last));
    let poll = Some(Duration::from_secs(3_600));
    let options = SubscribeOptions { begin: after(last), poll, ..Default::default() };
    let mut polled = slow.hub.subscribe(interest("a"), options).unwrap();
    let brief =
        SubscribeOptions { begin: after(last), poll: Some(Duration::ZERO), ..Default::default() };
    let mut empty = slow.hub.subscribe(interest("a"), brief).unwrap();
    if slow.hub.bounds().next <= last.offset {
        assert_eq!((empty.next().await, empty.settled()), (None, Some(last)));
    }
    // The store knows the id: that is why nobody is told of a gap.
    eventually(|| slow.log.confirms.load(SeqCst) > 0 || slow.hub.bounds().next > last.offset);
    slow.freeze(false);
    receive_numbers(&mut stream, 7..9).await;
    receive_numbers(&mut polled, 7..9).await;
    assert_eq!(polled.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_no_node_has_given_out_is_told_to_be_invalid() {
    let store = InMemoryStore::new(true);
    let [one, other] = Node::pair(&store);
    let first = publish_one(&one.hub, "0").await;
    other.catch_up(&store);
    let unseen = Position { offset: 99, ..first };
    let foreign = Position { epoch: Epoch::from_random(fastrand::u64(..)), offset: 1 };
    for (id, reason) in [(unseen, GapReason::Invalid), (foreign, GapReason::UnknownEpoch)] {
        for poll in [None, Some(Duration::ZERO)] {
            let options = SubscribeOptions { begin: after(id), poll, ..Default::default() };
            let mut stream = other.hub.subscribe(interest("a"), options).unwrap();
            assert_eq!(stream.begins_after(), None);
            assert_eq!(next_control(&mut stream).await, gap(&id.to_string(), first, reason));
            receive_numbers(&mut stream, 0..1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_told_of_another_life_and_go_on_in_it() {
    let store = InMemoryStore::new(false);
    let nodes = Node::pair(&store);
    let mut streams = [0, 1].map(|nth: usize| subscribe(&nodes[nth].hub, "a", Begin::Now));
    publish_numbers(&nodes[0].hub, "a", 0..5).await;
    let last = publish_one(&nodes[1].hub, "5").await;
    for stream in &mut streams {
        receive_numbers(stream, 0..6).await;
    }
    store.lose_tail(2);
    for (stream, node) in streams.iter_mut().zip(&nodes) {
        let told = next_control(stream).await;
        let epoch = node.log.epoch();
        assert_ne!(epoch, last.epoch);
        let oldest = Position { epoch, offset: 1 };
        assert_eq!(told, gap(&last.to_string(), oldest, GapReason::UnknownEpoch));
        for number in 0..4 {
            let event = next_event(stream).await;
            assert_eq!((event.data, event.id.epoch), (number.to_string(), epoch));
        }
    }
    let next = publish_one(&nodes[0].hub, "new").await;
    assert_eq!(next, Position { epoch: nodes[0].log.epoch(), offset: 5 });
    for stream in &mut streams {
        let event = next_event(stream).await;
        assert_eq!((event.data.as_str(), event.id), ("new", next));
    }
    // Who comes back later hears of it as well.
    let mut late = subscribe(&nodes[1].hub, "a", after(last));
    let oldest = Position { offset: 1, ..next };
    assert_eq!(
        next_control(&mut late).await,
        gap(&last.to_string(), oldest, GapReason::UnknownEpoch)
    );
    receive_numbers(&mut late, 0..4).await;
    assert!(nodes.iter().all(|node| node.hub.figures().lives == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_is_served_while_the_store_is_down() {
    let store = InMemoryStore::new(true);
    let limits = Limits { tail_events_max: 100, ..Limits::default() };
    let node = Node::start(&store, limits);
    let mut live = subscribe(&node.hub, "a", Begin::Now);
    publish_numbers(&node.hub, "a", 0..1_000).await;
    receive_numbers(&mut live, 0..1_000).await;
    store.set_down(true);
    eventually(|| node.hub.failure().is_some());
    let refused = node.hub.publish(vec![record("a", "lost")]).await.unwrap_err();
    assert!(matches!(refused, PublishError::Log(AppendError::Unavailable(_))), "{refused}");
    assert!(!node.hub.figures().store.unwrap().is_reached);

    let epoch = node.log.epoch();
    let mut resumed = subscribe(&node.hub, "a", after(Position { epoch, offset: 950 }));
    receive_numbers(&mut resumed, 950..1_000).await;
    let mut last = subscribe(&node.hub, "a", Begin::Last(7));
    receive_numbers(&mut last, 993..1_000).await;
    assert_eq!(node.log.seeks.load(SeqCst), 0);
    let mut older = subscribe(&node.hub, "a", Begin::Earliest);

    store.set_down(false);
    receive_numbers(&mut older, 0..1_000).await;
    eventually(|| node.hub.failure().is_none());
    publish_numbers(&node.hub, "a", 1_000..1_001).await;
    for stream in [&mut live, &mut resumed, &mut last, &mut older] {
        receive_numbers(stream, 1_000..1_001).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_just_started_serves_the_newest_events_from_memory() {
    let store = InMemoryStore::new(true);
    let old = Node::start(&store, Limits::default());
    publish_numbers(&old.hub, "a", 0..3_000).await;
    let new = Node::start(&store, Limits::default());
    eventually(|| new.log.lowest_read.load(SeqCst) == 1);
    store.set_down(true);
    let mut all = subscribe(&new.hub, "a", Begin::Earliest);
    receive_numbers(&mut all, 0..3_000).await;
    let mut last = subscribe(&new.hub, "a", Begin::Last(2_500));
    receive_numbers(&mut last, 500..3_000).await;
    store.set_down(false);
    eventually(|| old.hub.failure().is_none());
    publish_numbers(&old.hub, "a", 3_000..3_001).await;
    receive_numbers(&mut all, 3_000..3_001).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_starts_before_its_store() {
    let store = InMemoryStore::new(true);
    store.set_down(true);
    let node = Node::start(&store, Limits::default());
    assert!(node.hub.failure().is_some());
    let refused = node.hub.subscribe(interest("a"), SubscribeOptions::default()).unwrap_err();
    assert_eq!(refused, SubscribeError::LogUnavailable);
    assert!(node.hub.publish(vec![record("a", "")]).await.is_err());
    store.set_down(false);
    eventually(|| node.hub.failure().is_none());
    let mut live = subscribe(&node.hub, "a", Begin::Now);
    publish_numbers(&node.hub, "a", 0..3).await;
    receive_numbers(&mut live, 0..3).await;
    assert_eq!(node.hub.figures().lives, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_threads_of_a_hub_end_with_it() {
    let store = InMemoryStore::new(true);
    let Node { hub, log } = Node::start(&store, Limits::default());
    drop(hub);
    eventually(|| Arc::strong_count(&log) == 1);
}
