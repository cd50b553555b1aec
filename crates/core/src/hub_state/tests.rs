//! What a subscriber sees, one behaviour a test; [`schedules`] holds the rest to a model.

use super::*;
use crate::{EventType, Rights, Selector};

mod schedules;

type State = HubState<()>;

const OPTIONS: StateOptions = StateOptions {
    heartbeat_ms: 15_000,
    write_timeout_ms: 30_000,
    log_retry_ms: 1_000,
    confirm_after_ms: 100,
};
const EPOCH: Epoch = Epoch::from_random(1);
const STREAM: StreamOptions = StreamOptions {
    control: true,
    conflate: false,
    poll_deadline: None,
    expires_at: None,
    jitter: 0.0,
};

/// Makes an event of its topics and, after them, what it is: `a b final private created`.
fn entry(offset: u64, text: &str) -> Arc<Entry<()>> {
    let mut entry = Entry {
        offset,
        topics: [].into(),
        event_type: None,
        private: false,
        is_final: false,
        payload: (),
    };
    let mut topics = Vec::new();
    for word in text.split(' ') {
        match word {
            "final" => entry.is_final = true,
            "private" => entry.private = true,
            "created" => entry.event_type = Some(EventType::parse(word).unwrap()),
            topic => topics.push(Topic::parse(topic).unwrap()),
        }
    }
    entry.topics = topics.into();
    Arc::new(entry)
}

fn entries(texts: &[&str]) -> Vec<Arc<Entry<()>>> {
    (1..).zip(texts).map(|(offset, text)| entry(offset, text)).collect()
}

/// An interest in public events under selectors that are separated by blanks.
fn interest(selectors: &str) -> Interest {
    let selectors = selectors.split(' ').map(|text| Selector::parse(text).unwrap()).collect();
    Interest::new(selectors, Vec::new(), Rights::public_only())
}

/// What the log would say of these topics when it holds `published`.
fn finished_by(published: &[Arc<Entry<()>>], interest: &Interest) -> Vec<(Topic, u64)> {
    let last_of = |topic: &Topic| {
        published.iter().rfind(|entry| entry.topics.contains(topic)).filter(|entry| entry.is_final)
    };
    let may_know = |last: &&Arc<Entry<()>>| interest.may_receive(&last.topics, last.private);
    let topics = interest.exact_topics().into_iter().flatten();
    topics
        .filter_map(|topic| Some((topic.clone(), last_of(topic).filter(may_know)?.offset)))
        .collect()
}

/// Does what the state machine wants, from a log that keeps everything, with outlets that take
/// everything, and returns what there was to see: offsets, notices, ends.
fn drain(state: &mut State, published: &[Arc<Entry<()>>]) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(effect) = state.poll_effect() {
        match effect {
            Effect::Write(write) => {
                seen.extend(write.batch.entries.iter().map(|entry| entry.offset.to_string()));
                state.handle_written(&write, write.batch.entries.len(), true, 0);
            }
            Effect::Read { subscriber, from, until, .. } => {
                let entries = published[from as usize - 1..until as usize - 1].to_vec();
                let outcome =
                    ReadOutcome::Entries { entries, next: until, dropped: None, is_scarce: false };
                state.handle_read(subscriber, EPOCH, outcome, 0);
            }
            Effect::Announce { notice, .. } => seen.push(notice_text(&notice)),
            Effect::Seek { subscriber, interest, before, wanted } => {
                let is_hit = |entry: &&Arc<Entry<()>>| {
                    interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
                };
                let hits = published[..before as usize - 1].iter().rev().filter(is_hit);
                let hits: Vec<u64> = hits.take(wanted as usize).map(|entry| entry.offset).collect();
                let (found, lowest) = (hits.len() as u32, hits.last().copied());
                let outcome = SeekOutcome::Found { found, lowest, before: 1, complete: true };
                state.handle_sought(subscriber, EPOCH, outcome, 0);
            }
            Effect::Close { reason, .. } => seen.push(format!("{reason:?}")),
            effect => panic!("{effect:?} was not to come"),
        }
    }
    seen
}

fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::Gap(gap) => format!("gap to {}", gap.oldest),
        Notice::Lagged { missed, oldest } => format!("lagged from {missed} to {oldest}"),
        Notice::Conflated { skipped } => format!("conflated {skipped}"),
        Notice::Shutdown { .. } => "shutdown".to_owned(),
        Notice::Expired { reason } => reason.as_str().to_owned(),
        Notice::Finished { topics } => {
            format!("finished {}", topics.iter().map(Topic::as_str).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Subscribes before anything is published, then publishes one event at a time, and all at once.
fn check_live(selectors: &str, stream: StreamOptions, published: &[&str], expected: &[&str]) {
    let published = entries(published);
    for step in [1, published.len()] {
        let mut state = State::new(EPOCH, 1, OPTIONS);
        state.subscribe(interest(selectors), &[], Start::At(1), None, stream, 0);
        let mut seen = Vec::new();
        for appended in published.chunks(step) {
            state.handle_appended(appended);
            seen.extend(drain(&mut state, &published));
        }
        assert_eq!(seen, expected, "{selectors}, {step} at a time");
    }
}

/// Subscribes when everything is published.
fn check_late(selectors: &str, start: Start, published: &[&str], expected: &[&str]) {
    let (published, interest) = (entries(published), interest(selectors));
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(&published);
    let finished = finished_by(&published, &interest);
    state.subscribe(interest, &finished, start, None, STREAM, 0);
    assert_eq!(drain(&mut state, &published), expected, "{start:?}");
}

#[test]
fn a_stream_ends_after_the_last_event_of_all_its_topics() {
    let published = ["a", "b final", "c", "a final", "c"];
    check_live("a", STREAM, &published, &["1", "4", "finished a", "Finished"]);
    check_live("a b", STREAM, &published, &["1", "2", "4", "finished a b", "Finished"]);
    check_live("a b c", STREAM, &published, &["1", "2", "3", "4", "5"]);
    check_live("a b", STREAM, &["c", "a b final"], &["2", "finished a b", "Finished"]);
}

#[test]
fn a_pattern_is_never_finished() {
    check_live("{+any}", STREAM, &["a", "a final"], &["1", "2"]);
    check_live("a *", STREAM, &["a", "a final"], &["1", "2"]);
}

#[test]
fn a_last_event_of_an_unwanted_type_ends_the_stream() {
    let types = vec![EventType::parse("created").unwrap()];
    let wanted = Interest::new(vec![Selector::parse("a").unwrap()], types, Rights::everything());
    let published = entries(&["a created", "a final"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.subscribe(wanted, &[], Start::At(1), None, STREAM, 0);
    state.handle_appended(&published);
    assert_eq!(drain(&mut state, &published), ["1", "finished a", "Finished"]);
}

#[test]
fn a_stream_without_control_events_ends_in_silence() {
    let stream = StreamOptions { control: false, ..STREAM };
    check_live("a", stream, &["a final"], &["1", "Finished"]);
}

#[test]
fn a_poll_that_receives_the_last_event_is_told_so() {
    let stream = StreamOptions { poll_deadline: Some(1_000), ..STREAM };
    check_live("a", stream, &["a final"], &["1", "finished a", "Finished"]);
    check_live("a b", stream, &["a final"], &["1", "PollDone"]);
}

#[test]
fn who_may_not_receive_the_last_event_does_not_learn_of_it() {
    check_live("a", STREAM, &["a private final"], &[]);
    let published = ["a", "a private final", "c"];
    check_live("a", STREAM, &published, &["1"]);
    for start in [Start::At(1), Start::After(0), Start::Last { wanted: 9, before: 4 }] {
        check_late("a", start, &published, &["1"]);
    }
}

#[test]
fn a_stream_ends_when_its_time_is_over() {
    let stream = StreamOptions { expires_at: Some(5_000), ..STREAM };
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.subscribe(interest("a"), &[], Start::At(1), None, stream, 0);
    state.handle_timeout(4_900);
    assert_eq!(drain(&mut state, &[]), [""; 0]);
    state.handle_timeout(5_100);
    assert_eq!(drain(&mut state, &[]), ["expired", "Expired(Expired)"]);
}

#[test]
fn a_shutdown_does_not_keep_a_stream_beyond_its_time() {
    let stream = StreamOptions { expires_at: Some(5_000), ..STREAM };
    let mut state = State::new(EPOCH, 1, OPTIONS);
    let key = state.subscribe(interest("a"), &[], Start::At(1), None, stream, 0);
    state.dismiss(key, 2_000, 60_000, 0);
    state.handle_timeout(5_100);
    assert_eq!(drain(&mut state, &[]), ["shutdown", "expired", "Expired(Expired)"]);
}

#[test]
fn who_is_expelled_is_told_why() {
    let mut state = State::new(EPOCH, 1, OPTIONS);
    let key = state.subscribe(interest("a"), &[], Start::At(1), None, STREAM, 0);
    state.expel(key, ExpiryReason::Revoked);
    state.expel(key, ExpiryReason::Closed);
    assert_eq!(drain(&mut state, &[]), ["revoked", "Expired(Revoked)"]);
    assert_eq!(state.subscriber_count(), 0);
}

#[test]
fn a_stream_that_begins_behind_the_last_event_ends_at_once() {
    let published = ["a", "a final", "c", "c"];
    let last = |wanted| Start::Last { wanted, before: 5 };
    let end = ["finished a", "Finished"];
    for start in [Start::At(5), Start::After(4), last(0), Start::At(3), Start::After(2)] {
        check_late("a", start, &published, &end);
    }
    let [told, ended] = end;
    for start in [Start::At(2), Start::After(1), last(1)] {
        check_late("a", start, &published, &["2", told, ended]);
    }
    for start in [Start::At(1), Start::After(0), last(2)] {
        check_late("a", start, &published, &["1", "2", told, ended]);
    }
}

#[test]
fn the_last_events_are_those_from_before_the_subscriber_came() {
    let published = ["a", "a", "a", "a"];
    for (wanted, expected) in [(0, &["3", "4"][..]), (1, &["2", "3", "4"])] {
        check_late("a", Start::Last { wanted, before: 3 }, &published, expected);
    }
}

#[test]
fn an_event_opens_a_finished_topic() {
    let published = entries(&["a final", "a", "a final"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.subscribe(interest("a"), &[], Start::At(1), None, STREAM, 0);
    state.handle_appended(&published[..2]);
    assert_eq!(drain(&mut state, &published), ["1", "2"]);
    state.handle_appended(&published[2..]);
    assert_eq!(drain(&mut state, &published), ["3", "finished a", "Finished"]);
}

#[test]
fn a_topic_that_the_log_knows_to_be_finished_ends_streams_once_the_head_is_there() {
    let published = entries(&["a", "a final"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    let finished = finished_by(&published, &interest("a"));
    state.subscribe(interest("a"), &finished, Start::At(3), None, STREAM, 0);
    state.subscribe(interest("a"), &finished, Start::After(1), None, STREAM, 0);
    state.handle_appended(&published[..1]);
    assert_eq!(drain(&mut state, &published), [""; 0]);
    state.handle_appended(&published[1..]);
    let ended = ["finished a", "Finished"];
    assert_eq!(drain(&mut state, &published), [&["2"], &ended[..], &ended[..]].concat());
}

#[test]
fn a_topic_that_the_log_opened_again_is_open_for_a_group_that_remembers_its_end() {
    let published = entries(&["a", "a final"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    // Its first read is not answered, so the group stays.
    state.handle_appended(&published[..1]);
    state.subscribe(interest("a"), &[], Start::At(1), None, STREAM, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
    state.handle_appended(&published[1..]);
    state.subscribe(interest("a"), &[], Start::At(3), None, STREAM, 0);
    assert_eq!(drain(&mut state, &published), [""; 0]);
    state.subscribe(
        interest("a"),
        &[(Topic::parse("a").unwrap(), 2)],
        Start::At(3),
        None,
        STREAM,
        0,
    );
    assert_eq!(drain(&mut state, &published), ["finished a", "Finished"]);
}

#[test]
fn events_that_are_skipped_may_have_finished_a_topic() {
    let published = entries(&["a", "a private final"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.subscribe(interest("a"), &[], Start::At(1), None, STREAM, 0);
    state.handle_skipped(3, |_, _| Some(2));
    assert_eq!(drain(&mut state, &published), ["1", "finished a", "Finished"]);
}

/// Answers the reads of a subscriber in a log with the offsets 1 to 99 and nothing of interest, ten
/// offsets at a time and with one of `dropped` each.
fn check_dropped(start: Start, dropped: &[Option<u64>], expected: &[&str]) {
    let mut state = State::new(EPOCH, 100, OPTIONS);
    let key = state.subscribe(interest("a"), &[], start, None, STREAM, 0);
    let mut seen = Vec::new();
    let mut dropped_then = dropped.iter().copied();
    while let Some(effect) = state.poll_effect() {
        match effect {
            Effect::Read { from, .. } => {
                let Some(dropped) = dropped_then.next() else { break };
                let (entries, next) = (Vec::new(), from + 10);
                state.handle_read(
                    key,
                    EPOCH,
                    ReadOutcome::Entries { entries, next, dropped, is_scarce: false },
                    0,
                );
            }
            Effect::Announce { notice, .. } => seen.push(notice_text(&notice)),
            effect => panic!("{effect:?} was not to come"),
        }
    }
    assert_eq!(seen, expected, "{start:?}, {dropped:?}");
}

#[test]
fn what_is_dropped_after_an_id_is_told_once() {
    check_dropped(Start::After(0), &[None, None], &[]);
    check_dropped(Start::After(0), &[Some(5), None], &["gap to 6"]);
    check_dropped(Start::After(0), &[Some(50), Some(50), Some(50)], &["gap to 51"]);
    let again = ["gap to 51", "lagged from 21 to 61"];
    check_dropped(Start::After(0), &[Some(50), Some(50), Some(60)], &again);
    check_dropped(Start::After(0), &[None, Some(20)], &["gap to 21"]);
}

#[test]
fn who_names_no_id_is_told_only_of_what_is_dropped_while_it_reads() {
    check_dropped(Start::At(1), &[Some(50), Some(50)], &[]);
    check_dropped(Start::At(1), &[Some(50), Some(60)], &["lagged from 11 to 61"]);
    check_dropped(Start::At(1), &[None, Some(20)], &["lagged from 11 to 21"]);
}

#[test]
fn what_is_dropped_beyond_the_head_is_not_told_yet() {
    check_dropped(Start::After(0), &[Some(500), Some(600)], &["gap to 100"]);
}

#[test]
fn a_poll_does_not_end_before_what_is_kept_was_read() {
    let mut state = State::new(EPOCH, 1, OPTIONS);
    let entry = Arc::new(Entry {
        offset: 1,
        topics: [Topic::parse("a").unwrap()].into(),
        event_type: None,
        private: false,
        is_final: false,
        payload: (),
    });
    state.handle_appended(std::slice::from_ref(&entry));
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions {
        control: true,
        conflate: false,
        poll_deadline: Some(0),
        expires_at: None,
        jitter: 0.0,
    };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { from: 1, until: 2, .. })));

    state.handle_timeout(5_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: false, .. })));
    assert!(state.poll_effect().is_none());
    assert!(state.poll_timeout() > Some(5_000), "it does not wait in a circle");

    let entries = vec![entry];
    state.handle_read(
        key,
        EPOCH,
        ReadOutcome::Entries { entries, next: 2, dropped: None, is_scarce: false },
        5_000,
    );
    let Some(Effect::Write(write)) = state.poll_effect() else { panic!("nothing is offered") };
    state.handle_written(&write, 1, true, 5_000);
    let closed = state.poll_effect();
    assert!(
        matches!(
            closed,
            Some(Effect::Close {
                reason: CloseReason::PollDone,
                settled: Position { epoch: EPOCH, offset: 1 },
                ..
            })
        ),
        "{closed:?}"
    );
}

#[test]
fn only_the_first_heartbeat_of_a_silence_comes_early() {
    let mut state = State::new(EPOCH, 1, OPTIONS);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions {
        control: true,
        conflate: false,
        poll_deadline: None,
        expires_at: None,
        jitter: 0.5,
    };
    state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    let mut heartbeats = Vec::new();
    while let Some(now) = state.poll_timeout().filter(|&now| now <= 45_000) {
        state.handle_timeout(now);
        while let Some(effect) = state.poll_effect() {
            if matches!(effect, Effect::Heartbeat { is_silent: true, .. }) {
                heartbeats.push(now);
            }
        }
    }
    assert_eq!(heartbeats, [13_500, 28_500, 43_500]);
}

#[test]
fn heartbeats_and_ends_far_ahead_come_in_their_time() {
    let options = StateOptions { heartbeat_ms: 600_000, ..OPTIONS };
    let mut state = State::new(EPOCH, 1, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions {
        control: true,
        conflate: false,
        poll_deadline: None,
        expires_at: None,
        jitter: 0.0,
    };
    let poll = StreamOptions { poll_deadline: Some(60_000), ..stream };
    let streaming = state.subscribe(interest.clone(), &[], Start::At(1), None, stream, 0);
    let polling = state.subscribe(interest, &[], Start::At(1), None, poll, 0);
    let mut happened = Vec::new();
    while let Some(now) = state.poll_timeout().filter(|&now| now <= 1_200_000) {
        state.handle_timeout(now);
        while let Some(effect) = state.poll_effect() {
            match effect {
                Effect::Heartbeat { subscriber, is_silent: true } => {
                    happened.push((now, subscriber, "heartbeat"));
                }
                Effect::Close { subscriber, .. } => happened.push((now, subscriber, "close")),
                _ => {}
            }
        }
    }
    assert_eq!(
        happened,
        [
            (60_000, polling, "close"),
            (600_000, streaming, "heartbeat"),
            (1_200_000, streaming, "heartbeat"),
        ]
    );
}

#[test]
fn a_log_that_failed_is_tried_again_in_time_even_if_a_heartbeat_comes_first() {
    let options = StateOptions { heartbeat_ms: 1_000, log_retry_ms: 1_500, ..OPTIONS };
    let mut state = State::new(EPOCH, 5, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions {
        control: true,
        conflate: false,
        poll_deadline: None,
        expires_at: None,
        jitter: 0.0,
    };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
    state.handle_read(key, EPOCH, ReadOutcome::Failed, 0);
    state.handle_timeout(1_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: true, .. })));
    assert_eq!(state.poll_timeout(), Some(1_500));
    state.handle_timeout(1_500);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
}

const CONFLATING: StreamOptions = StreamOptions { conflate: true, ..STREAM };

/// Subscribes when everything is published, and reads all of it.
fn check_conflated(selectors: &str, published: &[&str], expected: &[&str]) {
    let published = entries(published);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(&published);
    state.subscribe(interest(selectors), &[], Start::After(0), None, CONFLATING, 0);
    assert_eq!(drain(&mut state, &published), expected, "{selectors}");
    assert!(state.conflations.is_empty(), "nothing is held for who is live");
}

#[test]
fn who_conflates_and_is_behind_receives_the_newest_event_of_each_topic() {
    check_conflated("*", &["a", "b", "a", "c", "b", "a"], &["conflated 3", "4", "5", "6"]);
    check_conflated("a", &["a", "b", "a", "c", "b", "a"], &["conflated 2", "6"]);
    check_conflated("*", &["a", "b", "c"], &["1", "2", "3"]);
    check_conflated("a", &["b", "b"], &[]);
}

#[test]
fn an_event_makes_way_once_all_its_topics_that_were_asked_for_have_a_newer_one() {
    check_conflated("*", &["a b", "a"], &["1", "2"]);
    check_conflated("*", &["a b", "a", "b"], &["conflated 1", "2", "3"]);
    check_conflated("*", &["a a", "a", "b b"], &["conflated 1", "2", "3"]);
    check_conflated("a", &["a b", "a c"], &["conflated 1", "2"]);
}

#[test]
fn a_last_event_never_makes_way() {
    check_conflated("*", &["a", "a final", "a", "a"], &["conflated 2", "2", "4"]);
}

#[test]
fn who_conflates_receives_all_that_is_live() {
    check_live("a", CONFLATING, &["a", "b", "a", "a"], &["1", "3", "4"]);
}

#[test]
fn a_poll_that_conflates_ends_after_one_batch() {
    let published = entries(&["a", "a", "b"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(&published);
    let stream = StreamOptions { poll_deadline: Some(1_000), ..CONFLATING };
    state.subscribe(interest("*"), &[], Start::At(1), None, stream, 0);
    assert_eq!(drain(&mut state, &published), ["conflated 1", "2", "3", "PollDone"]);
}

#[test]
fn without_control_events_nothing_is_said_of_what_is_left_out() {
    let published = entries(&["a", "a"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(&published);
    let stream = StreamOptions { control: false, ..CONFLATING };
    state.subscribe(interest("a"), &[], Start::At(1), None, stream, 0);
    assert_eq!(drain(&mut state, &published), ["2"]);
}

/// Answers reads one event at a time and gives the offsets of each batch.
fn batches_of_single_reads(published: &[Arc<Entry<()>>], is_scarce: bool) -> Vec<Vec<u64>> {
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(published);
    state.subscribe(interest("*"), &[], Start::At(1), None, CONFLATING, 0);
    let mut batches = Vec::new();
    while let Some(effect) = state.poll_effect() {
        match effect {
            Effect::Read { subscriber, from, .. } => {
                let entries = vec![Arc::clone(&published[from as usize - 1])];
                let next = from + 1;
                let outcome = ReadOutcome::Entries { entries, next, dropped: None, is_scarce };
                state.handle_read(subscriber, EPOCH, outcome, 0);
            }
            Effect::Write(write) => {
                batches.push(write.batch.entries.iter().map(|entry| entry.offset).collect());
                state.handle_written(&write, write.batch.entries.len(), true, 0);
            }
            Effect::Announce { .. } => {}
            effect => panic!("{effect:?} was not to come"),
        }
    }
    batches
}

#[test]
fn nothing_is_held_while_memory_is_scarce() {
    let published = entries(&["a", "a", "b"]);
    assert_eq!(batches_of_single_reads(&published, false), [vec![2, 3]]);
    assert_eq!(batches_of_single_reads(&published, true), [vec![1], vec![2], vec![3]]);
}

#[test]
fn what_was_read_is_not_held_until_a_log_that_failed_is_back() {
    let published = entries(&["a", "a"]);
    let mut state = State::new(EPOCH, 1, OPTIONS);
    state.handle_appended(&published);
    let key = state.subscribe(interest("a"), &[], Start::At(1), None, CONFLATING, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { from: 1, .. })));
    let entries = published[..1].to_vec();
    let outcome = ReadOutcome::Entries { entries, next: 2, dropped: None, is_scarce: false };
    state.handle_read(key, EPOCH, outcome, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { from: 2, .. })));
    state.handle_read(key, EPOCH, ReadOutcome::Failed, 0);
    assert_eq!(drain(&mut state, &published), ["1", "2"]);
}

#[test]
fn who_conflates_holds_at_most_conflated_topics_max_topics() {
    for (topics, batch_lengths) in [
        (CONFLATED_TOPICS_MAX, &[CONFLATED_TOPICS_MAX][..]),
        (CONFLATED_TOPICS_MAX + 1, &[CONFLATED_TOPICS_MAX, CONFLATED_TOPICS_MAX, 2]),
    ] {
        let published: Vec<_> =
            (1..=2 * topics).map(|nth| entry(nth as u64, &format!("t{}", nth % topics))).collect();
        let batches = batches_of_single_reads(&published, false);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), batch_lengths);
    }
}
