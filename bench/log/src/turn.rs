//! One turn of one engine, in a process of its own: what one leaves in the allocator and the
//! caches is not the next one's.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bench_stand::{Samples, bytes_on_disk, data_of, is_data};
use tidings_core::{Entry, Interest, Rights, Selector, Topic};
use tidings_log::{Body, EventLog, ReadLimit, Record, UnixMillis};

use crate::engine::{AGE_MAX_MS, Engine, MeasuredLog};
use crate::metric::Values;

/// Makes `commits` appends of so many publishes at once.
pub fn waiting(engine: &Engine, waiting: u64, commits: u64, folder: &Path) -> Result<Values> {
    let log = open(engine, folder, "waiting", false)?;
    let appends = append(log.as_ref(), commits * waiting, waiting, &[topic(0)])?;
    check_whole(log.as_ref(), commits * waiting)?;
    Ok(Values::from([
        (format!("append_{waiting}"), appends.per_second()),
        (format!("append_{waiting}_p99_us"), appends.commits_us.quantile(0.99)),
    ]))
}

/// Appends to one topic, and scans.
pub fn scans(engine: &Engine, events: u64, folder: &Path) -> Result<Values> {
    let mut values = Values::new();
    {
        let log = open(engine, folder, "scans", false)?;
        let appends = append(log.as_ref(), events, 1_000, &[topic(0)])?;
        values.insert("append_1000".into(), appends.per_second());
        values.insert("append_1000_p99_us".into(), appends.commits_us.quantile(0.99));
        check_whole(log.as_ref(), events)?;
        values.insert("scan_us".into(), scans_us(log.as_ref(), events)?.median());
        log.close();
    }
    check_whole(open(engine, folder, "scans", false)?.as_ref(), events)?;
    Ok(values)
}

/// Appends to a thousand topics, replays them, and trims.
pub fn topics(engine: &Engine, events: u64, folder: &Path) -> Result<Values> {
    let mut values = Values::new();
    let topics: Vec<Topic> = (0..TOPICS).map(topic).collect();
    {
        let log = open(engine, folder, "topics", true)?;
        let appends = append(log.as_ref(), events, 1_000, &topics)?;
        values.insert("topics_append_1000".into(), appends.per_second());
        values.insert("replay_us".into(), replays_us(log.as_ref(), events)?.median());
        log.close();
    }
    let mut log = open(engine, folder, "topics", true)?;
    check_whole(log.as_ref(), events)?;
    trim(log.as_mut(), events, &folder.join("topics"), &mut values)?;
    values.insert("peak_mib".into(), mib(status_bytes("VmHWM:")?));
    Ok(values)
}

/// Prepares the log that [`open_large`] opens.
pub fn fill(engine: &Engine, events: u64, folder: &Path) -> Result<Values> {
    let topics: Vec<Topic> = (0..TOPICS).map(topic).collect();
    let log = open(engine, folder, "large", true)?;
    append(log.as_ref(), events, 10_000, &topics)?;
    log.close();
    Ok(Values::new())
}

/// Opens the log of `events` events, and reads what a client could ask for first.
pub fn open_large(engine: &Engine, events: u64, folder: &Path) -> Result<Values> {
    let mut values = Values::new();
    let begin = Instant::now();
    let log = open(engine, folder, "large", true)?;
    let last = read(log.as_ref(), events, &everything(), 1)?;
    values.insert("open_ms".into(), begin.elapsed().as_secs_f64() * 1e3);
    check_run(&last, events, 1)?;
    ensure!(log.bounds().next == events + 1, "{:?}", log.bounds());
    values.insert("open_resident_mib".into(), mib(status_bytes("VmRSS:")?));
    let begin = Instant::now();
    let replayed = read(log.as_ref(), 1, &interest_in(7), 1_000)?;
    values.insert("open_replay_us".into(), begin.elapsed().as_secs_f64() * 1e6);
    check_topic(&replayed, 7, events)?;
    values.insert("open_disk_mib".into(), mib(bytes_on_disk(&folder.join("large"))?));
    log.close();
    Ok(values)
}

fn open(
    engine: &Engine,
    folder: &Path,
    name: &str,
    is_indexed: bool,
) -> Result<Box<dyn MeasuredLog>> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    (engine.open)(&folder, is_indexed)
}

struct Appends {
    events: u64,
    seconds: f64,
    commits_us: Samples,
}

