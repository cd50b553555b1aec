//! The memory a subscriber may take in the state machine, as the system counts it.
//!
//! The only test of its program: others would be counted with it.

#![cfg(target_os = "linux")]

use tidings_core::{
    Epoch, HubState, Interest, Rights, Selector, Start, StateOptions, StreamOptions, Topic,
};

type State = HubState<()>;

const SUBSCRIBERS: usize = 50_000;

/// Live subscribers with heartbeats on, each with a topic of its own or all with the same.
fn populated(own: bool) -> State {
    let options = StateOptions {
        heartbeat_ms: 15_000,
        write_timeout_ms: 30_000,
        log_retry_ms: 1_000,
        confirm_after_ms: 100,
    };
    let mut state = State::new(Epoch::from_random(1), 1, options);
    for nth in 0..SUBSCRIBERS {
        let topic =
            Topic::parse(&format!("users/{:06}/orders", if own { nth } else { 0 })).unwrap();
        let interest =
            Interest::new(vec![Selector::Exact(topic)], Vec::new(), Rights::everything());
        let jitter = nth as f32 / SUBSCRIBERS as f32;
        let stream = StreamOptions {
            control: true,
            conflate: false,
            poll_deadline: None,
            expires_at: None,
            jitter,
        };
        state.subscribe(interest, &[], Start::At(1), None, stream, nth as u64 / 10);
        assert!(state.poll_effect().is_none(), "it is live at once");
    }
    state
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_subscriber_takes_little_memory() {
    let mut kept = Vec::new();
    for (own, bytes_max) in [(false, 125), (true, 400)] {
        let before = resident_bytes();
        kept.push(populated(own));
        let bytes = (resident_bytes() - before) / SUBSCRIBERS;
        assert!(bytes <= bytes_max, "{bytes} bytes each, own interests: {own}");
    }
    assert_eq!(kept.iter().map(State::subscriber_count).sum::<usize>(), 2 * SUBSCRIBERS);
    assert_eq!(kept.iter().map(State::group_count).sum::<usize>(), 1 + SUBSCRIBERS);
}
