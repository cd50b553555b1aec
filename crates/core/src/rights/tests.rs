use super::*;

fn rights(selectors: &[&str]) -> Rights {
    Rights::of(selectors.iter().map(|text| Selector::parse(text).unwrap()).collect())
}

fn check(rights: &Rights, topics: &[&str], expected: bool) {
    let topics: Vec<_> = topics.iter().map(|text| Topic::parse(text).unwrap()).collect();
    assert_eq!(rights.covers(&topics), expected, "{rights:?} {topics:?}");
}

#[test]
fn everything_covers_everything() {
    check(&Rights::everything(), &["a"], true);
    check(&rights(&["*"]), &["a"], true);
    check(&rights(&["b", "*"]), &["a"], true);
}

#[test]
fn public_only_covers_nothing_private() {
    check(&Rights::public_only(), &["a"], false);
    check(&rights(&[]), &["a", "b"], false);
}

#[test]
fn any_selector_with_any_topic_is_enough() {
    let mine = rights(&["users/7", "teams/{id}"]);
    check(&mine, &["users/7"], true);
    check(&mine, &["books/1", "users/7"], true);
    check(&mine, &["books/1", "teams/9"], true);
    check(&mine, &["users/8", "teams/9/secret"], false);
    check(&mine, &[], false);
}

#[test]
fn rights_are_equal_when_their_selectors_are() {
    assert_eq!(rights(&["a", "b"]), rights(&["b", "a", "b"]));
    assert_eq!(rights(&["a", "*"]), rights(&["*"]));
    assert_ne!(rights(&["*"]), Rights::everything());
    assert_eq!(rights(&[]), Rights::public_only());
    assert_ne!(rights(&["a"]), rights(&["b"]));
    assert_ne!(Rights::everything(), Rights::public_only());
}

#[test]
fn who_is_present_is_covered_only_where_it_is_named() {
    const OF_ROOM: &[&str] = &["tidings.presence/chat/1", "tidings.presence"];
    let readers = rights(&["*", "chat/{id}", "{+topic}", "{a}{+b}"]);
    check(&readers, OF_ROOM, false);
    check(&readers, &["tidings.presence", "chat/1"], true);
    check(&Rights::everything(), OF_ROOM, true);
    for (presence, expected) in
        [("chat/1", true), ("chat/{id}", true), ("*", true), ("chat/2", false), ("{id}", false)]
    {
        let knowing = readers.with_presence(&[Selector::parse(presence).unwrap()]);
        check(&knowing, OF_ROOM, expected);
        check(&knowing, &["a"], true);
        let alone = Rights::public_only().with_presence(&[Selector::parse(presence).unwrap()]);
        check(&alone, OF_ROOM, expected);
        check(&alone, &["chat/1"], false);
    }
    check(&rights(&["tidings.presence"]), OF_ROOM, true);
}

#[test]
fn publishing_needs_a_selector_for_each_topic() {
    fn check(rights: &Rights, texts: &[&str], uncovered: Option<&str>) {
        let topics: Vec<_> = texts.iter().map(|text| Topic::parse(text).unwrap()).collect();
        assert_eq!(rights.first_uncovered(&topics).map(Topic::as_str), uncovered, "{texts:?}");
        assert_eq!(rights.covers_all(&topics), uncovered.is_none(), "{texts:?}");
    }
    let mine = rights(&["orders/{id}", "news"]);
    check(&mine, &["orders/1"], None);
    check(&mine, &["news", "orders/1", "orders/2"], None);
    check(&mine, &["news", "users/7", "users/8"], Some("users/7"));
    check(&mine, &["orders/1/lines"], Some("orders/1/lines"));
    check(&mine, &[], None);
    check(&Rights::everything(), &["a", "b"], None);
    check(&Rights::public_only(), &["a"], Some("a"));
}
