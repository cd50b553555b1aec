//! Collects the settings from the command line, the environment and the file.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use clap::ArgMatches;
use clap::parser::ValueSource;
use tidings::{RetentionRule, Selector};

use crate::failure::Failure;
use crate::options::{OptionRow, option_named};
use crate::selectors::{is_misleading, told_misleading};
use crate::settings::contradictions::doubts;
use crate::settings::file::SettingsFile;
use crate::settings::{Origin, Settings, is_given, merge_on, merge_one, misspelt_variables};

/// The settings, and how they were found.
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// The configuration file, and who named it.
    pub(crate) file: Option<(PathBuf, Origin)>,
    /// What looks like a mistake and is none for certain.
    pub(crate) warnings: Vec<String>,
}

/// Loads the settings for a command whose arguments are those of the option table.
///
/// # Errors
///
/// [`Failure::Usage`] with everything that is wrong.
pub(crate) fn load(matches: &ArgMatches) -> Result<Loaded, Failure> {
    load_on(matches, None)
}

/// Loads the settings of a hub whose sockets were passed to it; `passed` is the address of the one that
/// most can reach.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn load_on(matches: &ArgMatches, passed: Option<SocketAddr>) -> Result<Loaded, Failure> {
    let flags = |name: &str| flag(matches, name);
    let file = named_file(&flags);
    let read = match &file {
        Some((path, origin)) => Some(SettingsFile::read(path, origin).map_err(usage)?),
        None => None,
    };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(CORES_MAX);
    let settings = merge_on(passed, &flags, &variable, read.as_ref(), cores).map_err(usage)?;
    let mut warnings = misspelt();
    if let Some(passed) = passed {
        let given = merge_one("listen", &flags, &variable, read.as_ref()).map_err(usage)?.listen;
        if is_given("listen", &flags, &variable, read.as_ref()) && given != passed {
            warnings.push(format!(
                "listen is {given}, and the sockets that were passed (LISTEN_FDS) are for {passed}: \
                 those are used"
            ));
        }
    }
    warnings.extend(misleading_rules(&settings.serve.retention));
    let presence = [&settings.serve.presence, &settings.serve.presence_public];
    warnings.extend(presence.into_iter().flatten().filter_map(misleading_presence));
    warnings.extend(doubts(&settings));
    Ok(Loaded { settings, file, warnings })
}

/// Loads the option `data` alone. What else a file holds is left as it is.
///
/// # Errors
///
/// [`Failure::Usage`] with what is wrong.
pub(crate) fn load_data_folder(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    let flags = |name: &str| flag(matches, name);
    let read = match named_file(&flags) {
        Some((path, origin)) => Some(SettingsFile::read(&path, &origin).map_err(usage)?),
        None => None,
    };
    let settings = merge_one("data", &flags, &variable, read.as_ref()).map_err(usage)?;
    Ok(settings.data)
}

/// The value of the variable `name`, if it is set.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The value of the flag `name`, if the command has it and it is given. Values of a flag that may be
/// repeated are joined by its [`separator`](OptionRow::separator).
pub(crate) fn flag(matches: &ArgMatches, name: &str) -> Option<String> {
    let is_known = matches.try_contains_id(name).is_ok();
    if !is_known || matches.value_source(name) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
    let separator = option_named(name).map_or(',', OptionRow::separator);
    Some(values.join(&separator.to_string()))
}

fn named_file(flags: &dyn Fn(&str) -> Option<String>) -> Option<(PathBuf, Origin)> {
    let row = option_named("config")?;
    if let Some(path) = flags(row.name) {
        return Some((path.into(), Origin::Flag(row.flag())));
    }
    let path = variable(&row.variable()).filter(|path| !path.is_empty())?;
    Some((path.into(), Origin::Variable(row.variable())))
}

/// Tells faults, one after the other.
pub(crate) fn usage(faults: impl AsRef<[String]>) -> Failure {
    Failure::Usage(faults.as_ref().join("\ntidings: "))
}

fn misspelt() -> Vec<String> {
    let set: Vec<String> =
        env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    misspelt_variables(set.iter().map(String::as_str))
        .into_iter()
        .map(|(name, meant)| format!("the variable {name} is no option; did you mean {meant}?"))
        .collect()
}

fn misleading_rules(rules: &[RetentionRule]) -> impl Iterator<Item = String> {
    rules
        .iter()
        .map(|rule| rule.topics.as_str())
        .filter(|topics| is_misleading(topics))
        .map(|topics| format!("retention: {}", told_misleading(topics)))
}

fn misleading_presence(topics: &Selector) -> Option<String> {
    let topics = topics.as_str();
    is_misleading(topics).then(|| format!("presence: {}", told_misleading(topics)))
}

/// The most cores that the default of `shards` counts; the largest value the option takes.
const CORES_MAX: usize = 1_024;
