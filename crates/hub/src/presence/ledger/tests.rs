use super::*;

fn epoch() -> Epoch {
    Epoch::from_random(7)
}

fn place(topic: &str, issuer: Option<&str>, user: &str) -> Place {
    let member = Member { issuer: issuer.map(Into::into), user: user.into() };
    (Topic::parse(topic).unwrap(), Arc::new(member))
}

fn change(news: News, place: Place, after: u64) -> Change {
    Change { news, place, after, users: 1, at: 100 }
}

#[test]
fn a_change_is_an_event_that_the_ledger_reads() {
    let ann = place("chat/1", Some("i"), "ann \"x\"");
    let record = change(News::Joined, ann.clone(), 0).record(epoch()).unwrap();
    assert!(record.private);
    let topics: Vec<&str> = record.topics.iter().map(Topic::as_str).collect();
    assert_eq!(topics, ["tidings.presence/chat/1", "tidings.presence"]);
    let mut ledger = Ledger::new(epoch(), 1);
    ledger.handle_event(7, record.event_type.as_ref(), &record.data);
    assert_eq!(ledger.told(&ann), Some(Told { offset: 7, is_present: true, at: 100 }));
    assert_eq!((ledger.position(), ledger.present_count()), (8, 1));
    // What was read before, and what tells nothing, changes nothing.
    let left = change(News::Left, ann.clone(), 7).record(epoch()).unwrap();
    ledger.handle_event(7, left.event_type.as_ref(), &left.data);
    ledger.handle_event(8, None, &left.data);
    ledger.handle_event(9, left.event_type.as_ref(), "{}");
    assert_eq!((ledger.position(), ledger.present_count()), (10, 1));
    ledger.handle_event(12, left.event_type.as_ref(), &left.data);
    assert_eq!(ledger.told(&ann), Some(Told { offset: 12, is_present: false, at: 100 }));
    assert_eq!(ledger.present_count(), 0);
}

#[test]
fn a_key_names_one_change_and_no_other() {
    let members = [
        place("a", None, "b"),
        place("a", Some("b"), "c"),
        place("a", None, "bc"),
        place("ab", None, "c"),
        place("a", Some(""), "b"),
    ];
    let mut keys: Vec<String> = Vec::new();
    for member in members {
        let key = |news, after, epoch| {
            let record = change(news, member.clone(), after).record(epoch).unwrap();
            record.key.unwrap().to_string()
        };
        assert_eq!(key(News::Joined, 0, epoch()), key(News::Joined, 0, epoch()));
        keys.push(key(News::Joined, 0, epoch()));
        keys.push(key(News::Joined, 0, Epoch::from_random(8)));
    }
    let ann = place("a", None, "ann");
    for (news, after) in [(News::Joined, 3), (News::Left, 3), (News::Left, 4)] {
        keys.push(
            change(news, ann.clone(), after).record(epoch()).unwrap().key.unwrap().to_string(),
        );
    }
    assert!(keys.iter().all(|key| key.starts_with(RESERVED_KEYS)));
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn who_left_is_forgotten_when_the_log_says_that_it_was_long_ago() {
    let mut ledger = Ledger::new(epoch(), 1);
    let tell = |ledger: &mut Ledger, news, user: &str, at| {
        let change = Change { at, ..change(news, place("a", None, user), 0) };
        let record = change.record(epoch()).unwrap();
        ledger.handle_event(ledger.position(), record.event_type.as_ref(), &record.data);
    };
    tell(&mut ledger, News::Joined, "ann", 0);
    tell(&mut ledger, News::Joined, "bob", 0);
    tell(&mut ledger, News::Left, "ann", 10);
    tell(&mut ledger, News::Left, "bob", 20);
    tell(&mut ledger, News::Joined, "bob", 30);
    tell(&mut ledger, News::Joined, "cat", 10 + GONE_AGE_MAX_S - 1);
    assert!(ledger.told(&place("a", None, "ann")).is_some());
    tell(&mut ledger, News::Joined, "dan", 20 + GONE_AGE_MAX_S);
    assert!(ledger.told(&place("a", None, "ann")).is_none());
    // Who came back is not gone.
    assert!(ledger.told(&place("a", None, "bob")).unwrap().is_present);
    assert_eq!(ledger.present_count(), 3);
}
