//! The settings of a hub: flags over variables over the file over defaults. Remembers where each
//! value came from, and tells everything that is wrong at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tidings::{RetentionRule, Selector};
use tidings_auth::Algorithm;

use crate::options::table::OPTIONS;
use crate::options::{GivenValue, Kind, OptionRow, option_named, serve_options};
use crate::settings::authority::AuthoritySettings;
use crate::settings::contradictions::contradictions;
use crate::settings::file::{FileEntry, SettingsFile};
use crate::settings::log_place::LogPlace;
use crate::settings::nearest::nearest;
use crate::settings::secret::Secret;

pub(crate) mod authority;
pub(crate) mod contradictions;
pub(crate) mod file;
pub(crate) mod load;
pub(crate) mod log_place;
mod nearest;
pub(crate) mod retention;
pub(crate) mod secret;

/// What `tidings serve` is told. Every field is the option of the same name.
#[derive(Clone, Debug)]
pub(crate) struct ServeSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) insecure: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_self_signed: bool,
    pub(crate) acme_domain: Vec<String>,
    pub(crate) acme_email: Option<String>,
    pub(crate) acme_directory: Option<String>,
    pub(crate) acme_ca: Option<PathBuf>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: Vec<IpNet>,
    pub(crate) takeover: Option<PathBuf>,
    pub(crate) key: Option<Secret>,
    pub(crate) key_file: Vec<PathBuf>,
    pub(crate) jwks_url: Vec<String>,
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) require_exp: bool,
    pub(crate) authority: Vec<AuthoritySettings>,
    pub(crate) anonymous: bool,
    pub(crate) default_private: bool,
    pub(crate) public_figures: bool,
    pub(crate) token_cookie: Option<String>,
    pub(crate) query_token: bool,
    pub(crate) ticket_lifetime: Duration,
    pub(crate) max_tickets: u64,
    pub(crate) authorization_webhook: Option<String>,
    pub(crate) authorization_webhook_timeout: Duration,
    pub(crate) authorization_webhook_cache: Duration,
    pub(crate) connection_webhook: Option<String>,
    pub(crate) connection_webhook_debounce: Duration,
    pub(crate) webhook_secret: Option<Secret>,
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
    pub(crate) drain_delay: Duration,
    pub(crate) presence: Vec<Selector>,
    pub(crate) presence_public: Vec<Selector>,
    pub(crate) presence_grace: Duration,
    pub(crate) max_connections: u64,
    pub(crate) max_connections_per_ip: u64,
    pub(crate) max_connections_per_user: u64,
    pub(crate) publish_rate: u64,
    pub(crate) publish_burst: u64,
    pub(crate) connect_rate: u64,
    pub(crate) connect_burst: u64,
    pub(crate) max_head_bytes: u64,
    pub(crate) head_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) max_waiting: u64,
    pub(crate) max_streams_per_connection: u64,
    pub(crate) max_event_bytes: u64,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_topics_per_event: u64,
    pub(crate) max_selectors: u64,
    pub(crate) max_presence_members: u64,
    pub(crate) shards: u64,
    pub(crate) log_format: &'static str,
    pub(crate) log_level: &'static str,
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

    /// Says where the value of the option `name` came from.
    pub(crate) fn set_origin(&mut self, name: &str, origin: Origin) {
        if let Some((_, known)) = self.origins.iter_mut().find(|(known, _)| *known == name) {
            *known = origin;
        }
    }

    /// The folder for what outlives the process. A hub that keeps its events in memory has none unless
    /// it is given one.
    pub(crate) fn data_folder(&self) -> Option<&Path> {
        let is_meant = self.serve.log == LogPlace::Disk || *self.origin("data") != Origin::Default;
        is_meant.then_some(&*self.serve.data)
    }
}

