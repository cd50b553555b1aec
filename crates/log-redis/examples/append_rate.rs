//! How fast a log in Redis is appended to and read, beside the same events through the plain client:
//! `cargo run --release -p tidings-log-redis --example append_rate -- redis://127.0.0.1:6379`
//!
//! Use a server that holds nothing else: what is written is deleted, and its memory is measured.

use std::error::Error;
use std::time::{Duration, Instant};

use tidings_core::{Epoch, Topic};
use tidings_log::shared::{Append, Cut, Engine, Life, StepLimit, Wish};
use tidings_log::{Key, KeyWindow, Record};
use tidings_log_redis::RedisEngine;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("which server?")?;
    let mut client = redis::Client::open(url.as_str())?.get_connection()?;
    let mut bench = Bench::open(&url)?;
    println!(
        "groups of {GROUP} events of {BYTES} B, in turns, median of {ROUNDS} rounds of {GROUPS} groups"
    );
    let (mut plain, mut own, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let _: () = redis::cmd("DEL").arg("plain").query(&mut client)?;
        plain.push(rate(GROUPS, |group| append_plain(&mut client, round * GROUPS + group))?);
        own.push(rate(GROUPS, |_| bench.append(GROUP, |_| None))?);
        keyed.push(rate(GROUPS / 4, |group| {
            bench.append(GROUP, |place| Some(format!("k{round}-{group}-{place}x")))
        })?);
        bench.trim_all()?;
    }
    let (plain, own, keyed) = (median(plain), median(own), median(keyed));
    let cost = |client: &mut redis::Connection,
                act: &mut dyn FnMut() -> Result<f64, Box<dyn Error>>| {
        let before = used_cpu(client)?;
        act()?;
        Ok::<_, Box<dyn Error>>((used_cpu(client)? - before) * 1e6 / (GROUPS * GROUP) as f64)
    };
    let mut other = redis::Client::open(url.as_str())?.get_connection()?;
    let _: () = redis::cmd("DEL").arg("plain").query(&mut client)?;
    let plain_cost =
        cost(&mut other, &mut || rate(GROUPS, |group| append_plain(&mut client, group)))?;
    let own_cost = cost(&mut other, &mut || rate(GROUPS, |_| bench.append(GROUP, |_| None)))?;
    let keyed_cost = cost(&mut other, &mut || {
        rate(GROUPS, |_| bench.append(GROUP, |place| Some(format!("c{}-{place}x", bench_key()))))
    })?;
    println!(
        "CPU time of the server for an event: {plain_cost:.2} us, {own_cost:.2} us, {keyed_cost:.2} us"
    );
    println!("pipelined XADD by the plain client  {plain:9.0} events/s");
    println!(
        "append by script                    {own:9.0} events/s  {:.0} %",
        100.0 * own / plain
    );
    println!(
        "append by script, each with a key   {keyed:9.0} events/s  {:.0} %",
        100.0 * keyed / plain
    );
    let ping = latencies(|| Ok(redis::cmd("PING").query::<()>(&mut client)?))?;
    let single = latencies(|| append_one(&mut client))?;
    let own = latencies(|| bench.append(1, |_| None))?;
    println!(
        "PING p50 {:?} p99 {:?}; one XADD {:?} {:?}; one append {:?} {:?}",
        ping.0, ping.1, single.0, single.1, own.0, own.1
    );
    bench.trim_all()?;
    let empty = used_memory(&mut client)?;
    for _ in 0..100 {
        bench.append(GROUP, |_| None)?;
    }
    let bytes = (used_memory(&mut client)? - empty) as f64 / (100 * GROUP) as f64;
    println!("memory: {bytes:.0} B for an event of {BYTES} B of data");
    let read = bench.read_rate()?;
    println!("read: {read:.0} events/s in steps of {GROUP}");
    let begun = Instant::now();
    bench.trim_all()?;
    println!("trim of {} events: {:?}", 100 * GROUP, begun.elapsed());
    Ok(())
}

struct Bench {
    engine: RedisEngine,
    life: Life,
    sequence: u64,
    topics: Vec<Topic>,
}

impl Bench {
    fn open(url: &str) -> Result<Self, Box<dyn Error>> {
        let engine = RedisEngine::new(url)?;
        let life = engine.open(None, Epoch::from_random(1))?.life;
        let topics: Result<Vec<_>, _> = (0..100).map(|it| Topic::parse(&topic(it))).collect();
        Ok(Self { engine, life, sequence: 0, topics: topics? })
    }

