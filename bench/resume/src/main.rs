//! How long a client that returns waits for what it missed, through HTTP.
//!
//! A log of many events is imported as NDJSON. In each round the hub is started anew; clients come
//! back with a `Last-Event-ID` so many events before the end, and time what comes from their
//! `connect` on. Every event is looked at: the next one each time, with its own data.
//!
//! ```text
//! cargo xtask bench resume [OPTIONS]
//! ```

mod import;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{
    DATA_BYTES, EventStream, Machine, Samples, Scratch, Served, bytes_on_disk, is_data, number_of,
    write_record,
};
use clap::Parser;
use serde_json::json;

use crate::import::topic_of;

#[derive(Debug, Parser)]
#[command(about = "Measures how long a returning client waits for what it missed")]
struct Options {
    /// The release build of tidings.
    #[arg(long, value_name = "FILE", default_value = "target/release/tidings")]
    tidings: PathBuf,
    /// An argument more for `tidings serve`; may be repeated.
    #[arg(long = "serve-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arguments: Vec<String>,
    /// Events in the log.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the log is kept; on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-data")]
    folder: PathBuf,
    /// A file for the record of the run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let machine = Machine::probe(&options.folder)?;
    println!("{}\n", machine.describe());
    let scratch = Scratch::new(&options.folder)?;
    let served = start(&options, scratch.path())?;
    eprintln!("importing {} events", options.events);
    let imported = import::import(served.address(), options.events)?;
    served.stop()?;
    let mut starts_ms = Vec::new();
    let mut resident_mib = Vec::new();
    let mut measured: Vec<_> = CASES.iter().map(Measured::new).collect();
    for round in 1..=options.rounds {
        let begin = Instant::now();
        let served = start(&options, scratch.path())?;
        starts_ms.push(begin.elapsed().as_secs_f64() * 1e3);
        for measured in &mut measured {
            eprintln!("round {round} of {}: {}", options.rounds, measured.case.title);
            measured.measure(served.address(), &imported.epoch, options.events)?;
        }
        resident_mib.push(served.resident_bytes()? as f64 / 1024.0 / 1024.0);
        served.stop()?;
    }
    println!("| behind, in a log of {} | first event, ms | caught up, ms |", options.events);
    println!("|---|---|---|");
    let cases: Vec<_> = measured.into_iter().map(Measured::finish).collect();
    for (case, first_ms, whole_ms) in &cases {
        println!("| {} | {first_ms} | {whole_ms} |", case.title);
    }
    let (starts_ms, resident_mib) = (Samples::new(starts_ms), Samples::new(resident_mib));
    let disk_mib = bytes_on_disk(scratch.path())? as f64 / 1024.0 / 1024.0;
    println!(
        "\nThe hub took {:.0} events/s to import and {disk_mib:.0} MiB of disk to keep. It started \
         in {starts_ms} ms, and held {resident_mib} MiB of memory at the end of a round.",
        imported.events_per_second
    );
    if let Some(path) = &options.json {
        let cases = cases.iter().map(|(case, first_ms, whole_ms)| {
            json!({
                "behind": case.title,
                "first_event_ms": first_ms.to_json(),
                "caught_up_ms": whole_ms.to_json(),
            })
        });
        let results = json!({
            "events": options.events,
            "cases": cases.collect::<Vec<_>>(),
            "import_events_per_second": imported.events_per_second,
            "disk_mib": disk_mib,
            "start_ms": starts_ms.to_json(),
            "resident_mib": resident_mib.to_json(),
        });
        write_record(path, &machine, &results)?;
    }
    Ok(())
}

fn start(options: &Options, folder: &Path) -> Result<Served> {
    let mut command = Command::new(&options.tidings);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder).args(KEEP_ALL);
    Served::announced(command.args(&options.serve_arguments))
}

/// A client that comes back.
struct Case {
    title: &'static str,
    behind: u64,
    /// One topic of all, or every event.
    topic: Option<u64>,
    /// How often in each round.
    runs: usize,
}

const CASES: &[Case] = &[
    Case { title: "10 events", behind: 10, topic: None, runs: 30 },
    Case { title: "1,000 events", behind: 1_000, topic: None, runs: 30 },
    Case { title: "1,000,000 events", behind: 1_000_000, topic: None, runs: 3 },
    Case {
        title: "1,000,000 events, of which it wants one topic in 1,000",
        behind: 1_000_000,
        topic: Some(7),
        runs: 30,
    },
    Case {
        title: "all events, of which it wants one topic in 1,000",
        behind: u64::MAX,
        topic: Some(8),
        runs: 10,
    },
];

impl Case {
    fn wants(&self, number: u64) -> bool {
        self.topic.is_none_or(|topic| topic_of(number) == topic)
    }
}

struct Measured {
    case: &'static Case,
    first_ms: Vec<f64>,
    whole_ms: Vec<f64>,
}

impl Measured {
    fn new(case: &'static Case) -> Self {
        Self { case, first_ms: Vec::new(), whole_ms: Vec::new() }
    }

    fn measure(&mut self, address: SocketAddr, epoch: &str, events: u64) -> Result<()> {
        let known = events.saturating_sub(self.case.behind);
        let expected: Vec<u64> =
            (known + 1..=events).filter(|number| self.case.wants(*number)).collect();
        for _ in 0..self.case.runs {
            let (first, whole) = resume(address, epoch, known, self.case, &expected)?;
            self.first_ms.push(first.as_secs_f64() * 1e3);
            self.whole_ms.push(whole.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn finish(self) -> (&'static Case, Samples, Samples) {
        (self.case, Samples::new(self.first_ms), Samples::new(self.whole_ms))
    }
}

/// Returns the times from `connect` to the first and to the last event.
fn resume(
    address: SocketAddr,
    epoch: &str,
    known: u64,
    case: &Case,
    expected: &[u64],
) -> Result<(Duration, Duration)> {
    let topic = case.topic.map_or_else(|| "*".to_owned(), |topic| format!("orders/{topic}"));
    // Offset 0 is no event's: from there, everything is missed.
    let begin_at = match known {
        0 => "&last=earliest".to_owned(),
        known => format!("&lastEventId={epoch}-{known}"),
    };
    let mut expected = expected.iter();
    let begin = Instant::now();
    let mut first = None;
    let mut fault = Ok(());
    let mut stream = EventStream::open(address, &format!("/events?topic={topic}{begin_at}"), "")?;
    stream.for_each(|event| {
        first.get_or_insert_with(|| begin.elapsed());
        let next = expected.next();
        fault =
            next.context("too many events").and_then(|next| check(*next, &event.id, &event.data));
        let is_over = fault.is_err() || expected.as_slice().is_empty();
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let whole = begin.elapsed();
    fault?;
    Ok((first.context("an event came")?, whole))
}

/// Checks that this is event `number`; to the last byte now and then, for that takes longer than
/// receiving it.
fn check(number: u64, id: &str, data: &str) -> Result<()> {
    let Some((_, offset)) = id.rsplit_once('-') else { bail!("{id} is no id: {data}") };
    ensure!(offset.parse() == Ok(number), "{id} came, not event {number}");
    ensure!(number_of(data) == Some(number) && data.len() == DATA_BYTES, "event {id} holds {data}");
    ensure!(!number.is_multiple_of(1_000) || is_data(number, data), "event {id} holds {data}");
    Ok(())
}

/// Nothing is trimmed while this measures.
const KEEP_ALL: [&str; 6] =
    ["--log-events-max", "1000000000", "--log-bytes-max", "64GiB", "--log-age-max", "30d"];
