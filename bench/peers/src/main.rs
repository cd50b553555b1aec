//! Starts each peer and sees that it does what it is said to do, before anything is measured.
//!
//! ```text
//! cargo run --manifest-path bench/Cargo.toml -p bench-peers -- check [NAME]...
//! ```

mod check;
mod client;
mod tls;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use bench_stand::Scratch;
use clap::{Parser, Subcommand};

use crate::check::{COLUMNS, check};
use crate::tls::make_certificate;

#[derive(Debug, Parser)]
#[command(about = "Other servers that fan events out")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Has each peer deliver, resume and keep alive, and prints a table.
    Check {
        /// Those to be checked; all, if none is named.
        names: Vec<String>,
        /// How many subscribers each has to hold and to deliver to at once.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// Where they are found or built, once.
        #[arg(long, value_name = "FOLDER", default_value = "target/bench/peers")]
        peers: PathBuf,
    },
}

fn main() -> Result<()> {
    let Command::Check { names, connections, peers } = Options::parse().command;
    let scratch = Scratch::new(&peers.join("check"))?;
    let files = make_certificate(scratch.path())?;
    let mut faults = Vec::new();
    println!("| peer | {} |", COLUMNS.join(" | "));
    println!("|---|{}", "---|".repeat(COLUMNS.len()));
    for mut target in bench_peers::all() {
        let name = target.name();
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        match target.prepare(&peers) {
            Err(error) => {
                println!("| {name} | missing |");
                faults.push(format!("{name} is missing: {error:#}"));
            }
            Ok(prepared) => {
                let folder = peers.join("check");
                let (cells, found) = check(&*target, &prepared, &folder, &files, connections);
                println!("| {name} | {} |", cells.join(" | "));
                faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
            }
        }
    }
    for fault in &faults {
        println!("\n{fault}");
    }
    ensure!(faults.is_empty(), "not all of them do what they are said to do");
    Ok(())
}
