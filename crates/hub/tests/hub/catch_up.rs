//! Many that catch up at once: they share what is read back, stay within the memory they are
//! given, and do not delay who is live.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings::{
    Begin, Hub, HubOptions, Limits, MemoryLog, MemoryLogOptions, Subscription, random_epoch,
};
use tokio::task::JoinHandle;

use crate::{next_event, record, subscribe};

const READERS: u64 = 1_000;
const BEHIND: u64 = 20_000;
/// About what an event counts as: 200 bytes of data, its frame and its place.
const EVENT_BYTES: usize = 700;

fn hub(replay_bytes_max: usize) -> Hub {
    let limits = Limits { replay_bytes_max, tail_events_max: 1_024, ..Limits::default() };
    let log = MemoryLog::new(random_epoch().unwrap(), MemoryLogOptions::default());
    Hub::start(HubOptions { limits, ..Default::default() }, Arc::new(log)).unwrap()
}

async fn fill(hub: &Hub, count: u64) {
    for _ in 0..count / 1_000 {
        hub.publish(vec![record("history", &"x".repeat(200)); 1_000]).await.unwrap();
    }
}

fn resume(hub: &Hub, offset: u64, epoch: &str) -> Subscription {
    subscribe(hub, "history", Begin::After(format!("{epoch}-{offset}").into_bytes()))
}

/// Reads to the end and checks that the ids follow each other from the one after `offset`.
async fn read_all(mut subscription: Subscription, epoch: String, offset: u64, end: u64) {
    let prefix = format!("id: {epoch}-");
    let mut next = offset + 1;
    while next < end {
        let bytes = poll_fn(|cx| subscription.poll_sse(cx)).await.unwrap();
        for line in std::str::from_utf8(&bytes).unwrap().lines() {
            if let Some(id) = line.strip_prefix(&prefix) {
                assert_eq!(id.parse::<u64>().unwrap(), next);
                next += 1;
            }
        }
    }
}

/// Publishes an event every few milliseconds until there are enough, and gives the times that each
/// took to reach a live subscriber, shortest first.
async fn measure_live(hub: Hub, is_enough: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut live = subscribe(&hub, "live", Begin::Now);
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while !is_enough(latencies.len()) {
        ticks.tick().await;
        let published_at = Instant::now();
        hub.publish(vec![record("live", "")]).await.unwrap();
        next_event(&mut live).await;
        latencies.push(published_at.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

/// The most that was held of what was read back, looked at every millisecond until told to stop.
async fn watch_memory(hub: Hub, stop: Arc<AtomicBool>) -> u64 {
    let mut most = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while !stop.load(Ordering::SeqCst) {
        most = most.max(hub.figures().replay_held_bytes);
        ticks.tick().await;
    }
    most
}

fn show(latencies: &[Duration]) -> String {
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let (median, p99, most) = (at(0.5), at(0.99), at(1.0));
    format!("{} events, median {median:?}, p99 {p99:?}, most {most:?}", latencies.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_share_what_is_read_back_and_leave_live_delivery_alone() {
    let replay_bytes_max = 16 << 20;
    let hub = hub(replay_bytes_max);
    fill(&hub, BEHIND).await;
    let end = hub.bounds().next;
    let epoch = hub.publish(vec![record("other", "")]).await.unwrap().last().unwrap().epoch;

    let quiet = tokio::spawn(measure_live(hub.clone(), |count| count == 200)).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let live = tokio::spawn(measure_live(hub.clone(), move |_| is_done.load(Ordering::SeqCst)));
    let memory = tokio::spawn(watch_memory(hub.clone(), Arc::clone(&done)));
    let started = Instant::now();
    let readers: Vec<JoinHandle<()>> = (0..READERS)
        .map(|reader| {
            // Half of them begin at the same place, the others somewhere near it.
            let offset = if reader % 2 == 0 { 0 } else { reader };
            let subscription = resume(&hub, offset, &epoch.to_string());
            tokio::spawn(read_all(subscription, epoch.to_string(), offset, end))
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    let took = started.elapsed();
    done.store(true, Ordering::SeqCst);
    let (live, most) = (live.await.unwrap(), memory.await.unwrap());
    println!("{READERS} readers, {BEHIND} events back, took {took:?}; held at most {most} bytes");
    println!("live without them: {}", show(&quiet));
    println!("live beside them:  {}", show(&live));
    assert!(!live.is_empty());
    // Unshared, what the backlogs may hold would be four times the bound.
    assert!(most <= (replay_bytes_max + READERS as usize * EVENT_BYTES) as u64, "{most} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_bytes_max_bounds_what_stalled_readers_hold_and_starves_nobody() {
    const STALLED: u64 = 200;
    let replay_bytes_max = 1 << 20;
    let hub = hub(replay_bytes_max);
    fill(&hub, BEHIND).await;
    let end = hub.bounds().next;
    let epoch = hub.publish(vec![record("other", "")]).await.unwrap().last().unwrap().epoch;
    let done = Arc::new(AtomicBool::new(false));
    let memory = tokio::spawn(watch_memory(hub.clone(), Arc::clone(&done)));
    // Far enough apart to share nothing: together their backlogs would take 12 MiB.
    let offset = |reader: u64| reader * (BEHIND / STALLED);
    let mut stalled: Vec<Subscription> =
        (0..STALLED).map(|reader| resume(&hub, offset(reader), &epoch.to_string())).collect();
    for (reader, subscription) in (0..).zip(&mut stalled) {
        assert_eq!(next_event(subscription).await.id.offset, offset(reader) + 1);
    }
    let readers = (0..).zip(stalled).map(|(reader, subscription)| {
        tokio::spawn(read_all(subscription, epoch.to_string(), offset(reader) + 1, end))
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let most = memory.await.unwrap();
    let overshoot = STALLED as usize * EVENT_BYTES + 2 * 256 * EVENT_BYTES;
    assert!(most <= (replay_bytes_max + overshoot) as u64, "{most} bytes");
    assert!(most > replay_bytes_max as u64, "the bound was never met: {most} bytes");
}
