//! Writes a small log with something of everything, and beside it what must be read from it:
//! `cargo run -p tidings-log --example keep_log -- conformance/log/v1`
//!
//! Run it once for each version of the format, into a folder that does not exist yet; what is there
//! is never written anew. `crates/log/tests/format` opens every folder of `conformance/log`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidings_core::{EventType, Selector, Topic};
use tidings_log::{
    DiskLog, DiskLogOptions, EventLog, Key, KeyWindow, Record, Retention, RetentionRule,
};

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args_os().nth(1).map(PathBuf::from).ok_or("which folder?")?;
    if target.exists() {
        return Err(format!("{} is there already", target.display()).into());
    }
    let scratch = target.join("scratch");
    fs::create_dir_all(&scratch)?;
    let mut keeper = Keeper::begin(&scratch)?;
    keeper.publish_what_leaves()?;
    keeper.publish_what_rules_drop()?;
    keeper.publish_of_every_kind()?;
    let expected = keeper.expected();
    let before = last_segment(&scratch)?;
    keeper.publish_unfinished()?;
    let after = last_segment(&scratch)?;
    fs::create_dir(target.join("log"))?;
    for entry in fs::read_dir(&scratch)? {
        let entry = entry?;
        if !["lock", "spare.tmp"].iter().any(|name| entry.file_name() == *name) {
            fs::copy(entry.path(), target.join("log").join(entry.file_name()))?;
        }
    }
    fs::write(target.join("log").join(&after.0), unfinished(&before, &after)?)?;
    drop(keeper);
    fs::remove_dir_all(&scratch)?;
    fs::write(target.join("expected.json"), serde_json::to_string_pretty(&expected)? + "\n")?;
    Ok(())
}

/// A log that is being written, and what is known of it.
struct Keeper {
    log: DiskLog,
    now: u64,
    events: BTreeMap<u64, Record>,
    appended_at: BTreeMap<u64, u64>,
    keys: BTreeMap<String, u64>,
}

impl Keeper {
    fn begin(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let rule = RetentionRule {
            topics: Selector::parse(RULED)?,
            events_max: Some(RULED_EVENTS_MAX),
            age_max_ms: None,
        };
        let retention = Retention {
            events_max: u64::MAX,
            bytes_max: 1 << 30,
            age_max_ms: AGE_MAX_MS,
            rules: vec![rule],
        };
        let options = DiskLogOptions {
            retention,
            keys: KeyWindow::default(),
            segment_bytes: Some(SEGMENT_BYTES),
            ..DiskLogOptions::default()
        };
        let log = DiskLog::open(directory, options)?;
        let (events, appended_at, keys) = Default::default();
        Ok(Self { log, now: BEGUN_AT, events, appended_at, keys })
    }

    fn publish(&mut self, records: Vec<Record>) -> Result<(), Box<dyn Error>> {
        let appended = self.log.append(vec![records.clone()], self.now)?;
        let offsets = appended.outcomes.into_iter().next().ok_or("no outcome")??;
        for (offset, record) in offsets.iter().zip(records) {
            if let Some(key) = &record.key {
                self.keys.insert(key.to_string(), offset);
            }
            self.appended_at.insert(offset, self.now);
            self.events.insert(offset, record);
        }
        Ok(())
    }

    /// Events that are too old later; their keys are carried over.
    fn publish_what_leaves(&mut self) -> Result<(), Box<dyn Error>> {
        for number in 1..=3 {
            self.publish(vec![keyed("imports", "an old line", &format!("import:{number}"))?])?;
        }
        self.publish(vec![keyed("orders/1", "an old order", "order-1-placed")?])?;
        // Nothing fits behind it, so what follows stands in another segment.
        self.publish(vec![record(&["imports"], &"x".repeat(SEGMENT_BYTES as usize - 460))?])?;
        self.now += 2 * AGE_MAX_MS;
        Ok(())
    }

    /// A segment of which rules drop more than half, so that it is written anew.
    fn publish_what_rules_drop(&mut self) -> Result<(), Box<dyn Error>> {
        self.publish(vec![keyed("imports", "a line", "import:4")?])?;
        for number in 0..7 {
            let key = format!("state-a-{number}");
            self.publish(vec![keyed("states/a", &format!("a is {number}"), &key)?])?;
            self.publish(vec![record(&["states/b"], &format!("b is {number}"))?])?;
        }
        self.publish(vec![record(&["orders/2"], &"a large order ".repeat(70))?])?;
        // Each trim looks at one segment.
        (0..4).for_each(|_| self.log.trim(self.now));
        Ok(())
    }

