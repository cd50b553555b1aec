//! Streams over HTTP/1.1, whose sockets shards take over.

use socket2::SockRef;
use tidings::HubOptions;
use tidings_http::HttpOptions;
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::server::Served;

const FIRST_LINES: &str = "retry: 2000\n:\n";

/// Reads the head of a stream and its first lines.
async fn begin<S>(client: &mut Client<S>) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
    assert_eq!(client.chunk().await, FIRST_LINES);
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_first_lines_arrive_together() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    client.subscribe("topic=a", "").await;
    client.receive().await;
    let received = client.received();
    assert!(received.ends_with("\r\n\r\ne\r\nretry: 2000\n:\n\r\n"), "{received}");
    let head = begin(&mut client).await;
    for line in ["transfer-encoding: chunked", "connection: close", "cache-control: no-cache"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(head.contains("\r\ndate: ") && !head.contains("content-length"), "{head}");
    let id = served.publish("a", "1").await;
    assert_eq!(client.chunk().await, format!("id: {id}\ndata: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_served_requests_is_taken_over() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    for _ in 0..3 {
        client.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.until("}").await, "{\"status\":\"ok\"}");
        let publish = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 13\r\n\
                       content-type: application/json\r\n\r\n{\"topic\":\"a\"}";
        client.send(publish).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        client.until("}").await;
    }
    client.subscribe("topic=a&last=2", "").await;
    begin(&mut client).await;
    for _ in 0..2 {
        client.until("\n\n\r\n").await;
    }
    served.publish("a", "live").await;
    assert!(client.chunk().await.ends_with("data: live\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_the_request_for_a_stream_is_dropped() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    let live = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let stream = "GET /events?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.send(&format!("{live}{stream}{live}{stream}")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.until("}").await;
    begin(&mut client).await;
    client.send(live).await;
    served.publish("a", "1").await;
    assert!(client.chunk().await.ends_with("data: 1\n\n"));
    client.send(live).await;
    served.publish("a", "2").await;
    assert!(client.chunk().await.ends_with("data: 2\n\n"));
    assert_eq!(served.hub.figures().subscribed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_come_byte_by_byte() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    client.connection.set_nodelay(true).unwrap();
    for byte in "GET /events?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n".chars() {
        client.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    begin(&mut client).await;
    served.publish("a", "1").await;
    assert!(client.chunk().await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_answers_leave_before_a_stream_begins() {
    let served = Served::plain().await;
    let client = tokio::net::TcpSocket::new_v4().unwrap();
    // The answers do not fit into the sockets, and wait in the server when the stream is asked for.
    client.set_recv_buffer_size(4 << 10).unwrap();
    let mut client = Client::new(client.connect(served.address).await.unwrap());
    let description = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    client.send(&description).await;
    client.subscribe("topic=a", "").await;
    for _ in 0..100 {
        let head = client.head().await;
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
        let body = client.exactly(length).await;
        assert!(body.starts_with('{') && body.trim_end().ends_with('}'));
    }
    begin(&mut client).await;
    served.publish("a", "1").await;
    assert!(client.chunk().await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_versions_are_not_taken_over() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    client.send("HEAD /events?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
    // It has no body, and the connection goes on.
    client.subscribe("topic=a&mode=poll&wait=0", "").await;
    let head = client.head().await;
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("connection: close"));
    assert_eq!(client.chunk().await, FIRST_LINES);
    assert_eq!(client.chunk().await, "");
    client.subscribe("topic=a", "").await;
    begin(&mut client).await;
    drop(client);

    let mut client = served.connect().await;
    client.send("GET /events?topic=a HTTP/1.0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("chunked"), "{head}");
    client.until(FIRST_LINES).await;
    served.publish("a", "1").await;
    assert!(client.until("\n\n").await.ends_with("data: 1\n\n"));
    served.stop().await;
    assert!(client.rest().await.contains("event: tidings.shutdown\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_one_side_or_both_is_gone() {
    let served = Served::plain().await;
    let mut half = served.connect().await;
    half.subscribe("topic=a", "").await;
    begin(&mut half).await;
    let mut all = served.connect().await;
    all.subscribe("topic=a", "").await;
    begin(&mut all).await;
    let mut reset = served.connect().await;
    reset.subscribe("topic=a", "").await;
    begin(&mut reset).await;
    served.wait_for_subscribers(3).await;
    half.connection.shutdown().await.unwrap();
    served.wait_for_subscribers(2).await;
    half.rest().await;
    drop(all);
    served.wait_for_subscribers(1).await;
    SockRef::from(&reset.connection).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(reset);
    served.wait_for_subscribers(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_around_the_handler_adds_to_the_head() {
    let origin = "https://app.example";
    let cors_origins = vec![origin.to_owned()];
    let http = HttpOptions { cors_origins, hosts: Some(Vec::new()), ..HttpOptions::default() };
    let served = Served::start(http, HubOptions::default()).await;
    let mut client = served.connect().await;
    client.subscribe("topic=a", &format!("origin: {origin}\r\nx-request-id: mine-7\r\n")).await;
    let head = begin(&mut client).await;
    for line in [
        "access-control-allow-origin: https://app.example\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-expose-headers: last-event-id,x-request-id\r\n",
        "x-request-id: mine-7\r\n",
        "x-content-type-options: nosniff\r\n",
        "last-event-id: ",
    ] {
        assert!(head.contains(line), "{line} is missing in\n{head}");
    }

    let mut client = served.connect().await;
    client.subscribe("topic=", "").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("application/problem+json"));
    client.send("GET /events?topic=a HTTP/1.1\r\nhost: evil.example\r\norigin: x\r\n\r\n").await;
    client.until("}").await;
    assert!(client.head().await.contains("application/problem+json"));
    assert!(client.until("}").await.contains("urn:tidings:problem:unknown-host"));
}
