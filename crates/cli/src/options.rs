//! The options, each in one row. The row gives the flag, the key in the configuration file, the
//! environment variable, the default, the help and the reference page; nothing about an option is
//! written down a second time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction};
use serde_json::{Value, json};
use tidings::RetentionRule;

use crate::settings::retention::{parse_rules, rules_from_tables, rules_json, rules_toml};
use crate::settings::{LogPlace, ServeSettings};
use crate::value::{
    UNLIMITED, parse_address, parse_bytes, parse_count, parse_duration, parse_hosts, parse_limit,
    parse_origins, parse_switch, show_bytes, show_duration, within,
};

/// One option.
pub(crate) struct OptionRow {
    /// The flag without its dashes; key and variable follow from it.
    pub(crate) name: &'static str,
    /// What stands for the value in the help.
    pub(crate) value_name: &'static str,
    /// What holds when nobody gives a value.
    pub(crate) default: Default,
    /// The heading it stands under.
    pub(crate) group: Group,
    /// One line, for `--help`.
    pub(crate) help: &'static str,
    /// What the reference page says beyond that.
    pub(crate) reference: &'static str,
    /// How it is read, what is allowed, and which setting it gives.
    pub(crate) kind: Kind,
}

/// The value of an option that is not given.
pub(crate) enum Default {
    /// No value.
    None,
    /// This value, written as a user would.
    Text(&'static str),
    /// One of these values, depending on where events are kept.
    ByLog { disk: &'static str, memory: &'static str },
    /// As many as the machine has cores.
    Cores,
}

/// The headings of the help and of the reference page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// Where the hub is and who may call it.
    Listening,
    /// What the log keeps.
    Kept,
    /// How streams behave.
    Streams,
    /// Limits.
    Limits,
    /// The process's own log.
    Process,
    /// The hub that a client speaks to.
    Hub,
}

impl Group {
    /// Every group, in the order of the reference page.
    pub(crate) const ALL: [Self; 6] =
        [Self::Listening, Self::Kept, Self::Streams, Self::Limits, Self::Process, Self::Hub];

    /// The heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Kept => "Kept events",
            Self::Streams => "Streams",
            Self::Limits => "Limits",
            Self::Process => "The process",
            Self::Hub => "The hub to speak to",
        }
    }
}

/// The place of a setting.
type Field<T> = fn(&mut ServeSettings) -> &mut T;

/// How the value of an option is read, and where it goes.
pub(crate) enum Kind {
    /// `ADDRESS:PORT`.
    Address(Field<SocketAddr>),
    /// A folder.
    Folder(Field<PathBuf>),
    /// A file, or none.
    File(Field<Option<PathBuf>>),
    /// Where events are kept.
    Log(Field<LogPlace>),
    /// `true` or `false`; the bare flag means `true`.
    Switch(Field<bool>),
    /// A whole number within bounds.
    Count { min: u64, max: u64, field: Field<u64> },
    /// A whole number within bounds, or [`u64::MAX`] for no limit at all.
    Limit { min: u64, max: u64, field: Field<u64> },
    /// A number of bytes within bounds.
    Bytes { min: u64, max: u64, field: Field<u64> },
    /// A duration within bounds.
    Duration { min: Duration, max: Duration, field: Field<Duration> },
    /// A list of web origins.
    Origins(Field<Vec<String>>),
    /// A list of host names.
    Hosts(Field<Vec<String>>),
    /// One of a few words.
    Choice { allowed: &'static [&'static str], field: Field<&'static str> },
    /// Rules for topics of which less is kept than of the others.
    Retention(Field<Vec<RetentionRule>>),
    /// The configuration file. Not a setting: it is read before the others.
    ConfigFile,
    /// The hub's URL. Not a setting of the hub.
    Url,
    /// A secret. Not a setting of the hub, and never shown.
    Secret,
}

/// A value as it was given: files can hold lists, flags and variables are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GivenValue {
    /// Text, or a number or boolean written as text.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
    /// Tables, as only a file can hold them.
    Tables(Vec<GivenTable>),
}

