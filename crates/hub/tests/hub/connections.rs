//! What the operator sees, and what rights that end do to a stream.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;

use tidings::{
    Client, ConnectionFigures, ConnectionFilter, ConnectionId, EndReason, ExpiryReason, Identity,
};

use super::*;

fn identity(user: &str, token_id: &str) -> Arc<Identity> {
    Arc::new(Identity {
        issuer: Some("https://issuer.example".into()),
        user: Some(user.into()),
        token_id: Some(token_id.into()),
        vouched_by: Some(user.len() as u64),
    })
}

fn subscribe_as(hub: &Hub, selector: &str, identity: Arc<Identity>) -> Subscription {
    let client = Client {
        identity: Some(identity),
        address: Some(IpAddr::from([192, 0, 2, 7])),
        on_end: None,
    };
    let options = SubscribeOptions { client: Some(Box::new(client)), ..Default::default() };
    hub.subscribe(interest(selector), options).unwrap()
}

fn of_user(user: &str) -> ConnectionFilter {
    ConnectionFilter::User { issuer: None, user: user.to_owned() }
}

async fn all_pages(hub: &Hub, limit: usize) -> Vec<ConnectionFigures> {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = hub.connections(&ConnectionFilter::All, after, limit).await;
        assert!(page.connections.len() <= limit);
        listed.extend(page.connections);
        after = page.next;
        if after.is_none() {
            return listed;
        }
    }
}

#[tokio::test]
async fn the_list_has_each_connection_once_whatever_the_pages() {
    let hub = hub(HubOptions { shards: 3, ..Default::default() }, Default::default());
    let open: Vec<Subscription> =
        (0..10).map(|n| subscribe_as(&hub, &format!("t/{n}"), identity("ann", "1"))).collect();
    for limit in [1, 3, 4, 10, 100] {
        let listed = all_pages(&hub, limit).await;
        let topics: BTreeSet<&str> = listed.iter().map(|it| it.topics[0].as_str()).collect();
        let ids: BTreeSet<String> = listed.iter().map(|it| it.id.to_string()).collect();
        assert_eq!((topics.len(), ids.len(), listed.len()), (10, 10, 10), "{limit} a page");
    }
    drop(open);
    assert!(all_pages(&hub, 10).await.is_empty());
}

#[tokio::test]
async fn the_list_tells_who_it_is_and_how_far_it_is() {
    let hub = default_hub();
    publish_numbers(&hub, "a", 0..3).await;
    let mut open = subscribe_as(&hub, "a", identity("ann", "1"));
    publish_numbers(&hub, "a", 3..5).await;
    next_event(&mut open).await;
    let page = hub.connections(&of_user("ann"), None, 10).await;
    let [only] = page.connections.as_slice() else { panic!("{page:?}") };
    assert_eq!(only.identity, Some(identity("ann", "1")));
    assert_eq!(only.address, Some(IpAddr::from([192, 0, 2, 7])));
    assert_eq!(only.topics, ["a"]);
    assert_eq!((only.position.offset, only.lag), (5, 0));
    assert!(only.bytes > 0);
    assert_eq!(only.id.to_string().parse::<ConnectionId>(), Ok(only.id));
}

#[tokio::test]
async fn those_of_a_user_or_token_are_closed_and_told_why() {
    let hub = default_hub();
    let mut ann = subscribe_as(&hub, "a", identity("ann", "1"));
    let mut ann_elsewhere = subscribe_as(&hub, "a", identity("ann", "2"));
    let mut bob = subscribe_as(&hub, "a", identity("bob", "3"));
    let token = ConnectionFilter::Token { issuer: None, token_id: "2".to_owned() };
    assert_eq!(hub.close_connections(&token, ExpiryReason::Revoked).await, 1);
    let told =
        |reason: &str| ("tidings.expired".to_owned(), format!("{{\"reason\":\"{reason}\"}}"));
    assert_eq!(next_control(&mut ann_elsewhere).await, told("revoked"));
    assert_eq!(ann_elsewhere.next().await, None);
    assert_eq!(hub.close_connections(&of_user("ann"), ExpiryReason::Closed).await, 1);
    assert_eq!(next_control(&mut ann).await, told("closed"));
    let elsewhere =
        ConnectionFilter::User { issuer: Some("https://other.example".into()), user: "bob".into() };
    assert_eq!(hub.close_connections(&elsewhere, ExpiryReason::Closed).await, 0);
    publish_numbers(&hub, "a", 0..1).await;
    assert_eq!(next_event(&mut bob).await.data, "0");
    let id = all_pages(&hub, 9).await[0].id;
    assert_eq!(hub.close_connections(&ConnectionFilter::Id(id), ExpiryReason::Closed).await, 1);
    assert_eq!(next_control(&mut bob).await, told("closed"));
}

