//! `tidings serve`: the hub as a process.

use std::cell::RefCell;
use std::future::pending;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{mem, process};

use clap::{ArgMatches, Command};
use tidings::disk::OpenError;
use tidings::shared_log::{Engine, SharedLog, SharedLogOptions};
use tidings::{
    Bounds, DiskLog, DiskLogOptions, Durability, EventLog, Hub, HubOptions, KeyWindow, Limits,
    MemoryLog, MemoryLogOptions, PresenceOptions, Retention, random_epoch,
};
use tidings_access::Access;
use tidings_http::{Ending, HttpLimits, HttpOptions, Rate, Tls};
use tidings_log_postgres::PostgresEngine;
use tidings_log_redis::RedisEngine;
use tokio::runtime;
use tracing::{error, info, warn};

use crate::failure::Failure;
use crate::log::cannot_open;
use crate::options::{OptionRow, serve_options};
use crate::serve::reload::{Configuration, Running};
use crate::serve::signals::{Hangups, Signals};
use crate::serve::succession::{Predecessor, Succession, Successor};
use crate::serve::supervisor::Supervisor;
use crate::settings::load::{load_on, usage};
use crate::settings::log_place::LogPlace;
use crate::settings::{Origin, ServeSettings, Settings, log_folder};
use crate::trust::Trust;
use crate::value::show_duration;

mod access;
mod encryption;
mod open_files;
mod process_log;
mod reload;
mod signals;
mod sockets;
#[cfg(unix)]
mod succession;
#[cfg(not(unix))]
#[path = "serve/succession_elsewhere.rs"]
mod succession;
mod supervisor;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    with_options(Command::new("serve").about("Run a hub").after_help(EXAMPLES))
}

/// Adds the options of a hub to a command.
pub(crate) fn with_options(command: Command) -> Command {
    command.args(serve_options().map(OptionRow::arg))
}

/// Serves until a signal ends it, or another process goes on.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    // Before anything opens a file.
    let passed = sockets::passed()?;
    let reached_at = sockets::addresses(&passed).first().copied();
    let loaded = load_on(matches, reached_at)?;
    let mut settings = loaded.settings;
    let is_json = settings.serve.log_format == "json";
    let log_level = process_log::start(settings.serve.log_level, is_json);
    let trust = Trust::load(&settings).map_err(usage)?;
    for warning in loaded.warnings.iter().chain(&trust.warnings) {
        warn!("{warning}");
    }
    make_room(&mut settings);
    let configuration = Configuration {
        matches: matches.clone(),
        passed: reached_at,
        limits: http_limits(&settings.serve).into(),
        settings: RefCell::new(settings),
        log_level,
        counts: Arc::default(),
    };
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?
        .block_on(serve(&configuration, passed))
}

