//! The settings of a hub: flags over variables over the file over defaults. Remembers where each
//! value came from, and tells everything that is wrong at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidings::RetentionRule;

use crate::options::{GivenValue, Kind, OptionRow, option_named, serve_options};
use crate::settings::file::{FileEntry, SettingsFile};
use crate::settings::nearest::nearest;
use crate::value::show_bytes;

pub(crate) mod file;
pub(crate) mod load;
mod nearest;
pub(crate) mod retention;

/// What `tidings serve` is told. Every field is the option of the same name.
#[derive(Clone, Debug)]
pub(crate) struct ServeSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) insecure: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) log: LogPlace,
    pub(crate) data: PathBuf,
    pub(crate) durability: &'static str,
    pub(crate) log_events_max: u64,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_age_max: Duration,
    pub(crate) retention: Vec<RetentionRule>,
    pub(crate) key_window: Duration,
    pub(crate) keys_max: u64,
    pub(crate) tail_bytes_max: u64,
    pub(crate) tail_events_max: u64,
    pub(crate) replay_bytes_max: u64,
    pub(crate) heartbeat: Duration,
    pub(crate) retry: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) flush_interval: Duration,
    pub(crate) drain: Duration,
    pub(crate) max_connections: u64,
    pub(crate) max_event_bytes: u64,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_topics_per_event: u64,
    pub(crate) max_selectors: u64,
    pub(crate) shards: u64,
    pub(crate) log_format: &'static str,
    pub(crate) log_level: &'static str,
}

/// Where events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogPlace {
    /// On a disk, in the folder of the option `data`.
    Disk,
    /// In memory: gone when the process ends.
    Memory,
}

impl LogPlace {
    /// Every place.
    pub(crate) const ALL: [Self; 2] = [Self::Disk, Self::Memory];

    /// Reads the value of the option `log`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(place) = Self::ALL.into_iter().find(|place| place.name() == text) {
            return Ok(place);
        }
        match text.split(':').next().unwrap_or_default() {
            "redis" | "rediss" | "nats" | "postgres" | "postgresql" => {
                Err("this version keeps events on disk or in memory only".into())
            }
            "off" | "error" | "warn" | "info" | "debug" | "trace" => Err(format!(
                "this option says where events are kept; for the process's own log there is \
                 --log-level {text}"
            )),
            _ => Err("there is no such log".into()),
        }
    }

    /// How the option spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody gave one.
    Default,
    /// A line of the configuration file, counted from 1.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// The word for machines.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Variable(_) => "variable",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings in effect, and where each came from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The values.
    pub(crate) serve: ServeSettings,
    /// The origin of each option's value, in the order of the table.
    pub(crate) origins: Vec<(&'static str, Origin)>,
}

impl Settings {
    /// Where the value of the option `name` came from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        const DEFAULT: &Origin = &Origin::Default;
        self.origins.iter().find(|(known, _)| *known == name).map_or(DEFAULT, |(_, origin)| origin)
    }
}

