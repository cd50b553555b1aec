//! What one client may take.

use std::time::Instant;

use serde_json::Value;
use tidings::HubOptions;
use tidings_access::{Access, AccessOptions, AuthorityOptions};
use tidings_auth::{Authority, Claims, Key, SigningKey};
use tidings_http::{CurrentLimits, HttpLimits, HttpOptions, Rate};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::Served;

fn limited(limits: HttpLimits) -> HttpOptions {
    HttpOptions { limits: limits.into(), ..HttpOptions::default() }
}

/// A proxy on this machine tells for whom it asks.
fn behind_a_proxy(options: HttpOptions) -> HttpOptions {
    HttpOptions { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..options }
}

/// Asks for something on a connection of its own, for the client at `address`.
async fn ask(served: &Served, address: &str, request: &str, lines: &str) -> Client<TcpStream> {
    let mut client = served.connect().await;
    let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {address}\r\n");
    client.send(&format!("{head}{lines}\r\n")).await;
    client
}

/// A stream that is open; `None` if it was turned away politely.
async fn subscribe(served: &Served, address: &str) -> Option<Client<TcpStream>> {
    subscribe_as(served, address, "").await
}

/// The same, with more lines of the head.
async fn subscribe_as(served: &Served, address: &str, lines: &str) -> Option<Client<TcpStream>> {
    let mut client = ask(served, address, "GET /events?topic=a", lines).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
    if head.contains("transfer-encoding: chunked") {
        assert_eq!(client.chunk().await, "retry: 2000\n:\n");
        return Some(client);
    }
    let rest = client.rest().await;
    let retry_ms: u64 = rest.strip_prefix("retry: ").unwrap().trim_end().parse().unwrap();
    assert!((10_000..=30_000).contains(&retry_ms), "{rest}");
    None
}

/// The head and the JSON of an answer, if it has a length.
async fn answer(mut client: Client<TcpStream>) -> (String, Value) {
    let head = client.head().await;
    let Some((_, length)) = head.split_once("content-length: ") else { return (head, Value::Null) };
    let length = length.lines().next().unwrap();
    let body = client.exactly(length.parse().unwrap()).await;
    (head, serde_json::from_str(&body).unwrap())
}

async fn publish(served: &Served, address: &str, media_type: &str, body: &str) -> (String, Value) {
    publish_as(served, address, "", media_type, body).await
}

async fn publish_as(
    served: &Served,
    address: &str,
    lines: &str,
    media_type: &str,
    body: &str,
) -> (String, Value) {
    let length = body.len();
    let lines = format!("content-type: {media_type}\r\ncontent-length: {length}\r\n{lines}");
    let mut client = ask(served, address, "POST /events", &lines).await;
    client.send(body).await;
    answer(client).await
}

/// Whose tokens are trusted, and the header line with one for a user.
async fn users() -> (Access, impl Fn(Option<&str>) -> String) {
    let secret = b"a secret of these tests, long enough to be one";
    let keys = Key::parse(secret, None).unwrap();
    let authority = Authority::default();
    let mut options = AccessOptions::default();
    options.authorities.push(AuthorityOptions { authority, keys, jwks: vec![] });
    let key = SigningKey::parse(secret, None).unwrap();
    let line = move |user: Option<&str>| {
        let user = user.map(str::to_owned);
        let claims = Claims { user, publish: Some(vec!["*".to_owned()]), ..Claims::default() };
        format!("authorization: Bearer {}\r\n", key.sign(&claims).unwrap())
    };
    (Access::start(options).await.unwrap(), line)
}