/// Waits until a log that others share can be used: who runs can use it, perhaps, and is to go on then.
async fn wait_until_writable(hub: &Hub) -> Result<(), Failure> {
    let deadline = Instant::now() + ENGINE_PATIENCE;
    while let Some(reason) = hub.failure() {
        if Instant::now() > deadline {
            let told = format!("cannot take over: the log cannot be used: {reason}");
            return Err(Failure::Failed(told));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Raises the limit of open files, and lowers that of connections if it is still not enough. Nobody
/// is warned who did not ask for so many.
fn make_room(settings: &mut Settings) {
    let wanted = settings.serve.max_connections;
    let fitting = open_files::make_room(wanted);
    if fitting == wanted {
        return;
    }
    settings.serve.max_connections = fitting;
    let told = format!(
        "serving at most {fitting} connections, not {wanted}: the process may open no more files; \
         raise the limit (ulimit -Hn, LimitNOFILE) or lower max_connections"
    );
    match settings.origin("max-connections") {
        Origin::Default => info!("{told}"),
        _ => warn!("{told}"),
    }
}

/// Checks what can be checked of a hub with these settings without starting it.
///
/// # Errors
///
/// [`Failure::Usage`] with what is wrong and what to do.
pub(crate) fn check(settings: &Settings, trust: &Trust) -> Result<(), Failure> {
    access::options(settings, trust)?;
    encryption::check(settings)
}

async fn serve(configuration: &Configuration, passed: Vec<TcpListener>) -> Result<(), Failure> {
    let unheard = |error| Failure::Failed(format!("cannot wait for signals: {error}"));
    // Before the address is told, so that no signal finds the process unprepared.
    let mut signals = Signals::new().map_err(unheard)?;
    let mut hangups = Hangups::new().map_err(unheard)?;
    let settings = configuration.settings.borrow().clone();
    let tls = encryption::load(&settings)?;
    let takeover = settings.serve.takeover.as_deref();
    let mut predecessor = predecessor(takeover, settings.serve.listen).await?;
    let are_passed = !passed.is_empty();
    let listeners = match &mut predecessor {
        Some(predecessor) => mem::take(&mut predecessor.listeners),
        None if are_passed => passed,
        None => vec![sockets::listen(settings.serve.listen)?],
    };
    let mut is_told = false;
    loop {
        let stay = Stay { configuration, tls: tls.as_ref(), listeners: &listeners, are_passed };
        let started = match stay.start(&mut predecessor).await {
            // Those who connect wait; what is missing now was there before.
            Err(failure) if is_told => {
                error!("cannot go on yet, and tries again: {failure}");
                tokio::select! {
                    () = tokio::time::sleep(RESUME_PAUSE) => continue,
                    () = signals.next() => return Err(failure),
                }
            }
            started => started?,
        };
        let succession = takeover.map(Succession::begin).transpose()?;
        if let Some(predecessor) = predecessor.take() {
            predecessor.dismiss().await;
        }
        if !mem::replace(&mut is_told, true) {
            stay.tell_ready()?;
        }
        match stay.serve(started, &mut signals, &mut hangups, succession.as_ref()).await? {
            End::Signal => return Ok(()),
            End::Takeover(successor) => {
                let is_over = tokio::select! {
                    serves = successor.release() => serves,
                    () = signals.next() => true,
                };
                if is_over {
                    info!("another process serves now, and this one ends");
                    return Ok(());
                }
                warn!("the process that wanted to take over is gone; this one goes on");
            }
        }
    }
}

/// The hub that runs and waits for this one, if there is one, and if it listens where this one is to.
async fn predecessor(
    path: Option<&Path>,
    listen: SocketAddr,
) -> Result<Option<Predecessor>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let Some(predecessor) = Predecessor::find(path).await? else { return Ok(None) };
    let addresses = sockets::addresses(&predecessor.listeners);
    let is_there =
        |it: &SocketAddr| *it == listen || (it.ip() == listen.ip() && listen.port() == 0);
    // The configuration was checked for who reaches `listen`.
    let is_as_open = !listen.ip().is_loopback() || addresses.iter().all(|it| it.ip().is_loopback());
    if addresses.iter().any(is_there) && is_as_open {
        return Ok(Some(predecessor));
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(Failure::Failed(format!(
        "cannot take over: the hub that runs listens on {}, and this one is to listen on {listen}\n  \
         give the same --listen, or stop that one first",
        addresses.join(" and "),
    )))
}

/// The process between two handovers.
struct Stay<'a> {
    configuration: &'a Configuration,
    tls: Option<&'a Tls>,
    listeners: &'a [TcpListener],
    /// A service manager has the listening sockets as well.
    are_passed: bool,
}

/// Why a stay has ended.
enum End {
    Signal,
    Takeover(Successor),
}

impl Stay<'_> {
    /// Opens the log and starts a hub on it, once the predecessor has let go of what only one may have.
    async fn start(&self, predecessor: &mut Option<Predecessor>) -> Result<Started, Failure> {
        let settings = self.configuration.settings.borrow().clone();
        let trust = Trust::load(&settings).map_err(usage)?;
        let mut access_options = access::options(&settings, &trust)?;
        let authorities = mem::take(&mut access_options.authorities);
        // What takes time comes first: nobody is served while the folder changes hands.
        let authorities = match authorities.is_empty() {
            true => None,
            false => Some(access::prepare(&Access::open(), authorities).await?),
        };
        let waits = settings.data_folder().is_some();
        if let (Some(predecessor), true) = (&mut *predecessor, waits) {
            predecessor.take(true).await?;
        }
        let log = open_log(&settings.serve).await?;
        // Not before: who has the log has the whole folder for itself.
        let access = access::start(access_options, authorities).await?;
        let hub = Hub::start(hub_options(&settings.serve), log)
            .map_err(|error| Failure::Failed(format!("cannot start the hub: {error}")))?;
        if let (Some(predecessor), false) = (predecessor, waits) {
            wait_until_writable(&hub).await?;
            predecessor.take(false).await?;
        }
        Ok(Started { hub, access })
    }

    /// Serves until a signal or a successor comes, and until what was begun has ended. Nothing of the
    /// hub is left then.
    async fn serve(
        &self,
        started: Started,
        signals: &mut Signals,
        hangups: &mut Hangups,
        succession: Option<&Succession>,
    ) -> Result<End, Failure> {
        let Started { hub, access } = started;
        let configuration = self.configuration;
        let listeners = sockets::for_runtime(self.listeners)?;
        let options = HttpOptions {
            limits: configuration.limits.clone(),
            reloads: Arc::clone(&configuration.counts),
            ..http_options(
                &configuration.settings.borrow().serve,
                access.clone(),
                self.tls.cloned(),
            )
        };
        let mut reason = End::Signal;
        let end = async {
            let successor = async {
                match succession {
                    Some(succession) => succession.next(self.listeners).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = signals.next() => self.shutdown(),
                successor = successor => {
                    let ending = self.hand_over(&successor);
                    reason = End::Takeover(successor);
                    ending
                }
            }
        };
        let supervisor = Supervisor;
        supervisor.ready(&self.status());
        let running = Running { hub: &hub, access: &access, tls: self.tls };
        let reloading = async {
            loop {
                hangups.next().await;
                supervisor.reloading();
                configuration.reload(&running).await;
                supervisor.ready(&self.status());
            }
        };
        let served = tokio::select! {
            served = tidings_http::serve_until(listeners, hub.clone(), options, end) => served,
            () = supervisor.watch(&hub) => Ok(()),
            () = reloading => Ok(()),
        };
        served.map_err(|error| Failure::Failed(format!("cannot go on serving: {error}")))?;
        Ok(reason)
    }

    /// How to end on a signal. From here on another one ends the process at once.
    fn shutdown(&self) -> Ending {
        let settings = self.configuration.settings.borrow();
        let ServeSettings { drain, drain_delay: delay, .. } = settings.serve;
        info!(
            "draining for {}: a second signal ends the process at once",
            show_duration(delay + drain)
        );
        Supervisor.stopping(delay + drain + CLOSING_MARGIN);
        tokio::spawn(async {
            if let Ok(mut signals) = Signals::new() {
                signals.next().await;
                eprintln!("tidings: ended at once by a second signal");
                process::exit(1);
            }
        });
        Ending::Shutdown { delay, drain, is_succeeded: self.are_passed }
    }

    fn hand_over(&self, successor: &Successor) -> Ending {
        let drain = self.configuration.settings.borrow().serve.drain;
        // Until then nobody is served.
        let drain = if successor.waits { drain.min(HAND_OVER_DRAIN_MAX) } else { drain };
        info!("handing over to another process, and draining for {}", show_duration(drain));
        Ending::HandOver { drain }
    }

    /// Prints the line that scripts wait for.
    fn tell_ready(&self) -> Result<(), Failure> {
        let settings = self.configuration.settings.borrow();
        if let Some(fingerprint) =
            self.tls.filter(|_| settings.serve.tls_self_signed).and_then(Tls::fingerprint)
        {
            eprintln!("tidings: the certificate vouches for itself; its SHA-256 is {fingerprint}");
        }
        let version = env!("CARGO_PKG_VERSION");
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "tidings {version} {}", self.status()) {
            // A supervisor may close standard output; the hub serves all the same.
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::from_output(&error)),
        }
    }

    fn status(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let urls = sockets::addresses(self.listeners);
        let urls: Vec<String> =
            urls.iter().map(|address| format!("{scheme}://{address}")).collect();
        format!("listening on {}", urls.join(" and "))
    }
}

