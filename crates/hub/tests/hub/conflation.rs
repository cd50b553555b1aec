//! Readers that want the newest event of each topic.

use std::collections::BTreeMap;
use std::io::BufReader;

use super::*;
use crate::sockets::{connection, next_chunk};

const TOPICS: usize = 10;

fn conflating(begin: Begin) -> SubscribeOptions {
    SubscribeOptions { begin, conflate: true, ..Default::default() }
}

/// Publishes a row of numbers under as many topics in turn, a thousand in one go.
async fn publish_prices(hub: &Hub, numbers: std::ops::Range<usize>, filling: &str) {
    let numbers: Vec<usize> = numbers.collect();
    for numbers in numbers.chunks(1_000) {
        let price =
            |&n: &usize| record(&format!("prices/{}", n % TOPICS), &format!("{n}{filling}"));
        hub.publish(numbers.iter().map(price).collect()).await.unwrap();
    }
}

fn skipped(event_type: &str, data: &str) -> u64 {
    assert_eq!(event_type, "tidings.conflated");
    let number = data.strip_prefix("{\"skipped\":").and_then(|data| data.strip_suffix('}'));
    number.unwrap().parse().unwrap()
}

/// Reads until `count` events were received or left out, and gives the numbers received.
async fn read_prices(subscription: &mut Subscription, count: u64) -> Vec<usize> {
    let (mut numbers, mut left_out) = (Vec::<usize>::new(), 0);
    while numbers.len() as u64 + left_out < count {
        match subscription.next().await.unwrap() {
            Delivered::Event(event) => numbers.push(event.data.parse().unwrap()),
            Delivered::Control { event_type, data } => left_out += skipped(&event_type, &data),
        }
    }
    assert_eq!(numbers.len() as u64 + left_out, count);
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    numbers
}

async fn check_catches_up(replay_bytes_max: usize) -> Vec<usize> {
    let limits = Limits { tail_events_max: 100, replay_bytes_max, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, MemoryLogOptions::default());
    publish_prices(&hub, 0..2_000, "").await;
    let begin = conflating(Begin::Earliest);
    let mut reader = hub.subscribe(interest("prices/{n}"), begin).unwrap();
    let numbers = read_prices(&mut reader, 2_000).await;
    let newest: Vec<usize> = (2_000 - TOPICS..2_000).collect();
    assert!(numbers.ends_with(&newest), "{numbers:?}");
    publish_prices(&hub, 2_000..2_100, "").await;
    assert!(read_prices(&mut reader, 100).await.ends_with(&[2_099]));
    assert_eq!(hub.figures().conflated, 2_100 - hub.figures().delivered);
    numbers
}

#[tokio::test]
async fn who_catches_up_receives_the_newest_event_of_each_topic() {
    assert_eq!(check_catches_up(1 << 20).await.len(), TOPICS);
}

#[tokio::test]
async fn who_conflates_catches_up_while_memory_is_scarce() {
    assert!(check_catches_up(1).await.len() > TOPICS);
}

#[tokio::test]
async fn a_poll_may_conflate() {
    let hub = default_hub();
    publish_prices(&hub, 0..25, "").await;
    let poll = Some(Duration::ZERO);
    let options = SubscribeOptions { poll, ..conflating(Begin::Earliest) };
    let mut reader = hub.subscribe(interest("*"), options).unwrap();
    assert_eq!(read_prices(&mut reader, 25).await, (15..25).collect::<Vec<_>>());
    assert_eq!(reader.next().await, None);
    assert_eq!(reader.settled().unwrap().offset, 25);
}

#[tokio::test]
async fn a_socket_that_is_not_read_receives_the_newest_events_once_it_is() {
    let hub = default_hub();
    let (socket, client) = connection();
    hub.admit(interest("prices/{n}"), conflating(Begin::Now)).unwrap().serve(socket, None);
    let filling = format!(" {}", "x".repeat(10_000));
    publish_prices(&hub, 0..3_000, &filling).await;
    let mut body = BufReader::new(client);
    let (mut newest, mut received, mut left_out) = (BTreeMap::new(), 0, 0);
    while received + left_out < 3_000 {
        let block = next_chunk(&mut body).unwrap();
        if let Some((_, data)) = block.split_once("tidings.conflated\ndata: ") {
            left_out += skipped("tidings.conflated", data.trim_end());
        } else if let Some((_, data)) = block.split_once("data: ") {
            let number: usize = data.split(' ').next().unwrap().parse().unwrap();
            let older = newest.insert(number % TOPICS, number);
            assert!(older < Some(number), "{number} after {older:?}");
            received += 1;
        }
    }
    assert_eq!(newest.into_values().collect::<Vec<_>>(), (2_990..3_000).collect::<Vec<_>>());
    assert!(left_out > received, "{received} received, {left_out} left out");
}
