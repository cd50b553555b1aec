//! Who is there, and who joined and left, on one node.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tidings::{Client, EventLog, Identity, Member, PresenceOptions, PresenceScope, TopicPresence};

use super::*;

/// Long enough for a test to come back in, and short enough to wait for.
const GRACE: Duration = Duration::from_millis(600);

fn options(topics: &[&str], public_topics: &[&str]) -> HubOptions {
    let selectors =
        |texts: &[&str]| texts.iter().map(|text| Selector::parse(text).unwrap()).collect();
    let presence = PresenceOptions {
        topics: selectors(topics),
        public_topics: selectors(public_topics),
        grace: GRACE,
        ..Default::default()
    };
    HubOptions { presence, ..Default::default() }
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

fn member(user: &str) -> Member {
    Member { issuer: Some("https://issuer.example".into()), user: user.into() }
}

/// Opens a stream on `topics` as a user, or as nobody.
fn open(hub: &Hub, user: Option<&str>, topics: &[&str], rights: &Rights) -> Subscription {
    let identity = user.map(|user| {
        let Member { issuer, user } = member(user);
        Arc::new(Identity { issuer, user: Some(user), ..Default::default() })
    });
    let selectors = topics.iter().map(|text| Selector::parse(text).unwrap()).collect();
    let interest = Interest::new(selectors, vec![], rights.clone());
    let client = Some(Box::new(Client { identity, address: None, on_end: None }));
    hub.subscribe(interest, SubscribeOptions { client, ..Default::default() }).unwrap()
}

fn presence(hub: &Hub, of: &str) -> TopicPresence {
    hub.presence(&[topic(of)], None, 100).unwrap().1.remove(0)
}

/// Users with how many streams each has, and all streams.
fn figures(hub: &Hub, of: &str) -> (Vec<(String, u64)>, u64) {
    let presence = presence(hub, of);
    let users = presence.members.iter().map(|it| (it.member.user.to_string(), it.connections));
    (users.collect(), presence.connections)
}

#[track_caller]
fn check(hub: &Hub, of: &str, users: &[(&str, u64)], connections: u64) {
    let expected = users.iter().map(|(user, count)| ((*user).to_owned(), *count)).collect();
    assert_eq!(figures(hub, of), (expected, connections), "{of}");
}

async fn news(subscription: &mut Subscription) -> (String, Value) {
    let event = tokio::time::timeout(Duration::from_secs(20), next_event(subscription)).await;
    let event = event.expect("news in time");
    (event.event_type.unwrap(), serde_json::from_str(&event.data).unwrap())
}

#[track_caller]
fn check_news((event_type, data): &(String, Value), expected: (&str, &str, &str, u64)) {
    let text = |name: &str| data[name].as_str().unwrap();
    let users = data["users"].as_u64().unwrap();
    assert_eq!((event_type.as_str(), text("topic"), text("user"), users), expected);
}

#[tokio::test]
async fn members_are_those_who_name_the_topic_and_may_read_it() {
    let hub = hub(options(&["chat/{room}"], &["live/{id}"]), Default::default());
    let (all, none) = (Rights::everything(), Rights::public_only());
    let _ann = [
        open(&hub, Some("ann"), &["chat/1", "chat/2"], &all),
        open(&hub, Some("ann"), &["chat/1", "other"], &all),
    ];
    let bob = open(&hub, Some("bob"), &["chat/1", "live/1"], &all);
    let _others = [
        open(&hub, Some("cat"), &["chat/{room}"], &all),
        open(&hub, Some("dan"), &["*"], &all),
        open(&hub, Some("eve"), &["chat/1", "live/1"], &none),
        open(&hub, None, &["chat/1"], &all),
        open(&hub, None, &["live/1"], &none),
    ];
    check(&hub, "chat/1", &[("ann", 2), ("bob", 1)], 4);
    check(&hub, "chat/2", &[("ann", 1)], 1);
    check(&hub, "live/1", &[("bob", 1), ("eve", 1)], 3);
    check(&hub, "chat/3", &[], 0);
    check(&hub, "other", &[], 0);
    assert_eq!(hub.presence_scope(&topic("chat/1")), Some(PresenceScope::Private));
    assert_eq!(hub.presence_scope(&topic("live/1")), Some(PresenceScope::Public));
    assert_eq!(hub.presence_scope(&topic("other")), None);
    assert_eq!(hub.presence_scope(&topic("tidings.presence/chat/1")), None);
    drop(bob);
    check(&hub, "live/1", &[("eve", 1)], 2);
}

#[tokio::test]
async fn without_topics_there_is_no_presence() {
    let hub = default_hub();
    assert!(hub.presence(&[topic("chat/1")], None, 100).is_none());
    assert_eq!(hub.presence_scope(&topic("chat/1")), None);
}

#[tokio::test]
async fn members_come_in_pages() {
    let hub = hub(options(&["chat/{room}"], &[]), Default::default());
    let names: Vec<String> = (0..25).map(|n| format!("user-{n:02}")).collect();
    let all = Rights::everything();
    let _open: Vec<_> =
        names.iter().rev().map(|name| open(&hub, Some(name), &["chat/1"], &all)).collect();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = hub.presence(&[topic("chat/1")], after.as_ref(), 10).unwrap().1.remove(0);
        assert_eq!((page.users, page.connections), (25, 25));
        found.extend(page.members.iter().map(|it| it.member.user.to_string()));
        if !page.is_more {
            break;
        }
        after = page.members.last().map(|last| last.member.clone());
    }
    assert_eq!(found, names);
}

