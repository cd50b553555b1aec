//! The end of a server, for connections of every kind.

use std::time::Duration;

use rustls::version::TLS13;
use tidings::HubOptions;
use tidings_http::Ending;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::http2::Http2;
use crate::server::{PATIENCE, Served};

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

async fn get(client: &mut Client<TcpStream>, path: &str) -> String {
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    client.until("}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_leaving_serves_on_and_keeps_no_connection() {
    let delay = Duration::from_secs(3);
    let drain = Duration::ZERO;
    let served = Served::until(Ending::Shutdown { delay, drain, is_succeeded: false }).await;
    let address = served.address;
    let mut kept = served.connect().await;
    let ready = get(&mut kept, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("connection: close"), "{ready}");
    let mut http2 = Http2::connect_plain(&served).await;
    let mut body = http2.subscribe("a").await;
    let hub = served.hub.clone();
    let ended = served.begin_to_stop();
    let not_ready = async {
        loop {
            let mut client = Client::new(TcpStream::connect(address).await.unwrap());
            let ready = get(&mut client, "/health/ready").await;
            if ready.starts_with("HTTP/1.1 503") {
                break ready;
            }
        }
    };
    let not_ready = tokio::time::timeout(PATIENCE, not_ready).await.unwrap();
    assert!(not_ready.contains("shutting-down"), "{not_ready}");
    let live = get(&mut kept, "/health/live").await;
    assert!(live.starts_with("HTTP/1.1 200") && live.contains("connection: close"), "{live}");
    assert_eq!(kept.rest().await, "");
    // It is told to go elsewhere, and what it has goes on.
    http2.check_is_told_to_go().await;
    assert!(!hub.is_shutting_down(), "all of this was during the delay");
    hub.publish(vec![tidings::Record::new([tidings::Topic::parse("a").unwrap()], "1")])
        .await
        .unwrap();
    body.until("data: 1\n").await;
    assert!(body.rest().await.contains("event: tidings.shutdown\n"));
    ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hands_over_accepts_nobody_and_takes_what_is_published_on_open_connections() {
    let drain = Duration::from_secs(2);
    let served = Served::until(Ending::HandOver { drain }).await;
    let address = served.address;
    let (mut kept, mut one) = (served.connect().await, served.connect().await);
    get(&mut kept, "/health/live").await;
    one.subscribe("topic=a", "").await;
    one.until("\n:\n\r\n").await;
    let mut other = served.connect().await;
    other.subscribe("topic=a", "").await;
    other.until("\n:\n\r\n").await;
    served.wait_for_subscribers(2).await;
    let ended = served.begin_to_stop();
    other.until("event: tidings.shutdown\n").await;
    let event = r#"{"topic":"a","data":"late"}"#;
    let length = event.len();
    kept.send(&format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{event}"
    ))
    .await;
    let answer = kept.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    let rest = [one.rest().await, other.rest().await];
    assert!(rest.iter().any(|it| it.contains("data: late\n")), "{rest:?}");
    ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody else has the socket here");
}
