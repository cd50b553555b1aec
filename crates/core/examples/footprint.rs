//! What a subscriber costs in the state machine: bytes of memory, and nanoseconds for a delivery.
//!
//! ```sh
//! cargo run --release -p tidings-core --example footprint
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tidings_core::{
    Effect, Entry, Epoch, HubState, Interest, ReadOutcome, Rights, Selector, Start, StateOptions,
    StreamOptions, Topic,
};

type State = HubState<()>;

fn main() {
    let mut kept = Vec::new();
    for (what, own) in [("a shared interest", false), ("an interest of its own", true)] {
        let before = resident_bytes();
        kept.push(populated(SUBSCRIBERS, own));
        let bytes = resident_bytes().saturating_sub(before) / SUBSCRIBERS;
        println!("{bytes} bytes for a subscriber with {what}");
    }
    println!("{:.1} ns for a delivery to 10,000 of one topic", delivery_nanos(10_000, 200));
    for topics in [1_000, 10_000, 100_000] {
        println!("{:.0} ns for a publish to one of {topics} topics", publish_nanos(topics));
    }
}

fn populated(count: usize, own: bool) -> State {
    let options = StateOptions {
        heartbeat_ms: 15_000,
        write_timeout_ms: 30_000,
        log_retry_ms: 1_000,
        confirm_after_ms: 100,
    };
    let mut state = State::new(Epoch::from_random(1), 1, options);
    for nth in 0..count {
        let topic = topic(if own { nth } else { 0 });
        let interest =
            Interest::new(vec![Selector::Exact(topic)], Vec::new(), Rights::everything());
        let jitter = nth as f32 / count as f32;
        let stream = StreamOptions {
            control: true,
            conflate: false,
            poll_deadline: None,
            expires_at: None,
            jitter,
        };
        state.subscribe(interest, &[], Start::At(1), None, stream, nth as u64 / 10);
        serve(&mut state);
    }
    state
}

fn topic(nth: usize) -> Topic {
    Topic::parse(&format!("users/{nth:06}/orders")).expect("it is a topic")
}

fn entry(offset: u64, topic: Topic) -> Arc<Entry<()>> {
    let topics = [topic].into();
    Arc::new(Entry {
        offset,
        topics,
        event_type: None,
        private: false,
        is_final: false,
        payload: (),
    })
}

/// Performs the effects; returns how many events were delivered.
fn serve(state: &mut State) -> usize {
    let mut delivered = 0;
    while let Some(effect) = state.poll_effect() {
        match effect {
            Effect::Write(write) => {
                let count = black_box(write.batch.entries.len());
                delivered += count;
                state.handle_written(&write, count, true, 0);
            }
            Effect::Read { subscriber, until, .. } => {
                let outcome = ReadOutcome::Entries {
                    entries: Vec::new(),
                    next: until,
                    dropped: None,
                    is_scarce: false,
                };
                state.handle_read(subscriber, state.epoch(), outcome, 0);
            }
            effect => panic!("{effect:?} was not to come"),
        }
    }
    delivered
}

/// The time for one subscriber of many to one topic, medians of rounds.
fn delivery_nanos(count: usize, rounds: u64) -> f64 {
    let mut state = populated(count, false);
    let mut nanos = Vec::new();
    for offset in 1..=rounds {
        let entry = entry(offset, topic(0));
        let begun = Instant::now();
        state.handle_appended(&[entry]);
        assert_eq!(serve(&mut state), count);
        nanos.push(begun.elapsed().as_nanos() as f64 / count as f64);
    }
    median(nanos)
}

/// The time from a publish to the only subscriber of its topic.
fn publish_nanos(count: usize) -> f64 {
    let mut state = populated(count, true);
    let mut nanos = Vec::new();
    let mut random: usize = 1;
    for offset in 1..=20_000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let entry = entry(offset, topic((random >> 33) % count));
        let begun = Instant::now();
        state.handle_appended(&[entry]);
        assert_eq!(serve(&mut state), 1);
        nanos.push(begun.elapsed().as_nanos() as f64);
    }
    median(nanos)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of this process, as Linux gives it.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this runs on Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a number");
    pages * 4096
}

const SUBSCRIBERS: usize = 100_000;
