//! The hub as a program that embeds it sees it.

mod catch_up;
mod conflation;
mod connections;
mod finished;
mod handover;
mod keys;
mod log;
mod presence;
mod rules;
mod shared;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use tidings::{
    Begin, Delivered, Event, Hub, HubOptions, Interest, Limits, MemoryLog, MemoryLogOptions,
    PublishError, Record, Retention, Rights, Selector, SubscribeError, SubscribeOptions,
    Subscription, Topic, random_epoch,
};

fn hub(options: HubOptions, log: MemoryLogOptions) -> Hub {
    let log = MemoryLog::new(random_epoch().unwrap(), log);
    Hub::start(options, Arc::new(log)).unwrap()
}

fn default_hub() -> Hub {
    hub(HubOptions::default(), MemoryLogOptions::default())
}

fn keeping(events_max: u64) -> MemoryLogOptions {
    let ample = MemoryLogOptions::default();
    MemoryLogOptions { retention: Retention { events_max, ..ample.retention }, ..ample }
}

fn record(topic: &str, data: &str) -> Record {
    Record::new([Topic::parse(topic).unwrap()], data)
}

fn interest(selector: &str) -> Interest {
    Interest::new(vec![Selector::parse(selector).unwrap()], vec![], Rights::everything())
}

fn subscribe(hub: &Hub, selector: &str, begin: Begin) -> Subscription {
    hub.subscribe(interest(selector), SubscribeOptions { begin, ..Default::default() }).unwrap()
}

async fn next_event(subscription: &mut Subscription) -> Event {
    match subscription.next().await {
        Some(Delivered::Event(event)) => event,
        other => panic!("expected an event, got {other:?}"),
    }
}

async fn next_control(subscription: &mut Subscription) -> (String, String) {
    match subscription.next().await {
        Some(Delivered::Control { event_type, data }) => (event_type, data),
        other => panic!("expected a control event, got {other:?}"),
    }
}

async fn publish_numbers(hub: &Hub, topic: &str, numbers: std::ops::Range<u32>) {
    let records = numbers.map(|number| record(topic, &number.to_string())).collect();
    hub.publish(records).await.unwrap();
}

#[tokio::test]
async fn an_event_reaches_who_selects_its_topic_and_nobody_else() {
    let hub = default_hub();
    let mut a = subscribe(&hub, "a", Begin::Now);
    let mut all = subscribe(&hub, "*", Begin::Now);
    hub.publish(vec![record("b", "1"), record("a", "2")]).await.unwrap();
    assert_eq!(next_event(&mut a).await.data, "2");
    assert_eq!(next_event(&mut all).await.data, "1");
    assert_eq!(next_event(&mut all).await.data, "2");
}

#[tokio::test]
async fn a_resume_after_an_id_receives_what_follows_it() {
    let hub = default_hub();
    let published = hub.publish((0..9).map(|n| record("a", &n.to_string())).collect());
    let ids: Vec<String> = published.await.unwrap().ids().map(|id| id.to_string()).collect();
    let mut resumed = subscribe(&hub, "a", Begin::After(ids[4].clone().into_bytes()));
    assert_eq!(resumed.begins_after().unwrap().to_string(), ids[4]);
    publish_numbers(&hub, "a", 9..11).await;
    for number in 5..11 {
        assert_eq!(next_event(&mut resumed).await.data, number.to_string());
    }
}

#[tokio::test]
async fn the_last_events_come_first_even_if_they_are_beyond_the_tail() {
    let limits = Limits { tail_events_max: 10, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, MemoryLogOptions::default());
    publish_numbers(&hub, "rare", 0..5).await;
    publish_numbers(&hub, "common", 0..2_000).await;
    for selector in ["rare", "{+any}re"] {
        let mut last = subscribe(&hub, selector, Begin::Last(3));
        for number in 2..5 {
            assert_eq!(next_event(&mut last).await.data, number.to_string(), "{selector}");
        }
    }
}

#[tokio::test]
async fn only_what_the_log_keeps_is_replayed_but_all_is_delivered_live() {
    let log = keeping(3);
    let hub = hub(HubOptions::default(), log);
    let mut live = subscribe(&hub, "a", Begin::Now);
    publish_numbers(&hub, "a", 0..9).await;
    for number in 0..9 {
        assert_eq!(next_event(&mut live).await.data, number.to_string());
    }
    for begin in [Begin::Last(5), Begin::Earliest] {
        let mut kept = subscribe(&hub, "a", begin);
        for number in 6..9 {
            assert_eq!(next_event(&mut kept).await.data, number.to_string());
        }
    }
}