/// Looks a value up by its name: the flag's, or the variable's.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Merges what was given. A variable that is set to nothing counts as not set.
///
/// # Errors
///
/// Everything that is wrong, one text for each fault, each with the place it was given at and what is
/// allowed there.
pub(crate) fn merge(
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
    cores: usize,
) -> Result<Settings, Vec<String>> {
    let mut settings = Settings { serve: ServeSettings::unset(), origins: Vec::new() };
    let mut faults = file.map(unknown_keys).unwrap_or_default();
    for row in serve_options().filter(|row| row.key().is_some()) {
        let (given, origin) = match given_for(row, flags, variables, file) {
            Some(found) => found,
            None => match row.default_text(cores, settings.serve.log) {
                Some(text) => (GivenValue::Text(text), Origin::Default),
                None => (GivenValue::List(Vec::new()), Origin::Default),
            },
        };
        if let Err(wrong) = row.kind.apply(&mut settings.serve, &given) {
            faults.push(bad_value(row, &given, &origin, &wrong));
        }
        settings.origins.push((row.name, origin));
    }
    if faults.is_empty() {
        faults = contradictions(&settings);
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// Variables that are set, are no option, and look like one misspelt: (variable, meant variable).
pub(crate) fn misspelt_variables<'a>(
    set: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, String)> {
    let known: Vec<String> = crate::options::OPTIONS.iter().map(OptionRow::variable).collect();
    set.into_iter()
        .filter(|name| name.starts_with("TIDINGS_") && !known.iter().any(|known| known == name))
        .filter_map(|name| Some((name, nearest(name, &known)?.to_owned())))
        .collect()
}

impl ServeSettings {
    /// A value to fill in. Every field has a row in the table, and every row a default, so nothing of
    /// this is left when [`merge`] succeeds.
    fn unset() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            insecure: false,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            tls_cert: None,
            tls_key: None,
            log: LogPlace::Disk,
            data: PathBuf::new(),
            durability: "",
            log_events_max: 0,
            log_bytes_max: 0,
            log_age_max: Duration::ZERO,
            retention: Vec::new(),
            key_window: Duration::ZERO,
            keys_max: 0,
            tail_bytes_max: 0,
            tail_events_max: 0,
            replay_bytes_max: 0,
            heartbeat: Duration::ZERO,
            retry: Duration::ZERO,
            write_timeout: Duration::ZERO,
            flush_interval: Duration::ZERO,
            drain: Duration::ZERO,
            max_connections: 0,
            max_event_bytes: 0,
            max_body_bytes: 0,
            max_topics_per_event: 0,
            max_selectors: 0,
            shards: 0,
            log_format: "",
            log_level: "",
        }
    }
}

/// The folder of the log, given that of all data.
pub(crate) fn log_folder(data: &Path) -> PathBuf {
    data.join("log")
}

/// The value of the one option `name`, whatever the others are; put into settings of which only that
/// one is meant.
///
/// # Errors
///
/// As [`merge`].
pub(crate) fn merge_one(
    name: &str,
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
) -> Result<ServeSettings, Vec<String>> {
    let mut settings = ServeSettings::unset();
    let row = option_named(name).ok_or_else(|| vec![format!("there is no option {name}")])?;
    let default = || {
        let text = row.default_text(1, settings.log).unwrap_or_default();
        (GivenValue::Text(text), Origin::Default)
    };
    let (given, origin) = given_for(row, flags, variables, file).unwrap_or_else(default);
    match row.kind.apply(&mut settings, &given) {
        Ok(()) => Ok(settings),
        Err(wrong) => Err(vec![bad_value(row, &given, &origin, &wrong)]),
    }
}

fn given_for(
    row: &OptionRow,
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
) -> Option<(GivenValue, Origin)> {
    if let Some(text) = flags(row.name) {
        return Some((GivenValue::Text(text), Origin::Flag(row.flag())));
    }
    let variable = row.variable();
    if let Some(text) = variables(&variable).filter(|text| !text.is_empty()) {
        return Some((GivenValue::Text(text), Origin::Variable(variable)));
    }
    let file = file?;
    let key = row.key()?;
    let FileEntry { line, value, .. } = file.entries.iter().find(|entry| entry.key == key)?;
    Some((value.clone(), Origin::File { path: file.path.clone(), line: *line }))
}

fn unknown_keys(file: &SettingsFile) -> Vec<String> {
    let known: Vec<String> = serve_options().filter_map(OptionRow::key).collect();
    let at = file.path.display();
    let tell = |entry: &FileEntry| {
        let meant = match nearest(&entry.key.replace('-', "_"), &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "`tidings config show` lists the keys".into(),
        };
        format!("{at}:{}: there is no option `{}`\n  {meant}", entry.line, entry.key)
    };
    file.entries.iter().filter(|entry| !known.contains(&entry.key)).map(tell).collect()
}

