//! Durable publishes a second over HTTP, beside the echo of the same bodies and beside Mercure.
//!
//! Each server gets the same publishers on the loopback interface: kept-alive connections that
//! publish events of 200 bytes, one after another. In each round each server is started anew with
//! nothing kept, warmed up, and measured. A server counts only if it is right: each answer is
//! looked at, and everything acknowledged is read back.
//!
//! ```text
//! cargo xtask bench publish [OPTIONS]
//! ```

mod echo;
mod load;
mod request;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bench_peers::mercure;
use bench_stand::{Machine, Samples, Scratch, Served, own_cpu, sync_us, write_record};
use clap::Parser;
use serde_json::json;

use crate::load::Plan;
use crate::target::Target;

#[derive(Debug, Parser)]
#[command(about = "Measures durable publishes a second over HTTP")]
struct Options {
    /// Serve an echo and nothing else; what a round starts.
    #[arg(hide = true, value_parser = ["echo"])]
    role: Option<String>,
    /// The release build of tidings.
    #[arg(long, value_name = "FILE", default_value = "target/release/tidings")]
    tidings: PathBuf,
    /// An argument more for `tidings serve`; may be repeated.
    #[arg(long = "serve-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arguments: Vec<String>,
    /// Where Mercure is built, once; `none` leaves it out.
    #[arg(long, value_name = "FOLDER", default_value = "target/peers")]
    peers: PathBuf,
    /// Where logs are kept while they are measured; on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-data")]
    folder: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Kept-alive publishers.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long each server is measured in each round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How long each server is warmed up before.
    #[arg(long, default_value_t = 2)]
    warm_up_seconds: u64,
    /// A file for the record of the run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.role.is_some() {
        return echo::serve();
    }
    let machine = Machine::probe(&options.folder)?;
    println!("{}\n", machine.describe());
    let mut measured: Vec<_> = targets(&options).into_iter().map(Measured::new).collect();
    let mut syncs_us = Vec::new();
    for round in 1..=options.rounds {
        syncs_us.push(sync_us(&options.folder)?.median());
        for place in 0..measured.len() {
            // Nobody is always the first.
            let place = (round + place) % measured.len();
            let measured = &mut measured[place];
            eprintln!("round {round} of {}: {}", options.rounds, measured.target.name());
            measured.measure(&options).with_context(|| measured.target.name())?;
        }
    }
    print_table(&measured, options.connections);
    let syncs_us = Samples::new(syncs_us);
    println!(
        "\nA publisher waits for at least one fdatasync, p50 {syncs_us} µs at the begin of each \
         round: {} publishers cannot do more than {:.0} publishes/s.",
        options.connections,
        options.connections as f64 / syncs_us.median() * 1e6
    );
    if let Some(path) = &options.json {
        let results: Vec<_> = measured.iter().map(Measured::to_json).collect();
        write_record(path, &machine, &json!({"servers": results, "sync_us": syncs_us.to_json()}))?;
    }
    Ok(())
}

/// The echo comes first: the others are compared with it.
fn targets(options: &Options) -> Vec<Target> {
    let tidings = Target::Tidings {
        program: options.tidings.clone(),
        arguments: options.serve_arguments.clone(),
    };
    let mut targets = vec![Target::Echo, tidings];
    if options.peers.as_os_str() == "none" {
        println!("Mercure was left out.\n");
        return targets;
    }
    match mercure::build(&options.peers) {
        Ok(program) => targets.push(Target::Mercure { program }),
        Err(error) => println!("Mercure is missing, it cannot be built: {error:#}\n"),
    }
    targets
}

/// A server and what was measured of it, one value a round.
struct Measured {
    target: Target,
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    load_shares: Vec<f64>,
    resident_mib: Vec<f64>,
}

impl Measured {
    fn new(target: Target) -> Self {
        let none = Vec::new;
        Self {
            target,
            rates: none(),
            cpu_us: none(),
            p50_us: none(),
            p99_us: none(),
            load_shares: none(),
            resident_mib: none(),
        }
    }

    /// One round.
    fn measure(&mut self, options: &Options) -> Result<()> {
        let scratch = Scratch::new(&options.folder)?;
        let served = self.target.start(scratch.path())?;
        let plan = Plan {
            address: served.address(),
            connections: options.connections,
            template: self.target.template(),
            answer: self.target.answer(),
            warm_up: Duration::from_secs(options.warm_up_seconds),
            measured: Duration::from_secs(options.seconds),
        };
        let mut cpu = Vec::new();
        let outcome = load::run(&plan, || {
            cpu.push((served.cpu()?, own_cpu()?));
            Ok(())
        })?;
        let count = outcome.latencies_us.len() as f64;
        let seconds = outcome.elapsed.as_secs_f64();
        let [(served_before, own_before), (served_after, own_after)] = cpu[..] else {
            anyhow::bail!("not begun or not ended");
        };
        self.resident_mib.push(served.resident_bytes()? as f64 / 1024.0 / 1024.0);
        self.check(&served, &outcome.offsets)?;
        let latencies = Samples::new(outcome.latencies_us.into_iter().map(f64::from).collect());
        self.rates.push(count / seconds);
        self.cpu_us.push((served_after - served_before).as_secs_f64() * 1e6 / count);
        self.p50_us.push(latencies.median());
        self.p99_us.push(latencies.quantile(0.99));
        self.load_shares.push((own_after - own_before).as_secs_f64() / seconds * 100.0);
        Ok(())
    }

    fn check(&self, served: &Served, offsets: &[u64]) -> Result<()> {
        self.target.check(served, offsets).context("what was acknowledged is not what is there")
    }

    fn columns(&self) -> [(&'static str, Samples); 6] {
        let samples = |values: &Vec<f64>| Samples::new(values.clone());
        [
            ("publishes_per_second", samples(&self.rates)),
            ("server_cpu_us_per_publish", samples(&self.cpu_us)),
            ("p50_us", samples(&self.p50_us)),
            ("p99_us", samples(&self.p99_us)),
            ("load_cpu_percent_of_a_core", samples(&self.load_shares)),
            ("server_resident_mib", samples(&self.resident_mib)),
        ]
    }

    fn to_json(&self) -> serde_json::Value {
        let columns = self.columns().into_iter();
        let columns = columns.map(|(name, samples)| (name.to_owned(), samples.to_json()));
        let mut object: serde_json::Map<_, _> = columns.collect();
        object.insert("server".to_owned(), json!(self.target.name()));
        object.into()
    }
}

fn print_table(measured: &[Measured], connections: usize) {
    println!(
        "| {connections} publishers | publishes/s | server CPU, µs each | p50, µs | p99, µs | load's \
         CPU, % of a core | server, MiB | times the echo |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let median = |measured: &Measured| Samples::new(measured.rates.clone()).median();
    for one in measured {
        print!("| {} |", one.target.name());
        for (_, samples) in one.columns() {
            print!(" {samples} |");
        }
        println!(" {:.2} |", median(one) / median(&measured[0]));
    }
    if let [_, tidings, mercure] = measured {
        println!(
            "\ntidings takes {:.1} times what Mercure takes.",
            median(tidings) / median(mercure)
        );
    }
}
