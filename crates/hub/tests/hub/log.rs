//! A log that cannot be written, and one that is closed.

use std::sync::Arc;
use std::time::Duration;

use tidings::{
    AppendError, Begin, EventLog, Hub, HubOptions, MemoryLog, MemoryLogOptions, PublishError,
    random_epoch,
};

use crate::{default_hub, next_event, publish_numbers, record, subscribe};

#[tokio::test]
async fn publishers_are_refused_and_readers_go_on_while_the_log_cannot_be_written() {
    let log = MemoryLog::new(random_epoch().unwrap(), MemoryLogOptions::default());
    let log = Arc::new(log);
    let hub = Hub::start(HubOptions::default(), Arc::clone(&log) as Arc<dyn EventLog>).unwrap();
    publish_numbers(&hub, "a", 0..3).await;
    assert_eq!(hub.failure(), None);
    log.close();
    assert!(hub.failure().is_some());
    for _ in 0..3 {
        let refused = hub.publish(vec![record("a", "")]).await.unwrap_err();
        assert!(matches!(refused, PublishError::Log(AppendError::Unavailable(_))), "{refused}");
    }
    let mut reader = subscribe(&hub, "a", Begin::Earliest);
    for number in 0..3 {
        assert_eq!(next_event(&mut reader).await.data, number.to_string());
    }
    assert_eq!((hub.figures().published, hub.figures().publish_failed), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_settles_what_is_being_published_and_closes_the_log() {
    let hub = default_hub();
    let publishers: Vec<_> = (0..50)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while hub.publish(vec![record("a", "")]).await.is_ok() {
                    acknowledged += 1;
                }
                acknowledged
            })
        })
        .collect();
    let mut live = subscribe(&hub, "a", Begin::Now);
    next_event(&mut live).await;
    drop(live);
    hub.shutdown(Duration::ZERO).await;
    assert!(hub.failure().is_some());
    let mut acknowledged = 0;
    for publisher in publishers {
        acknowledged += publisher.await.unwrap();
    }
    assert_eq!(hub.bounds().next - 1, acknowledged);
    hub.shutdown(Duration::ZERO).await;
}