#[tokio::test]
async fn who_comes_by_a_token_that_was_just_withdrawn_is_sent_away() {
    let hub = default_hub();
    let token = ConnectionFilter::Token { issuer: None, token_id: "1".to_owned() };
    publish_numbers(&hub, "a", 0..1).await;
    assert_eq!(hub.close_connections(&token, ExpiryReason::Revoked).await, 0);
    let client = Client { identity: Some(identity("ann", "1")), ..Default::default() };
    let options = SubscribeOptions {
        begin: Begin::Earliest,
        client: Some(Box::new(client)),
        ..Default::default()
    };
    let mut late = hub.subscribe(interest("a"), options).unwrap();
    let (event_type, data) = next_control(&mut late).await;
    assert_eq!(
        (event_type.as_str(), data.as_str()),
        ("tidings.expired", r#"{"reason":"revoked"}"#)
    );
    assert_eq!(late.next().await, None);
    let mut other = subscribe_as(&hub, "a", identity("ann", "2"));
    publish_numbers(&hub, "a", 1..2).await;
    assert_eq!(next_event(&mut other).await.data, "1");
}

#[tokio::test]
async fn a_user_whose_rights_were_withdrawn_may_come_by_others() {
    let hub = default_hub();
    let mut ann = subscribe_as(&hub, "a", identity("ann", "1"));
    assert_eq!(hub.close_connections(&of_user("ann"), ExpiryReason::Revoked).await, 1);
    let reason = r#"{"reason":"revoked"}"#.to_owned();
    assert_eq!(next_control(&mut ann).await, ("tidings.expired".to_owned(), reason));
    let mut again = subscribe_as(&hub, "a", identity("ann", "2"));
    publish_numbers(&hub, "a", 0..1).await;
    assert_eq!(next_event(&mut again).await.data, "0");
}

#[tokio::test]
async fn a_stream_ends_when_its_time_is_over_and_can_be_resumed() {
    let hub = default_hub();
    let (ended, ends) = mpsc::channel();
    let client = Client {
        on_end: Some(Box::new(move |reason| ended.send(reason).unwrap())),
        ..Default::default()
    };
    let options = SubscribeOptions {
        client: Some(Box::new(client)),
        expires_in: Some(Duration::from_millis(50)),
        ..Default::default()
    };
    let mut open = hub.subscribe(interest("a"), options).unwrap();
    let (event_type, data) = next_control(&mut open).await;
    assert_eq!(
        (event_type.as_str(), data.as_str()),
        ("tidings.expired", r#"{"reason":"expired"}"#)
    );
    assert_eq!(open.next().await, None);
    let settled = open.settled().unwrap();
    drop(open);
    assert_eq!(ends.try_recv(), Ok(EndReason::Expired));
    publish_numbers(&hub, "a", 0..1).await;
    let mut again = subscribe(&hub, "a", Begin::After(settled.to_string().into_bytes()));
    assert_eq!(next_event(&mut again).await.data, "0");
}

#[tokio::test]
async fn a_topic_is_not_finished_for_those_who_may_not_receive_its_last_event() {
    let hub = default_hub();
    let last = Record { private: true, is_final: true, ..record("a", "secret") };
    hub.publish(vec![record("a", "open"), last]).await.unwrap();
    let anyone = Interest::new(vec![Selector::parse("a").unwrap()], vec![], Rights::public_only());
    let begin = |begin| SubscribeOptions { begin, ..Default::default() };
    let mut stream = hub.subscribe(anyone.clone(), begin(Begin::Earliest)).unwrap();
    assert_eq!(next_event(&mut stream).await.data, "open");
    let poll = SubscribeOptions { poll: Some(Duration::ZERO), ..begin(Begin::Now) };
    assert_eq!(hub.subscribe(anyone, poll).unwrap().next().await, None);
    let refused = hub.subscribe(interest("a"), begin(Begin::Now)).unwrap_err();
    assert_eq!(refused, SubscribeError::Finished);
}

#[tokio::test]
async fn what_withdrawn_keys_let_in_is_ended_also_if_it_comes_late_until_others_are_given() {
    let hub = default_hub();
    let keys = |marks: &[u64]| ConnectionFilter::Keys(marks.into());
    let mut ada = subscribe_as(&hub, "a", identity("ada", "1"));
    let mut bobby = subscribe_as(&hub, "a", identity("bobby", "2"));
    let mut nobody = subscribe(&hub, "a", Begin::Now);
    let expired = ("tidings.expired".to_owned(), r#"{"reason":"revoked"}"#.to_owned());

    assert_eq!(hub.close_connections(&keys(&[3, 4]), ExpiryReason::Revoked).await, 1);
    assert_eq!(next_control(&mut ada).await, expired);
    let mut late = subscribe_as(&hub, "a", identity("ada", "3"));
    assert_eq!(next_control(&mut late).await, expired);

    assert_eq!(hub.close_connections(&keys(&[]), ExpiryReason::Revoked).await, 0);
    let mut again = subscribe_as(&hub, "a", identity("ada", "4"));
    publish_numbers(&hub, "a", 0..1).await;
    for stream in [&mut again, &mut bobby, &mut nobody] {
        assert_eq!(next_event(stream).await.data, "0");
    }
}
