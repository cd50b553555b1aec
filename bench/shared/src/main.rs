//! Hubs on a shared log against the store alone, through its own client.
//!
//! Two questions, for Redis and for Postgres, with one hub and with three, all in one run and in turn:
//! how many events a second are published in batches, beside the same batches appended by the store's
//! own client; and how long it takes from a single publish to its receipt at another hub, beside the
//! store's own round trip. In each round everything is started anew. What is acknowledged is checked: each offset once,
//! without a hole, and the same events at all hubs.
//!
//! ```text
//! cargo xtask bench shared [OPTIONS]
//! ```

mod alone;
mod hubs;
mod store;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench_stand::{Machine, Samples, Scratch, write_record};
use clap::Parser;
use serde_json::{Value, json};

use crate::alone::Alone;
use crate::hubs::Hubs;
use crate::store::Store;

#[derive(Debug, Parser)]
#[command(about = "Measures hubs on a shared log against the store alone")]
struct Options {
    /// The release build of tidings.
    #[arg(long, value_name = "FILE", default_value = "target/release/tidings")]
    tidings: PathBuf,
    /// Where the stores keep their files; on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-data")]
    folder: PathBuf,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events in a batch.
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Connections that publish batches.
    #[arg(long, default_value_t = 4)]
    publishers: usize,
    /// How long batches are published, after a second that does not count.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Single publishes.
    #[arg(long, default_value_t = 500)]
    singles: usize,
    /// Only one of them: redis or postgres.
    #[arg(long)]
    store: Option<String>,
    /// A file for the record of the run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Appender {
    Alone,
    Hubs(usize),
}

const APPENDERS: [Appender; 3] = [Appender::Alone, Appender::Hubs(1), Appender::Hubs(3)];

/// What was measured of one appender on one store, one value a round.
struct Measured {
    store: Store,
    appender: Appender,
    rates: Vec<f64>,
    store_cpu_us: Vec<f64>,
    hub_cpu_us: Vec<f64>,
    answer_p50_us: Vec<f64>,
    receipt_p50_us: Vec<f64>,
    receipt_p99_us: Vec<f64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let machine = Machine::probe(&options.folder)?;
    println!("{}\n", machine.describe());
    let wanted = |store: &Store| {
        options.store.as_deref().is_none_or(|name| store.name().eq_ignore_ascii_case(name))
    };
    let stores: Vec<Store> = Store::ALL.into_iter().filter(wanted).collect();
    let pairs = stores.iter().flat_map(|&store| APPENDERS.map(|appender| (store, appender)));
    let mut measured: Vec<_> =
        pairs.map(|(store, appender)| Measured::new(store, appender)).collect();
    for round in 1..=options.rounds {
        for place in 0..measured.len() {
            // Nobody is always the first.
            let place = (round + place) % measured.len();
            let measured = &mut measured[place];
            eprintln!("round {round} of {}: {}", options.rounds, measured.name());
            measured.measure(&options).with_context(|| measured.name())?;
        }
    }
    print_table(&measured);
    if let Some(path) = &options.json {
        let results: Vec<_> = measured.iter().map(Measured::to_json).collect();
        write_record(path, &machine, &json!({ "appenders": results }))?;
    }
    Ok(())
}

impl Measured {
    fn new(store: Store, appender: Appender) -> Self {
        let none = Vec::new;
        Self {
            store,
            appender,
            rates: none(),
            store_cpu_us: none(),
            hub_cpu_us: none(),
            answer_p50_us: none(),
            receipt_p50_us: none(),
            receipt_p99_us: none(),
        }
    }

    fn name(&self) -> String {
        match self.appender {
            Appender::Alone => format!("{} alone", self.store.name()),
            Appender::Hubs(1) => format!("1 hub on {}", self.store.name()),
            Appender::Hubs(count) => format!("{count} hubs on {}", self.store.name()),
        }
    }

