//! Heads and bodies that others along the way may read differently: each is refused, or means one
//! thing.

use tidings_http::HttpOptions;
use tokio::io::AsyncWriteExt;

use crate::server::Served;

/// Sends requests, and then one that ends the connection; checks the status of each answer.
async fn check(served: &Served, said: &[u8], expected: &[u16]) {
    for step in [said.len(), 1] {
        let mut client = served.connect().await;
        client.connection.set_nodelay(true).unwrap();
        for piece in [said, LAST.as_bytes()].concat().chunks(step) {
            // What is refused may be so before it is whole.
            if client.connection.write_all(piece).await.is_err() {
                break;
            }
        }
        let answers = client.rest_or_reset().await;
        let statuses: Vec<u16> = answers
            .match_indices("HTTP/1.1 ")
            .map(|(at, found)| answers[at + found.len()..][..3].parse().unwrap())
            .collect();
        // Whoever is answered before its body has come may find the connection ended.
        let expected =
            if step == 1 { &expected[..statuses.len().clamp(1, expected.len())] } else { expected };
        assert_eq!(statuses, expected, "{}: {answers}", said[..said.len().min(200)].escape_ascii());
    }
}

fn get(lines: &str) -> String {
    format!("GET /health/live HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_can_be_read_in_two_ways_are_refused() {
    let served = Served::plain().await;
    for lines in [
        // A line that goes on in the next one.
        "x-a: 1\r\n 2\r\n",
        "x-a: 1\r\n\t2\r\n",
        "x-a: 1\r\n : 2\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        // Lengths that differ, or are none.
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: 2, 2\r\n",
        "content-length: +2\r\n",
        "content-length: -1\r\n",
        "content-length: 0x2\r\n",
        "content-length: 2 2\r\n",
        "content-length: \r\n",
        "content-length: 99999999999999999999\r\n",
        // Codings that are not known, or not last.
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        // What is not to stand in a field.
        "x-a: 1\r2\r\n",
        "x-a: 1\0\r\n",
        "x\0a: 1\r\n",
        "x-a : 1\r\n",
        "transfer-encoding : chunked\r\n",
        "x a: 1\r\n",
        "x-a\r\n",
        ": 1\r\n",
        "x-a: \x7f\r\n",
        // More hosts than one.
        "host: localhost\r\n",
        "host: evil.example\r\n",
    ] {
        check(&served, get(lines).as_bytes(), &[400]).await;
    }
    for head in [
        "GET /health/live HTTP/1.1\r\n\r\n",
        "GET /health/live HTTP/1.1\r\n host: localhost\r\n\r\n",
        "GET  /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health/live  HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET\t/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health/ live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health/live\r\nhost: localhost\r\n\r\n",
        "GET /health/live HTTP/1.2\r\nhost: localhost\r\n\r\n",
        "GET /health/live HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "GET /health/live http/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health/live HTTP/1.1 \r\nhost: localhost\r\n\r\n",
        "G\0T /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health\0live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health/live HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        check(&served, head.as_bytes(), &[400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_odd_means_one_thing() {
    let served = Served::plain().await;
    let inner = get("");
    let coded =
        |lines: &str, body: &str| get(&format!("{lines}transfer-encoding: chunked\r\n")) + body;
    for (said, expected) in [
        (get("content-length: 2\r\ncontent-length: 2\r\n") + "{}", &[200, 404][..]),
        (get(&format!("content-length: {}\r\n", inner.len())) + &inner, &[200, 404]),
        // The coding counts, and nothing follows (RFC 9112, section 6.3).
        (coded("content-length: 5\r\n", "0\r\n\r\n"), &[200]),
        (coded("content-length: 200\r\n", "0\r\n\r\n"), &[200]),
        (coded("", &format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())), &[200, 404]),
        (coded("", "2;a=\"b\"\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n"), &[200, 404]),
        // Lines may end with LF alone (RFC 9112, section 2.2).
        ("GET /health/live HTTP/1.1\nhost: localhost\n\n".to_owned(), &[200, 404]),
        (format!("\r\n\r\n{inner}"), &[200, 404]),
        (get("x-a: \u{e9}\r\n"), &[200, 404]),
        // Hosts are not resources here.
        (
            "GET http://evil.example/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[200, 404],
        ),
        ("GET /%2e%2e/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[404, 404]),
        ("GET //health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[404, 404]),
        ("GET /health/live%00 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[404, 404]),
        (
            "GET /health/live/../../metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[404, 404],
        ),
        ("OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[404, 404]),
    ] {
        check(&served, said.as_bytes(), expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_cut_wrongly_end_the_connection() {
    let served = Served::plain().await;
    for body in [
        "x\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2 2\r\n{}\r\n0\r\n\r\n",
        "11111111111111111\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
        "2\r{}\r\n0\r\n\r\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
    ] {
        let said = format!(
            "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{body}"
        );
        check(&served, said.as_bytes(), &[400]).await;
    }
    assert_eq!(served.hub.figures().published, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_larger_than_allowed_are_refused() {
    let http = HttpOptions { head_bytes_max: 10_000, ..HttpOptions::default() };
    let served = Served::start(http, Default::default()).await;
    let long = "x".repeat(20_000);
    for head in [
        get(&format!("cookie: tidings_token={long}\r\n")),
        get(&format!("x-a: {}\r\n", "1, ".repeat(5_000))),
        get(&(0..2_000).map(|number| format!("x-{number}: 1\r\n")).collect::<String>()),
        format!("GET /events?topic={long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        check(&served, head.as_bytes(), &[431]).await;
    }
    check(&served, get(&format!("cookie: {}\r\n", "x".repeat(8_000))).as_bytes(), &[200, 404])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_follows_a_stream_is_a_request() {
    let served = Served::plain().await;
    let publish = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 13\r\n\
                   content-type: application/json\r\n\r\n{\"topic\":\"a\"}";
    for lines in ["", "content-length: 100\r\n", "transfer-encoding: chunked\r\n"] {
        let mut client = served.connect().await;
        let stream = format!("GET /events?topic=a HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
        client.send(&(stream + publish)).await;
        client.until("\n:\n\r\n").await;
        client.send(publish).await;
        served.publish("a", "1").await;
        assert!(client.chunk().await.ends_with("data: 1\n\n"));
    }
    assert_eq!(served.hub.figures().published, 3);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_ends() {
    let served = Served::plain().await;
    let mut client = served.connect().await;
    client.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n").await;
    let mut lines = 0;
    // A line a second, for as long as that is taken.
    while client.connection.write_all(b"x-a: 1\r\n").await.is_ok() {
        lines += 1;
        assert!(lines < 60);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(client.rest_or_reset().await, "");
}

const LAST: &str = "GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