/// Looks a value up by its name: the flag's, or the variable's.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Merges what was given. A variable that is set to nothing counts as not set. If sockets were passed
/// to the hub, the address of the one that most can reach is the value of `listen`.
///
/// # Errors
///
/// Everything that is wrong, one text for each fault, each with the place it was given at and what is
/// allowed there.
pub(crate) fn merge_on(
    passed: Option<SocketAddr>,
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
    cores: usize,
) -> Result<Settings, Vec<String>> {
    let mut settings = Settings { serve: ServeSettings::unset(), origins: Vec::new() };
    let mut faults = file.map(unknown_keys).unwrap_or_default();
    for row in serve_options().filter(|row| row.key().is_some()) {
        let passed = passed.filter(|_| row.name == "listen").map(|address| {
            (GivenValue::Text(address.to_string()), Origin::Variable(PASSED_VARIABLE.to_owned()))
        });
        let (given, origin) = match passed.or_else(|| given_for(row, flags, variables, file)) {
            Some(found) => found,
            None => match row.default_text(cores, &settings.serve) {
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

/// Merges what was given to a hub that opens its sockets itself.
#[cfg(test)]
pub(crate) fn merge(
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
    cores: usize,
) -> Result<Settings, Vec<String>> {
    merge_on(None, flags, variables, file, cores)
}

/// Variables that are set, are no option, and look like one misspelt: (variable, meant variable).
pub(crate) fn misspelt_variables<'a>(
    set: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, String)> {
    let known: Vec<String> = OPTIONS.iter().map(OptionRow::variable).collect();
    set.into_iter()
        .filter(|name| name.starts_with("TIDINGS_") && !known.iter().any(|known| known == name))
        .filter_map(|name| Some((name, nearest(name, &known)?.to_owned())))
        .collect()
}

impl ServeSettings {
    /// A value to fill in. Every field has a row in the table, and every row a default, so nothing of
    /// this is left when [`merge_on`] succeeds.
    fn unset() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            insecure: false,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            tls_cert: None,
            tls_key: None,
            tls_self_signed: false,
            acme_domain: Vec::new(),
            acme_email: None,
            acme_directory: None,
            acme_ca: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            takeover: None,
            key: None,
            key_file: Vec::new(),
            jwks_url: Vec::new(),
            algorithm: None,
            issuer: None,
            audience: Vec::new(),
            require_exp: false,
            authority: Vec::new(),
            anonymous: false,
            default_private: false,
            public_figures: false,
            token_cookie: None,
            query_token: false,
            ticket_lifetime: Duration::ZERO,
            max_tickets: 0,
            authorization_webhook: None,
            authorization_webhook_timeout: Duration::ZERO,
            authorization_webhook_cache: Duration::ZERO,
            connection_webhook: None,
            connection_webhook_debounce: Duration::ZERO,
            webhook_secret: None,
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
            drain_delay: Duration::ZERO,
            presence: Vec::new(),
            presence_public: Vec::new(),
            presence_grace: Duration::ZERO,
            max_connections: 0,
            max_connections_per_ip: 0,
            max_connections_per_user: 0,
            publish_rate: 0,
            publish_burst: 0,
            connect_rate: 0,
            connect_burst: 0,
            max_head_bytes: 0,
            head_timeout: Duration::ZERO,
            body_timeout: Duration::ZERO,
            max_waiting: 0,
            max_streams_per_connection: 0,
            max_event_bytes: 0,
            max_body_bytes: 0,
            max_topics_per_event: 0,
            max_selectors: 0,
            max_presence_members: 0,
            shards: 0,
            log_format: "",
            log_level: "",
        }
    }
}

impl ServeSettings {
    /// Says whether other machines can reach the hub.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.listen.ip().is_loopback()
    }

    /// Says whether there is a key, or a place to get one from, so that tokens count.
    pub(crate) fn has_keys(&self) -> bool {
        self.key.is_some()
            || !self.key_file.is_empty()
            || !self.jwks_url.is_empty()
            || !self.authority.is_empty()
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
/// As [`merge_on`].
pub(crate) fn merge_one(
    name: &str,
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
) -> Result<ServeSettings, Vec<String>> {
    let mut settings = ServeSettings::unset();
    let row = option_named(name).ok_or_else(|| vec![format!("there is no option {name}")])?;
    let default = || {
        let text = row.default_text(1, &ServeSettings::unset()).unwrap_or_default();
        (GivenValue::Text(text), Origin::Default)
    };
    let (given, origin) = given_for(row, flags, variables, file).unwrap_or_else(default);
    match row.kind.apply(&mut settings, &given) {
        Ok(()) => Ok(settings),
        Err(wrong) => Err(vec![bad_value(row, &given, &origin, &wrong)]),
    }
}

/// Whether the option `name` was given at all.
pub(crate) fn is_given(
    name: &str,
    flags: Lookup<'_>,
    variables: Lookup<'_>,
    file: Option<&SettingsFile>,
) -> bool {
    option_named(name).is_some_and(|row| given_for(row, flags, variables, file).is_some())
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

/// By what a service manager says which sockets it passes.
const PASSED_VARIABLE: &str = "LISTEN_FDS";

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
        (_, Kind::Retention(_) | Kind::Authorities(_)) | (GivenValue::Tables(_), _) => None,
        (_, Kind::Secret(_)) => None,
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

/// `--key`, or the key or variable, as the option was given; without its value.
pub(crate) fn shown_place(settings: &Settings, name: &str) -> String {
    match settings.origin(name) {
        Origin::Flag(name) | Origin::Variable(name) => name.clone(),
        origin => {
            let key = option_named(name).and_then(OptionRow::key).unwrap_or_default();
            format!("{origin}: {key}")
        }
    }
}

/// `--listen 0.0.0.0:80`, or the same as key or variable, as it was given.
fn shown(settings: &Settings, name: &str) -> String {
    let Some(row) = option_named(name) else { return name.to_owned() };
    if row.is_hidden(&settings.serve) || matches!(row.kind, Kind::Authorities(_)) {
        return shown_place(settings, name);
    }
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

#[cfg(test)]
mod tests;
