//! Malformed queries, headers, bodies and ids: each gets its documented answer, and the hub goes on.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::hub::Hub;

#[test]
fn every_malformed_subscription_gets_its_documented_answer() {
    let hub = Hub::start(&[]);
    let selectors = "topic=a&".repeat(101);
    let long = "x".repeat(1_025);
    for (query, status, problem) in [
        ("", 400, "missing-topic"),
        ("event=a", 400, "missing-topic"),
        ("topic", 400, "invalid-selector"),
        ("topic=", 400, "invalid-selector"),
        ("topic=%00", 400, "invalid-selector"),
        ("topic=a%0Ab", 400, "invalid-selector"),
        ("topic=%ff", 400, "invalid-selector"),
        (&format!("topic={long}"), 400, "invalid-selector"),
        (&selectors, 400, "invalid-parameter"),
        ("topic=a&event=", 400, "invalid-event-type"),
        ("topic=a&event=a%0Db", 400, "invalid-event-type"),
        ("topic=a&event=%fe", 400, "invalid-event-type"),
        ("topic=a&last=-1", 400, "invalid-parameter"),
        ("topic=a&last=", 400, "invalid-parameter"),
        ("topic=a&last=1e3", 400, "invalid-parameter"),
        ("topic=a&last=latest", 400, "invalid-parameter"),
        ("topic=a&mode=push", 400, "invalid-parameter"),
        ("topic=a&mode=", 400, "invalid-parameter"),
        ("topic=a&mode=poll&wait=61", 400, "invalid-parameter"),
        ("topic=a&mode=poll&wait=-1", 400, "invalid-parameter"),
        ("topic=a&mode=poll&wait=0.5", 400, "invalid-parameter"),
        ("topic=a&control=maybe", 400, "invalid-parameter"),
        ("topic=a&conflate=", 400, "invalid-parameter"),
        ("topic=a&conflate=yes", 400, "invalid-parameter"),
    ] {
        let answer = hub.get(&format!("/events?{query}"));
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{query}");
        assert!(answer.head.contains("x-request-id: "));
    }
    still_works(&hub);
}

