//! Measures the log in a database against the same client inserting into an equal table.
//!
//! `cargo run --release -p tidings-log-postgres --example rates -- postgres://..`; makes and drops a table `tidings_rates`, and
//! appends to the log `rates`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::{Epoch, Topic};
use tidings_log::shared::{Append, Cut, Engine, Life, StepLimit, Wish};
use tidings_log::{Key, KeyWindow, Record};
use tidings_log_postgres::PostgresEngine;
use tokio_postgres::{Client, NoTls};

const GROUP: usize = 1_000;
const GROUPS: usize = 100;
const BYTES: usize = 200;
const TOPICS: usize = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name the database by a URL")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (client, connection) = runtime.block_on(tokio_postgres::connect(&url, NoTls))?;
    runtime.spawn(connection);
    let joint = if url.contains('?') { '&' } else { '?' };
    let log = Log::open(&format!("{url}{joint}name=rates"))?;
    // By turns, so that a disk that is slower for a while is so for all.
    let (mut plain, mut indexed, mut appended, mut keyed) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    runtime.block_on(client.batch_execute(TABLES))?;
    for turn in 0..GROUPS {
        plain += runtime.block_on(insert(&client, INTO_PLAIN, turn))?;
        indexed += runtime.block_on(insert(&client, INTO_INDEXED, turn))?;
        appended += log.append(&group(turn, false))?;
        if turn % 5 == 0 {
            keyed += log.append(&group(turn, true))? * 5;
        }
    }
    let rate = |took: Duration| (GROUPS * GROUP) as f64 / took.as_secs_f64();
    println!(
        "in groups of {GROUP} events of {BYTES} bytes under {TOPICS} topics, events a second:"
    );
    println!("  the client, a table with a primary key     {:9.0}", rate(plain));
    println!("  the client, the same with an index by topic {:8.0}", rate(indexed));
    println!("  the log                                    {:9.0}", rate(appended));
    println!("  the log, each event with a key             {:9.0}", rate(keyed));
    runtime
        .block_on(client.batch_execute("drop table tidings_rates_plain, tidings_rates_indexed"))?;
    log.measure_single()?;
    log.measure_reads()?;
    log.measure_trim()?;
    Ok(())
}

struct Log {
    engine: PostgresEngine,
    life: Life,
    sequence: std::cell::Cell<u64>,
}

impl Log {
    fn open(url: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let engine = PostgresEngine::new(url)?;
        let bits = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let life = engine.open(None, Epoch::from_random(bits))?.life;
        Ok(Self { engine, life, sequence: std::cell::Cell::new(0) })
    }

