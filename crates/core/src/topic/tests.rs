use std::collections::{BTreeSet, HashSet};

use super::*;

fn check_topic(text: &str, expected: Result<(), TopicError>) {
    let topic = Topic::parse(text);
    assert_eq!(topic.as_ref().map(Topic::as_str), expected.as_ref().map(|()| text));
}

fn check_type(text: &str, expected: Result<(), EventTypeError>) {
    let event_type = EventType::parse_published(text);
    assert_eq!(event_type.as_ref().map(EventType::as_str), expected.as_ref().map(|()| text));
}

#[test]
fn topics_are_names_without_control_characters() {
    check_topic("orders/42", Ok(()));
    check_topic("https://example.com/books/1?lang=de#top", Ok(()));
    check_topic("grüße/日本/🎉", Ok(()));
    check_topic("a b", Ok(()));
    check_topic("**", Ok(()));
    check_topic("orders/*", Ok(()));
    check_topic("orders/{id}", Ok(()));
    check_topic("*", Err(TopicError::Wildcard));
    check_topic("", Err(TopicError::Empty));
    for control in ['\0', '\t', '\n', '\r', '\u{1F}', '\u{7F}', '\u{80}', '\u{85}', '\u{9F}'] {
        check_topic(&format!("a{control}b"), Err(TopicError::Control));
    }
    check_topic("a\u{A0}b", Ok(()));
}

#[test]
fn topics_have_at_most_bytes_max() {
    check_topic(&"a".repeat(Topic::BYTES_MAX), Ok(()));
    check_topic(&"a".repeat(1025), Err(TopicError::TooLong { bytes: 1025 }));
    check_topic(&"é".repeat(512), Ok(()));
    check_topic(&"é".repeat(513), Err(TopicError::TooLong { bytes: 1026 }));
}

#[test]
fn topics_are_found_by_their_text() {
    let topic = Topic::parse("orders/42").unwrap();
    assert!(HashSet::from([topic.clone()]).contains("orders/42"));
    assert!(BTreeSet::from([topic.clone()]).contains("orders/42"));
    assert_eq!(format!("{topic:>10}"), " orders/42");
}

#[test]
fn event_types_have_no_line_ends() {
    check_type("order-update", Ok(()));
    check_type("Grüße, Welt\t!", Ok(()));
    check_type("tidings", Ok(()));
    check_type("tidingsish", Ok(()));
    check_type("", Err(EventTypeError::Empty));
    for control in ["\r", "\n", "\0", "\r\n"] {
        check_type(&format!("a{control}b"), Err(EventTypeError::Control));
    }
}

#[test]
fn event_types_have_at_most_bytes_max() {
    check_type(&"t".repeat(EventType::BYTES_MAX), Ok(()));
    check_type(&"t".repeat(257), Err(EventTypeError::TooLong { bytes: 257 }));
}

#[test]
fn nobody_publishes_the_hubs_own_types() {
    check_type("tidings.", Err(EventTypeError::Reserved));
    check_type("tidings.gap", Err(EventTypeError::Reserved));
    assert_eq!(EventType::parse("tidings.gap").unwrap().as_str(), "tidings.gap");
}

#[test]
fn nobody_publishes_under_the_hubs_own_topics() {
    for text in ["tidings.presence", "tidings.presence/", "tidings.presence/chat/7"] {
        assert_eq!(Topic::parse_published(text), Err(TopicError::Reserved), "{text}");
        assert!(Topic::parse(text).unwrap().is_reserved(), "{text}");
    }
    for text in ["tidings", "tidings.presences", "a/tidings.presence", "tidings.presence-x"] {
        assert!(!Topic::parse_published(text).unwrap().is_reserved(), "{text}");
    }
    let presence = |text: &str| Topic::parse(text).unwrap().presence();
    assert_eq!(presence("chat/7").unwrap().as_str(), "tidings.presence/chat/7");
    assert!(presence(&"t".repeat(1007)).is_some());
    assert!(presence(&"t".repeat(1008)).is_none());
}

#[test]
fn errors_say_what_is_allowed() {
    let check = |error: &dyn std::error::Error, text: &str| assert_eq!(error.to_string(), text);
    let bytes = 2000;
    check(&TopicError::TooLong { bytes }, "a topic has at most 1024 bytes, this one has 2000");
    check(
        &EventTypeError::TooLong { bytes },
        "an event type has at most 256 bytes, this one has 2000",
    );
    check(
        &EventTypeError::Reserved,
        "choose an event type that does not begin with `tidings.`, as the hub's own do",
    );
}
