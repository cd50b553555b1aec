//! Topics that have had their last event.

use std::time::Duration;

use tidings::{
    Begin, EndReason, EventType, Hub, Interest, Position, PublishError, Record, Rights, Selector,
    SubscribeError, SubscribeOptions, Topic,
};

use crate::{default_hub, interest, next_control, next_event, record, subscribe};

fn last(topic: &str, data: &str) -> Record {
    Record { is_final: true, ..record(topic, data) }
}

fn of_type(event_type: &str, record: Record) -> Record {
    Record { event_type: Some(EventType::parse(event_type).unwrap()), ..record }
}

fn selecting(selectors: &[&str], event_types: &[&str]) -> Interest {
    let selectors = selectors.iter().map(|it| Selector::parse(it).unwrap()).collect();
    let event_types = event_types.iter().map(|it| EventType::parse(it).unwrap()).collect();
    Interest::new(selectors, event_types, Rights::everything())
}

fn after(id: Position) -> Begin {
    Begin::After(id.to_string().into_bytes())
}

fn refusal(hub: &Hub, interest: Interest, begin: Begin) -> Option<SubscribeError> {
    hub.subscribe(interest, SubscribeOptions { begin, ..Default::default() }).err()
}

/// Publishes three events to a topic, the last of them final.
async fn finish(hub: &Hub, topic: &str) -> Vec<Position> {
    let records = vec![record(topic, "0"), record(topic, "1"), last(topic, "2")];
    hub.publish(records).await.unwrap().ids().collect()
}

