//! The event log against embedded databases, through the same trait and with the same durability:
//! what an append acknowledges is synced to the disk.
//!
//! Engines take turns at each workload, each turn in a process of its own and with an empty folder,
//! so that what a disk does in one minute and not in the next meets them all. An engine counts
//! only if it is right: all that was appended is read back, also after opening it again. Databases
//! keep the same fields, and an index by topic where topics are read; they have 128 MiB to cache.
//!
//! ```text
//! cargo xtask bench log [OPTIONS]
//! ```

mod engine;
mod metric;
mod peer;
mod store;
mod store_log;
mod turn;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bench_stand::{Machine, Samples, Scratch, sync_us, write_record};
use clap::Parser;
use serde_json::{Map, Value, json};

use crate::engine::{ENGINES, Engine};
use crate::metric::{Better, METRICS, Metric, Values};

#[derive(Debug, Parser)]
#[command(about = "Measures the event log against embedded databases")]
struct Options {
    /// What a turn does, and the engine that does it.
    #[arg(hide = true, num_args = 2)]
    turn: Vec<String>,
    /// Events in the logs that are appended to, read and trimmed.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Events in the log that is opened; 0 leaves it out.
    #[arg(long, default_value_t = 10_000_000)]
    open_events: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The engines to measure, all unless named; may be repeated.
    #[arg(long = "engine", value_name = "ENGINE")]
    engines: Vec<String>,
    /// Where logs are kept while they are measured; on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-data")]
    folder: PathBuf,
    /// A file for the record of the run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.turn[..] {
        [] => report(&options),
        [kind, engine] => {
            let values = run_turn(kind, find(engine)?, &options)?;
            println!("{}", json!(values));
            Ok(())
        }
        _ => bail!("a turn has a kind and an engine"),
    }
}

fn find(key: &str) -> Result<&'static Engine> {
    ENGINES.iter().find(|engine| engine.key == key).with_context(|| format!("no engine {key}"))
}

fn run_turn(kind: &str, engine: &Engine, options: &Options) -> Result<Values> {
    match kind {
        "waiting-1" => turn::waiting(engine, 1, options.events / 1_000, &options.folder),
        "waiting-100" => turn::waiting(engine, 100, options.events / 1_000, &options.folder),
        "scans" => turn::scans(engine, options.events, &options.folder),
        "topics" => turn::topics(engine, options.events, &options.folder),
        "fill" => turn::fill(engine, options.open_events, &options.folder),
        "open" => turn::open_large(engine, options.open_events, &options.folder),
        _ => bail!("no turn {kind}"),
    }
}

fn report(options: &Options) -> Result<()> {
    let engines: Vec<&Engine> = match &options.engines[..] {
        [] => ENGINES.iter().collect(),
        keys => keys.iter().map(|key| find(key)).collect::<Result<_>>()?,
    };
    let machine = Machine::probe(&options.folder)?;
    println!("{}\n", machine.describe());
    let mut syncs_us = Vec::new();
    let mut turns: Vec<Vec<Values>> = vec![Vec::new(); engines.len()];
    for round in 1..=options.rounds {
        turns.iter_mut().for_each(|turns| turns.push(Values::new()));
        syncs_us.push(sync_us(&options.folder)?.median());
        for kind in KINDS {
            for place in 0..engines.len() {
                // Nobody is always the first.
                let place = (round + place) % engines.len();
                let engine = engines[place];
                eprintln!("round {round} of {}: {kind}: {}", options.rounds, engine.name);
                let scratch = Scratch::new(&options.folder)?;
                let values = child(kind, engine, options, scratch.path())?;
                turns[place][round - 1].extend(values);
            }
        }
    }
    if options.open_events > 0 {
        for (engine, turns) in engines.iter().zip(&mut turns) {
            eprintln!("opening {} events: {}", options.open_events, engine.name);
            let scratch = Scratch::new(&options.folder)?;
            child("fill", engine, options, scratch.path())?;
            for values in turns {
                values.extend(child("open", engine, options, scratch.path())?);
            }
        }
    }
    print_table(&engines, &turns, options);
    let syncs_us = Samples::new(syncs_us);
    println!(
        "\nAppending 4 KiB and fdatasync took {syncs_us} µs at the begin of each round (p50)."
    );
    if let Some(path) = &options.json {
        let results = engines.iter().zip(&turns).map(|(engine, turns)| to_json(engine, turns));
        let results: Vec<_> = results.collect();
        let results = json!({"engines": results, "sync_us": syncs_us.to_json()});
        write_record(path, &machine, &results)?;
    }
    Ok(())
}

fn child(kind: &str, engine: &Engine, options: &Options, folder: &Path) -> Result<Values> {
    let output = Command::new(env::current_exe()?)
        .args([kind, engine.key, "--events", &options.events.to_string()])
        .args(["--open-events", &options.open_events.to_string(), "--folder"])
        .arg(folder)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", engine.name, errors.trim_end());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn samples(turns: &[Values], metric: &Metric) -> Option<Samples> {
    let values: Vec<f64> = turns.iter().filter_map(|turn| turn.get(metric.key).copied()).collect();
    (!values.is_empty()).then(|| Samples::new(values))
}

fn print_table(engines: &[&Engine], turns: &[Vec<Values>], options: &Options) {
    print!("| {} events; large log: {} |", options.events, options.open_events);
    for engine in engines {
        print!(" {} |", engine.name);
    }
    println!(" {} against the best other |", engines[0].name);
    println!("|---|{}---|", "---|".repeat(engines.len()));
    for metric in METRICS {
        print!("| {} |", metric.title);
        for turns in turns {
            match samples(turns, metric) {
                Some(samples) => print!(" {samples} |"),
                None => print!(" – |"),
            }
        }
        match against_best(turns, metric) {
            Some(samples) => println!(" {samples} |"),
            None => println!(" |"),
        }
    }
}

/// How many times better the first engine is than the best of the others, round by round.
fn against_best(turns: &[Vec<Values>], metric: &Metric) -> Option<Samples> {
    let (ours, others) = turns.split_first()?;
    let mut ratios = Vec::new();
    for (round, values) in ours.iter().enumerate() {
        let ours = *values.get(metric.key)?;
        let others = others.iter().filter_map(|turns| turns[round].get(metric.key).copied());
        ratios.push(match metric.better {
            Better::Higher => ours / others.reduce(f64::max)?,
            Better::Lower => others.reduce(f64::min)? / ours,
            Better::Neither => return None,
        });
    }
    Some(Samples::new(ratios))
}

fn to_json(engine: &Engine, turns: &[Values]) -> Value {
    let mut object = Map::new();
    object.insert("engine".to_owned(), json!(engine.name));
    for metric in METRICS {
        if let Some(samples) = samples(turns, metric) {
            object.insert(metric.key.to_owned(), samples.to_json());
        }
    }
    object.into()
}

/// The workloads of a round.
const KINDS: [&str; 4] = ["waiting-1", "waiting-100", "scans", "topics"];
