//! Everything a developer of tidings runs.
//!
//! `cargo xtask` lists the commands. There is no logic in shell scripts or in CI configuration:
//! what they need is a command here.

mod bench;
mod docs;
mod install;
mod run;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test      Install what the tests need, then run every check and every test
  install   Install what the tests need: servers, proxies, Chromium, packages of Python, Go and npm
  tidy      Check what compilers do not: dependency direction, layout, links
  docs      Write the generated pages of docs/ anew
  bench     Measure against peers: bench [codec|log|publish|resume|fanout|attacked|shared|report] [OPTIONS]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test::run(),
        ["install"] => install::run(),
        ["tidy"] => tidy::run(),
        ["docs"] => docs::run(),
        ["bench"] => bench::run(None, &[]),
        ["bench", name, ref options @ ..] => bench::run(Some(name), options),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    match manifest.parent() {
        Some(root) => Ok(root.to_owned()),
        None => bail!("{} has no parent", manifest.display()),
    }
}
