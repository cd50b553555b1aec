//! `tidings completions`: a script that completes the command line in a shell.

use std::io::{self, Write as _};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::commands;
use crate::failure::Failure;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print a completion script for a shell")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("The shell"),
        )
}

/// Prints the script.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some(&shell) = matches.get_one::<Shell>("shell") else {
        return Err(Failure::Usage("no shell is named".into()));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut commands::command(), "tidings", &mut script);
    io::stdout().write_all(&script).map_err(|error| Failure::from_output(&error))
}

const EXAMPLES: &str = "\
Examples:
  tidings completions bash > /etc/bash_completion.d/tidings
  tidings completions zsh > ~/.zfunc/_tidings
  tidings completions fish > ~/.config/fish/completions/tidings.fish";
