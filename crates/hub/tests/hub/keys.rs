//! Idempotency keys.

use tidings::{Begin, Delivered, Key, Record};

use crate::{default_hub, next_event, record, subscribe};

fn keyed(key: &str, data: &str) -> Record {
    Record { key: Some(Key::parse(key).unwrap()), ..record("a", data) }
}

#[tokio::test]
async fn a_repeated_key_answers_the_first_id_and_is_delivered_once() {
    let hub = default_hub();
    let mut all = subscribe(&hub, "a", Begin::Now);
    let first = hub.publish(vec![keyed("k", "1")]).await.unwrap();
    let again = hub.publish(vec![keyed("k", "2")]).await.unwrap();
    assert_eq!(again.ids().collect::<Vec<_>>(), first.ids().collect::<Vec<_>>());
    assert_eq!((first.repeated(), again.repeated()), (0, 1));
    hub.publish(vec![record("a", "3")]).await.unwrap();
    for data in ["1", "3"] {
        assert_eq!(next_event(&mut all).await.data, data);
    }
    let figures = hub.figures();
    assert_eq!((figures.published, figures.repeated, figures.published_bytes), (2, 1, 2));
}

#[tokio::test]
async fn ids_stand_in_the_order_of_the_records_new_or_not() {
    let hub = default_hub();
    hub.publish(vec![keyed("p:1", ""), keyed("p:2", "")]).await.unwrap();
    let keys = ["p:2", "p:3", "p:1", "p:4"];
    let mut published = hub.publish(keys.map(|key| keyed(key, "")).into()).await.unwrap();
    let offsets: Vec<u64> = published.ids().map(|id| id.offset).collect();
    assert_eq!(offsets, [2, 3, 1, 4]);
    assert_eq!((published.count(), published.repeated()), (4, 2));
    assert_eq!(published.last().unwrap().offset, 4);
    published.extend(hub.publish(vec![record("a", "")]).await.unwrap());
    assert_eq!(published.into_ids().map(|id| id.offset).collect::<Vec<_>>(), [2, 3, 1, 4, 5]);
}

/// Publishers that wait together are appended together, and each is told of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_many_publish_at_once_is_delivered_once() {
    let hub = default_hub();
    let mut all = subscribe(&hub, "a", Begin::Now);
    let publish = |number: u32| {
        let hub = hub.clone();
        async move { hub.publish(vec![keyed(&format!("k{}", number % 10), "")]).await.unwrap() }
    };
    let publishers: Vec<_> = (0..500).map(|number| tokio::spawn(publish(number))).collect();
    let mut offsets = Vec::new();
    for publisher in publishers {
        offsets.push(publisher.await.unwrap().last().unwrap().offset);
    }
    for (number, offset) in offsets.iter().enumerate() {
        assert_eq!(*offset, offsets[number % 10]);
    }
    hub.publish(vec![record("a", "end")]).await.unwrap();
    let mut received = 0;
    while let Some(Delivered::Event(event)) = all.next().await
        && event.data != "end"
    {
        received += 1;
    }
    assert_eq!((received, hub.figures().repeated), (10, 490));
}