#[test]
fn every_malformed_publish_gets_its_documented_answer_and_publishes_nothing() {
    let hub = Hub::start(&["--max-event-bytes", "1KiB", "--max-body-bytes", "5KiB"]);
    let large = "x".repeat(1_025);
    let many = format!("[{}]", vec![r#"{"topic":"a","data":"0123456789"}"#; 200].join(","));
    let line = "x".repeat(2 << 20);
    let good = r#"{"topic":"a"}"#;
    let json = "application/json";
    let ndjson = "application/x-ndjson";
    let form = "application/x-www-form-urlencoded";
    for (content_type, body, status, problem) in [
        (json, "", 400, "invalid-json"),
        (json, "{", 400, "invalid-json"),
        (json, "7", 400, "invalid-json"),
        (json, "[]", 400, "invalid-json"),
        (json, "[[]]", 400, "invalid-json"),
        (json, "{}", 400, "missing-topic"),
        (json, r#"{"topic":""}"#, 400, "invalid-topic"),
        (json, r#"{"topic":"*"}"#, 400, "invalid-topic"),
        (json, r#"{"topic":"a\u0000"}"#, 400, "invalid-topic"),
        (json, r#"{"topic":"a\r\nid: 7"}"#, 400, "invalid-topic"),
        (json, r#"{"topic":"a","event":"x\ndata: forged"}"#, 400, "invalid-event-type"),
        (json, r#"{"topic":"a","event":"tidings.gap"}"#, 400, "invalid-event-type"),
        (json, r#"{"topic":"a","retry":"soon"}"#, 400, "invalid-field"),
        (json, r#"{"topic":"a","private":1}"#, 400, "invalid-field"),
        (json, r#"{"topic":"a","id":"7"}"#, 400, "unknown-field"),
        (json, &format!(r#"{{"topic":"a","data":"{large}"}}"#), 413, "event-too-large"),
        (json, &many, 413, "body-too-large"),
        (json, &format!("[{good},{{}}]"), 400, "missing-topic"),
        (ndjson, &format!("{good}\n{good}\nnot json\n"), 400, "invalid-json"),
        (ndjson, &line, 413, "event-too-large"),
        (form, "", 400, "missing-topic"),
        (form, "topic=a&data=%ff", 400, "invalid-field"),
        (form, "topic=a&topik=b", 400, "unknown-field"),
        ("multipart/form-data; boundary=x", good, 415, "unsupported-media-type"),
        ("text/plain", good, 415, "unsupported-media-type"),
        ("", good, 415, "unsupported-media-type"),
    ] {
        let answer = hub.post(content_type, body.as_bytes());
        let shown = &body[..body.len().min(80)];
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{shown}");
    }
    let invalid_utf8 = hub.post(json, b"{\"topic\":\"a\xff\"}");
    assert_eq!((invalid_utf8.status, invalid_utf8.problem().as_str()), (400, "invalid-json"));
    assert_eq!(hub.metric("tidings_events_published_total"), 0);
    still_works(&hub);
}

#[test]
fn a_line_at_fault_is_named() {
    let hub = Hub::start(&[]);
    let answer = hub.post("application/x-ndjson", b"{\"topic\":\"a\"}\n\n{\"topic\":7}\n");
    let problem: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!((&problem["line"], &problem["field"]), (&3.into(), &"topic".into()));
    assert_eq!(problem["published"], 0);
}

#[test]
fn every_id_that_cannot_be_resumed_gets_a_gap_and_everything_kept() {
    let hub = Hub::start(&["--log-events-max", "5"]);
    for number in 0..9 {
        hub.publish(&format!("{{\"topic\":\"a\",\"data\":{number}}}"));
    }
    let batch = hub.get("/events?topic=a&mode=poll&wait=0&last=1");
    let newest = batch.body().lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let epoch = newest.split('-').next().unwrap().to_owned();
    let yesterday = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 86_400;
    let (forged, old_style) = (format!("{epoch}-99"), yesterday.to_string());
    let (trimmed, of_another_life) = (format!("{epoch}-2"), "0000000000-4".to_owned());
    let ten_kilobytes = "x".repeat(10 << 10);
    for (id, reason) in [
        (trimmed.as_bytes(), "trimmed"),
        (of_another_life.as_bytes(), "unknown-epoch"),
        (forged.as_bytes(), "invalid"),
        (old_style.as_bytes(), "invalid"),
        (ten_kilobytes.as_bytes(), "invalid"),
        (b"\xff\xfe\x80".as_slice(), "invalid"),
        (b"\"},\"x\":{\"".as_slice(), "invalid"),
    ] {
        let head =
            b"GET /events?topic=a&mode=poll&wait=0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
        let answer = hub.exchange(&[head, b"last-event-id: ".as_slice(), id, b"\r\n\r\n"].concat());
        assert_eq!(answer.status, 200);
        let mut lines = answer.body().lines();
        let first: Vec<&str> = lines.by_ref().take(3).collect();
        assert_eq!(first, ["retry: 2000", ":", "event: tidings.gap"]);
        let gap = lines.next().unwrap().strip_prefix("data: ").unwrap();
        let gap: serde_json::Value = serde_json::from_str(gap).unwrap();
        assert_eq!(
            (&gap["reason"], &gap["oldest"]),
            (&reason.into(), &format!("{epoch}-5").into())
        );
        assert!(gap["requested"].as_str().unwrap().len() <= 128);
        let data = lines.filter(|line| line.starts_with("data: ")).collect::<Vec<_>>();
        assert_eq!(data, ["data: 4", "data: 5", "data: 6", "data: 7", "data: 8"]);
    }
    still_works(&hub);
}

#[test]
fn what_is_no_http_is_refused_and_changes_nothing() {
    let hub = Hub::start(&[]);
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(2_000));
    let long_head = format!("GET /?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(200_000));
    for (request, statuses) in [
        (b"NONSENSE\r\n\r\n".as_slice(), [400, 400]),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n", [400, 400]),
        (b"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n", [400, 400]),
        (
            b"POST /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
              transfer-encoding: chunked\r\n\r\nzz\r\n",
            [400, 400],
        ),
        (many_headers.as_bytes(), [431, 431]),
        (long_head.as_bytes(), [414, 431]),
    ] {
        let status = hub.exchange(request).status;
        assert!(statuses.contains(&status), "{status}: {}", request[..60.min(request.len())].escape_ascii());
    }
    still_works(&hub);
}

#[test]
fn a_number_beyond_everything_kept_asks_for_everything() {
    let hub = Hub::start(&[]);
    hub.publish(r#"[{"topic":"a","data":1},{"topic":"a","data":2}]"#);
    for last in ["2", "100001", "4294967296", "99999999999999999999999999"] {
        let answer = hub.get(&format!("/events?topic=a&mode=poll&wait=0&last={last}"));
        assert!(answer.body().contains("data: 1\n") && answer.body().contains("data: 2\n"));
    }
}

fn still_works(hub: &Hub) {
    hub.publish(r#"{"topic":"still","data":"works"}"#);
    let answer = hub.get("/events?topic=still&mode=poll&wait=0&last=1");
    assert!(answer.body().ends_with("data: works\n\n"), "{}", answer.body());
}

#[test]
fn bodies_that_are_never_finished_do_not_fill_the_memory() {
    let hub = Hub::start(&["--max-body-bytes", "16MiB"]);
    let part = vec![b' '; 15 << 20];
    let mut senders = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut sender = std::net::TcpStream::connect(hub.address).unwrap();
        let head = format!(
            "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            16 << 20
        );
        std::io::Write::write_all(&mut sender, head.as_bytes()).unwrap();
        // A hub that has had enough answers before everything is sent.
        refused += u32::from(std::io::Write::write_all(&mut sender, &part).is_err());
        senders.push(sender);
    }
    assert!(refused > 0, "300 MiB were taken");
    assert!(hub.resident_bytes() < 300 << 20, "{} MiB are resident", hub.resident_bytes() >> 20);
    drop(senders);
    still_works(&hub);
}

#[test]
fn a_page_of_a_name_that_was_pointed_here_reads_and_publishes_nothing() {
    let hub = Hub::start(&["--hosts", "hub.example"]);
    let browser = "accept-language: en\r\n";
    for (host, from, status) in [
        ("evil.example:8080", browser, 421),
        ("evil.example", "origin: http://evil.example\r\n", 421),
        ("evil.example", "user-agent: Mozilla/5.0\r\n", 421),
        ("evil.example", "", 200),
        ("localhost:8080", browser, 200),
        ("[::1]", browser, 200),
        ("HUB.example", browser, 200),
    ] {
        let head = format!(
            "GET /events?topic=a&mode=poll&wait=0 HTTP/1.1\r\nhost: {host}\r\n{from}\
             connection: close\r\n\r\n"
        );
        let answer = hub.exchange(head.as_bytes());
        assert_eq!(answer.status, status, "{host} {from}");
        assert!(status == 200 || answer.problem() == "unknown-host");
    }
    assert_eq!(hub.exchange(b"GET /health/live HTTP/1.0\r\n\r\n").status, 200);
}