    /// One round.
    fn measure(&mut self, options: &Options) -> Result<()> {
        let scratch = Scratch::new(&options.folder)?;
        let started = self.store.start(scratch.path())?;
        let pause = Duration::from_millis(2);
        let (warm_up, seconds) = (Duration::from_secs(1), Duration::from_secs(options.seconds));
        let (answers, receipts, events, elapsed);
        let mut cpu = Vec::new();
        match self.appender {
            Appender::Alone => {
                let mut alone = Alone::open(self.store, &started)?;
                let single = alone.append_singly(options.singles, pause)?;
                (answers, receipts) = (single.round_trips_us, single.receipts_us);
                let mut next = options.singles as u64;
                let mut append_for = |time: Duration| -> Result<(u64, Duration)> {
                    let (begin, first) = (Instant::now(), next);
                    while begin.elapsed() < time {
                        alone.append(next..next + options.batch)?;
                        next += options.batch;
                    }
                    Ok((next - first, begin.elapsed()))
                };
                append_for(warm_up)?;
                cpu.push((started.running.cpu()?, Duration::ZERO));
                (events, elapsed) = append_for(seconds)?;
                cpu.push((started.running.cpu()?, Duration::ZERO));
            }
            Appender::Hubs(count) => {
                let hubs = Hubs::start(&options.tidings, count, &started.url, scratch.path())?;
                let single = hubs.publish_singly(options.singles, pause)?;
                (answers, receipts) = (single.answers_us, single.receipts_us);
                let mark = || {
                    cpu.push((started.running.cpu()?, hubs.cpu()?));
                    Ok(())
                };
                let rate = hubs.publish_batches(
                    options.publishers,
                    options.batch,
                    warm_up,
                    seconds,
                    mark,
                )?;
                (events, elapsed) = (rate.events, rate.elapsed);
            }
        }
        let [before, after] = cpu[..] else { anyhow::bail!("not begun or not ended") };
        let each_us = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
        self.rates.push(events as f64 / elapsed.as_secs_f64());
        self.store_cpu_us.push(each_us(after.0 - before.0));
        self.hub_cpu_us.push(each_us(after.1 - before.1));
        self.answer_p50_us.push(Samples::new(answers).median());
        let receipts = Samples::new(receipts);
        self.receipt_p50_us.push(receipts.median());
        self.receipt_p99_us.push(receipts.quantile(0.99));
        Ok(())
    }

    fn columns(&self) -> [(&'static str, Samples); 6] {
        let samples = |values: &Vec<f64>| Samples::new(values.clone());
        [
            ("batched_events_per_second", samples(&self.rates)),
            ("store_cpu_us_per_event", samples(&self.store_cpu_us)),
            ("hub_cpu_us_per_event", samples(&self.hub_cpu_us)),
            ("single_answer_p50_us", samples(&self.answer_p50_us)),
            ("single_receipt_p50_us", samples(&self.receipt_p50_us)),
            ("single_receipt_p99_us", samples(&self.receipt_p99_us)),
        ]
    }

    fn to_json(&self) -> Value {
        let columns = self.columns().into_iter();
        let columns = columns.map(|(name, samples)| (name.to_owned(), samples.to_json()));
        let mut object: serde_json::Map<_, _> = columns.collect();
        object.insert("appender".to_owned(), json!(self.name()));
        object.into()
    }
}

fn print_table(measured: &[Measured]) {
    println!(
        "| | events/s in batches | of the store alone | store's CPU, µs an event | hubs' CPU, µs an event \
         | single: answer p50, µs | receipt p50, µs | receipt p99, µs | receipt over the store's round \
         trip, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for of_store in measured.chunk_by(|one, other| one.store == other.store) {
        let median = |values: &Vec<f64>| Samples::new(values.clone()).median();
        let (alone_rate, alone_answer) =
            (median(&of_store[0].rates), median(&of_store[0].answer_p50_us));
        for one in of_store {
            let [rate, store_cpu, hub_cpu, answer, receipt, receipt_p99] =
                one.columns().map(|(_, samples)| samples);
            println!(
                "| {} | {rate} | {:.2} | {store_cpu} | {hub_cpu} | {answer} | {receipt} | \
                 {receipt_p99} | {:.2} |",
                one.name(),
                rate.median() / alone_rate,
                (receipt.median() - alone_answer) / 1e3,
            );
        }
    }
}