impl Appends {
    fn per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Appends events 1 to `events`, `waiting` publishes at once, the older half long before the rest.
/// Only the appending itself is timed.
fn append(log: &dyn EventLog, events: u64, waiting: u64, topics: &[Topic]) -> Result<Appends> {
    let mut commits_us = Vec::new();
    let mut next = 1;
    while next <= events {
        let numbers = next..(next + waiting).min(events + 1);
        next = numbers.end;
        let publishes: Vec<_> =
            numbers.clone().map(|number| vec![record(number, topics)]).collect();
        let now = if numbers.start <= events / 2 { OLDER } else { NEWER };
        let begin = Instant::now();
        let appended = log.append(publishes, now)?;
        commits_us.push(begin.elapsed().as_secs_f64() * 1e6);
        let offsets = appended.entries.iter().map(|entry| entry.offset);
        ensure!(offsets.eq(numbers.clone()), "events {numbers:?} got other offsets");
        ensure!(appended.outcomes.iter().all(Result::is_ok), "a publish was refused");
    }
    let seconds = commits_us.iter().sum::<f64>() / 1e6;
    Ok(Appends { events, seconds, commits_us: Samples::new(commits_us) })
}

/// Reads everything, and compares it with what was appended.
fn check_whole(log: &dyn EventLog, events: u64) -> Result<()> {
    ensure!(log.bounds().next == events + 1, "{:?} after {events} events", log.bounds());
    let mut next = log.bounds().oldest;
    while next <= events {
        let count = 1_000.min(events + 1 - next);
        check_run(&read(log, next, &everything(), count)?, next, count)?;
        next += count;
    }
    Ok(())
}

fn scans_us(log: &dyn EventLog, events: u64) -> Result<Samples> {
    let count = 1_000.min(events);
    let mut times_us = Vec::new();
    for run in 0..RUNS {
        let from = 1 + scattered(run) % (events - count + 1);
        let begin = Instant::now();
        let entries = read(log, from, &everything(), count)?;
        times_us.push(begin.elapsed().as_secs_f64() * 1e6);
        check_run(&entries, from, count)?;
    }
    Ok(Samples::new(times_us))
}

fn replays_us(log: &dyn EventLog, events: u64) -> Result<Samples> {
    let mut times_us = Vec::new();
    for run in 0..RUNS {
        let number = scattered(run) % TOPICS;
        let wanted = interest_in(number);
        let begin = Instant::now();
        let entries = read(log, 1, &wanted, 1_000)?;
        times_us.push(begin.elapsed().as_secs_f64() * 1e6);
        check_topic(&entries, number, events)?;
    }
    Ok(Samples::new(times_us))
}

fn trim(log: &mut dyn MeasuredLog, events: u64, folder: &Path, values: &mut Values) -> Result<()> {
    values.insert("disk_full_mib".into(), mib(bytes_on_disk(folder)?));
    let begin = Instant::now();
    log.trim(OLDER + AGE_MAX_MS + 1);
    values.insert("trim_ms".into(), begin.elapsed().as_secs_f64() * 1e3);
    values.insert("disk_trimmed_mib".into(), mib(bytes_on_disk(folder)?));
    // A log may keep what shares a file with what is kept.
    let oldest = log.bounds().oldest;
    ensure!(oldest > 1 && oldest <= events / 2 + 1, "the oldest of {events} is {oldest}");
    check_whole(log, events)?;
    let begin = Instant::now();
    if log.compact()? {
        values.insert("compact_ms".into(), begin.elapsed().as_secs_f64() * 1e3);
        values.insert("disk_compacted_mib".into(), mib(bytes_on_disk(folder)?));
        check_whole(log, events)?;
    }
    Ok(())
}

/// Reads up to `count` events from an offset on, as a subscriber that catches up.
fn read(
    log: &dyn EventLog,
    from: u64,
    interest: &Interest,
    count: u64,
) -> Result<Vec<Entry<Body>>> {
    let until = log.bounds().next;
    let mut next = from;
    let mut entries = Vec::new();
    while next < until && entries.len() < count as usize {
        let limit = ReadLimit {
            events_max: count as usize - entries.len(),
            bytes_max: usize::MAX,
            candidates_max: usize::MAX,
            comparisons_max: usize::MAX,
        };
        let step = log.read(next, until, interest, limit)?;
        next = step.next;
        entries.extend(step.entries);
    }
    Ok(entries)
}

fn check_run(entries: &[Entry<Body>], first: u64, count: u64) -> Result<()> {
    ensure!(entries.len() as u64 == count, "{} events of {count} were read", entries.len());
    for (entry, number) in entries.iter().zip(first..) {
        check_event(entry, number)?;
    }
    Ok(())
}

/// Checks the first thousand events of a topic.
fn check_topic(entries: &[Entry<Body>], topic: u64, events: u64) -> Result<()> {
    let mut expected = (1..=events).filter(|number| topic_of(*number) == topic).take(1_000);
    for entry in entries {
        let number = expected.next().context("more events than the topic has")?;
        check_event(entry, number)?;
    }
    ensure!(expected.next().is_none(), "only {} events of topic {topic}", entries.len());
    Ok(())
}

fn check_event(entry: &Entry<Body>, number: u64) -> Result<()> {
    let is_right = entry.offset == number && is_data(number, &entry.payload.data);
    ensure!(is_right, "event {number} is not what was appended: {entry:?}");
    Ok(())
}

fn record(number: u64, topics: &[Topic]) -> Record {
    let topic = &topics[topic_of(number) as usize % topics.len()];
    let data = data_of(number);
    let data = std::str::from_utf8(&data).expect("the data is ASCII");
    Record::new([topic.clone()], data)
}

fn topic(number: u64) -> Topic {
    Topic::parse(&format!("orders/{number}")).expect("it is a topic")
}

/// Topics follow each other in no order.
fn topic_of(number: u64) -> u64 {
    scattered(number) % TOPICS
}

fn everything() -> Interest {
    Interest::new(vec![Selector::All], Vec::new(), Rights::everything())
}

fn interest_in(number: u64) -> Interest {
    Interest::new(vec![Selector::Exact(topic(number))], Vec::new(), Rights::everything())
}

fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 16
}

/// A size of this process, by its name in `/proc/self/status`.
fn status_bytes(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("a process has a size")? * 1024)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

const TOPICS: u64 = 1_000;

/// How often a scan and a replay are repeated.
const RUNS: u64 = 300;

/// When the older half is appended, and the rest: closer to each other than events are kept.
const OLDER: UnixMillis = 1_000;
const NEWER: UnixMillis = OLDER + AGE_MAX_MS / 2;
