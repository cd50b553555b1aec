//! The binary `tidings`: options and wiring. What a hub does is told by the crates it is made of.

use std::process::ExitCode;

mod backoff;
mod commands;
mod completions;
mod config;
mod failure;
mod health;
mod hub_address;
mod log;
mod options;
mod publish;
mod reference;
mod selectors;
mod serve;
mod settings;
mod tail;
mod token;
mod trust;
mod value;

fn main() -> ExitCode {
    let matches = commands::command().get_matches();
    match commands::run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
