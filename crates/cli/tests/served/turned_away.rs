//! What happens at `max_connections`.

use crate::hub::Hub;
use crate::stream::Stream;

#[tokio::test]
async fn over_max_connections_streams_end_politely_and_the_rest_goes_on() {
    let hub = Hub::start(&["--max-connections", "1", "--retry", "1s"]);
    let first = Stream::open(hub.address, "topic=a", "").await;
    hub.wait_for_metric("tidings_active_connections", |open| open == 1);

    let mut retries = Vec::new();
    for _ in 0..10 {
        let answer = hub.get("/events?topic=a");
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/event-stream"));
        let retry = answer.body().strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n'));
        retries.push(retry.unwrap().parse::<u64>().unwrap());
    }
    assert!(retries.iter().all(|retry_ms| (5_000..=15_000).contains(retry_ms)), "{retries:?}");
    retries.dedup();
    assert!(retries.len() > 1, "all would come back at once");

    let poll =
        b"GET /events?topic=a&mode=poll HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 accept: application/json\r\n\r\n";
    let answer = hub.exchange(poll);
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too-many-connections"));
    assert!(answer.head.contains("retry-after: "));

    hub.publish(r#"{"topic":"a"}"#);
    assert_eq!(hub.get("/health/ready").status, 200);
    assert_eq!(hub.metric("tidings_turned_away_total"), 11);

    drop(first);
    hub.wait_for_metric("tidings_active_connections", |open| open == 0);
    Stream::open(hub.address, "topic=a", "").await.next_after_publish(&hub).await;
}

impl Stream {
    async fn next_after_publish(mut self, hub: &Hub) {
        hub.publish(r#"{"topic":"a","data":"in"}"#);
        assert_eq!(self.next().await.unwrap().data, "in");
    }
}