    fn publish_of_every_kind(&mut self) -> Result<(), Box<dyn Error>> {
        self.now += 1;
        let several = record(&["orders/3", "customers/ü", "states/a"], "under three topics")?;
        let typed = Record {
            event_type: Some(EventType::parse("order-update")?),
            retry_ms: Some(5_000),
            ..record(&["orders/3"], "{\"status\":\"shipped\"}")?
        };
        let private = Record { private: true, ..record(&["orders/3"], "not for all")? };
        self.publish(vec![several, typed, private])?;
        self.now += 1;
        self.publish(vec![record(&["notes"], "")?])?;
        self.publish(vec![record(&["notes"], "lines\r\nand\u{0}\u{1F600}\u{FEFF}")?])?;
        self.publish(vec![record(&["notes"], &"long ".repeat(150))?])?;
        self.now += 1;
        let percent = |number: u32| record(&["jobs/7"], &number.to_string());
        let complete = Record {
            event_type: Some(EventType::parse("complete")?),
            key: Some(Key::parse("job-7-complete")?),
            is_final: true,
            ..record(&["jobs/7"], "")?
        };
        self.publish(vec![percent(50)?, percent(100)?, complete])?;
        let last = Record { is_final: true, ..record(&["jobs/8", "jobs/9"], "both end")? };
        self.publish(vec![last])?;
        self.publish((5..9).map(line).collect::<Result<_, _>>()?)?;
        Ok(())
    }

    /// An array of which only a part will be in the file.
    fn publish_unfinished(&self) -> Result<(), Box<dyn Error>> {
        let array = (9..13).map(line).collect::<Result<_, _>>()?;
        self.log.append(vec![array], self.now)?;
        Ok(())
    }

    /// What must be read, found out from what was published.
    fn expected(&self) -> Value {
        let ruled = |topic: &&Topic| topic.as_str().starts_with("states/");
        let keeps = |offset: u64, topic: &Topic| {
            let later = self.events.range(offset + 1..);
            let of_topic = later.filter(|(_, record)| record.topics.contains(topic));
            of_topic.count() < RULED_EVENTS_MAX as usize
        };
        let is_kept = |offset: u64, record: &Record| {
            self.appended_at[&offset] + AGE_MAX_MS >= self.now
                && record.topics.iter().any(|it| !ruled(&it) || keeps(offset, it))
        };
        let mut events = Vec::new();
        let (mut finished, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        for (&offset, record) in &self.events {
            if is_kept(offset, record) {
                events.push(described(offset, record, self.appended_at[&offset]));
            }
            for topic in record.topics.iter() {
                if record.is_final {
                    finished.insert(topic.to_string(), offset);
                }
                if ruled(&topic) && !keeps(offset, topic) {
                    dropped.insert(topic.to_string(), offset);
                }
            }
        }
        let too_old = self.appended_at.values().filter(|at| **at + AGE_MAX_MS < self.now).count();
        let rule = json!({ "topics": RULED, "events_max": RULED_EVENTS_MAX });
        json!({
            "options": { "age_max_ms": AGE_MAX_MS, "rules": [rule] },
            "now": self.now,
            "epoch": self.log.epoch().to_string(),
            "oldest": too_old as u64 + 1,
            "next": self.log.bounds().next,
            "events": events,
            "finished": finished,
            "dropped": dropped,
            "keys": self.keys,
        })
    }
}

fn described(offset: u64, record: &Record, appended_at: u64) -> Value {
    json!({
        "offset": offset,
        "topics": record.topics.iter().map(Topic::as_str).collect::<Vec<_>>(),
        "type": record.event_type.as_ref().map(EventType::as_str),
        "private": record.private,
        "final": record.is_final,
        "retry_ms": record.retry_ms,
        "data": &*record.data,
        "appended_at": appended_at,
    })
}

/// The segment with the highest name, and what stands in it.
fn last_segment(directory: &Path) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    let last = names.into_iter().filter(|name| name.ends_with(".log")).max();
    let last = last.ok_or("there is no segment")?;
    let bytes = fs::read(directory.join(&last))?;
    Ok((last, bytes))
}

/// The segment as a process leaves it that is killed within its last write: half of that is there,
/// and zeros behind it, as the room was reserved.
fn unfinished(
    before: &(String, Vec<u8>),
    after: &(String, Vec<u8>),
) -> Result<Vec<u8>, Box<dyn Error>> {
    if before.0 != after.0 {
        return Err("the last array went to another segment".into());
    }
    let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut bytes = after.1.clone();
    bytes[end(&before.1).midpoint(end(&after.1))..].fill(0);
    Ok(bytes)
}

fn line(number: u64) -> Result<Record, Box<dyn Error>> {
    keyed("imports", &format!("line {number}"), &format!("import:{number}"))
}

fn record(topics: &[&str], data: &str) -> Result<Record, Box<dyn Error>> {
    let topics: Vec<Topic> =
        topics.iter().map(|text| Topic::parse(text)).collect::<Result<_, _>>()?;
    Ok(Record::new(topics, data))
}

fn keyed(topic: &str, data: &str, key: &str) -> Result<Record, Box<dyn Error>> {
    Ok(Record { key: Some(Key::parse(key)?), ..record(&[topic], data)? })
}

/// The first millisecond of 2026.
const BEGUN_AT: u64 = 1_767_225_600_000;
const AGE_MAX_MS: u64 = 60 * 60 * 1000;
/// Small, so that a few events fill several.
const SEGMENT_BYTES: u32 = 2_048;
const RULED: &str = "states/{name}";
const RULED_EVENTS_MAX: u64 = 2;