async fn metric(served: &Served, name: &str) -> u64 {
    let mut client = ask(served, "192.0.2.1", "GET /metrics", "connection: close\r\n").await;
    let text = client.rest().await;
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_as_many_streams_as_it_may_have_and_others_do_not_notice() {
    let options =
        limited(HttpLimits { connections_per_address_max: Some(2), ..HttpLimits::default() });
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    for (first, same, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
    ] {
        let one = subscribe(&served, first).await.unwrap();
        let two = subscribe(&served, same).await.unwrap();
        assert!(subscribe(&served, same).await.is_none());
        let forged = format!("{other}, {same}");
        assert!(subscribe(&served, &forged).await.is_none(), "what a client wrote is not believed");
        let _other = subscribe(&served, other).await.unwrap();
        let poll = "GET /events?topic=a&mode=poll&wait=0";
        let (head, problem) =
            answer(ask(&served, same, poll, "accept: application/json\r\n").await).await;
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("\r\nretry-after: "), "{head}");
        assert_eq!(problem["type"], "urn:tidings:problem:too-many-connections");
        let event = r#"{"topic":"a"}"#;
        let (head, _) = publish(&served, same, "application/json", event).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        served.wait_for_subscribers(3).await;
        drop((one, two));
        // Whoever has gone is noticed when something is written for it.
        while served.hub.figures().subscribers > 1 {
            served.publish("a", "").await;
        }
        let _again = subscribe(&served, same).await.unwrap();
        drop(_other);
        drop(_again);
        while served.hub.figures().subscribers > 0 {
            served.publish("a", "").await;
        }
    }
    assert_eq!(metric(&served, "tidings_refused_total{reason=\"address\"}").await, 6);
    assert_eq!(metric(&served, "tidings_turned_away_total").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_open_at_a_rate() {
    let rate = Rate { per_second: 1, burst: 3 };
    let options = limited(HttpLimits { connect_rate: Some(rate), ..HttpLimits::default() });
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let begun = Instant::now();
    let mut open = Vec::new();
    for _ in 0..100 {
        open.extend(subscribe(&served, "192.0.2.1").await);
    }
    let most = 3 + begun.elapsed().as_secs() as usize + 1;
    assert!((3..=most).contains(&open.len()), "{} of {most}", open.len());
    let refused = metric(&served, "tidings_refused_total{reason=\"connect_rate\"}").await;
    assert_eq!(refused as usize, 100 - open.len());
    assert_eq!(metric(&served, "tidings_turned_away_total").await, refused);
    assert!(subscribe(&served, "192.0.2.2").await.is_some(), "others do not notice");

    let poll = "GET /events?topic=a&mode=poll&wait=0";
    for _ in 0..100 {
        let client = ask(&served, "192.0.2.1", poll, "accept: application/json\r\n").await;
        let (head, problem) = answer(client).await;
        if head.starts_with("HTTP/1.1 429") {
            assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
            assert_eq!(problem["type"], "urn:tidings:problem:too-many-requests");
            return;
        }
    }
    panic!("100 polls in {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_at_a_rate() {
    let rate = Rate { per_second: 1, burst: 3 };
    let options = limited(HttpLimits { publish_rate: Some(rate), ..HttpLimits::default() });
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let array = |events| format!("[{}]", vec![r#"{"topic":"a"}"#; events].join(","));
    let json = "application/json";

    let (head, problem) = publish(&served, "192.0.2.1", json, &array(4)).await;
    assert!(head.starts_with("HTTP/1.1 429") && !head.contains("retry-after"), "{head}");
    assert!(problem["detail"].as_str().unwrap().contains("at most 3 are"), "{problem}");
    let (head, _) = publish(&served, "192.0.2.1", json, &array(3)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    let form = "application/x-www-form-urlencoded";
    let mut refused = 0;
    for (media_type, body) in [(json, &*array(2)), (json, r#"{"topic":"a"}"#), (form, "topic=a")] {
        let mut tries = 0;
        let (head, problem) = loop {
            let (head, problem) = publish(&served, "192.0.2.2", media_type, body).await;
            if head.starts_with("HTTP/1.1 429") {
                break (head, problem);
            }
            tries += 1;
            assert!(tries < 100);
        };
        refused += 1;
        assert!(head.contains("\r\nretry-after: "), "{head}");
        assert_eq!(problem["type"], "urn:tidings:problem:too-many-requests");
    }
    let counted = metric(&served, "tidings_refused_total{reason=\"publish_rate\"}").await;
    assert_eq!(counted, refused + 1);
    let problems = "tidings_problems_total{type=\"too-many-requests\"}";
    assert_eq!(metric(&served, problems).await, refused + 1);
    assert_eq!(metric(&served, "tidings_turned_away_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_is_read_as_fast_as_it_may_be_published() {
    let rate = Rate { per_second: 1_000, burst: 100 };
    let options = limited(HttpLimits { publish_rate: Some(rate), ..HttpLimits::default() });
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let begun = Instant::now();
    let body = "{\"topic\":\"a\"}\n".repeat(500);
    let ndjson = "application/x-ndjson";
    let length = body.len();
    let lines =
        format!("content-type: {ndjson}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    let mut client = ask(&served, "192.0.2.1", "POST /events", &lines).await;
    client.send(&body).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches('-').count() > 500, "{answer}");
    assert!(begun.elapsed().as_millis() >= 400, "{:?}", begun.elapsed());
    assert_eq!(served.hub.figures().published, 500);
    assert_eq!(metric(&served, "tidings_refused_total{reason=\"publish_rate\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_as_many_streams_as_it_may_have_from_wherever() {
    let (access, line) = users().await;
    let limits = HttpLimits { connections_per_user_max: Some(2), ..HttpLimits::default() };
    let options = HttpOptions { access, anonymous: true, ..limited(limits) };
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let (ada, bob, nameless) = (line(Some("ada")), line(Some("bob")), line(None));
    let one = subscribe_as(&served, "192.0.2.1", &ada).await.unwrap();
    let _two = subscribe_as(&served, "192.0.2.2", &ada).await.unwrap();
    assert!(subscribe_as(&served, "192.0.2.3", &ada).await.is_none());
    let mut others = Vec::new();
    for lines in [&*bob, &*nameless, &*nameless, &*nameless, "", "", ""] {
        others.push(subscribe_as(&served, "192.0.2.1", lines).await.expect(lines));
    }
    let poll = "GET /events?topic=a&mode=poll&wait=0";
    let lines = format!("accept: application/json\r\n{ada}");
    let (head, problem) = answer(ask(&served, "192.0.2.3", poll, &lines).await).await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("\r\nretry-after: "), "{head}");
    assert_eq!(problem["type"], "urn:tidings:problem:too-many-connections");
    served.wait_for_subscribers(9).await;
    drop(one);
    while served.hub.figures().subscribers > 8 {
        served.publish("a", "").await;
    }
    assert!(subscribe_as(&served, "192.0.2.3", &ada).await.is_some());
    assert_eq!(metric(&served, "tidings_refused_total{reason=\"user\"}").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_publishes_at_one_rate_from_wherever() {
    let (access, line) = users().await;
    let publish_rate = Some(Rate { per_second: 1, burst: 3 });
    let limits = HttpLimits { publish_rate, ..HttpLimits::default() };
    let options = HttpOptions { access, ..limited(limits) };
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let json = "application/json";
    let array = r#"[{"topic":"a"},{"topic":"a"},{"topic":"a"}]"#;
    let (ada, bob) = (line(Some("ada")), line(Some("bob")));
    let begun = Instant::now();
    let mut taken = 0;
    for last in 0..100 {
        let address = format!("192.0.2.{last}");
        let (head, _) = publish_as(&served, &address, &ada, json, array).await;
        taken += u64::from(head.starts_with("HTTP/1.1 200"));
    }
    let most = 1 + begun.elapsed().as_secs() / 3 + 1;
    assert!((1..=most).contains(&taken), "{taken} of {most}");
    let (head, _) = publish_as(&served, "192.0.2.0", &bob, json, array).await;
    assert!(head.starts_with("HTTP/1.1 200"), "others do not notice: {head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_the_hub_is_served_and_open_streams_stay() {
    let each = |count| HttpLimits {
        connections_per_address_max: Some(count),
        publish_rate: Some(Rate { per_second: 1, burst: 1 }),
        topics_max: 1,
        ..HttpLimits::default()
    };
    let limits = CurrentLimits::from(each(2));
    let options = HttpOptions { limits: limits.clone(), ..HttpOptions::default() };
    let served = Served::start(behind_a_proxy(options), HubOptions::default()).await;
    let streams = [0, 1].map(|_| subscribe(&served, "192.0.2.1"));
    let [one, two] = streams;
    let (mut one, _two) = (one.await.unwrap(), two.await.unwrap());
    let (json, array) = ("application/json", r#"[{"topic":"a"},{"topic":"a"}]"#);
    let (head, _) = publish(&served, "192.0.2.9", json, array).await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");

    limits.change(each(1));
    assert!(subscribe(&served, "192.0.2.1").await.is_none());
    limits.change(each(3));
    let _three = subscribe(&served, "192.0.2.1").await.unwrap();
    assert!(subscribe(&served, "192.0.2.1").await.is_none(), "those from before are counted");
    limits.change(HttpLimits { topics_max: 1, ..HttpLimits::default() });
    let (head, _) = publish(&served, "192.0.2.9", json, r#"{"topic":["a","b"]}"#).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    limits.change(HttpLimits { topics_max: 2, body_bytes_max: 29, ..HttpLimits::default() });
    let (head, _) = publish(&served, "192.0.2.9", json, array).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, _) = publish(&served, "192.0.2.9", json, &format!("{array} ")).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(one.chunk().await.contains("data: \n"), "the stream is there all the while");
}