#[tokio::test]
async fn catching_up_from_the_log_meets_live_without_gap_or_duplicate() {
    let limits = Limits { tail_events_max: 64, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, MemoryLogOptions::default());
    publish_numbers(&hub, "a", 0..3_000).await;
    let mut reader = subscribe(&hub, "a", Begin::Earliest);
    let publisher = tokio::spawn({
        let hub = hub.clone();
        async move {
            for start in 300..400 {
                publish_numbers(&hub, "a", start * 10..start * 10 + 10).await;
            }
        }
    });
    for number in 0..4_000 {
        assert_eq!(next_event(&mut reader).await.data, number.to_string());
    }
    publisher.await.unwrap();
}

#[tokio::test]
async fn what_is_gone_is_announced_before_anything_else() {
    let log = keeping(3);
    let hub = hub(HubOptions::default(), log);
    let first = hub.publish(vec![record("a", "0")]).await.unwrap().ids().next().unwrap();
    publish_numbers(&hub, "a", 1..9).await;
    let oldest = hub.bounds().oldest;
    for (id, reason) in [
        (first.to_string(), "trimmed"),
        (format!("0000000000-{}", first.offset), "unknown-epoch"),
        ("nonsense".into(), "invalid"),
        (format!("{}-99", first.epoch), "invalid"),
    ] {
        let mut resumed = subscribe(&hub, "a", Begin::After(id.clone().into_bytes()));
        let (event_type, data) = next_control(&mut resumed).await;
        assert_eq!(event_type, "tidings.gap");
        let epoch = first.epoch;
        assert_eq!(
            data,
            format!(r#"{{"requested":"{id}","oldest":"{epoch}-{oldest}","reason":"{reason}"}}"#)
        );
        assert_eq!(next_event(&mut resumed).await.data, "6");
    }
}

#[tokio::test]
async fn a_reader_that_falls_behind_what_is_kept_is_told_and_goes_on() {
    let log = keeping(10);
    let limits = Limits { backlog_bytes_max: 500, tail_events_max: 5, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, log);
    let mut slow = subscribe(&hub, "a", Begin::Now);
    for number in 0..1_000 {
        publish_numbers(&hub, "a", number..number + 1).await;
    }
    let mut received = Vec::new();
    let mut lags = 0;
    while received.last() != Some(&999) {
        match slow.next().await.unwrap() {
            Delivered::Event(event) => received.push(event.data.parse::<u32>().unwrap()),
            Delivered::Control { event_type, .. } => {
                assert_eq!(event_type, "tidings.lagged");
                lags += 1;
            }
        }
    }
    assert!(lags >= 1 && received.len() < 1_000);
    assert!(received.is_sorted());
    assert_eq!(received[received.len() - 10..], (990..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_poll_ends_after_its_first_batch_and_says_where_to_go_on() {
    let hub = default_hub();
    let poll = |begin| SubscribeOptions { begin, poll: Some(Duration::ZERO), ..Default::default() };
    let mut empty = hub.subscribe(interest("a"), poll(Begin::Now)).unwrap();
    assert_eq!(empty.next().await, None);
    let mut at = empty.settled().unwrap();
    publish_numbers(&hub, "a", 0..1_000).await;
    let mut received = Vec::new();
    while received.len() < 1_000 {
        let begin = Begin::After(at.to_string().into_bytes());
        let mut batch = hub.subscribe(interest("a"), poll(begin)).unwrap();
        while let Some(Delivered::Event(event)) = batch.next().await {
            received.push(event.data.parse::<u32>().unwrap());
        }
        at = batch.settled().unwrap();
    }
    assert_eq!(received, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gap_is_answer_enough_for_a_poll() {
    let hub = default_hub();
    let begin = Begin::After(b"nonsense".to_vec());
    let poll = Some(Duration::from_secs(3_600));
    let options = SubscribeOptions { begin, poll, ..Default::default() };
    let mut batch = hub.subscribe(interest("a"), options).unwrap();
    assert_eq!(next_control(&mut batch).await.0, "tidings.gap");
    assert_eq!(batch.next().await, None);
}

#[tokio::test]
async fn connections_max_refuses_one_more_until_one_ends() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, MemoryLogOptions::default());
    let first = subscribe(&hub, "a", Begin::Now);
    let _second = subscribe(&hub, "a", Begin::Now);
    let refused = hub.subscribe(interest("a"), SubscribeOptions::default()).unwrap_err();
    assert_eq!(refused, SubscribeError::TooManyConnections { connections_max: 2 });
    assert_eq!(hub.figures().turned_away, 1);
    drop(first);
    subscribe(&hub, "a", Begin::Now);
}

#[tokio::test]
async fn event_bytes_max_refuses_the_whole_publish() {
    let limits = Limits { event_bytes_max: 4, ..Limits::default() };
    let hub = hub(HubOptions { limits, ..Default::default() }, MemoryLogOptions::default());
    let refused = hub.publish(vec![record("a", "1234"), record("a", "12345")]).await.unwrap_err();
    assert_eq!(refused, PublishError::EventTooLarge { place: 1, bytes: 5, event_bytes_max: 4 });
    assert_eq!(hub.bounds().next, 1);
}

#[tokio::test]
async fn shutdown_tells_every_stream_and_ends_it() {
    let hub = default_hub();
    let mut streams: Vec<_> = (0..20).map(|_| subscribe(&hub, "a", Begin::Now)).collect();
    publish_numbers(&hub, "a", 0..1).await;
    for stream in &mut streams {
        assert_eq!(next_event(stream).await.data, "0");
    }
    publish_numbers(&hub, "a", 1..2).await;
    let shutdown = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_millis(200)).await }
    });
    for stream in &mut streams {
        assert_eq!(next_event(stream).await.data, "1");
        assert_eq!(next_control(stream).await.0, "tidings.shutdown");
        assert_eq!(stream.next().await, None);
    }
    drop(streams);
    shutdown.await.unwrap();
    let refused = hub.subscribe(interest("a"), SubscribeOptions::default()).unwrap_err();
    assert_eq!(refused, SubscribeError::ShuttingDown);
    let refused = hub.publish(vec![record("a", "late")]).await.unwrap_err();
    assert_eq!(refused, PublishError::ShuttingDown);
}

