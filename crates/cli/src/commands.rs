//! The command line as a whole: which commands there are and what each is called with.

use clap::{ArgMatches, Command};

use crate::failure::Failure;
use crate::{completions, config, health, log, publish, reference, serve, tail, token};

/// The command `tidings` with everything under it.
pub(crate) fn command() -> Command {
    Command::new("tidings")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A hub for Server-Sent Events: publish with one POST, subscribe with one GET")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .subcommands([
            serve::command(),
            publish::command(),
            tail::command(),
            token::command(),
            config::command(),
            log::command(),
            health::command(),
            completions::command(),
            reference::command(),
        ])
}

/// Does what the command line says.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("publish", matches)) => publish::run(matches),
        Some(("tail", matches)) => tail::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("config", matches)) => config::run(matches),
        Some(("log", matches)) => log::run(matches),
        Some(("health", matches)) => health::run(matches),
        Some(("completions", matches)) => completions::run(matches),
        Some(("reference", matches)) => reference::run(matches),
        _ => Err(Failure::Usage("there is no such command".into())),
    }
}

const EXAMPLES: &str = "\
Examples:
  tidings serve                          serve http://127.0.0.1:8080
  tidings tail orders/42                 print what is published to a topic
  tidings publish orders/42 shipped      publish one event
  tidings token --publish '*'            print a token that may publish to every topic
  tidings config show                    the options in effect, and where each came from
  tidings log check                      what the log on disk holds, and whether it is whole
  tidings health                         whether a hub is ready

`tidings COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 wrong usage.";

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn no_two_arguments_are_in_each_others_way() {
        command().debug_assert();
    }
}
