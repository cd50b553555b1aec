//! What was measured, where.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Samples, Scratch};

/// The machine that measures.
#[derive(Debug)]
pub struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    sync_us: Samples,
}

impl Machine {
    /// Looks at the machine, and at the disk that holds `folder`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn probe(folder: &Path) -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            processor,
            cores: thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            sync_us: sync_us(folder)?,
        })
    }

    /// One line.
    pub fn describe(&self) -> String {
        format!(
            "{} cores of {}, Linux {}; appending 4 KiB and fdatasync: p50 {:.0} µs, p99 {:.0} µs",
            self.cores,
            self.processor,
            self.kernel,
            self.sync_us.median(),
            self.sync_us.quantile(0.99)
        )
    }

    /// For a record.
    pub fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cores": self.cores,
            "kernel": self.kernel,
            "sync_us": self.sync_us.to_json(),
        })
    }
}

/// How long it takes to append a page to a file on the disk that holds `folder` and make it
/// durable, in microseconds.
///
/// # Errors
///
/// If the folder cannot be written.
pub fn sync_us(folder: &Path) -> Result<Samples> {
    let scratch = Scratch::new(folder)?;
    let mut file = File::create(scratch.path().join("probe"))?;
    let mut times_us = Vec::new();
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times_us.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Samples::new(times_us))
}

/// Writes what a benchmark found, with the machine and the command line, for programs to read.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_record(path: &Path, machine: &Machine, results: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let record = json!({
        "benchmark": env_program(),
        "arguments": arguments,
        "machine": machine.to_json(),
        "results": results,
    });
    fs::write(path, format!("{record:#}\n")).with_context(|| path.display().to_string())
}

fn env_program() -> String {
    let program = std::env::args().next().unwrap_or_default();
    Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Enough for a p99.
const SYNCS: usize = 300;