/// A hub that runs, and who may do what with it.
struct Started {
    hub: Hub,
    access: Access,
}

/// Opens the log. If a process has it that may be letting go of it, tries again for a while: that may be
/// this one, whose threads end one after the other.
async fn open_log(settings: &ServeSettings) -> Result<Arc<dyn EventLog>, Failure> {
    let retention = Retention {
        events_max: settings.log_events_max,
        bytes_max: settings.log_bytes_max,
        age_max_ms: millis(settings.log_age_max),
        rules: settings.retention.clone(),
    };
    let keys =
        KeyWindow { age_max_ms: millis(settings.key_window), runs_max: size(settings.keys_max) };
    match &settings.log {
        LogPlace::Disk => {
            let durability =
                if settings.durability == "os" { Durability::Os } else { Durability::Fsync };
            let options = DiskLogOptions { retention, keys, durability, segment_bytes: None };
            let folder = log_folder(&settings.data);
            let patience = settings.takeover.as_ref().map_or(Duration::ZERO, |_| LOCK_PATIENCE);
            let deadline = Instant::now() + patience;
            let log = loop {
                match DiskLog::open(&folder, options.clone()) {
                    Err(OpenError::Locked) if Instant::now() < deadline => {
                        tokio::time::sleep(LOCK_PAUSE).await;
                    }
                    log => break log,
                }
            };
            let log = log.map_err(|error| Failure::Failed(cannot_open(&settings.data, &error)))?;
            let Bounds { oldest, next } = log.bounds();
            info!("keeping events in {}, where {} are", folder.display(), next - oldest);
            Ok(Arc::new(log))
        }
        LogPlace::Memory => {
            let epoch = random_epoch()
                .map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
            Ok(Arc::new(MemoryLog::new(epoch, MemoryLogOptions { retention, keys })))
        }
        LogPlace::Redis(url) => {
            let engine = RedisEngine::new(url.expose()).map_err(|error| unfit(&error))?;
            open_shared(engine, retention, keys)
        }
        LogPlace::Postgres(url) => {
            let engine = PostgresEngine::new(url.expose()).map_err(|error| unfit(&error))?;
            open_shared(engine, retention, keys)
        }
    }
}

