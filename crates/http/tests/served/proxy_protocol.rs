//! Proxies that say for whom they connect.

use rustls::version::TLS13;
use tidings::HubOptions;
use tidings_http::{HttpLimits, HttpOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::Served;

const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn from(network: &str) -> HttpOptions {
    HttpOptions { proxy_protocol_from: vec![network.parse().unwrap()], ..HttpOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_say_and_does_is_served() {
    let served = Served::start(from("127.0.0.0/8"), HubOptions::default()).await;
    let mut client = served.connect().await;
    client.send(HEADER).await;
    client.send(LIVE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.until("}").await;
    client.subscribe("topic=a", "").await;
    client.until("\n:\n\r\n").await;
    served.publish("a", "1").await;
    assert!(client.chunk().await.ends_with("data: 1\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_say_and_does_not_is_closed_on() {
    let served = Served::start(from("127.0.0.1/32"), HubOptions::default()).await;
    let mut client = served.connect().await;
    client.send(LIVE).await;
    assert_eq!(client.rest_or_reset().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_say_it() {
    let served = Served::start(from("192.0.2.0/24"), HubOptions::default()).await;
    let mut client = served.connect().await;
    client.send(HEADER).await;
    client.send(LIVE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 400 "));
    let mut client = served.connect().await;
    client.send(LIVE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_one_client_are_for_whom_it_names() {
    let limits = HttpLimits { connections_per_address_max: Some(1), ..HttpLimits::default() };
    let http = HttpOptions { limits: limits.into(), ..from("127.0.0.1/32") };
    let served = Served::start(http, HubOptions::default()).await;
    let mut open = Vec::new();
    for (address, is_let_in) in [
        ("192.0.2.7", true),
        ("192.0.2.8", true),
        ("192.0.2.7", false),
        ("192.0.2.9", true),
        ("192.0.2.8", false),
    ] {
        let mut client = served.connect().await;
        client.send(&format!("PROXY TCP4 {address} 198.51.100.1 4711 443\r\n")).await;
        client.subscribe("topic=a", "").await;
        let head = client.head().await;
        assert_eq!(head.contains("transfer-encoding: chunked"), is_let_in, "{address}: {head}");
        open.push(client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_before_the_handshake() {
    let served = Served::start_encrypted(from("127.0.0.1/32"), HubOptions::default()).await;
    let mut connection = TcpStream::connect(served.address).await.unwrap();
    connection.write_all(HEADER.as_bytes()).await.unwrap();
    let mut client = Client::new(served.shake_hands(connection, &TLS13, &[]).await);
    client.send(LIVE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn one_that_stalls_ends() {
    let served = Served::start(from("127.0.0.1/32"), HubOptions::default()).await;
    for begun in ["", "PROXY TCP4 192.0", "\r\n\r\n\0\r\nQUIT\n\x21\x11"] {
        let mut client = served.connect().await;
        client.send(begun).await;
        assert_eq!(client.rest_or_reset().await, "");
    }
}
