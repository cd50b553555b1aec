//! 2,000 subscribers reconnect at random while 20,000 events are published: each receives each
//! event once, in order. Decided by the clients alone, from what came over the wire.

use std::net::SocketAddr;

use crate::hub::Hub;
use crate::stream::Stream;

const SUBSCRIBERS: u64 = 2_000;
const EVENTS: u64 = 20_000;
/// A subscriber cuts its connection after so many events at most, each time anew.
const EVENTS_PER_CONNECTION_MAX: u64 = 8_000;

#[tokio::test(flavor = "multi_thread")]
async fn each_of_2000_reconnecting_subscribers_receives_each_of_20000_events_once() {
    let seed: u64 = std::env::var("TIDINGS_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("TIDINGS_SEED={seed}");
    // A client that the machine does not let run for a while is no dead client here.
    let hub = Hub::start(&["--shards", "2", "--write-timeout", "10m"]);
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|place| tokio::spawn(receive_all(hub.address, seed.wrapping_add(place))))
        .collect();
    hub.wait_for_metric("tidings_active_connections", |open| open == SUBSCRIBERS);
    let address = hub.address;
    let publisher = tokio::task::spawn_blocking(move || {
        publish_all(&hub, seed);
        hub
    });
    let mut cuts = 0;
    for subscriber in subscribers {
        cuts += subscriber.await.unwrap();
    }
    let hub = publisher.await.unwrap();
    assert_eq!(hub.address, address);
    assert!(cuts > SUBSCRIBERS, "only {cuts} connections were cut");
    println!(
        "{} events delivered, {} of them replayed, over {cuts} cuts",
        hub.metric("tidings_events_delivered_total"),
        hub.metric("tidings_events_replayed_total")
    );
    assert_eq!(hub.metric("tidings_lagged_total"), 0);
}

/// Publishes the numbers in order, in batches of random size, with events of other topics between.
fn publish_all(hub: &Hub, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = 0;
    while next < EVENTS {
        let count = random.u64(1..100).min(EVENTS - next);
        let mut batch = String::new();
        for number in next..next + count {
            batch.push_str(&format!("{{\"topic\":\"numbers\",\"data\":{number}}}\n"));
            if random.u32(0..4) == 0 {
                batch.push_str("{\"topic\":\"others\",\"data\":\"not for them\"}\n");
            }
        }
        let answer = hub.post("application/x-ndjson", batch.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body());
        next += count;
    }
}

/// Answers how often it cut its connection.
async fn receive_all(address: SocketAddr, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut last_id = String::new();
    let mut expected = 0;
    let mut cuts = 0;
    loop {
        let mut stream = Stream::open(address, "topic=numbers", &last_id).await;
        if last_id.is_empty() {
            last_id = begins_after(&stream.head);
        }
        for _ in 0..random.u64(1..EVENTS_PER_CONNECTION_MAX) {
            let event = stream.next().await.expect("the hub ends no stream");
            assert_eq!((&*event.event, event.data.as_str()), ("message", &*expected.to_string()));
            last_id = event.id.to_string();
            expected += 1;
            if expected == EVENTS {
                return cuts;
            }
        }
        cuts += 1;
    }
}

fn begins_after(head: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix("last-event-id: "));
    line.expect("the head says where the stream begins").to_owned()
}