/// A table in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenTable {
    /// The line it begins on, from 1.
    pub(crate) line: usize,
    /// Its keys, with their values as text.
    pub(crate) values: Vec<(String, String)>,
}

impl OptionRow {
    /// `--log-events-max`.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// `log_events_max`; `None` when the file cannot hold this option.
    pub(crate) fn key(&self) -> Option<String> {
        match self.kind {
            Kind::ConfigFile | Kind::Url | Kind::Secret => None,
            _ => Some(self.name.replace('-', "_")),
        }
    }

    /// `TIDINGS_LOG_EVENTS_MAX`.
    pub(crate) fn variable(&self) -> String {
        format!("TIDINGS_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The default as a user would write it, given the number of cores and where events are kept.
    pub(crate) fn default_text(&self, cores: usize, log: LogPlace) -> Option<String> {
        match self.default {
            Default::None => None,
            Default::Text(text) => Some(text.to_owned()),
            Default::ByLog { disk, memory } => Some(match log {
                LogPlace::Disk => disk.to_owned(),
                LogPlace::Memory => memory.to_owned(),
            }),
            Default::Cores => Some(cores.to_string()),
        }
    }

    /// The default as the help and the reference page tell it.
    pub(crate) fn default_shown(&self) -> Option<String> {
        match self.default {
            Default::None => None,
            Default::Text(text) => Some(text.to_owned()),
            Default::ByLog { disk, memory } => Some(format!("{disk}; in memory {memory}")),
            Default::Cores => Some("number of cores".to_owned()),
        }
    }

    /// What stands between the values of a flag that may be repeated, and of its variable.
    pub(crate) fn separator(&self) -> char {
        match self.kind {
            // Commas have a meaning in selectors.
            Kind::Retention(_) => '\n',
            _ => ',',
        }
    }

    /// The argument for the command line. Values stay text here, so that a bad value is told the same
    /// way wherever it came from.
    pub(crate) fn arg(&self) -> Arg {
        let help = match self.default_shown() {
            Some(default) if !matches!(self.kind, Kind::Switch(_)) => {
                format!("{} [default: {default}]", self.help)
            }
            _ => self.help.to_owned(),
        };
        let arg = Arg::new(self.name)
            .long(self.name)
            .value_name(self.value_name)
            .help(help)
            .help_heading(self.group.title());
        match &self.kind {
            Kind::Switch(_) => {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            Kind::Origins(_) | Kind::Hosts(_) | Kind::Retention(_) => arg.action(ArgAction::Append),
            Kind::Folder(_) | Kind::File(_) | Kind::ConfigFile => {
                arg.value_hint(clap::ValueHint::AnyPath)
            }
            Kind::Url => arg.value_hint(clap::ValueHint::Url),
            _ => arg,
        }
    }
}

impl Kind {
    /// Reads `given` and puts it into `settings`; on error says what is wrong with it and leaves the
    /// settings as they were.
    pub(crate) fn apply(
        &self,
        settings: &mut ServeSettings,
        given: &GivenValue,
    ) -> Result<(), String> {
        if let Self::Origins(field) | Self::Hosts(field) = self {
            let texts: Vec<&str> = match given {
                GivenValue::Text(text) => text.split(',').collect(),
                GivenValue::List(list) => list.iter().map(String::as_str).collect(),
                GivenValue::Tables(_) => return Err(NO_TABLE.into()),
            };
            let is_origins = matches!(self, Self::Origins(_));
            *field(settings) = if is_origins { parse_origins(texts)? } else { parse_hosts(texts)? };
            return Ok(());
        }
        if let Self::Retention(field) = self {
            *field(settings) = match given {
                GivenValue::Text(text) => parse_rules(text.split('\n'))?,
                GivenValue::List(list) => parse_rules(list.iter().map(String::as_str))?,
                GivenValue::Tables(tables) => rules_from_tables(tables)?,
            };
            return Ok(());
        }
        let text = match given {
            GivenValue::Text(text) => text.trim(),
            // What nobody gave.
            GivenValue::List(list) if list.is_empty() && matches!(self, Self::File(_)) => "",
            GivenValue::List(_) => return Err("a list has no place here".into()),
            GivenValue::Tables(_) => return Err(NO_TABLE.into()),
        };
        match self {
            Self::Address(field) => *field(settings) = parse_address(text)?,
            Self::Folder(field) => *field(settings) = parse_folder(text)?,
            Self::File(field) => *field(settings) = (!text.is_empty()).then(|| text.into()),
            Self::Log(field) => *field(settings) = LogPlace::parse(text)?,
            Self::Switch(field) => *field(settings) = parse_switch(text)?,
            Self::Count { min, max, field } => {
                *field(settings) = within(parse_count(text)?, *min, *max)?;
            }
            Self::Limit { min, max, field } => {
                *field(settings) = parse_limit(text, *min, *max)?;
            }
            Self::Bytes { min, max, field } => {
                *field(settings) = within(parse_bytes(text)?, *min, *max)?;
            }
            Self::Duration { min, max, field } => {
                *field(settings) = within(parse_duration(text)?, *min, *max)?;
            }
            Self::Choice { allowed, field } => {
                *field(settings) = allowed
                    .iter()
                    .find(|word| word.eq_ignore_ascii_case(text))
                    .ok_or("there is no such choice")?;
            }
            Self::Origins(_)
            | Self::Hosts(_)
            | Self::Retention(_)
            | Self::ConfigFile
            | Self::Url
            | Self::Secret => {}
        }
        Ok(())
    }

    /// What is allowed, for errors and the reference page.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Address(_) => {
                "an IP address or localhost, and a port: 127.0.0.1:8080 or [::1]:8080".into()
            }
            Self::Folder(_) | Self::File(_) | Self::ConfigFile => "a path".into(),
            Self::Log(_) => LogPlace::ALL.map(LogPlace::name).join(", "),
            Self::Switch(_) => "true or false".into(),
            Self::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Limit { min, max, .. } => {
                format!("a whole number from {min} to {max}, or {UNLIMITED}")
            }
            Self::Bytes { min, max, .. } => format!(
                "a size from {} to {}, in bytes or with a unit: 65536, 64KiB, 16MiB, 64MB",
                show_bytes(*min),
                show_bytes(*max)
            ),
            Self::Duration { min, max, .. } => format!(
                "a duration from {} to {}, with its unit: 500ms, 15s, 2m, 1h30m, 7d",
                show_duration(*min),
                show_duration(*max)
            ),
            Self::Origins(_) => {
                "origins such as https://app.example.com, separated by commas, or * alone".into()
            }
            Self::Hosts(_) => "host names such as hub.example.com, separated by commas".into(),
            Self::Choice { allowed, .. } => allowed.join(", "),
            Self::Retention(_) => "a topic or selector and what is kept of each of its topics: \
                                   jobs/{id};events=100;age=1h"
                .into(),
            Self::Url => "an http:// or https:// URL".into(),
            Self::Secret => "a token".into(),
        }
    }

