//! What changes while a hub runs, and how another one goes on after it.

use std::time::Duration;

use tidings::{Begin, HubOptions, MemoryLogOptions, PublishError, SubscribeError};

use crate::{default_hub, hub, next_control, next_event, publish_numbers, record, subscribe};

#[tokio::test]
async fn a_hub_that_is_handed_over_takes_publishes_until_its_streams_have_ended() {
    let hub = hub(HubOptions { shards: 1, ..Default::default() }, MemoryLogOptions::default());
    // The first one ends at once, the second after half of the time.
    let mut first = subscribe(&hub, "a", Begin::Now);
    let mut stream = subscribe(&hub, "a", Begin::Now);
    let handing_over = tokio::spawn({
        let hub = hub.clone();
        async move { hub.hand_over(Duration::from_secs(2)).await }
    });
    assert_eq!(next_control(&mut first).await.0, "tidings.shutdown");
    drop(first);
    assert_eq!(next_control(&mut stream).await.0, "tidings.shutdown");
    assert!(matches!(
        hub.subscribe(crate::interest("a"), Default::default()),
        Err(SubscribeError::ShuttingDown)
    ));
    publish_numbers(&hub, "a", 7..8).await;
    assert_eq!(next_event(&mut stream).await.data, "7");
    assert!(stream.next().await.is_none());
    drop(stream);
    handing_over.await.unwrap();
    let late = hub.publish(vec![record("a", "8")]).await;
    assert_eq!(late, Err(PublishError::ShuttingDown));
}

#[tokio::test]
async fn limits_change_while_the_hub_runs() {
    let hub = hub(HubOptions::default(), MemoryLogOptions::default());
    let _one = subscribe(&hub, "a", Begin::Now);
    hub.set_connections_max(1);
    let second = hub.subscribe(crate::interest("a"), Default::default());
    assert!(matches!(second, Err(SubscribeError::TooManyConnections { connections_max: 1 })));
    hub.set_connections_max(2);
    let _two = subscribe(&hub, "a", Begin::Now);
    hub.set_event_bytes_max(4);
    let large = hub.publish(vec![record("a", "12345")]).await;
    assert_eq!(large, Err(PublishError::EventTooLarge { place: 0, bytes: 5, event_bytes_max: 4 }));
    hub.set_event_bytes_max(5);
    hub.publish(vec![record("a", "12345")]).await.unwrap();
}

#[tokio::test]
async fn threads_give_a_sign_of_life_until_they_have_ended_and_after() {
    let hub = default_hub();
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, hub.check_threads()).await.unwrap();
    hub.shutdown(Duration::ZERO).await;
    tokio::time::timeout(within, hub.check_threads()).await.unwrap();
}