fn bad_value(row: &OptionRow, given: &GivenValue, origin: &Origin, wrong: &str) -> String {
    let given = match (given, &row.kind) {
        // There may be many, and what is wrong says in which.
        (_, Kind::Retention(_)) | (GivenValue::Tables(_), _) => None,
        (GivenValue::Text(text), _) => Some(without_password(text)),
        (GivenValue::List(list), _) => Some(format!("{list:?}")),
    };
    let key = row.key().unwrap_or_default();
    let place = match (origin, given) {
        (Origin::Flag(flag), Some(given)) => format!("{flag} {given}"),
        (Origin::Variable(variable), Some(given)) => format!("{variable}={given}"),
        (Origin::File { .. }, Some(given)) => format!("{origin}: {key} = {given}"),
        (Origin::Default, Some(given)) => format!("{} {given} (the default)", row.flag()),
        (Origin::Flag(name) | Origin::Variable(name), None) => name.clone(),
        (Origin::File { .. } | Origin::Default, None) => format!("{origin}: {key}"),
    };
    format!("{place}: {wrong}\n  allowed: {}", row.kind.allowed())
}

/// Leaves out what stands between scheme and host of a URL: it may be a password.
fn without_password(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &text[..scheme], &text[at..])
        }
        _ => text.to_owned(),
    }
}

/// What is wrong with values that are right one by one.
fn contradictions(settings: &Settings) -> Vec<String> {
    let serve = &settings.serve;
    let mut faults = Vec::new();
    if !serve.listen.ip().is_loopback() && !serve.insecure {
        faults.push(format!(
            "{}: other machines can reach this address, and this version cannot check who they are\
             \n  listen on 127.0.0.1, or add --insecure to let everyone publish and subscribe",
            shown(settings, "listen"),
        ));
    }
    for (given, missing, present) in [
        (&serve.tls_cert, &serve.tls_key, "tls-cert"),
        (&serve.tls_key, &serve.tls_cert, "tls-key"),
    ] {
        if given.is_some() && missing.is_none() {
            let absent = if present == "tls-cert" { "tls-key" } else { "tls-cert" };
            faults.push(format!(
                "{}: TLS needs a certificate and its key\n  give --{absent} as well; one file may \
                 hold both",
                shown(settings, present),
            ));
        }
    }
    let smallest = DISK_BYTES_MIN.max(serve.max_event_bytes.saturating_mul(2));
    if serve.log == LogPlace::Disk && serve.log_bytes_max < smallest {
        faults.push(format!(
            "{}: this is too small for a log on disk, which grows by files of 1MiB at least\n  give \
             it {} or more, or keep events in memory with --log memory",
            shown(settings, "log-bytes-max"),
            show_bytes(smallest),
        ));
    }
    for (larger, smaller, reason) in AT_LEAST {
        if size_of(serve, larger) < size_of(serve, smaller) {
            faults.push(format!(
                "{}: this is less than {}\n  {reason}: raise the one or lower the other",
                shown(settings, larger),
                shown(settings, smaller),
            ));
        }
    }
    faults
}

/// `--listen 0.0.0.0:80`, or the same as key or variable, as it was given.
fn shown(settings: &Settings, name: &str) -> String {
    let Some(row) = option_named(name) else { return name.to_owned() };
    let value = row.kind.toml(&settings.serve);
    let value = value.trim_matches('"');
    match settings.origin(name) {
        Origin::Flag(flag) => format!("{flag} {value}"),
        Origin::Variable(variable) => format!("{variable}={value}"),
        origin @ Origin::File { .. } => {
            format!("{origin}: {} = {value}", row.key().unwrap_or_default())
        }
        Origin::Default => format!("{} {value} (the default)", row.flag()),
    }
}

fn size_of(serve: &ServeSettings, name: &str) -> u64 {
    match option_named(name).map(|row| &row.kind) {
        Some(Kind::Bytes { field, .. } | Kind::Count { field, .. }) => *field(&mut serve.clone()),
        _ => 0,
    }
}

/// The least that a log on disk may be told to keep, in bytes: a few files, so that what is full does
/// not leave as a whole.
const DISK_BYTES_MIN: u64 = 4 << 20;

/// Options of which the first must not be less than the second, and why.
const AT_LEAST: [(&str, &str, &str); 3] = [
    ("tail-bytes-max", "max-event-bytes", "the tail must have room for one event of any size"),
    ("log-bytes-max", "max-event-bytes", "the log must have room for one event of any size"),
    ("max-body-bytes", "max-event-bytes", "a request must have room for one event of any size"),
];

#[cfg(test)]
mod tests;