#[tokio::test]
async fn the_last_event_ends_the_streams_of_its_topic_alone() {
    let hub = default_hub();
    let mut alone = subscribe(&hub, "job/1", Begin::Now);
    let mut all = subscribe(&hub, "*", Begin::Now);
    let both = selecting(&["job/1", "job/2"], &[]);
    let mut both = hub.subscribe(both, SubscribeOptions::default()).unwrap();
    finish(&hub, "job/1").await;
    for data in ["0", "1", "2"] {
        let event = next_event(&mut alone).await;
        assert_eq!((event.data.as_str(), event.is_final), (data, data == "2"));
    }
    let finished = ("tidings.finished".to_owned(), r#"{"topics":["job/1"]}"#.to_owned());
    assert_eq!(next_control(&mut alone).await, finished);
    assert_eq!(alone.next().await, None);

    hub.publish(vec![last("job/2", "3")]).await.unwrap();
    for data in ["0", "1", "2", "3"] {
        assert_eq!(next_event(&mut both).await.data, data);
    }
    let finished = r#"{"topics":["job/1","job/2"]}"#;
    assert_eq!(next_control(&mut both).await.1, finished);
    assert_eq!(both.next().await, None);

    hub.publish(vec![record("job/3", "4")]).await.unwrap();
    for data in ["0", "1", "2", "3", "4"] {
        assert_eq!(next_event(&mut all).await.data, data);
    }
    drop((alone, both));
    let ended = hub.figures().ended;
    assert!(ended.contains(&(EndReason::Finished, 2)), "{ended:?}");
}

#[tokio::test]
async fn nothing_is_published_to_a_finished_topic() {
    let hub = default_hub();
    finish(&hub, "job/1").await;
    let topic = Topic::parse("job/1").unwrap();
    for refused in [record("job/1", ""), last("job/1", "")] {
        let refused = hub.publish(vec![record("a", ""), refused]).await;
        assert_eq!(refused, Err(PublishError::Finished { topic: topic.clone() }));
    }
    assert_eq!(hub.bounds().next, 4);
    let figures = hub.figures();
    assert_eq!((figures.published, figures.refused, figures.publish_failed), (3, 4, 0));
}

#[tokio::test]
async fn who_comes_back_receives_what_is_left_and_is_then_refused() {
    let hub = default_hub();
    let ids = finish(&hub, "job/1").await;
    hub.publish(vec![record("other", "")]).await.unwrap();
    for (begin, left) in [
        (Begin::Earliest, 3),
        (Begin::Last(2), 2),
        (Begin::Last(9), 3),
        (after(ids[0]), 2),
        (after(ids[1]), 1),
    ] {
        let mut stream = subscribe(&hub, "job/1", begin);
        for number in 3 - left..3 {
            assert_eq!(next_event(&mut stream).await.data, number.to_string());
        }
        assert_eq!(next_control(&mut stream).await.0, "tidings.finished");
        assert_eq!(stream.next().await, None);
    }
    for begin in [Begin::Now, Begin::Last(0), after(ids[2])] {
        let refused = refusal(&hub, interest("job/1"), begin);
        assert_eq!(refused, Some(SubscribeError::Finished));
    }
    assert_eq!(hub.figures().subscribers, 0);
}

#[tokio::test]
async fn a_pattern_or_an_open_topic_is_never_refused() {
    let hub = default_hub();
    let ids = finish(&hub, "job/1").await;
    for selectors in [&["*"][..], &["job/{id}"], &["job/1", "job/2"], &["job/1", "{+x}"]] {
        assert_eq!(refusal(&hub, selecting(selectors, &[]), after(ids[2])), None, "{selectors:?}");
    }
}

/// Otherwise a browser that filters by type would come back for ever with the last id it has seen.
#[tokio::test]
async fn nothing_is_left_for_a_filter_that_the_last_events_do_not_pass() {
    let hub = default_hub();
    let records = vec![
        of_type("progress", record("job/1", "50")),
        of_type("note", record("job/1", "")),
        of_type("complete", last("job/1", "")),
    ];
    let ids: Vec<_> = hub.publish(records).await.unwrap().ids().collect();
    let progress = || selecting(&["job/1"], &["progress"]);
    assert_eq!(refusal(&hub, progress(), after(ids[0])), Some(SubscribeError::Finished));
    let begin = SubscribeOptions { begin: Begin::Earliest, ..Default::default() };
    let mut stream = hub.subscribe(progress(), begin).unwrap();
    assert_eq!(next_event(&mut stream).await.data, "50");
    assert_eq!(next_control(&mut stream).await.0, "tidings.finished");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_gap_is_told_before_a_finished_stream_ends() {
    let hub = default_hub();
    finish(&hub, "job/1").await;
    let mut stream = subscribe(&hub, "job/1", Begin::After(b"nonsense".into()));
    assert_eq!(next_control(&mut stream).await.0, "tidings.gap");
    for data in ["0", "1", "2"] {
        assert_eq!(next_event(&mut stream).await.data, data);
    }
    assert_eq!(next_control(&mut stream).await.0, "tidings.finished");
}

#[tokio::test]
async fn control_off_leaves_the_end_alone() {
    let hub = default_hub();
    let options = SubscribeOptions { control_off: true, ..Default::default() };
    let mut stream = hub.subscribe(interest("job/1"), options).unwrap();
    finish(&hub, "job/1").await;
    for data in ["0", "1", "2"] {
        assert_eq!(next_event(&mut stream).await.data, data);
    }
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_poll_of_a_finished_topic_ends_with_it() {
    let hub = default_hub();
    let ids = finish(&hub, "job/1").await;
    let poll = Some(Duration::from_secs(3_600));
    let options = SubscribeOptions { begin: after(ids[1]), poll, ..Default::default() };
    let mut stream = hub.subscribe(interest("job/1"), options).unwrap();
    assert_eq!(next_event(&mut stream).await.data, "2");
    assert_eq!(next_control(&mut stream).await.0, "tidings.finished");
    assert_eq!(stream.next().await, None);
    assert_eq!(stream.settled(), Some(ids[2]));
    let options = SubscribeOptions { begin: after(ids[2]), poll, ..Default::default() };
    let refused = hub.subscribe(interest("job/1"), options).unwrap_err();
    assert_eq!(refused, SubscribeError::Finished);
}

/// Subscribers come while the last event is on its way: each receives it, or is told that nothing
/// is left.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_around_the_last_event_is_not_left_waiting() {
    let hub = default_hub();
    for job in 0..200 {
        let topic = format!("job/{job}");
        let publisher = tokio::spawn({
            let (hub, topic) = (hub.clone(), topic.clone());
            async move { hub.publish(vec![last(&topic, "end")]).await.unwrap() }
        });
        let subscriptions: Vec<_> = (0..5)
            .map_while(|_| hub.subscribe(interest(&topic), SubscribeOptions::default()).ok())
            .collect();
        publisher.await.unwrap();
        for mut subscription in subscriptions {
            assert_eq!(next_event(&mut subscription).await.data, "end");
            assert_eq!(next_control(&mut subscription).await.0, "tidings.finished");
            assert_eq!(subscription.next().await, None);
        }
    }
}
