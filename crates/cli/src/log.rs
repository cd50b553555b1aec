//! `tidings log`: looks after the log on disk while no hub has it open.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tidings::disk::{self, CheckReport, LostRange, OpenError, RepairReport};

use crate::failure::Failure;
use crate::log::report::{damages, json_line, lines, range};
use crate::options::{OptionRow, option_named};
use crate::settings::load::load_data_folder;
use crate::settings::log_folder;

mod report;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    let check = Command::new("check")
        .about("Read the whole log, and tell what is there and what is damaged; status 0 or 1")
        .after_help(CHECK_EXAMPLES)
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object on a line"),
        );
    let repair = Command::new("repair")
        .about("Make a damaged log fit to be opened: keep what is whole, set aside what was there")
        .after_help(REPAIR_EXAMPLES)
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Do not ask, whatever may be lost"),
        );
    Command::new("log")
        .about("Check or repair the log on disk, while no hub has it open")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands([check, repair].map(|command| {
            let rows = ["data", "config"].into_iter().filter_map(option_named);
            command.args(rows.map(OptionRow::arg))
        }))
}

/// Checks or repairs.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().unwrap_or(("check", matches));
    let data = load_data_folder(matches)?;
    match name {
        "repair" => repair(&data, matches.get_flag("yes")),
        _ => check(&data, matches.get_flag("json")),
    }
}

/// Says why the log in the folder `data` cannot be used, and what to do.
pub(crate) fn cannot_open(data: &Path, error: &OpenError) -> String {
    let folder = log_folder(data);
    let folder = folder.display();
    let advice = match error {
        OpenError::Locked => {
            "stop that process first, or name another folder with --data".to_owned()
        }
        OpenError::Damaged(_) => {
            let data = quoted(data);
            format!(
                "`tidings log check --data {data}` tells all that is damaged, `tidings log repair \
                 --data {data}` saves what is whole"
            )
        }
        OpenError::Newer { .. } => {
            "run the version of tidings that wrote it, or a later one; nothing was changed"
                .to_owned()
        }
        OpenError::Io(error) => match io_advice(error.kind()) {
            Some(advice) => advice.to_owned(),
            None => return format!("cannot use the log in {folder}: {error}"),
        },
    };
    format!("cannot use the log in {folder}: {error}\n  {advice}")
}

fn io_advice(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::PermissionDenied => {
            "this user may not use that folder: give it to the user, or name another with --data"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "nothing can be written there: name another folder with --data"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in the way: name another folder with --data"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "there is no room left: make some, or name another folder with --data"
        }
        io::ErrorKind::NotFound => "name the folder of the hub with --data",
        _ => return None,
    })
}

fn check(data: &Path, json: bool) -> Result<(), Failure> {
    let found = check_log(data)?;
    let folder = log_folder(data);
    let text = if json { json_line(&folder, &found) } else { lines(&folder, &found) };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::from_output(&error))?;
    match found.damages.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!(
            "the log is damaged in {}; `tidings log repair --data {}` saves what is whole",
            places(count),
            quoted(data)
        ))),
    }
}

fn repair(data: &Path, yes: bool) -> Result<(), Failure> {
    let found = check_log(data)?;
    if found.damages.is_empty() {
        return print("the log is whole: there is nothing to repair\n");
    }
    eprint!("{}", plan(data, &found));
    if !yes {
        ask()?;
    }
    let done = disk::repair(&log_folder(data))
        .map_err(|error| Failure::Failed(cannot_open(data, &error)))?;
    let after = check_log(data)?;
    print(&outcome(&done, &found, &after))?;
    match after.damages.len() {
        0 => print("the log is whole now\n"),
        left => Err(Failure::Failed(format!("the log is still damaged in {}", places(left)))),
    }
}

fn check_log(data: &Path) -> Result<CheckReport, Failure> {
    disk::check(&log_folder(data)).map_err(|error| Failure::Failed(cannot_open(data, &error)))
}

/// What is wrong, and what a repair will cost.
fn plan(data: &Path, found: &CheckReport) -> String {
    let mut text = format!(
        "tidings: the log in {} is damaged in {}\n{}",
        log_folder(data).display(),
        places(found.damages.len()),
        damages(found)
    );
    let _ = writeln!(
        text,
        "  a repair keeps what is whole; events that cannot be read are lost, and then ids begin \
         anew, and clients that come back are told of a gap\n  \
         the damaged files stay beside the log, named .damaged-1 and so on"
    );
    text
}

/// Asks whether to go on.
fn ask() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "nothing was changed: nobody can be asked here\n  add --yes to repair it".into(),
        ));
    }
    eprint!("tidings: repair it? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if read.is_err() || !is_yes {
        return Err(Failure::Failed("nothing was changed".into()));
    }
    Ok(())
}

/// What a repair did to a log, given what was found before and after.
fn outcome(done: &RepairReport, before: &CheckReport, after: &CheckReport) -> String {
    let mut text = String::new();
    if done.lost.is_empty() {
        text.push_str("lost: nothing\n");
    }
    let mut lost = done.lost.clone();
    lost.sort_unstable_by_key(|range| range.first);
    for range in lost {
        let _ = writeln!(text, "lost: {}", told_lost(range, before, after));
    }
    for name in &done.set_aside {
        let _ = writeln!(text, "set aside: {name}");
    }
    if let Some(epoch) = done.epoch {
        let _ = writeln!(text, "new epoch: {epoch}, so clients that come back are told of a gap");
    }
    text
}

/// A range is often that of a whole file, of which most was kept.
fn told_lost(lost: LostRange, before: &CheckReport, after: &CheckReport) -> String {
    let LostRange { first, last: Some(last) } = lost else {
        return format!("perhaps events from {} on", lost.first);
    };
    let events_at = |report: &CheckReport| {
        let segment = report.segments.iter().find(|it| it.base == first)?;
        Some(segment.events).filter(|&events| events > 0)
    };
    match events_at(before).zip(events_at(after)) {
        Some((before, after)) if before > after => {
            format!("{} of {}", before - after, range(first, last))
        }
        _ => range(first, last),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::from_output(&error))
}

fn places(count: usize) -> String {
    if count == 1 { "one place".into() } else { format!("{count} places") }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-".contains(&byte);
    if text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const CHECK_EXAMPLES: &str = "\
Examples:
  tidings log check
  tidings log check --data /var/lib/tidings --json | jq .damages

The events are read from the first to the last. Stop the hub first: it has the log for itself.";

const REPAIR_EXAMPLES: &str = "\
Examples:
  tidings log repair
  tidings log repair --data /var/lib/tidings --yes

Says first what is damaged, and asks. A log that a crash left needs no repair: opening it is enough.";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::quoted;

    #[test]
    fn a_folder_is_told_as_a_shell_takes_it() {
        for (path, expected) in
            [("./a-b/c_1", "./a-b/c_1"), ("/a b", "'/a b'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
