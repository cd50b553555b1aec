//! Runs the benchmarks of `bench/`, a workspace of its own whose dependencies nothing else needs.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{root, run};

/// Each benchmark, and whether it measures the program.
const BENCHMARKS: [(&str, bool); 7] = [
    ("codec", false),
    ("log", false),
    ("publish", true),
    ("resume", true),
    ("fanout", true),
    ("attacked", true),
    ("shared", true),
];

/// Runs one benchmark with options of its own, or all of them; or writes the page of what was
/// recorded anew.
pub(crate) fn run(name: Option<&str>, options: &[&str]) -> Result<()> {
    let Some(name) = name else {
        return BENCHMARKS.iter().try_for_each(|(name, _)| run(Some(name), &[]));
    };
    if name == "report" {
        let arguments = ["run", "--release", "--package", "bench-fanout", "--", "report"];
        let places = ["--records", "record", "--docs", "../docs/internals"];
        return run::cargo_in("bench", &[&arguments[..], &places].concat());
    }
    let Some((_, measures_program)) = BENCHMARKS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
        bail!("there is no benchmark {name}, only {}, and report", names.join(", "));
    };
    let target = target()?;
    let package = format!("bench-{name}");
    let mut arguments = vec!["run", "--release", "--package", &package, "--"];
    let program = target.join("release/tidings").display().to_string();
    let record = target.join(format!("bench/{name}.json")).display().to_string();
    if *measures_program {
        run::cargo(&["build", "--release", "--package", "tidings-cli"])?;
        arguments.extend(["--tidings", &program]);
    }
    let folder = target.join("bench/data").display().to_string();
    let peers = target.join("bench/peers").display().to_string();
    if name != "codec" {
        arguments.extend(["--json", &record, "--folder", &folder]);
    }
    if name == "publish" || name == "fanout" {
        arguments.extend(["--peers", &peers]);
    }
    arguments.extend(options);
    run::cargo_in("bench", &arguments)
}

/// Where cargo builds the workspace.
fn target() -> Result<PathBuf> {
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(root()?.join(folder))
}
