use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn topics(texts: &[&str]) -> Vec<Topic> {
    texts.iter().map(|text| Topic::parse(text).unwrap()).collect()
}

fn index_of(entries: &[(&str, u32)]) -> TopicIndex<u32> {
    let mut index = TopicIndex::new();
    for &(text, key) in entries {
        assert!(index.insert(&selector(text), key));
    }
    index
}

#[track_caller]
fn check(index: &TopicIndex<u32>, published: &[&str], expected: &[u32]) -> Work {
    let mut keys = vec![];
    let work = index.matches_counted(&topics(published), &mut keys);
    keys.sort_unstable();
    assert_eq!(keys, expected, "{published:?}");
    work
}

fn check_holds_nothing(index: &TopicIndex<u32>) {
    assert!(index.is_empty());
    assert_eq!(index.selector_count(), 0);
    assert!(index.all.is_empty());
    assert_eq!((index.exact.len(), index.exact.capacity()), (0, 0));
    assert_eq!((index.templates.len(), index.templates.capacity()), (0, 0));
    assert!(index.prefix_lengths.is_empty());
}

#[test]
fn finds_keys_by_each_kind_of_selector() {
    let index = index_of(&[("*", 1), ("orders/42", 2), ("orders/{id}", 3), ("{+any}", 4)]);
    check(&index, &["orders/42"], &[1, 2, 3, 4]);
    check(&index, &["orders/43"], &[1, 3, 4]);
    check(&index, &["other name"], &[1]);
    check(&index, &["orders/{id}"], &[1, 3]);
    check(&index, &[], &[]);
}

#[test]
fn gives_each_key_once() {
    let index = index_of(&[("*", 7), ("a", 7), ("a", 8), ("b", 7), ("{x}", 7), ("{x}", 9)]);
    check(&index, &["a"], &[7, 8, 9]);
    check(&index, &["a", "b"], &[7, 8, 9]);
    check(&index, &["b", "b"], &[7, 9]);
}

#[test]
fn looks_at_a_selector_once_for_several_topics() {
    let index = index_of(&[("a", 1), ("{x}", 2)]);
    assert_eq!(check(&index, &["a", "a", "b"], &[1, 2]).sets, 2);
}

#[test]
fn leaves_what_was_there_before_alone() {
    let index = index_of(&[("*", 1), ("a", 1), ("a", 5)]);
    let mut keys = vec![9, 1, 9];
    index.matches(&topics(&["a"]), &mut keys);
    assert_eq!(keys, [9, 1, 9, 1, 5]);
}

#[test]
fn a_key_stands_under_a_selector_once() {
    for text in ["*", "a", "{x}"] {
        let mut index = index_of(&[(text, 1)]);
        assert!(!index.insert(&selector(text), 1));
        assert!(index.insert(&selector(text), 2));
        assert_eq!(index.selector_count(), 1);
        check(&index, &["a"], &[1, 2]);
        assert!(!index.remove(&selector(text), 3));
        assert!(index.remove(&selector(text), 1));
        assert!(!index.remove(&selector(text), 1));
        check(&index, &["a"], &[2]);
        assert!(index.remove(&selector(text), 2));
        assert!(!index.remove(&selector(text), 2));
        check_holds_nothing(&index);
    }
}

#[test]
fn equal_templates_are_one_selector_however_often_they_were_parsed() {
    let index = index_of(&[("a/{x}", 1), ("a/{x}", 2), ("a/{y}", 3)]);
    assert_eq!(index.selector_count(), 2);
    assert_eq!(check(&index, &["a/1"], &[1, 2, 3]).templates, 2);
}

#[test]
fn a_prefix_longer_than_the_topic_or_within_a_character_is_none() {
    let index = index_of(&[("abcdef{x}", 1), ("e{x}", 2), ("é{x}", 3)]);
    check(&index, &["é"], &[3]);
    check(&index, &["abc"], &[]);
}