fn unfit(error: &dyn std::error::Error) -> Failure {
    Failure::Usage(error.to_string())
}

/// Opens a log that other hubs share. A store that is not reached yet is waited for while the hub is
/// not ready; one that refuses the hub ends it.
fn open_shared(
    engine: impl Engine,
    retention: Retention,
    keys: KeyWindow,
) -> Result<Arc<dyn EventLog>, Failure> {
    let store = engine.name();
    let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
    // It waits for a server, which must not be done among tasks.
    let log = tokio::task::block_in_place(|| SharedLog::open(engine, options))
        .map_err(|error| Failure::Failed(error.to_string()))?;
    match log.failure() {
        None => {
            let Bounds { oldest, next } = log.bounds();
            info!("keeping events in {store}, where {} are", next - oldest);
        }
        Some(reason) => warn!("not ready until {store} can be used: {reason}"),
    }
    Ok(Arc::new(log))
}

fn hub_options(settings: &ServeSettings) -> HubOptions {
    let limits = Limits {
        connections_max: size(settings.max_connections),
        event_bytes_max: size(settings.max_event_bytes),
        tail_events_max: size(settings.tail_events_max),
        tail_bytes_max: size(settings.tail_bytes_max),
        replay_bytes_max: size(settings.replay_bytes_max),
        ..Limits::default()
    };
    HubOptions {
        shards: size(settings.shards),
        heartbeat: settings.heartbeat,
        write_timeout: settings.write_timeout,
        retry: settings.retry,
        flush_interval: settings.flush_interval,
        presence: PresenceOptions {
            topics: settings.presence.clone(),
            public_topics: settings.presence_public.clone(),
            grace: settings.presence_grace,
            members_max: size(settings.max_presence_members),
            ..PresenceOptions::default()
        },
        limits,
    }
}

/// What clients may take and send, which a reload can change.
fn http_limits(settings: &ServeSettings) -> HttpLimits {
    HttpLimits {
        body_bytes_max: size(settings.max_body_bytes),
        topics_max: size(settings.max_topics_per_event),
        selectors_max: size(settings.max_selectors),
        connections_per_address_max: limit(settings.max_connections_per_ip),
        connections_per_user_max: limit(settings.max_connections_per_user),
        publish_rate: rate(settings.publish_rate, settings.publish_burst),
        connect_rate: rate(settings.connect_rate, settings.connect_burst),
    }
}

fn http_options(settings: &ServeSettings, access: Access, tls: Option<Tls>) -> HttpOptions {
    HttpOptions {
        cors_origins: settings.cors_origins.clone(),
        hosts: (settings.listen.ip().is_loopback() || !settings.hosts.is_empty())
            .then(|| settings.hosts.clone()),
        access,
        anonymous: settings.anonymous,
        default_private: settings.default_private,
        token_cookie: settings.token_cookie.clone().unwrap_or_default(),
        query_token: settings.query_token,
        ticket_lifetime: settings.ticket_lifetime,
        tickets_max: size(settings.max_tickets),
        open_operation: !settings.is_exposed(),
        public_figures: settings.public_figures,
        head_bytes_max: size(settings.max_head_bytes),
        head_timeout: settings.head_timeout,
        body_timeout: settings.body_timeout,
        waiting_max: size(settings.max_waiting),
        streams_per_connection_max: u32::try_from(settings.max_streams_per_connection)
            .unwrap_or(u32::MAX),
        proxy_protocol_from: settings.proxy_protocol.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        tls,
        ..HttpOptions::default()
    }
}