    /// The unit of the number that [`Kind::json`] gives.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Bytes { .. } => Some("bytes"),
            Self::Duration { .. } => Some("ms"),
            _ => None,
        }
    }

    /// The setting as JSON: sizes and durations are numbers, see [`Kind::unit`].
    pub(crate) fn json(&self, settings: &ServeSettings) -> Value {
        let settings = &mut settings.clone();
        match self {
            Self::Bytes { field, .. } => json!(*field(settings)),
            Self::Duration { field, .. } => {
                json!(u64::try_from(field(settings).as_millis()).unwrap_or(u64::MAX))
            }
            Self::Retention(field) => rules_json(field(settings)),
            Self::File(field) if field(settings).is_none() => Value::Null,
            _ => self.shown(settings),
        }
    }

    /// The setting as the configuration file would hold it. A JSON string, number, boolean or list of
    /// strings is written the same way in TOML.
    pub(crate) fn toml(&self, settings: &ServeSettings) -> String {
        match self {
            Self::Retention(field) => rules_toml(field(&mut settings.clone())),
            _ => self.shown(&mut settings.clone()).to_string(),
        }
    }

    fn shown(&self, settings: &mut ServeSettings) -> Value {
        match self {
            Self::Address(field) => json!(field(settings).to_string()),
            Self::Folder(field) => json!(field(settings).to_string_lossy()),
            // Empty if there is none, so that a configuration file can hold it.
            Self::File(field) => {
                json!(field(settings).as_deref().unwrap_or(Path::new("")).to_string_lossy())
            }
            Self::Log(field) => json!(field(settings).name()),
            Self::Switch(field) => json!(*field(settings)),
            Self::Limit { field, .. } if *field(settings) == u64::MAX => json!(UNLIMITED),
            Self::Count { field, .. } | Self::Limit { field, .. } => json!(*field(settings)),
            Self::Bytes { field, .. } => json!(show_bytes(*field(settings))),
            Self::Duration { field, .. } => json!(show_duration(*field(settings))),
            Self::Origins(field) | Self::Hosts(field) => json!(field(settings)),
            Self::Choice { field, .. } => json!(*field(settings)),
            Self::Retention(_) | Self::ConfigFile | Self::Url | Self::Secret => Value::Null,
        }
    }
}

