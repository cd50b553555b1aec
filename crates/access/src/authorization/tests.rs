use super::*;

fn question(url: &str, headers: &[(&'static str, &str)]) -> Question {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Question {
        topics: vec!["a".to_owned(), "b".to_owned()],
        events: vec![],
        ip: Some([192, 0, 2, 7].into()),
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: map,
    }
}

#[test]
fn questions_are_the_same_only_if_nothing_differs_that_rights_may_depend_on() {
    let asked = question("/events?topic=a", &[("cookie", "s=1"), ("x-api-key", "k")]);
    let check = |other: &Question, is_same: bool| {
        assert_eq!(other.hash() == asked.hash(), is_same, "{other:?}");
    };
    check(&asked.clone(), true);
    check(&question("/events?topic=a", &[("x-api-key", "k"), ("cookie", "s=1")]), true);
    check(&question("/events?topic=a", &[("cookie", "s=2"), ("x-api-key", "k")]), false);
    check(&question("/events?topic=a", &[("cookie", "s=1"), ("x-api-key", "l")]), false);
    check(&question("/events?topic=a", &[("cookie", "s=1")]), false);
    check(&question("/events?topic=b", &[("cookie", "s=1"), ("x-api-key", "k")]), false);
    let resumes = "/events?topic=a&lastEventId=x-1";
    let headers = [("cookie", "s=1"), ("x-api-key", "k"), ("last-event-id", "x-1")];
    check(&question(resumes, &headers), true);
    check(&Question { ip: None, ..asked.clone() }, false);
    check(&Question { method: "POST".to_owned(), ..asked.clone() }, false);
    check(&Question { events: vec!["b".to_owned()], ..asked.clone() }, false);
    check(&Question { topics: vec!["ab".to_owned()], ..asked.clone() }, false);
    let moved =
        Question { topics: vec!["a".to_owned()], events: vec!["b".to_owned()], ..asked.clone() };
    check(&moved, false);
}

#[test]
fn what_is_about_the_connection_is_not_told() {
    let headers = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("accept", "text/event-stream"),
        ("accept", "*/*"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("content-length", "0"),
        ("authorization", "Basic eDp5"),
    ];
    let body: serde_json::Value =
        serde_json::from_slice(&question("/events?topic=a", &headers).body()).unwrap();
    let expected = serde_json::json!({
        "topics": ["a", "b"],
        "events": [],
        "ip": "192.0.2.7",
        "method": "GET",
        "url": "/events?topic=a",
        "headers": {
            "accept": "text/event-stream, */*",
            "authorization": "Basic eDp5",
            "cookie": "a=1; b=2",
        },
    });
    assert_eq!(body, expected);
}

#[test]
fn what_is_not_an_answer_to_the_letter_is_none() {
    let check = |text: &str, is_answer: bool| {
        let answer = parse_answer(text.as_bytes(), 1000);
        assert_eq!(answer.is_ok(), is_answer, "{text}: {answer:?}");
    };
    check(r#"{"subscribe":[]}"#, true);
    check(r#"{"user":"ada","subscribe":["a","b/{id}"],"publish":["*"],"operate":true}"#, true);
    check(r#"{"user":null,"subscribe":[],"publish":null,"expiresIn":null}"#, true);
    check("", false);
    check("{}", false);
    check("null", false);
    check("[]", false);
    check(r#"{"user":"ada"}"#, false);
    check(r#"{"subscribe":"a"}"#, false);
    check(r#"{"subscribe":["a"],"subscribe":["*"]}"#, false);
    check(r#"{"subscribe":[],"expiresin":5}"#, false);
    check(r#"{"subscribe":[],"admin":true}"#, false);
    check(r#"{"subscribe":[""]}"#, false);
    check(r#"{"subscribe":[],"user":""}"#, false);
    check(r#"{"subscribe":[],"user":5}"#, false);
    check(r#"{"subscribe":[],"expiresIn":0}"#, false);
    check(r#"{"subscribe":[],"expiresIn":-1}"#, false);
    check(r#"{"subscribe":[],"expiresIn":"60"}"#, false);
    check(r#"{"subscribe":[]} {}"#, false);
    check(&format!(r#"{{"subscribe":[{}"a"]}}"#, r#""a","#.repeat(999)), true);
    check(&format!(r#"{{"subscribe":[{}"a"]}}"#, r#""a","#.repeat(1000)), false);
}

#[test]
fn an_answer_is_a_grant() {
    let text = r#"{"user":"ada","subscribe":["a"],"operate":false,"expiresIn":60}"#;
    let grant = parse_answer(text.as_bytes(), 1000).unwrap();
    assert_eq!(grant.identity.user.as_deref(), Some("ada"));
    assert_eq!(grant.subscribe, Rights::of(vec![Selector::parse("a").unwrap()]));
    assert_eq!((grant.publish, grant.operate, grant.expires_at), (None, false, Some(1060)));
    let all = parse_answer(br#"{"subscribe":["*"],"publish":["*"]}"#, 1000).unwrap();
    let every = Rights::of(vec![Selector::All]);
    assert_eq!((all.subscribe, all.publish), (every.clone(), Some(every)));
    assert_eq!((all.expires_at, all.presence), (None, Rights::public_only()));
    let knowing = parse_answer(br#"{"subscribe":["a"],"presence":["b/{c}"]}"#, 1000).unwrap();
    let presence = vec![Selector::parse("b/{c}").unwrap()];
    let subscribe = Rights::of(vec![Selector::parse("a").unwrap()]).with_presence(&presence);
    assert_eq!((knowing.subscribe, knowing.presence), (subscribe, Rights::of(presence)));
}
