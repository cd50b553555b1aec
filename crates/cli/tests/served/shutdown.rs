//! What a client sees when the hub is told to stop.

use crate::hub::Hub;
use crate::stream::Stream;

#[tokio::test]
async fn a_terminated_hub_delivers_what_was_acknowledged_and_ends_streams_cleanly() {
    let hub = Hub::start(&["--drain", "500ms"]);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Stream::open(hub.address, "topic=a", "").await);
    }
    for number in 0..50 {
        hub.publish(&format!("{{\"topic\":\"a\",\"data\":{number}}}"));
    }
    hub.terminate();
    for stream in &mut streams {
        for number in 0..50 {
            assert_eq!(stream.next().await.unwrap().data, number.to_string());
        }
        let farewell = stream.next().await.unwrap();
        assert_eq!(&*farewell.event, "tidings.shutdown");
        assert!(farewell.data.starts_with("{\"retryMs\":"), "{}", farewell.data);
        assert_eq!(stream.next().await, None);
    }
    assert_eq!(hub.exit_code(), Some(0));
}
