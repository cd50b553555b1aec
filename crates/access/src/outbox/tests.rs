use std::time::Duration;

use super::*;
use crate::news::Kind;

fn outbox(calls_max: usize) -> Outbox {
    let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
    Outbox::new(OutboxOptions { calls_max, refused_for_max_ms: 10_000, backoff })
}

fn push(outbox: &mut Outbox, name: &str, number: u64) {
    let user = Arc::new(User { issuer: None, name: name.into() });
    outbox.push(News::new(Kind::Connected, user, None, number, None));
}

/// All that can be tried now, as `name` and number.
fn attempts(outbox: &mut Outbox, now_ms: u64) -> Vec<Arc<News>> {
    std::iter::from_fn(|| outbox.poll_attempt(now_ms)).collect()
}

fn shown(attempts: &[Arc<News>]) -> Vec<String> {
    attempts.iter().map(|news| format!("{}{}", news.user.name, news.unix_ms)).collect()
}

#[test]
fn users_do_not_wait_for_each_other_and_their_news_does() {
    let mut outbox = outbox(8);
    for (name, number) in [("a", 1), ("a", 2), ("b", 1), ("a", 3)] {
        push(&mut outbox, name, number);
    }
    let first = attempts(&mut outbox, 0);
    assert_eq!(shown(&first), ["a1", "b1"]);
    outbox.handle_delivered(&first[0]);
    let second = attempts(&mut outbox, 0);
    assert_eq!(shown(&second), ["a2"]);
    outbox.handle_delivered(&first[1]);
    assert_eq!((shown(&attempts(&mut outbox, 0)).len(), outbox.len()), (0, 2));
}

#[test]
fn only_so_many_are_under_way() {
    let mut outbox = outbox(2);
    for name in ["a", "b", "c"] {
        push(&mut outbox, name, 1);
    }
    let first = attempts(&mut outbox, 0);
    assert_eq!(shown(&first), ["a1", "b1"]);
    outbox.handle_delivered(&first[0]);
    assert_eq!(shown(&attempts(&mut outbox, 0)), ["c1"]);
}

#[test]
fn while_the_receiver_fails_one_attempt_at_a_time_asks_for_it() {
    let mut outbox = outbox(3);
    for name in ["a", "b", "c"] {
        push(&mut outbox, name, 1);
    }
    for news in attempts(&mut outbox, 0) {
        outbox.handle_failed(&news, 0, 1.0);
    }
    assert_eq!(
        (shown(&attempts(&mut outbox, 999)).len(), outbox.deadline_ms(999)),
        (0, Some(1000))
    );
    let second = attempts(&mut outbox, 1000);
    assert_eq!((second.len(), outbox.deadline_ms(1000)), (1, None));
    outbox.handle_failed(&second[0], 1500, 1.0);
    assert_eq!(outbox.deadline_ms(1500), Some(3500));
    let third = attempts(&mut outbox, 3500);
    assert_eq!(third.len(), 1);
    outbox.handle_delivered(&third[0]);
    assert_eq!(attempts(&mut outbox, 3500).len(), 2);
}

#[test]
fn refused_news_holds_up_its_user_alone_and_not_for_ever() {
    let mut outbox = outbox(8);
    for (name, number) in [("bad", 1), ("bad", 2), ("good", 1)] {
        push(&mut outbox, name, number);
    }
    let first = attempts(&mut outbox, 0);
    outbox.handle_delivered(&first[1]);
    assert!(!outbox.handle_refused(&first[0], 0, 1.0));
    assert_eq!((attempts(&mut outbox, 999).len(), outbox.deadline_ms(0)), (0, Some(1000)));
    push(&mut outbox, "good", 2);
    assert_eq!(shown(&attempts(&mut outbox, 999)), ["good2"]);
    let mut now_ms = 999;
    let mut tries = 0;
    loop {
        now_ms = outbox.deadline_ms(now_ms).unwrap();
        let again = attempts(&mut outbox, now_ms);
        assert_eq!(shown(&again), ["bad1"]);
        tries += 1;
        if outbox.handle_refused(&again[0], now_ms, 1.0) {
            break;
        }
    }
    assert_eq!((now_ms, tries), (15_000, 4));
    assert_eq!(shown(&attempts(&mut outbox, now_ms)), ["bad2"]);
}
