use super::*;

const LIMITS: RecordLimits = RecordLimits {
    array_events_max: 2,
    topics_max: 3,
    event_bytes_max: 100,
    default_private: false,
};

/// What became of an event: its topics, type, data, retry and private, its key and whether it is
/// final, or what is wrong with it.
fn show(outcome: Result<Record, Problem>) -> String {
    match outcome {
        Ok(record) => {
            let topics: Vec<&str> = record.topics.iter().map(Topic::as_str).collect();
            let event_type = record.event_type.as_ref().map_or("-", EventType::as_str);
            let Record { data, retry_ms, private, key, is_final, .. } = &record;
            let key = key.as_ref().map_or(String::new(), |key| format!(" {key}"));
            let is_final = if *is_final { " final" } else { "" };
            format!("{topics:?} {event_type} {data:?} {retry_ms:?} {private}{key}{is_final}")
        }
        Err(problem) => {
            let json: serde_json::Value = serde_json::from_str(&problem.to_json("x")).unwrap();
            format!("{:?} {}", problem.kind(), json["field"].as_str().unwrap_or("-"))
        }
    }
}

fn check_json(json: &str, expected: &str) {
    assert_eq!(show(event_from_json(json.as_bytes(), LIMITS)), expected, "{json}");
}

fn check_form(form: &str, expected: &str) {
    assert_eq!(show(event_from_form(form.as_bytes(), LIMITS)), expected, "{form}");
}