/// The row of the option called `name`.
pub(crate) fn option_named(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.name == name)
}

/// The options of `tidings serve` and `tidings config`.
pub(crate) fn serve_options() -> impl Iterator<Item = &'static OptionRow> {
    OPTIONS.iter().filter(|row| row.group != Group::Hub)
}

/// The options of the commands that speak to a hub.
pub(crate) fn hub_options() -> impl Iterator<Item = &'static OptionRow> {
    OPTIONS.iter().filter(|row| row.group == Group::Hub)
}

fn parse_folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("there is no value".into()) } else { Ok(text.into()) }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const NO_TABLE: &str = "a table has no place here; all keys but `retention` stand at the top";

/// Every option, in the order of the help and the reference page.
pub(crate) const OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "listen",
        value_name: "ADDR:PORT",
        default: Default::Text("127.0.0.1:8080"),
        group: Group::Listening,
        help: "Address and port to listen on; port 0 takes a free one",
        reference: "The line that `tidings serve` prints when it is ready holds the port that was \
                    taken. An address that other machines can reach needs `--insecure`.",
        kind: Kind::Address(|settings| &mut settings.listen),
    },
    OptionRow {
        name: "insecure",
        value_name: "true|false",
        default: Default::Text("false"),
        group: Group::Listening,
        help: "Listen where other machines can connect, though nobody is asked who they are",
        reference: "Without it, an address other than loopback is refused. With it, whoever can \
                    connect may publish and subscribe.",
        kind: Kind::Switch(|settings| &mut settings.insecure),
    },
    OptionRow {
        name: "cors-origins",
        value_name: "ORIGINS",
        default: Default::None,
        group: Group::Listening,
        help: "Web origins whose pages may use the hub, separated by commas; `*` for all",
        reference: "Origins are compared exactly. Pages of the hub's own origin always may. In the \
                    file this is a list: `cors_origins = [\"https://app.example.com\"]`.",
        kind: Kind::Origins(|settings| &mut settings.cors_origins),
    },
    OptionRow {
        name: "hosts",
        value_name: "NAMES",
        default: Default::None,
        group: Group::Listening,
        help: "Names the hub is reached by besides IP addresses and localhost",
        reference: "On a loopback address, or once a name is given, browsers are refused if they ask for \
                    any other host: else a page of a name that its owner points at 127.0.0.1 could read and \
                    publish everything. A proxy that passes the client's `Host` on needs its names \
                    here; nginx does not pass it on unless it is told to.",
        kind: Kind::Hosts(|settings| &mut settings.hosts),
    },
    OptionRow {
        name: "tls-cert",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "Encrypt, with the certificate in this PEM file",
        reference: "The certificate, and after it those that lead to one that clients know. Needs \
                    `tls_key`. The hub then speaks TLS 1.2 and 1.3 alone, and over it HTTP/2 and \
                    HTTP/1.1. Without it, it speaks plain HTTP/1.1.",
        kind: Kind::File(|settings| &mut settings.tls_cert),
    },
    OptionRow {
        name: "tls-key",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "The certificate's private key, a PEM file",
        reference: "Without a passphrase. It may be the same file as `tls_cert`. Both are read when the \
                    hub starts.",
        kind: Kind::File(|settings| &mut settings.tls_key),
    },
    OptionRow {
        name: "config",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "Read options from this TOML file",
        reference: "No file is read unless one is named, and a named file must exist.",
        kind: Kind::ConfigFile,
    },
    OptionRow {
        name: "log",
        value_name: "WHERE",
        default: Default::Text("disk"),
        group: Group::Kept,
        help: "Where events are kept: on `disk`, or in `memory`",
        reference: "On disk, events and their ids outlive the process. In memory, they are gone when \
                    the hub ends, and clients that come back with an id of before are told so by a \
                    `tidings.gap` event.",
        kind: Kind::Log(|settings| &mut settings.log),
    },
    OptionRow {
        name: "data",
        value_name: "DIR",
        default: Default::Text("./tidings-data"),
        group: Group::Kept,
        help: "Folder for what outlives the process; unused with `--log memory`",
        reference: "It is made if it is not there, and belongs to one process at a time. The log is in \
                    the folder `log` in it, see `tidings log check`.",
        kind: Kind::Folder(|settings| &mut settings.data),
    },
    OptionRow {
        name: "durability",
        value_name: "WHEN",
        default: Default::Text("fsync"),
        group: Group::Kept,
        help: "Answer a publish once the disk has it (`fsync`), or the operating system (`os`)",
        reference: "With `fsync`, what was answered outlives a power cut. With `os` it outlives the \
                    process, and a power cut may take the newest events; then the log begins a new \
                    life, and clients are told of a gap. Unused with `--log memory`.",
        kind: Kind::Choice {
            allowed: &["fsync", "os"],
            field: |settings| &mut settings.durability,
        },
    },
    OptionRow {
        name: "log-events-max",
        value_name: "COUNT",
        default: Default::ByLog { disk: UNLIMITED, memory: "100000" },
        group: Group::Kept,
        help: "Keep at most this many events",
        reference: "The oldest events go first. A client that asks for what is gone is told by a \
                    `tidings.gap` event.",
        kind: Kind::Limit {
            min: 1,
            max: 1_000_000_000_000,
            field: |settings| &mut settings.log_events_max,
        },
    },
    OptionRow {
        name: "log-bytes-max",
        value_name: "SIZE",
        default: Default::ByLog { disk: "1GiB", memory: "64MiB" },
        group: Group::Kept,
        help: "Keep at most this much",
        reference: "The oldest events go first. On disk this bounds the files, which go one by one: \
                    each is a 64th of this, from 1 MiB to 256 MiB. At least `max_event_bytes`, and on \
                    disk 4 MiB and twice `max_event_bytes`.",
        kind: Kind::Bytes {
            min: KIB,
            max: 1_024 * TIB,
            field: |settings| &mut settings.log_bytes_max,
        },
    },
    OptionRow {
        name: "log-age-max",
        value_name: "TIME",
        default: Default::ByLog { disk: "7d", memory: "24h" },
        group: Group::Kept,
        help: "Keep events for at most this long",
        reference: "Older events go when the next one is published, or soon after.",
        kind: Kind::Duration {
            min: SECOND,
            max: CENTURY,
            field: |settings| &mut settings.log_age_max,
        },
    },
    OptionRow {
        name: "retention",
        value_name: "RULE",
        default: Default::None,
        group: Group::Kept,
        help: "Keep less of some topics: `SELECTOR;events=N;age=TIME`; may be repeated",
        reference: "Of each topic that the selector matches, the newest N events are kept, and none \
                    older than the time; one of the two may be left out. The first rule that \
                    matches a topic holds for it, and an event stays for as long as one of its \
                    topics keeps it. The bounds for the whole log hold as well. A topic under a rule \
                    that counts takes about 100 bytes of memory. In the variable, rules are \
                    separated by line ends; in the file each is a table: `[[retention]]` with \
                    `topics`, `events_max` and `age_max`.",
        kind: Kind::Retention(|settings| &mut settings.retention),
    },
    OptionRow {
        name: "key-window",
        value_name: "TIME",
        default: Default::Text("24h"),
        group: Group::Kept,
        help: "Remember idempotency keys for this long",
        reference: "In that time a publish that repeats a key is answered with the id of the first \
                    and delivered once. On disk, keys outlive the process as events do.",
        kind: Kind::Duration { min: SECOND, max: YEAR, field: |settings| &mut settings.key_window },
    },
    OptionRow {
        name: "keys-max",
        value_name: "COUNT",
        default: Default::Text("1000000"),
        group: Group::Kept,
        help: "Remember at most this many idempotency keys",
        reference: "The oldest are forgotten first. Keys that count up, such as those of `tidings \
                    publish --key-prefix`, count as one together. One takes about 150 bytes of \
                    memory.",
        kind: Kind::Count { min: 1, max: 100_000_000, field: |settings| &mut settings.keys_max },
    },
    OptionRow {
        name: "tail-bytes-max",
        value_name: "SIZE",
        default: Default::Text("16MiB"),
        group: Group::Kept,
        help: "Hold at most this much of the newest events ready to send",
        reference: "The tail is what live delivery and short resumes read from; a client further \
                    behind is served from the log. At least `max_event_bytes`.",
        kind: Kind::Bytes {
            min: KIB,
            max: 64 * GIB,
            field: |settings| &mut settings.tail_bytes_max,
        },
    },
    OptionRow {
        name: "tail-events-max",
        value_name: "COUNT",
        default: Default::Text("16384"),
        group: Group::Kept,
        help: "Hold at most this many of the newest events ready to send",
        reference: "See `tail_bytes_max`; whichever limit is reached first counts.",
        kind: Kind::Count {
            min: 16,
            max: 16_777_216,
            field: |settings| &mut settings.tail_events_max,
        },
    },
    OptionRow {
        name: "replay-bytes-max",
        value_name: "SIZE",
        default: Default::Text("64MiB"),
        group: Group::Kept,
        help: "Hold at most this much of what was read back for clients that catch up",
        reference: "For all of them together. Once it is used up, they go on by one event at a time \
                    each.",
        kind: Kind::Bytes {
            min: MIB,
            max: 64 * GIB,
            field: |settings| &mut settings.replay_bytes_max,
        },
    },
    OptionRow {
        name: "heartbeat",
        value_name: "TIME",
        default: Default::Text("15s"),
        group: Group::Streams,
        help: "Send a sign of life after this much silence",
        reference: "Keep it below the idle time-out of every proxy on the way; 60 s is common. The \
                    moment is jittered between streams.",
        kind: Kind::Duration { min: SECOND, max: HOUR, field: |settings| &mut settings.heartbeat },
    },
    OptionRow {
        name: "retry",
        value_name: "TIME",
        default: Default::Text("2s"),
        group: Group::Streams,
        help: "Tell clients to wait this long before they reconnect",
        reference: "Sent as `retry:` at the start of each stream; raised and spread when the hub is \
                    full or shuts down.",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: HOUR,
            field: |settings| &mut settings.retry,
        },
    },
    OptionRow {
        name: "write-timeout",
        value_name: "TIME",
        default: Default::Text("30s"),
        group: Group::Streams,
        help: "Close a connection that takes nothing for this long",
        reference: "Counts only while there is something to send. The client can come back and \
                    resume.",
        kind: Kind::Duration {
            min: SECOND,
            max: HOUR,
            field: |settings| &mut settings.write_timeout,
        },
    },
    OptionRow {
        name: "flush-interval",
        value_name: "TIME",
        default: Default::Text("0s"),
        group: Group::Streams,
        help: "Send live events at most this often, those of the meantime together",
        reference: "`0s` sends each at once; what arrives while others are written leaves together in any \
                    case. A few milliseconds save much of the work where events are many, and delay \
                    each by up to that long.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(10),
            field: |settings| &mut settings.flush_interval,
        },
    },
    OptionRow {
        name: "drain",
        value_name: "TIME",
        default: Default::Text("5s"),
        group: Group::Streams,
        help: "On shutdown, spread the end of the streams over this long",
        reference: "Starts with the first SIGTERM or SIGINT; a second one ends the process at once. \
                    Give the supervisor's own time-out a few seconds more.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: HOUR,
            field: |settings| &mut settings.drain,
        },
    },
    OptionRow {
        name: "max-connections",
        value_name: "COUNT",
        default: Default::Text("100000"),
        group: Group::Limits,
        help: "Serve at most this many connections at once",
        reference: "Further subscribers get an empty stream that tells them to come back later. \
                    Each connection is an open file: the hub raises its soft limit to the hard one, \
                    and serves fewer connections, and says so, when that is not enough.",
        kind: Kind::Count {
            min: 1,
            max: 10_000_000,
            field: |settings| &mut settings.max_connections,
        },
    },
    OptionRow {
        name: "max-event-bytes",
        value_name: "SIZE",
        default: Default::Text("1MiB"),
        group: Group::Limits,
        help: "Accept events of at most this size",
        reference: "A larger event is answered with 413.",
        kind: Kind::Bytes {
            min: KIB,
            max: 64 * MIB,
            field: |settings| &mut settings.max_event_bytes,
        },
    },
    OptionRow {
        name: "max-body-bytes",
        value_name: "SIZE",
        default: Default::Text("16MiB"),
        group: Group::Limits,
        help: "Accept publish requests of at most this size; NDJSON may be of any length",
        reference: "A larger body is answered with 413. At least `max_event_bytes`.",
        kind: Kind::Bytes { min: KIB, max: GIB, field: |settings| &mut settings.max_body_bytes },
    },
    OptionRow {
        name: "max-topics-per-event",
        value_name: "COUNT",
        default: Default::Text("64"),
        group: Group::Limits,
        help: "Accept events with at most this many topics",
        reference: "An event with more is answered with 400.",
        kind: Kind::Count {
            min: 1,
            max: 1_024,
            field: |settings| &mut settings.max_topics_per_event,
        },
    },
    OptionRow {
        name: "max-selectors",
        value_name: "COUNT",
        default: Default::Text("100"),
        group: Group::Limits,
        help: "Accept subscriptions with at most this many topics and selectors",
        reference: "A subscription with more is answered with 400.",
        kind: Kind::Count { min: 1, max: 10_000, field: |settings| &mut settings.max_selectors },
    },
    OptionRow {
        name: "shards",
        value_name: "COUNT",
        default: Default::Cores,
        group: Group::Process,
        help: "Deliver from this many threads",
        reference: "The subscribers of one topic are spread over all of them.",
        kind: Kind::Count { min: 1, max: 1_024, field: |settings| &mut settings.shards },
    },
    OptionRow {
        name: "log-format",
        value_name: "FORMAT",
        default: Default::Text("text"),
        group: Group::Process,
        help: "Write the process's own log to standard error as `text` or `json`",
        reference: "With `json`, each line is one object.",
        kind: Kind::Choice {
            allowed: &["text", "json"],
            field: |settings| &mut settings.log_format,
        },
    },
    OptionRow {
        name: "log-level",
        value_name: "LEVEL",
        default: Default::Text("info"),
        group: Group::Process,
        help: "Log what is at least this grave: error, warn, info, debug, trace",
        reference: "`off` writes nothing. What the hub's libraries say appears from `warn` up.",
        kind: Kind::Choice {
            allowed: &["off", "error", "warn", "info", "debug", "trace"],
            field: |settings| &mut settings.log_level,
        },
    },
    OptionRow {
        name: "url",
        value_name: "URL",
        default: Default::Text("http://127.0.0.1:8080"),
        group: Group::Hub,
        help: "The hub's URL",
        reference: "`/events` is added unless the URL ends with it. Proxies named by the usual \
                    variables are used, except for a hub on this machine.",
        kind: Kind::Url,
    },
    OptionRow {
        name: "token",
        value_name: "TOKEN",
        default: Default::None,
        group: Group::Hub,
        help: "Token to send as `Authorization: Bearer`",
        reference: "Other users of the machine can see the flags of a running command, so the \
                    variable is the better place.",
        kind: Kind::Secret,
    },
];
