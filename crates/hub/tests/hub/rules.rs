//! Retention rules: what they drop from the middle of the log is not delivered, and told.

use std::sync::Arc;

use tidings::{
    Begin, Delivered, EventLog, Hub, HubOptions, Limits, MemoryLog, MemoryLogOptions, Retention,
    RetentionRule, Selector, random_epoch,
};

use crate::{next_control, next_event, publish_numbers, subscribe};

/// Keeps two events of each price. Events are dropped when the log is told to trim.
fn hub_of_prices(tail_events_max: usize) -> (Hub, Arc<MemoryLog>) {
    let topics = Selector::parse("prices/{name}").unwrap();
    let rules = vec![RetentionRule { topics, events_max: Some(2), age_max_ms: None }];
    let ample = MemoryLogOptions::default();
    let retention = Retention { rules, ..ample.retention };
    let log = MemoryLog::new(random_epoch().unwrap(), MemoryLogOptions { retention, ..ample });
    let log = Arc::new(log);
    let limits = Limits { tail_events_max, ..Limits::default() };
    let options = HubOptions { limits, ..Default::default() };
    (Hub::start(options, Arc::clone(&log) as Arc<dyn EventLog>).unwrap(), log)
}

async fn check(selector: &str, tail_events_max: usize) {
    let (hub, log) = hub_of_prices(tail_events_max);
    publish_numbers(&hub, "orders/1", 9..10).await;
    let first = hub.publish(vec![crate::record("prices/a", "0")]).await.unwrap().last().unwrap();
    let resume = || Begin::After(first.to_string().into_bytes());
    publish_numbers(&hub, "prices/a", 1..5).await;
    publish_numbers(&hub, "orders/1", 5..8).await;
    log.trim(0);
    let wanted: Vec<_> = match selector {
        "*" => ["3", "4", "5", "6", "7"].into(),
        _ => ["3", "4"].into(),
    };
    assert_eq!(hub.bounds().oldest, 1, "what is dropped lies in the middle");
    for begin in [Begin::Earliest, Begin::Last(5)] {
        let begins_before = selector == "*" && matches!(begin, Begin::Earliest);
        let mut stream = subscribe(&hub, selector, begin);
        if begins_before {
            assert_eq!(next_event(&mut stream).await.data, "9");
        }
        for data in &wanted {
            assert_eq!(next_event(&mut stream).await.data, *data, "{selector}");
        }
    }
    let mut resumed = subscribe(&hub, selector, resume());
    let (event_type, data) = next_control(&mut resumed).await;
    let epoch = first.epoch;
    let gap = format!(r#"{{"requested":"{first}","oldest":"{epoch}-5","reason":"trimmed"}}"#);
    assert_eq!((event_type.as_str(), data), ("tidings.gap", gap), "{selector}");
    for data in &wanted {
        assert_eq!(next_event(&mut resumed).await.data, *data, "{selector}");
    }
}

#[tokio::test]
async fn what_a_rule_dropped_is_left_out_and_told_from_the_tail() {
    for selector in ["prices/a", "prices/{name}", "*"] {
        check(selector, 1_000).await;
    }
}

#[tokio::test]
async fn what_a_rule_dropped_is_left_out_and_told_from_the_log() {
    for selector in ["prices/a", "prices/{name}", "*"] {
        check(selector, 1).await;
    }
}

#[tokio::test]
async fn who_was_live_misses_nothing_and_is_told_nothing() {
    let (hub, log) = hub_of_prices(1_000);
    let mut live = subscribe(&hub, "prices/a", Begin::Now);
    for number in 0..100 {
        publish_numbers(&hub, "prices/a", number..number + 1).await;
        log.trim(0);
        assert_eq!(next_event(&mut live).await.data, number.to_string());
    }
}

#[tokio::test]
async fn who_fell_behind_a_rule_is_told_and_goes_on() {
    let topics = Selector::parse("prices/{name}").unwrap();
    let rules = vec![RetentionRule { topics, events_max: Some(10), age_max_ms: None }];
    let ample = MemoryLogOptions::default();
    let retention = Retention { rules, ..ample.retention };
    let log = MemoryLog::new(random_epoch().unwrap(), MemoryLogOptions { retention, ..ample });
    let log = Arc::new(log);
    let limits = Limits { backlog_bytes_max: 500, tail_events_max: 5, ..Limits::default() };
    let options = HubOptions { limits, ..Default::default() };
    let hub = Hub::start(options, Arc::clone(&log) as Arc<dyn EventLog>).unwrap();
    let mut slow = subscribe(&hub, "prices/a", Begin::Now);
    publish_numbers(&hub, "prices/a", 0..1).await;
    assert_eq!(next_event(&mut slow).await.data, "0");
    for number in 1..1_000 {
        publish_numbers(&hub, "prices/a", number..number + 1).await;
    }
    log.trim(0);
    let (mut received, mut lags) = (Vec::new(), 0);
    while received.last() != Some(&999) {
        match slow.next().await.unwrap() {
            Delivered::Event(event) => received.push(event.data.parse::<u32>().unwrap()),
            Delivered::Control { event_type, .. } => {
                assert_eq!(event_type, "tidings.lagged");
                lags += 1;
            }
        }
    }
    assert!(lags == 1 && received.len() < 900, "{lags} lags, {} events", received.len());
    assert!(received.is_sorted());
    assert_eq!(received[received.len() - 10..], (990..1_000).collect::<Vec<_>>());
}