#[test]
fn a_publish_to_one_of_100_000_topics_does_not_look_at_the_others() {
    let mut index = TopicIndex::new();
    for key in 0..100_000 {
        index.insert(&selector(&format!("orders/{key}")), key);
    }
    let work = check(&index, &["orders/77777"], &[77_777]);
    assert_eq!(work, Work { probes: 1, templates: 0, sets: 1 });
    let work = check(&index, &["orders/x"], &[]);
    assert_eq!(work, Work { probes: 1, templates: 0, sets: 0 });
}

#[test]
fn a_publish_looks_only_at_templates_whose_prefix_it_has() {
    let mut index = TopicIndex::new();
    for key in 0..10_000 {
        index.insert(&selector(&format!("users/{key:05}/{{x}}")), key);
    }
    let work = check(&index, &["users/00042/a"], &[42]);
    assert_eq!(work, Work { probes: 2, templates: 1, sets: 1 });
    let work = check(&index, &["orders/1"], &[]);
    assert_eq!(work, Work { probes: 1, templates: 0, sets: 0 });
}

#[test]
fn ten_thousand_subscribers_of_one_template_cost_one_match() {
    let mut index = TopicIndex::new();
    for key in 0..10_000 {
        index.insert(&selector("orders/{id}"), key);
    }
    let expected: Vec<_> = (0..10_000).collect();
    let work = check(&index, &["orders/1"], &expected);
    assert_eq!(work, Work { probes: 2, templates: 1, sets: 1 });
}

#[test]
fn removal_frees_everything() {
    let mut index = TopicIndex::new();
    let selectors: Vec<_> = (0..1000)
        .flat_map(|n| [format!("a/{n}"), format!("a/{n}/{{x}}"), format!("b{{?x{n}}}")])
        .chain(["*".to_owned()])
        .map(|text| selector(&text))
        .collect();
    for selector in &selectors {
        (0..3).for_each(|key| assert!(index.insert(selector, key)));
    }
    assert_eq!(index.selector_count(), selectors.len());
    for selector in selectors.iter().rev() {
        (0..3).for_each(|key| assert!(index.remove(selector, key)));
    }
    check_holds_nothing(&index);
}

const SELECTORS: &[&str] = &[
    "*", "a", "b", "a/1", "a/2", "é", "a/{x}", "a/{y}", "a/1{x}", "a{/x}", "{x}", "{+x}", "{x}/1",
    "é{x}", "b{?x*}",
];
const TOPICS: &[&str] =
    &["a", "b", "a/1", "a/2", "a/12", "a/1/2", "é", "éa", "b?x=1&y", "a/{x}", "/1", "zz zz"];

proptest! {
    #[test]
    fn finds_what_a_list_would(
        steps in prop::collection::vec((any::<bool>(), 0..SELECTORS.len(), 0u32..60), 0..400),
        published in prop::collection::vec(prop::collection::vec(0..TOPICS.len(), 0..4), 1..8),
    ) {
        let mut index = TopicIndex::new();
        let mut list = BTreeSet::new();
        for (inserts, nth, key) in steps {
            let selector = selector(SELECTORS[nth]);
            if inserts {
                prop_assert_eq!(index.insert(&selector, key), list.insert((nth, key)));
            } else {
                prop_assert_eq!(index.remove(&selector, key), list.remove(&(nth, key)));
            }
        }
        let selectors: BTreeSet<_> = list.iter().map(|&(nth, _)| nth).collect();
        prop_assert_eq!(index.selector_count(), selectors.len());
        for published in published {
            let published: Vec<_> = published.iter().map(|&nth| TOPICS[nth]).collect();
            let topics = topics(&published);
            let expected: BTreeSet<_> = list
                .iter()
                .map(|&(nth, key)| (selector(SELECTORS[nth]), key))
                .filter(|(selector, _)| topics.iter().any(|topic| selector.matches(topic)))
                .map(|(_, key)| key)
                .collect();
            check(&index, &published, &expected.into_iter().collect::<Vec<_>>());
        }
        for (nth, key) in list {
            prop_assert!(index.remove(&selector(SELECTORS[nth]), key));
        }
        check_holds_nothing(&index);
    }
}