#[tokio::test]
async fn beyond_the_limits_streams_are_counted_without_a_name() {
    let mut options = options(&["chat/{room}"], &[]);
    options.presence.topic_members_max = 2;
    options.presence.members_max = 3;
    let hub = hub(options, Default::default());
    let all = Rights::everything();
    let mut streams: Vec<_> =
        ["ann", "bob", "cat"].map(|user| open(&hub, Some(user), &["chat/1"], &all)).into();
    streams.push(open(&hub, Some("ann"), &["chat/1", "chat/2", "chat/3", "chat/4"], &all));
    check(&hub, "chat/1", &[("ann", 2), ("bob", 1)], 4);
    check(&hub, "chat/2", &[("ann", 1)], 1);
    check(&hub, "chat/3", &[], 1);
    // Of one topic more it is not known how many are there.
    check(&hub, "chat/4", &[], 0);
    let figures = hub.presence_figures().unwrap();
    assert_eq!((figures.members, figures.unnamed), (3, 2));
    drop(streams);
    check(&hub, "chat/1", &[], 0);
    assert_eq!(hub.presence_figures().unwrap().members, 0);
}

#[tokio::test]
async fn a_stream_that_comes_back_in_time_is_no_news() {
    let hub = hub(options(&["chat/{room}"], &[]), Default::default());
    let mut watching = subscribe(&hub, "tidings.presence/chat/1", Begin::Now);
    let all = Rights::everything();
    let ann = open(&hub, Some("ann"), &["chat/1"], &all);
    check_news(&news(&mut watching).await, ("tidings.joined", "chat/1", "ann", 1));
    drop(ann);
    // Who left just now is still there, without a stream.
    check(&hub, "chat/1", &[("ann", 0)], 0);
    let ann = open(&hub, Some("ann"), &["chat/1"], &all);
    let bob = open(&hub, Some("bob"), &["chat/1"], &all);
    check_news(&news(&mut watching).await, ("tidings.joined", "chat/1", "bob", 2));
    drop(bob);
    let left_at = Instant::now();
    check_news(&news(&mut watching).await, ("tidings.left", "chat/1", "bob", 1));
    assert!(left_at.elapsed() >= GRACE);
    drop(ann);
    check_news(&news(&mut watching).await, ("tidings.left", "chat/1", "ann", 0));
    check(&hub, "chat/1", &[], 0);
    let _ann = open(&hub, Some("ann"), &["chat/1"], &all);
    check_news(&news(&mut watching).await, ("tidings.joined", "chat/1", "ann", 1));
}

#[tokio::test]
async fn news_is_for_those_with_the_right_and_follows_the_list() {
    let hub = hub(options(&["chat/{room}"], &[]), Default::default());
    let every = [Selector::All];
    let rooms = [Selector::parse("chat/{room}").unwrap()];
    let reader = Rights::of(every.to_vec());
    let watch = |rights: Rights, selector: &str| {
        let interest = Interest::new(vec![Selector::parse(selector).unwrap()], vec![], rights);
        hub.subscribe(interest, SubscribeOptions::default()).unwrap()
    };
    let mut blind = watch(reader.clone(), "*");
    let mut knowing = watch(reader.with_presence(&rooms), "*");
    let mut all_knowing = watch(reader.with_presence(&every), "tidings.presence");
    let _ann = open(&hub, Some("ann"), &["chat/1"], &reader);
    check_news(&news(&mut knowing).await, ("tidings.joined", "chat/1", "ann", 1));
    check_news(&news(&mut all_knowing).await, ("tidings.joined", "chat/1", "ann", 1));
    // What follows the list is what came after it.
    let (position, list) = hub.presence(&[topic("chat/1")], None, 100).unwrap();
    assert_eq!(list[0].users, 1);
    let _bob = open(&hub, Some("bob"), &["chat/1"], &reader);
    let after = Begin::After(position.to_string().into_bytes());
    let mut following = subscribe(&hub, "tidings.presence/chat/1", after);
    check_news(&news(&mut following).await, ("tidings.joined", "chat/1", "bob", 2));
    hub.publish(vec![record("a", "1")]).await.unwrap();
    assert_eq!(next_event(&mut blind).await.data, "1");
}

#[tokio::test]
async fn a_hub_that_comes_back_does_not_tell_again_what_its_log_tells() {
    let log: Arc<dyn EventLog> =
        Arc::new(MemoryLog::new(random_epoch().unwrap(), MemoryLogOptions::default()));
    let all = Rights::everything();
    let start = || Hub::start(options(&["chat/{room}"], &[]), Arc::clone(&log)).unwrap();
    let before = start();
    let _before = (["ann", "bob"]).map(|user| open(&before, Some(user), &["chat/1"], &all));
    let mut watching = subscribe(&before, "tidings.presence", Begin::Now);
    for _ in 0..2 {
        assert_eq!(news(&mut watching).await.0, "tidings.joined");
    }
    // As if the process had ended: nobody tells that they left.
    let after = start();
    let _ann = open(&after, Some("ann"), &["chat/1"], &all);
    let mut watching = subscribe(&after, "tidings.presence", Begin::Now);
    check_news(&news(&mut watching).await, ("tidings.left", "chat/1", "bob", 1));
    check(&after, "chat/1", &[("ann", 1)], 1);
    drop((before, after));
}