    fn append(
        &mut self,
        count: usize,
        key: impl Fn(usize) -> Option<String>,
    ) -> Result<(), Box<dyn Error>> {
        self.sequence += 1;
        let record = |place: usize| -> Result<Record, Box<dyn Error>> {
            let topic = self.topics[place % self.topics.len()].clone();
            let key = key(place).map(|key| Key::parse(&key)).transpose()?;
            Ok(Record { key, ..Record::new([topic], data(place)) })
        };
        let publishes: Result<Vec<_>, Box<dyn Error>> =
            (0..count).map(|place| Ok(vec![record(place)?])).collect();
        self.engine.append(&Append {
            life: &self.life,
            writer: 1,
            sequence: self.sequence,
            publishes: &publishes?,
            now: NOW,
            keys: KeyWindow::default(),
        })?;
        Ok(())
    }

    fn trim_all(&self) -> Result<(), Box<dyn Error>> {
        let keys = KeyWindow { age_max_ms: 0, runs_max: 0 };
        let cut = Cut {
            events_max: 1,
            bytes_max: u64::MAX,
            appended_before: 0,
            offsets: &[],
            dropped: &[],
            now: NOW + 1,
            keys,
        };
        for _ in 0..100 {
            self.engine.trim(&self.life, &cut)?;
        }
        Ok(())
    }

    fn read_rate(&self) -> Result<f64, Box<dyn Error>> {
        let bounds = self.engine.bounds(&self.life)?;
        let limit = StepLimit { events_max: GROUP, bytes_max: 64 << 20 };
        let begun = Instant::now();
        let mut from = bounds.oldest;
        while from < bounds.next {
            let wish = Wish { from, until: bounds.next, topics: None, limit };
            from = self.engine.read(&self.life, &wish)?.end;
        }
        Ok((bounds.next - bounds.oldest) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn append_plain(client: &mut redis::Connection, group: usize) -> Result<(), Box<dyn Error>> {
    let mut pipeline = redis::pipe();
    for place in 0..GROUP {
        let id = format!("{}-0", group * GROUP + place + 1);
        let at = format!("{NOW} {}", group * GROUP);
        pipeline.cmd("XADD").arg("plain").arg(id).arg("t").arg(topic(place % 100));
        pipeline.arg("d").arg(data(place)).arg("a").arg(at).ignore();
    }
    pipeline.query::<()>(client)?;
    Ok(())
}

fn append_one(client: &mut redis::Connection) -> Result<(), Box<dyn Error>> {
    let mut command = redis::cmd("XADD");
    command.arg("plain").arg("*").arg("t").arg("t").arg("d").arg(data(1)).arg("a").arg(NOW);
    command.query::<String>(client)?;
    Ok(())
}

fn rate(
    groups: usize,
    mut append: impl FnMut(usize) -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    for group in 0..groups {
        append(group)?;
    }
    Ok((groups * GROUP) as f64 / begun.elapsed().as_secs_f64())
}

fn latencies(
    mut act: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let begun = Instant::now();
        act()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn bench_key() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Seconds of the server, in user mode and in the kernel.
fn used_cpu(client: &mut redis::Connection) -> Result<f64, Box<dyn Error>> {
    let info: String = redis::cmd("INFO").arg("cpu").query(client)?;
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let of = |name| matches!(name, "used_cpu_sys" | "used_cpu_user");
    Ok(lines
        .filter(|(name, _)| of(*name))
        .filter_map(|(_, value)| value.trim().parse::<f64>().ok())
        .sum())
}

fn used_memory(client: &mut redis::Connection) -> Result<i64, Box<dyn Error>> {
    let info: String = redis::cmd("INFO").arg("memory").query(client)?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.ok_or("no used_memory")?.trim().parse()?)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn topic(number: usize) -> String {
    format!("orders/{number}")
}

fn data(place: usize) -> String {
    format!("{{\"n\":{place:0>10},\"text\":\"{}\"}}", "x".repeat(BYTES - 27))
}

const GROUP: usize = 1_000;
const BYTES: usize = 200;
const GROUPS: usize = 40;
const ROUNDS: usize = 7;
const NOW: u64 = 1_760_000_000_000;
