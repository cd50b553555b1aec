//! The end of a server, for connections of every kind.

use rustls::version::TLS13;
use tidings::HubOptions;
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::http2::Http2;
use crate::server::Served;

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_a_farewell_and_the_last_chunk() {
    let served = Served::plain().await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut client = served.connect().await;
        client.subscribe("topic=a", "").await;
        client.until("\n:\n\r\n").await;
        streams.push(client);
    }
    served.publish("a", "first").await;
    for stream in &mut streams {
        assert!(stream.chunk().await.ends_with("data: first\n\n"));
    }
    served.publish("a", "last").await;
    served.stop().await;
    for mut stream in streams {
        assert!(stream.chunk().await.ends_with("data: last\n\n"));
        let end = stream.rest().await;
        assert!(
            end.contains("event: tidings.shutdown\n") && end.ends_with("\n\r\n0\r\n\r\n"),
            "{end}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_every_kind_end() {
    let served = Served::encrypted(HubOptions::default()).await;
    let mut idle = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    idle.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    idle.until("}").await;
    let mut stream = Client::new(served.connect_encrypted(&TLS13, &[b"http/1.1"]).await);
    stream.subscribe("topic=a", "").await;
    stream.until("\n:\n\r\n").await;
    let mut poll = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    poll.subscribe("topic=a&mode=poll", "").await;
    poll.until("\n:\n\r\n").await;
    let mut http2 = Http2::connect(&served).await;
    let mut body = http2.subscribe("a").await;
    let mut silent = served.connect().await;
    silent.connection.write_all(b"\x16\x03\x01").await.unwrap();
    served.wait_for_subscribers(3).await;
    served.stop().await;
    assert_eq!(idle.rest().await, "");
    assert!(stream.rest().await.ends_with("\n\n\r\n0\r\n\r\n"));
    assert!(poll.rest().await.ends_with("0\r\n\r\n"));
    assert!(body.rest().await.contains("event: tidings.shutdown\n"));
    http2.ended().await;
}
