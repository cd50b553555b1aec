//! `tidings reference`: the reference pages, written from the option table and the command line.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Arg, ArgMatches, Command};

use crate::commands;
use crate::failure::Failure;
use crate::options::table::OPTIONS;
use crate::options::{Group, Kind, OptionRow};

/// The command, which users have no need for.
pub(crate) fn command() -> Command {
    Command::new("reference")
        .about("Print a page of the reference documentation")
        .hide(true)
        .arg(Arg::new("page").required(true).value_parser([OPTIONS_PAGE, COMMAND_LINE_PAGE]))
}

/// Prints a page.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let page = match matches.get_one::<String>("page").map(String::as_str) {
        Some(OPTIONS_PAGE) => options_page(),
        _ => command_line_page(),
    };
    io::stdout().write_all(page.as_bytes()).map_err(|error| Failure::from_output(&error))
}

fn options_page() -> String {
    let mut page =
        format!("# Options\n\n{}\n\n{OPTIONS_INTRODUCTION}\n", regenerated_by(OPTIONS_PAGE));
    for group in Group::ALL {
        let _ = writeln!(page, "\n## {}", group.title());
        for row in OPTIONS.iter().filter(|row| row.group == group) {
            option_section(row, &mut page);
        }
    }
    page
}

fn option_section(row: &OptionRow, page: &mut String) {
    let flag = match row.kind {
        Kind::Switch(_) => row.flag(),
        _ => format!("{} {}", row.flag(), row.value_name),
    };
    let key = row.key().map_or_else(|| "not in the file".to_owned(), |key| format!("`{key}`"));
    let default =
        row.default_shown().map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
    let _ = write!(
        page,
        "\n### {}\n\n{}. {}\n\n\
         | flag | key | variable | default |\n|---|---|---|---|\n\
         | `{flag}` | {key} | `{}` | {default} |\n\n\
         Allowed: {}.{}\n",
        row.name,
        row.help,
        row.reference,
        row.variable(),
        row.kind.allowed(),
        if row.is_reloaded() { " A reload puts it into effect." } else { "" },
    );
}

fn command_line_page() -> String {
    let mut page = format!(
        "# Command line\n\n{}\n\n{COMMAND_LINE_INTRODUCTION}\n",
        regenerated_by(COMMAND_LINE_PAGE)
    );
    let mut root = commands::command().term_width(WIDTH);
    root.build();
    command_section(&root, &mut page);
    page
}

fn command_section(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let help = command.clone().term_width(WIDTH).render_help().to_string();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        command_section(below, page);
    }
}

fn regenerated_by(page: &str) -> String {
    format!(
        "<!-- cargo run --package tidings-cli -- reference {page} > docs/reference/{page}.md -->"
    )
}

const OPTIONS_PAGE: &str = "options";
const COMMAND_LINE_PAGE: &str = "command-line";

/// The columns of the help texts in the page.
const WIDTH: usize = 96;

const OPTIONS_INTRODUCTION: &str = "\
Every option of `tidings serve` is a flag, a key of the configuration file, and an environment
variable. Flags win over variables, variables over the file, the file over the default. A variable
that is set to nothing counts as not set. `tidings config show` prints the values in effect and
where each came from; `tidings config check` tells whether they hold.

The file is TOML with all keys at the top, but for the tables `[[authority]]` and `[[retention]]` at
its end. Sizes and times carry their unit:

```toml
listen = \"127.0.0.1:9000\"
log_bytes_max = \"256MiB\"
heartbeat = \"10s\"
cors_origins = [\"https://app.example.com\"]

[[authority]]
issuer = \"https://id.example.com\"
audience = \"hub\"
jwks_url = \"https://id.example.com/jwks\"

[[retention]]
topics = \"jobs/{id}\"
events_max = 100
age_max = \"12h\"
```

A key that is no option is an error, and so is a value out of bounds; the message names the place,
the value, and what is allowed.";

const COMMAND_LINE_INTRODUCTION: &str = "\
Results go to standard output, talk goes to standard error. Exit status: 0 done, 1 failed, 2 wrong
usage (a bad flag, a bad value, a configuration file that cannot be read).";