/// A number for this machine's memory; what is larger than its addresses is no bound at all.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A limit, unless there is none.
fn limit(number: u64) -> Option<usize> {
    (number != u64::MAX).then(|| size(number))
}

/// A rate, unless there is none; a burst of any size is as large as it can be told.
fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    let told = |number| u32::try_from(number).unwrap_or(u32::MAX);
    (per_second != u64::MAX).then(|| Rate { per_second: told(per_second), burst: told(burst) })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// For connections and the log to close, once all streams have ended.
const CLOSING_MARGIN: Duration = Duration::from_secs(10);
/// Streams that end for a process that waits for the log end over at most this long: nobody is served
/// meanwhile. Clients come back spread all the same, each after a time of its own.
const HAND_OVER_DRAIN_MAX: Duration = Duration::from_millis(250);
/// For a process that has ended its hub to let go of its log.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Before what could not be taken up again is tried once more.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// For a server that keeps a log to be there; less than a process that runs waits for this one.
const ENGINE_PATIENCE: Duration = Duration::from_secs(60);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

const EXAMPLES: &str = "\
Examples:
  tidings serve
  tidings serve --data /var/lib/tidings --log-bytes-max 20GiB --log-age-max 30d
  tidings serve --listen 127.0.0.1:9000 --log memory
  tidings serve --retention 'jobs/{id};events=100' --retention 'chat/{room};age=12h'
  tidings serve --config tidings.toml
  TIDINGS_HEARTBEAT=10s tidings serve
  TIDINGS_LOG=redis://:password@cache.internal tidings serve
  tidings serve --tls-cert fullchain.pem --tls-key privkey.pem
  tidings serve --listen 0.0.0.0:8080 --key-file hub.key

Each option is also a key of the file (heartbeat = \"10s\") and a variable (TIDINGS_HEARTBEAT).
Flags win over variables, variables over the file. SIGTERM or SIGINT ends the hub in good order, a
second one at once. When the hub is ready it prints one line with its URL.";

#[cfg(test)]
mod tests {
    use tidings_access::Access;

    use super::{http_limits, http_options};
    use crate::settings::merge;

    #[test]
    fn each_option_of_the_http_surface_reaches_it() {
        let given = [
            ("listen", "192.0.2.1:443"),
            ("insecure", "true"),
            ("anonymous", "true"),
            ("default-private", "true"),
            ("public-figures", "true"),
            ("token-cookie", "t"),
            ("query-token", "false"),
            ("ticket-lifetime", "61s"),
            ("max-tickets", "62"),
            ("trusted-proxies", "10.0.0.0/8"),
            ("proxy-protocol", "10.0.0.1"),
            ("max-connections-per-ip", "63"),
            ("max-connections-per-user", "64"),
            ("publish-rate", "65"),
            ("connect-rate", "66"),
            ("connect-burst", "67"),
            ("max-head-bytes", "68KiB"),
            ("head-timeout", "69s"),
            ("body-timeout", "70s"),
            ("max-waiting", "71"),
            ("max-streams-per-connection", "72"),
            ("cors-origins", "https://app.example"),
            ("hosts", "hub.example"),
        ];
        let flags = |name: &str| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = merge(&flags, &|_| None, None, 1).unwrap_or_else(|it| panic!("{it:?}"));
        let options = format!(
            "{:?} {:?}",
            http_options(&settings.serve, Access::open(), None),
            http_limits(&settings.serve)
        );
        for part in [
            "anonymous: true",
            "default_private: true",
            "public_figures: true",
            "open_operation: false",
            "token_cookie: \"t\"",
            "query_token: false",
            "ticket_lifetime: 61s",
            "tickets_max: 62",
            "trusted_proxies: [10.0.0.0/8]",
            "proxy_protocol_from: [10.0.0.1/32]",
            "connections_per_address_max: Some(63)",
            "connections_per_user_max: Some(64)",
            "publish_rate: Some(Rate { per_second: 65, burst: 65 })",
            "connect_rate: Some(Rate { per_second: 66, burst: 67 })",
            "head_bytes_max: 69632",
            "head_timeout: 69s",
            "body_timeout: 70s",
            "waiting_max: 71",
            "streams_per_connection_max: 72",
            "cors_origins: [\"https://app.example\"]",
            "hosts: Some([\"hub.example\"])",
        ] {
            assert!(options.contains(part), "{part} is not in {options}");
        }
    }
}
