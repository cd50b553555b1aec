use super::*;
use crate::{Rights, Selector};

mod schedules;

type State = HubState<()>;

const OPTIONS: StateOptions =
    StateOptions { heartbeat_ms: 15_000, write_timeout_ms: 30_000, log_retry_ms: 1_000 };

#[test]
fn a_poll_does_not_end_before_what_is_kept_was_read() {
    let mut state = State::new(Epoch::from_random(1), 1, OPTIONS);
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
    let stream = StreamOptions { control: true, poll_deadline: Some(0), jitter: 0.0 };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { from: 1, until: 2, .. })));

    state.handle_timeout(5_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: false, .. })));
    assert!(state.poll_effect().is_none());
    assert!(state.poll_timeout() > Some(5_000), "it does not wait in a circle");

    let entries = vec![entry];
    state.handle_read(key, ReadOutcome::Entries { entries, next: 2, dropped: None }, 5_000);
    let Some(Effect::Write(write)) = state.poll_effect() else { panic!("nothing is offered") };
    state.handle_written(&write, 1, true, 5_000);
    let closed = state.poll_effect();
    assert!(
        matches!(closed, Some(Effect::Close { reason: CloseReason::PollDone, cursor: 2, .. })),
        "{closed:?}"
    );
}

#[test]
fn heartbeats_and_ends_far_ahead_come_in_their_time() {
    let options = StateOptions { heartbeat_ms: 600_000, ..OPTIONS };
    let mut state = State::new(Epoch::from_random(1), 1, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions { control: true, poll_deadline: None, jitter: 0.0 };
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
    let mut state = State::new(Epoch::from_random(1), 5, options);
    let interest = Interest::new(vec![Selector::All], Vec::new(), Rights::everything());
    let stream = StreamOptions { control: true, poll_deadline: None, jitter: 0.0 };
    let key = state.subscribe(interest, &[], Start::At(1), None, stream, 0);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
    state.handle_read(key, ReadOutcome::Failed, 0);
    state.handle_timeout(1_000);
    assert!(matches!(state.poll_effect(), Some(Effect::Heartbeat { is_silent: true, .. })));
    assert_eq!(state.poll_timeout(), Some(1_500));
    state.handle_timeout(1_500);
    assert!(matches!(state.poll_effect(), Some(Effect::Read { .. })));
}
