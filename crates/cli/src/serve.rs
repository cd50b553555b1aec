//! `tidings serve`: the hub as a process.

use clap::{ArgMatches, Command};

use crate::failure::Failure;
use crate::options::{OptionRow, serve_options};
use crate::settings::load::load;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    with_options(Command::new("serve").about("Run a hub").after_help(EXAMPLES))
}

/// Adds the options of a hub to a command.
pub(crate) fn with_options(command: Command) -> Command {
    command.args(serve_options().map(OptionRow::arg))
}

/// Serves until a signal ends it.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let _loaded = load(matches)?;
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  tidings serve
  tidings serve --listen 127.0.0.1:9000 --log-age-max 1h
  tidings serve --config tidings.toml
  TIDINGS_HEARTBEAT=10s tidings serve
  tidings serve --listen 0.0.0.0:8080 --insecure

Each option is also a key of the file (heartbeat = \"10s\") and a variable (TIDINGS_HEARTBEAT).
Flags win over variables, variables over the file. SIGTERM or SIGINT ends the hub in good order, a
second one at once. When the hub is ready it prints one line with its URL.";
