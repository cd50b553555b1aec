//! The options, each in one row. The row gives the flag, the key in the configuration file, the
//! environment variable, the default, the help and the reference page; nothing about an option is
//! written down a second time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction};
use ipnet::IpNet;
use serde_json::{Value, json};
use tidings::{RetentionRule, Selector};
use tidings_auth::Algorithm;

use crate::options::table::OPTIONS;
use crate::settings::ServeSettings;
use crate::settings::authority::{
    AuthoritySettings, authorities_from_tables, authorities_json, authorities_toml,
    parse_authorities,
};
use crate::settings::log_place::LogPlace;
use crate::settings::retention::{parse_rules, rules_from_tables, rules_json, rules_toml};
use crate::settings::secret::Secret;
use crate::value::{
    UNLIMITED, parse_address, parse_algorithm, parse_bytes, parse_count, parse_duration,
    parse_hosts, parse_limit, parse_networks, parse_origins, parse_selectors, parse_switch,
    parse_texts, parse_web_url, parse_web_urls, show_algorithm, show_bytes, show_duration,
    show_network, within,
};

pub(crate) mod table;

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
    ByLog { disk: &'static str, memory: &'static str, shared: &'static str },
    /// One of these values, depending on who can reach the address.
    ByListen { loopback: &'static str, other: &'static str },
    /// The value of the option with this name, which stands before it in the table.
    SameAs(&'static str),
    /// As many as the machine has cores.
    Cores,
}

/// The headings of the help and of the reference page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// Where the hub is, and how it is reached.
    Listening,
    /// Whose tokens are trusted, and what nobody needs a token for.
    Access,
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
    pub(crate) const ALL: [Self; 7] = [
        Self::Listening,
        Self::Access,
        Self::Kept,
        Self::Streams,
        Self::Limits,
        Self::Process,
        Self::Hub,
    ];

    /// The heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Access => "Who may do what",
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
    /// Files.
    Files(Field<Vec<PathBuf>>),
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
    /// A list of networks; an address is a network of one.
    Networks(Field<Vec<IpNet>>),
    /// A URL that the hub calls, or none.
    WebUrl(Field<Option<String>>),
    /// URLs that the hub calls.
    WebUrls(Field<Vec<String>>),
    /// A text, or none when it is empty.
    Text {
        check: fn(&str) -> Result<(), String>,
        allowed: &'static str,
        field: Field<Option<String>>,
    },
    /// A list of texts.
    Texts(Field<Vec<String>>),
    /// What nobody is to see, or nothing.
    Secret(Field<Option<Secret>>),
    /// The algorithm of a key, or `auto`.
    Algorithm(Field<Option<Algorithm>>),
    /// Whose tokens are trusted besides.
    Authorities(Field<Vec<AuthoritySettings>>),
    /// One of a few words.
    Choice { allowed: &'static [&'static str], field: Field<&'static str> },
    /// Topics and selectors.
    Selectors(Field<Vec<Selector>>),
    /// Rules for topics of which less is kept than of the others.
    Retention(Field<Vec<RetentionRule>>),
    /// The configuration file. Not a setting: it is read before the others.
    ConfigFile,
    /// The hub's URL. Not a setting of the hub.
    Url,
    /// A token to show to a hub. Not a setting of the hub, and never shown.
    Token,
    /// A file with a token to show to a hub. Not a setting of the hub.
    TokenFile,
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
    /// Its keys, with their values as text; a key of a list stands once for each item.
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
            Kind::ConfigFile | Kind::Url | Kind::Token | Kind::TokenFile => None,
            _ => Some(self.name.replace('-', "_")),
        }
    }

    /// `TIDINGS_LOG_EVENTS_MAX`.
    pub(crate) fn variable(&self) -> String {
        format!("TIDINGS_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The default as a user would write it, given the number of cores and the settings of the rows
    /// before.
    pub(crate) fn default_text(&self, cores: usize, settings: &ServeSettings) -> Option<String> {
        match self.default {
            Default::None => None,
            Default::Text(text) => Some(text.to_owned()),
            Default::ByLog { disk, memory, shared } => Some(match settings.log {
                LogPlace::Disk => disk.to_owned(),
                LogPlace::Memory => memory.to_owned(),
                LogPlace::Redis(_) | LogPlace::Postgres(_) => shared.to_owned(),
            }),
            Default::ByListen { loopback, other } => {
                let text = if settings.listen.ip().is_loopback() { loopback } else { other };
                Some(text.to_owned())
            }
            Default::SameAs(name) => {
                let value = option_named(name)?.kind.toml(settings);
                Some(value.trim_matches('"').to_owned())
            }
            Default::Cores => Some(cores.to_string()),
        }
    }

    /// The default as the help and the reference page tell it.
    pub(crate) fn default_shown(&self) -> Option<String> {
        match self.default {
            Default::None => None,
            Default::Text(text) => Some(text.to_owned()),
            Default::ByLog { disk, memory, shared } => {
                Some(format!("{disk}; in memory {memory}, shared {shared}"))
            }
            Default::ByListen { loopback, other } => {
                Some(format!("{loopback} on loopback, else {other}"))
            }
            Default::SameAs(name) => Some(format!("that of {}", name.replace('-', "_"))),
            Default::Cores => Some("number of cores".to_owned()),
        }
    }

    /// What stands between the values of a flag that may be repeated, and of its variable.
    pub(crate) fn separator(&self) -> char {
        match self.kind {
            // Commas have a meaning in selectors, and within an authority.
            Kind::Retention(_) | Kind::Authorities(_) | Kind::Selectors(_) => '\n',
            _ => ',',
        }
    }

    /// Says whether there is a value in `settings` that is not to be shown.
    pub(crate) fn is_hidden(&self, settings: &ServeSettings) -> bool {
        match self.kind {
            Kind::Secret(field) => field(&mut settings.clone()).is_some(),
            Kind::Log(field) => field(&mut settings.clone()).has_secret(),
            _ => false,
        }
    }

    /// The argument for the command line. Values stay text here, so that a bad value is told the same
    /// way wherever it came from.
    pub(crate) fn arg(&self) -> Arg {
        let help = match self.default_shown() {
            Some(default)
                if !matches!(self.kind, Kind::Switch(_))
                    || matches!(self.default, Default::ByListen { .. }) =>
            {
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
            Kind::Origins(_)
            | Kind::Hosts(_)
            | Kind::Networks(_)
            | Kind::WebUrls(_)
            | Kind::Texts(_)
            | Kind::Authorities(_)
            | Kind::Selectors(_)
            | Kind::Retention(_) => arg.action(ArgAction::Append),
            Kind::Files(_) => arg.action(ArgAction::Append).value_hint(clap::ValueHint::FilePath),
            Kind::Folder(_) | Kind::File(_) | Kind::ConfigFile | Kind::TokenFile => {
                arg.value_hint(clap::ValueHint::AnyPath)
            }
            Kind::Url | Kind::WebUrl(_) => arg.value_hint(clap::ValueHint::Url),
            _ => arg,
        }
    }
}

impl OptionRow {
    /// Whether another value is put into effect when the configuration is read again (SIGHUP). All
    /// others need a restart.
    pub(crate) fn is_reloaded(&self) -> bool {
        self.is_about_keys() || RELOADED.contains(&self.name)
    }

    /// Whether it says whose tokens are trusted.
    pub(crate) fn is_about_keys(&self) -> bool {
        ABOUT_KEYS.contains(&self.name)
    }
}

impl Kind {
    /// Whether two settings have the same value.
    pub(crate) fn is_same(&self, one: &ServeSettings, other: &ServeSettings) -> bool {
        match self {
            // What is shown of it says nothing.
            Self::Secret(field) => *field(&mut one.clone()) == *field(&mut other.clone()),
            _ => self.json(one) == self.json(other),
        }
    }

    /// Gives the settings `to` the value that `from` has.
    pub(crate) fn copy(&self, from: &ServeSettings, to: &mut ServeSettings) {
        fn put<T: Clone>(field: Field<T>, from: &ServeSettings, to: &mut ServeSettings) {
            field(to).clone_from(field(&mut from.clone()));
        }
        match self {
            Self::Address(field) => put(*field, from, to),
            Self::Folder(field) => put(*field, from, to),
            Self::File(field) => put(*field, from, to),
            Self::Files(field) => put(*field, from, to),
            Self::Log(field) => put(*field, from, to),
            Self::Switch(field) => put(*field, from, to),
            Self::Count { field, .. } | Self::Limit { field, .. } | Self::Bytes { field, .. } => {
                put(*field, from, to);
            }
            Self::Duration { field, .. } => put(*field, from, to),
            Self::Origins(field)
            | Self::Hosts(field)
            | Self::WebUrls(field)
            | Self::Texts(field) => put(*field, from, to),
            Self::Networks(field) => put(*field, from, to),
            Self::WebUrl(field) | Self::Text { field, .. } => put(*field, from, to),
            Self::Secret(field) => put(*field, from, to),
            Self::Algorithm(field) => put(*field, from, to),
            Self::Authorities(field) => put(*field, from, to),
            Self::Selectors(field) => put(*field, from, to),
            Self::Retention(field) => put(*field, from, to),
            Self::Choice { field, .. } => put(*field, from, to),
            Self::ConfigFile | Self::Url | Self::Token | Self::TokenFile => {}
        }
    }

    /// Reads `given` and puts it into `settings`; on error says what is wrong with it and leaves the
    /// settings as they were.
    pub(crate) fn apply(
        &self,
        settings: &mut ServeSettings,
        given: &GivenValue,
    ) -> Result<(), String> {
        match self {
            Self::Origins(field) => *field(settings) = parse_origins(listed(given)?)?,
            Self::Hosts(field) => *field(settings) = parse_hosts(listed(given)?)?,
            Self::Networks(field) => *field(settings) = parse_networks(listed(given)?)?,
            Self::WebUrls(field) => *field(settings) = parse_web_urls(listed(given)?)?,
            Self::Texts(field) => *field(settings) = parse_texts(listed(given)?),
            Self::Files(field) => {
                *field(settings) =
                    parse_texts(listed(given)?).into_iter().map(Into::into).collect();
            }
            Self::Selectors(field) => {
                *field(settings) = match given {
                    GivenValue::Text(text) => parse_selectors(text.split('\n'))?,
                    GivenValue::List(list) => parse_selectors(list.iter().map(String::as_str))?,
                    GivenValue::Tables(_) => return Err(NO_TABLE.into()),
                };
            }
            Self::Retention(field) => {
                *field(settings) = match given {
                    GivenValue::Text(text) => parse_rules(text.split('\n'))?,
                    GivenValue::List(list) => parse_rules(list.iter().map(String::as_str))?,
                    GivenValue::Tables(tables) => rules_from_tables(tables)?,
                };
            }
            Self::Authorities(field) => {
                *field(settings) = match given {
                    GivenValue::Text(text) => parse_authorities(text.split('\n'))?,
                    GivenValue::List(list) => parse_authorities(list.iter().map(String::as_str))?,
                    GivenValue::Tables(tables) => authorities_from_tables(tables)?,
                };
            }
            _ => return self.apply_single(settings, self.single(given)?),
        }
        Ok(())
    }

    /// The text of an option that is no list.
    fn single<'a>(&self, given: &'a GivenValue) -> Result<&'a str, String> {
        match given {
            GivenValue::Text(text) => Ok(text.trim()),
            // What nobody gave.
            GivenValue::List(list) if list.is_empty() && self.may_be_empty() => Ok(""),
            GivenValue::List(_) => Err("a list has no place here".into()),
            GivenValue::Tables(_) => Err(NO_TABLE.into()),
        }
    }

    /// Says whether nothing is a value, written as an empty text.
    fn may_be_empty(&self) -> bool {
        matches!(self, Self::File(_) | Self::WebUrl(_) | Self::Text { .. } | Self::Secret(_))
    }

    fn apply_single(&self, settings: &mut ServeSettings, text: &str) -> Result<(), String> {
        match self {
            Self::Address(field) => *field(settings) = parse_address(text)?,
            Self::Folder(field) => *field(settings) = parse_folder(text)?,
            Self::File(field) => *field(settings) = (!text.is_empty()).then(|| text.into()),
            Self::Log(field) => *field(settings) = LogPlace::parse(text)?,
            Self::Switch(field) => *field(settings) = parse_switch(text)?,
            Self::WebUrl(field) => {
                *field(settings) = if text.is_empty() { None } else { Some(parse_web_url(text)?) };
            }
            Self::Text { check, field, .. } => {
                if !text.is_empty() {
                    check(text)?;
                }
                *field(settings) = (!text.is_empty()).then(|| text.to_owned());
            }
            Self::Secret(field) => *field(settings) = Secret::new(text),
            Self::Algorithm(field) => *field(settings) = parse_algorithm(text)?,
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
            | Self::Networks(_)
            | Self::WebUrls(_)
            | Self::Texts(_)
            | Self::Files(_)
            | Self::Selectors(_)
            | Self::Retention(_)
            | Self::Authorities(_)
            | Self::ConfigFile
            | Self::Url
            | Self::Token
            | Self::TokenFile => {}
        }
        Ok(())
    }

    /// What is allowed, for errors and the reference page.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Address(_) => {
                "an IP address or localhost, and a port: 127.0.0.1:8080 or [::1]:8080".into()
            }
            Self::Folder(_) | Self::File(_) | Self::ConfigFile | Self::TokenFile => {
                "a path".into()
            },
            Self::Files(_) => "paths, separated by commas".into(),
            Self::Networks(_) => "addresses and networks such as 10.0.0.0/8, separated by commas".into(),
            Self::WebUrl(_) => "an http:// or https:// URL, without a user name".into(),
            Self::WebUrls(_) => "http:// or https:// URLs, separated by commas".into(),
            Self::Text { allowed, .. } => (*allowed).into(),
            Self::Texts(_) => "texts, separated by commas".into(),
            Self::Secret(_) => "a secret".into(),
            Self::Algorithm(_) => {
                let names = Algorithm::ALL.map(|algorithm| show_algorithm(Some(algorithm)));
                format!("{}, {}", show_algorithm(None), names.join(", "))
            }
            Self::Authorities(_) => "whose tokens and what proves them: \
                                     issuer=https://id.example.com;jwks-url=https://id.example.com/jwks"
                .into(),
            Self::Log(_) => LogPlace::ALLOWED.into(),
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
            Self::Selectors(_) => "topics and selectors such as chat/{room}; the option may be repeated"
                .into(),
            Self::Retention(_) => "a topic or selector and what is kept of each of its topics: \
                                   jobs/{id};events=100;age=1h"
                .into(),
            Self::Url => "an http:// or https:// URL".into(),
            Self::Token => "a token".into(),
        }
    }

    /// The unit of the number that [`Kind::json`] gives.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Bytes { .. } => Some("bytes"),
            Self::Duration { .. } => Some("ms"),
            Self::Secret(_) => Some("secret"),
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
            Self::Authorities(field) => authorities_json(field(settings)),
            Self::Secret(field) => field(settings).as_ref().map_or(Value::Null, |_| json!("set")),
            _ if self.may_be_empty() && self.shown(settings) == json!("") => Value::Null,
            _ => self.shown(settings),
        }
    }

    /// The setting as the configuration file would hold it. A JSON string, number, boolean or list of
    /// strings is written the same way in TOML.
    pub(crate) fn toml(&self, settings: &ServeSettings) -> String {
        match self {
            Self::Retention(field) => rules_toml(field(&mut settings.clone())),
            Self::Authorities(field) => authorities_toml(field(&mut settings.clone())),
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
            Self::Log(field) => json!(field(settings).shown()),
            Self::Switch(field) => json!(*field(settings)),
            Self::Limit { field, .. } if *field(settings) == u64::MAX => json!(UNLIMITED),
            Self::Count { field, .. } | Self::Limit { field, .. } => json!(*field(settings)),
            Self::Bytes { field, .. } => json!(show_bytes(*field(settings))),
            Self::Duration { field, .. } => json!(show_duration(*field(settings))),
            Self::Origins(field)
            | Self::Hosts(field)
            | Self::WebUrls(field)
            | Self::Texts(field) => json!(field(settings)),
            Self::Files(field) => {
                field(settings).iter().map(|path| json!(path.to_string_lossy())).collect()
            }
            Self::Networks(field) => field(settings).iter().map(show_network).collect(),
            Self::Selectors(field) => field(settings).iter().map(|it| json!(it.as_str())).collect(),
            Self::WebUrl(field) | Self::Text { field, .. } => {
                json!(field(settings).as_deref().unwrap_or_default())
            }
            Self::Choice { field, .. } => json!(*field(settings)),
            Self::Algorithm(field) => json!(show_algorithm(*field(settings))),
            // Whether there is one is told elsewhere.
            Self::Secret(_) => json!(""),
            Self::Retention(_)
            | Self::Authorities(_)
            | Self::ConfigFile
            | Self::Url
            | Self::Token
            | Self::TokenFile => Value::Null,
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

/// Options whose value a reload puts into effect, besides those about keys.
const RELOADED: [&str; 14] = [
    "drain",
    "drain-delay",
    "max-connections",
    "max-connections-per-ip",
    "max-connections-per-user",
    "publish-rate",
    "publish-burst",
    "connect-rate",
    "connect-burst",
    "max-event-bytes",
    "max-body-bytes",
    "max-topics-per-event",
    "max-selectors",
    "log-level",
];

/// Options that say whose tokens are trusted.
const ABOUT_KEYS: [&str; 8] =
    ["key", "key-file", "jwks-url", "algorithm", "issuer", "audience", "require-exp", "authority"];

/// The items of a list, however it was given.
fn listed(given: &GivenValue) -> Result<Vec<&str>, String> {
    match given {
        GivenValue::Text(text) => Ok(text.split(',').collect()),
        GivenValue::List(list) => Ok(list.iter().map(String::as_str).collect()),
        GivenValue::Tables(_) => Err(NO_TABLE.into()),
    }
}

fn parse_folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("there is no value".into()) } else { Ok(text.into()) }
}

const NO_TABLE: &str =
    "a table has no place here; all keys but `authority` and `retention` stand at the top";