#[tokio::test]
async fn a_silent_stream_receives_heartbeats() {
    let heartbeat = Duration::from_millis(50);
    let hub = hub(HubOptions { heartbeat, ..Default::default() }, MemoryLogOptions::default());
    let mut stream = subscribe(&hub, "a", Begin::Now);
    for _ in 0..3 {
        let bytes = std::future::poll_fn(|cx| stream.poll_sse(cx)).await.unwrap();
        assert_eq!(&bytes[..], b":\n");
    }
}

#[tokio::test]
async fn a_client_that_took_something_and_reads_no_further_is_closed_too() {
    let (heartbeat, write_timeout) = (Duration::from_millis(50), Duration::from_millis(100));
    let options = HubOptions { heartbeat, write_timeout, ..Default::default() };
    let hub = hub(options, MemoryLogOptions::default());
    let (aborted, was_aborted) = std::sync::mpsc::channel();
    let abort = move || aborted.send(()).unwrap();
    let options = SubscribeOptions { abort: Some(Box::new(abort)), ..Default::default() };
    let mut stream = hub.subscribe(interest("a"), options).unwrap();
    publish_numbers(&hub, "a", 0..3).await;
    assert_eq!(next_event(&mut stream).await.data, "0");
    tokio::task::spawn_blocking(move || was_aborted.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_the_write_timeout_is_closed() {
    let (heartbeat, write_timeout) = (Duration::from_millis(50), Duration::from_millis(100));
    let options = HubOptions { heartbeat, write_timeout, ..Default::default() };
    let hub = hub(options, MemoryLogOptions::default());
    let (aborted, was_aborted) = tokio::sync::oneshot::channel();
    let aborted = std::sync::Mutex::new(Some(aborted));
    let abort = move || {
        if let Some(aborted) = aborted.lock().unwrap().take() {
            aborted.send(()).unwrap();
        }
    };
    let options = SubscribeOptions { abort: Some(Box::new(abort)), ..Default::default() };
    let mut stream = hub.subscribe(interest("a"), options).unwrap();
    publish_numbers(&hub, "a", 0..1).await;
    was_aborted.await.unwrap();
    assert_eq!(stream.next().await, None);
}