    fn append(&self, publishes: &[Vec<Record>]) -> Result<Duration, Box<dyn std::error::Error>> {
        self.sequence.set(self.sequence.get() + 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let begun = Instant::now();
        self.engine.append(&Append {
            life: &self.life,
            writer: now,
            sequence: self.sequence.get(),
            publishes,
            now,
            keys: KeyWindow::default(),
        })?;
        Ok(begun.elapsed())
    }

    fn measure_single(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut times = Vec::new();
        for _ in 0..2_000 {
            times.push(self.append(&group(0, false)[..1])?);
        }
        print_times("append of one event", times);
        Ok(())
    }

    fn measure_reads(&self) -> Result<(), Box<dyn std::error::Error>> {
        let bounds = self.engine.bounds(&self.life)?;
        let rare = [Topic::parse("rare")?];
        let limit = StepLimit { events_max: 1_000, bytes_max: 8 << 20 };
        let end = bounds.next;
        let (mut newest, mut middle, mut topic, mut backwards) = (vec![], vec![], vec![], vec![]);
        for turn in 0..50 {
            let read = |from: u64, topics, times: &mut Vec<Duration>| {
                let wish = Wish { from, until: end, topics, limit };
                let begun = Instant::now();
                let fetched = self.engine.read(&self.life, &wish);
                times.push(begun.elapsed());
                fetched.map(drop)
            };
            read(end.saturating_sub(1_000).max(1), None, &mut newest)?;
            read((end / 2).saturating_sub(turn * 1_000).max(1), None, &mut middle)?;
            read(1, Some(&rare[..]), &mut topic)?;
            let wish = Wish { from: 1, until: end, topics: Some(&rare), limit };
            let begun = Instant::now();
            self.engine.read_backwards(&self.life, &wish)?;
            backwards.push(begun.elapsed());
        }
        print_times("read of the newest 1,000", newest);
        print_times("read of 1,000 from the middle", middle);
        print_times("all events of a rare topic", topic);
        print_times("the same backwards", backwards);
        Ok(())
    }

    fn measure_trim(&self) -> Result<(), Box<dyn std::error::Error>> {
        let before = self.engine.bounds(&self.life)?;
        let begun = Instant::now();
        loop {
            let bounds = self.engine.trim(
                &self.life,
                &Cut {
                    events_max: 1_000,
                    bytes_max: u64::MAX,
                    appended_before: 0,
                    offsets: &[],
                    dropped: &[],
                    now: 0,
                    keys: KeyWindow::default(),
                },
            )?;
            if bounds.next - bounds.oldest <= 1_000 {
                let count = bounds.oldest - before.oldest;
                println!(
                    "  trim: {:.0} events a second",
                    count as f64 / begun.elapsed().as_secs_f64()
                );
                return Ok(());
            }
        }
    }
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("  {what}: p50 {p50:.0?}, p99 {p99:.0?}");
}

fn group(turn: usize, is_keyed: bool) -> Vec<Vec<Record>> {
    let record = |number: usize| {
        let key =
            is_keyed.then(|| Key::parse(&format!("import-{turn}-{}:{number}", fastrand::u64(..))));
        let topic = Topic::parse(&topic(number, turn)).expect("it is one");
        let record = Record::new([topic], "x".repeat(BYTES));
        vec![Record { key: key.and_then(Result::ok), ..record }]
    };
    (0..GROUP).map(record).collect()
}

fn topic(number: usize, turn: usize) -> String {
    match (number, turn % 10) {
        (7, 0) => "rare".to_owned(),
        _ => format!("orders/{}", fastrand::usize(..TOPICS)),
    }
}

async fn insert(
    client: &Client,
    sql: &str,
    turn: usize,
) -> Result<Duration, tokio_postgres::Error> {
    let statement = client.prepare(sql).await?;
    let topics: Vec<String> = (0..GROUP).map(|number| topic(number, turn)).collect();
    let text = "x".repeat(BYTES);
    let data: Vec<&[u8]> = vec![text.as_bytes(); GROUP];
    let begun = Instant::now();
    client.execute(&statement, &[&topics, &data, &1_700_000_000_000_i64]).await?;
    Ok(begun.elapsed())
}

/// The columns of the log's events, and an identity in place of its offsets.
const TABLES: &str = r#"
    create table tidings_rates_plain (
        "offset" bigint generated always as identity, size_sum bigint not null default 0,
        appended_at bigint not null, retry_ms bigint, size integer not null default 0,
        log smallint not null default 1, flags smallint not null default 0,
        topic text collate "C" not null, more_topics text[], event_type text, data bytea not null,
        primary key (log, "offset")
    );
    create table tidings_rates_indexed (like tidings_rates_plain including all);
    create index on tidings_rates_indexed (log, hashtext(topic), "offset")"#;
const INTO_PLAIN: &str = "insert into tidings_rates_plain (appended_at, topic, data)
    select $3, t, d from unnest($1::text[], $2::bytea[]) u (t, d)";
const INTO_INDEXED: &str = "insert into tidings_rates_indexed (appended_at, topic, data)
    select $3, t, d from unnest($1::text[], $2::bytea[]) u (t, d)";
