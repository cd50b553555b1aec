//! What it costs to hand one event to many, in processor time, delay and memory, beside the limit
//! and the peers.
//!
//! Workloads are data (`workloads.toml`), servers are [targets](bench_stand::Target), and the load
//! knows neither. In each round each server is started anew, warmed up, measured and stopped, in an
//! order that rotates; ratios are taken within a round. What does not come, or comes twice, or
//! in another order, or changed, is found: a server that is fast but wrong fails.
//!
//! ```text
//! cargo xtask bench fanout [OPTIONS]
//! ```

mod bare;
mod certificate;
mod chart;
mod event;
mod goal;
mod histogram;
mod load;
mod load_process;
mod measure;
mod plan;
mod record;
mod report;
mod target;
mod uring;
mod workload;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bench_stand::{Machine, Scratch, Target};
use clap::Parser;

use crate::measure::{Place, measure};
use crate::record::{Record, TargetRecord};
use crate::workload::{Workload, workloads};

#[derive(Debug, Parser)]
#[command(about = "Measures what it costs to hand one event to many")]
struct Options {
    /// `report` writes the page of tables and charts anew. The others are what a run starts.
    #[arg(value_parser = ["report", "load", "bare", "bare-uring"])]
    role: Option<String>,
    /// Where `report` finds records.
    #[arg(long, value_name = "FOLDER", default_value = "bench/record")]
    records: PathBuf,
    /// Where `report` writes.
    #[arg(long, value_name = "FOLDER", default_value = "docs/internals")]
    docs: PathBuf,
    /// One of the workloads; may be repeated.
    #[arg(long = "workload", value_name = "NAME")]
    workloads: Vec<String>,
    /// One of the servers; may be repeated.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One round of a tenth of the events, of a few workloads unless some are chosen: minutes.
    #[arg(long)]
    quick: bool,
    /// Print the names of workloads and servers.
    #[arg(long)]
    list: bool,
    /// The release build of tidings.
    #[arg(long, value_name = "FILE", default_value = "target/release/tidings")]
    tidings: PathBuf,
    /// Where peers are kept once they are built.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/peers")]
    peers: PathBuf,
    /// Where servers write while they are measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/data")]
    folder: PathBuf,
    /// What tidings was built from, for the record; the checkout if nothing is given.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// What else the machine does meanwhile, for the record.
    #[arg(long, value_name = "TEXT", default_value = "not told")]
    conditions: String,
    /// A file for the record of the run, written anew after each turn.
    #[arg(long, value_name = "FILE", overrides_with = "json")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.role.as_deref() {
        Some("load") => return load::run(),
        Some("bare") => return bare::serve(false),
        Some("bare-uring") => return bare::serve(true),
        Some("report") => return report::write(&options.records, &options.docs),
        _ => {}
    }
    let mut workloads = workloads()?;
    let mut targets = target::targets(&options.tidings);
    if options.list {
        for workload in &workloads {
            println!("{:16} {}", workload.name, workload.title);
        }
        let names: Vec<_> = targets.iter().map(|target| target.name()).collect();
        println!("\n{}", names.join(" "));
        return Ok(());
    }
    choose(
        &mut workloads,
        &options.workloads,
        |one| &one.name,
        |one| if options.quick { one.in_quick } else { one.in_all },
    )?;
    choose(&mut targets, &options.targets, |target| target.name(), |_| true)?;
    run(&options, &workloads, targets)
}

/// Keeps what was named, in the order of its names, or what runs when nothing is.
fn choose<T>(
    all: &mut Vec<T>,
    names: &[String],
    name_of: impl Fn(&T) -> &str,
    is_default: impl Fn(&T) -> bool,
) -> Result<()> {
    let unknown = names.iter().find(|name| !all.iter().any(|one| name_of(one) == **name));
    ensure!(unknown.is_none(), "there is no {}; see --list", unknown.map_or("", |name| name));
    all.retain(|one| match names {
        [] => is_default(one),
        _ => names.iter().any(|name| name == name_of(one)),
    });
    Ok(())
}

fn run(options: &Options, workloads: &[Workload], mut targets: Vec<Box<dyn Target>>) -> Result<()> {
    fs::create_dir_all(&options.folder)?;
    fs::create_dir_all(&options.peers)?;
    let folder = fs::canonicalize(&options.folder)?;
    let peers = fs::canonicalize(&options.peers)?;
    let machine = Machine::probe(&folder)?;
    println!("{}\n", machine.describe());
    let scratch = Scratch::new(&folder)?;
    let tls = certificate::make(scratch.path())?;
    let place = Place { folder: &folder, tls: &tls };

    let mut record = Record::begin(&options.conditions, machine.to_json(), workloads.to_vec());
    record.commit = options.commit.clone().unwrap_or(record.commit);
    targets.retain_mut(|target| match target.prepare(&peers) {
        Ok(prepared) => {
            let known = TargetRecord { version: prepared.version, settings: prepared.settings };
            record.targets.insert(target.name().to_owned(), known);
            true
        }
        Err(error) => {
            println!("{} is left out: {error:#}\n", target.name());
            false
        }
    });
    let rounds = if options.quick { 1 } else { options.rounds };
    for workload in workloads {
        let workload = if options.quick { workload.quick() } else { workload.clone() };
        let mut able = Vec::new();
        for target in &targets {
            match workload.lacks(&**target) {
                None => able.push(&**target),
                Some(what) => eprintln!("{}: {} lacks {what}", workload.name, target.name()),
            }
        }
        for round in 1..=rounds {
            for turn in 0..able.len() {
                // Nobody is always the first.
                let target = able[(round + turn) % able.len()];
                eprintln!("{}, round {round} of {rounds}: {}", workload.name, target.name());
                let outcome = measure(target, &workload, &place);
                if let Err(error) = &outcome {
                    eprintln!("  failed: {error:#}");
                }
                record.add(&workload.name, target.name(), round, outcome);
                if let Some(path) = &options.json {
                    record.write(path).context("the record")?;
                }
            }
        }
        print_table(&record, &workload);
    }
    Ok(())
}

/// What matters of a workload, at a glance.
fn print_table(record: &Record, workload: &Workload) {
    println!("\n{} ({})\n", workload.title, workload.name);
    let targets = record.targets_of(&workload.name);
    let figures = workload.shown();
    let names: Vec<_> = figures.iter().map(|figure| figure.replace('_', " ")).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---{}|", "|---".repeat(figures.len()));
    for target in targets {
        print!("| {target} |");
        for figure in figures {
            match record.samples(&workload.name, target, figure) {
                Some(samples) => print!(" {samples} |"),
                None => print!(" |"),
            }
        }
        println!();
    }
}