#[test]
fn every_field_is_read() {
    check_json(
        r#"{"topic":["a","b","a"],"event":"x","data":"y","retry":5,"private":true,"key":"k","final":true}"#,
        r#"["a", "b"] x "y" Some(5) true k final"#,
    );
    check_json(r#"{"topic":"a","final":false}"#, r#"["a"] - "" None false"#);
    check_json(r#" {"topic":"a"} "#, r#"["a"] - "" None false"#);
    check_form(
        "topic=a&topic=b&event=x&data=1%0A2&retry=5&private=on&key=k%3A1&final=true",
        r#"["a", "b"] x "1\n2" Some(5) true k:1 final"#,
    );
    check_form("topic=a", r#"["a"] - "" None false"#);
}

#[test]
fn data_keeps_its_meaning() {
    for (data, expected) in [
        (r#""a b""#, "a b"),
        (r#""\u00fc\n""#, "ü\n"),
        ("null", ""),
        ("1.50", "1.50"),
        ("1e400", "1e400"),
        ("true", "true"),
        ("[ 1,\n 2 ]", "[1,2]"),
        ("[ ]", "[]"),
        (" -0.5e+3\t", "-0.5e+3"),
        (r#"[ "\\" , "a\\\" b" , "\u005c" , "" ]"#, r#"["\\","a\\\" b","\u005c",""]"#),
        (r#"{ "b" : "x  y" , "a" : "\" \\" , "b" : 1 }"#, r#"{"b":"x  y","a":"\" \\","b":1}"#),
    ] {
        let record =
            event_from_json(format!(r#"{{"topic":"a","data":{data}}}"#).as_bytes(), LIMITS);
        assert_eq!(&*record.unwrap().data, expected);
    }
}

#[test]
fn what_is_wrong_is_named() {
    check_json("{}", "MissingTopic topic");
    check_json(r#"{"topic":[]}"#, "MissingTopic topic");
    check_json(r#"{"topic":7}"#, "InvalidField topic");
    check_json(r#"{"topic":["a",7]}"#, "InvalidField topic");
    check_json(r#"{"topic":["a","b","c","d"]}"#, "InvalidField topic");
    check_json(r#"{"topic":""}"#, "InvalidTopic topic");
    check_json(r#"{"topic":"*"}"#, "InvalidTopic topic");
    check_json(r#"{"topic":"a\nb"}"#, "InvalidTopic topic");
    check_json(r#"{"topic":"a","event":"tidings.gap"}"#, "InvalidEventType event");
    check_json(r#"{"topic":"tidings.presence/a"}"#, "InvalidTopic topic");
    check_json(r#"{"topic":"a","key":"tidings.presence:joined:1"}"#, "InvalidKey key");
    check_json(r#"{"topic":"a","event":"x\ndata: y"}"#, "InvalidEventType event");
    check_json(r#"{"topic":"a","event":null}"#, "InvalidField event");
    check_json(r#"{"topic":"a","retry":-1}"#, "InvalidField retry");
    check_json(r#"{"topic":"a","retry":1.5}"#, "InvalidField retry");
    check_json(r#"{"topic":"a","retry":"5"}"#, "InvalidField retry");
    check_json(r#"{"topic":"a","retry":86400001}"#, "InvalidField retry");
    check_json(r#"{"topic":"a","private":"yes"}"#, "InvalidField private");
    check_json(r#"{"topic":"a","data":"\ud800"}"#, "InvalidField data");
    check_json(r#"{"topic":"a","topic":"b"}"#, "InvalidField topic");
    check_json(r#"{"topic":"a","tpoic":"b"}"#, "UnknownField tpoic");
    check_json(r#"{"topic":"a","key":""}"#, "InvalidKey key");
    check_json(r#"{"topic":"a","key":"a\u0000"}"#, "InvalidKey key");
    check_json(&format!(r#"{{"topic":"a","key":"{}"}}"#, "x".repeat(257)), "InvalidKey key");
    check_json(r#"{"topic":"a","key":7}"#, "InvalidField key");
    check_json(r#"{"topic":"a","key":"b","key":"b"}"#, "InvalidField key");
    check_json(r#"{"topic":"a","final":1}"#, "InvalidField final");
    check_json(&format!(r#"{{"topic":"a","data":"{}"}}"#, "x".repeat(101)), "EventTooLarge data");
    check_json(r#"{"topic":"a""#, "InvalidJson -");
    check_json("\"a\"", "InvalidJson -");
    check_json("", "InvalidJson -");
    check_form("", "MissingTopic topic");
    check_form("topic=a&data=1&data=2", "InvalidField data");
    check_form("topic=a&data=%ff", "InvalidField data");
    check_form("topic=a&private=maybe", "InvalidField private");
    check_form("topic=a&final=", "InvalidField final");
    check_form("topic=a&key=", "InvalidKey key");
    check_form("topic=a&x=1", "UnknownField x");
}

#[test]
fn of_too_many_no_more_is_kept_than_tells_so() {
    let many: Vec<u8> = at_most(3, b"[1,2,3,4,5,6]").unwrap();
    assert_eq!(many, [1, 2, 3, 4]);
    assert!(at_most::<u8>(3, b"[1,2,3,4,5,\"x\"]").is_ok(), "what is ignored is any JSON");
    assert!(at_most::<u8>(3, b"[1,2,3,4,5").is_err());
    assert!(at_most::<u8>(3, b"[1] 2").is_err());
    let members: Vec<String> = (0..1_000).map(|n| format!("\"f{n}\":0")).collect();
    check_json(&format!("{{{}}}", members.join(",")), "UnknownField f0");
    check_json(
        r#"{"topic":"a","event":"b","data":1,"retry":1,"private":true,"key":"k","x":0,"y":0,"z":0"#,
        "InvalidJson -",
    );
    check_json(
        r#"{"topic":"a","event":"b","data":1,"retry":1,"private":true,"key":"k","x":0,"y":0,"z":0}"#,
        "UnknownField x",
    );
}

#[test]
fn deep_nesting_is_only_text() {
    let limits = RecordLimits { event_bytes_max: 1 << 20, ..LIMITS };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let record = event_from_json(format!(r#"{{"topic":"a","data":{deep}}}"#).as_bytes(), limits);
    assert_eq!(record.unwrap().data.len(), deep.len());
}

#[test]
fn an_array_names_the_event_at_fault() {
    let one = from_json(br#" [{"topic":"a"}] "#, LIMITS).unwrap();
    assert!(matches!(one, Events::Several(records) if records.len() == 1));
    let problem = from_json(br#"[{"topic":"a"},{"topic":"a","x":1}]"#, LIMITS).unwrap_err();
    assert_eq!(problem.kind(), Kind::UnknownField);
    assert!(problem.detail().starts_with("Event 2 of the array: "));
    let three = br#"[{"topic":"a"},{"topic":"a"},{"topic":"a"}]"#;
    assert_eq!(from_json(three, LIMITS).unwrap_err().kind(), Kind::BodyTooLarge);
    assert_eq!(from_json(b"[]", LIMITS).unwrap_err().kind(), Kind::InvalidJson);
    assert_eq!(from_json(b"[{}", LIMITS).unwrap_err().kind(), Kind::InvalidJson);
}
