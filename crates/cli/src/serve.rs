//! `tidings serve`: the hub as a process.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use tidings::{
    Bounds, DiskLog, DiskLogOptions, Durability, EventLog, Hub, HubOptions, KeyWindow, Limits,
    MemoryLog, MemoryLogOptions, Retention, random_epoch,
};
use tidings_access::Access;
use tidings_http::{HttpOptions, Rate, Tls};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::log::cannot_open;
use crate::options::{OptionRow, serve_options};
use crate::settings::load::{load, usage};
use crate::settings::{LogPlace, Origin, ServeSettings, Settings, log_folder};
use crate::trust::Trust;
use crate::value::show_duration;

mod access;
mod encryption;
mod open_files;
mod process_log;
mod signals;

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
    let loaded = load(matches)?;
    let mut settings = loaded.settings;
    process_log::start(settings.serve.log_level, settings.serve.log_format == "json");
    let trust = Trust::load(&settings).map_err(usage)?;
    for warning in loaded.warnings.iter().chain(&trust.warnings) {
        warn!("{warning}");
    }
    make_room(&mut settings);
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?
        .block_on(serve(&settings, &trust))
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

async fn serve(settings: &Settings, trust: &Trust) -> Result<(), Failure> {
    // Before the address is told, so that no signal finds the process unprepared.
    let mut signals = signals::Signals::new()
        .map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")))?;
    let tls = encryption::load(settings)?;
    let access_options = access::options(settings, trust)?;
    let settings = &settings.serve;
    let listener = listen(settings.listen)
        .map_err(|error| Failure::Failed(cannot_listen(settings.listen, &error)))?;
    let address = listener.local_addr().unwrap_or(settings.listen);
    let log = open_log(settings)?;
    // Not before: who has the log has the whole folder for itself.
    let access = access::start(access_options).await?;
    let hub = Hub::start(hub_options(settings), log)
        .map_err(|error| Failure::Failed(format!("cannot start the hub: {error}")))?;
    if let Some(fingerprint) =
        tls.as_ref().filter(|_| settings.tls_self_signed).and_then(Tls::fingerprint)
    {
        eprintln!("tidings: the certificate vouches for itself; its SHA-256 is {fingerprint}");
    }
    tell_ready(address, tls.is_some())?;
    let drain = settings.drain;
    let shutdown = async move {
        signals.next().await;
        info!("draining for {}: a second signal ends the process at once", show_duration(drain));
        tokio::spawn(async move {
            signals.next().await;
            eprintln!("tidings: ended at once by a second signal");
            process::exit(1);
        });
    };
    tidings_http::serve(listener, hub, http_options(settings, access, tls), shutdown)
        .await
        .map_err(|error| Failure::Failed(format!("cannot go on serving: {error}")))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A hub that comes back must not wait for the connections of its former life.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the process that has it, or choose another with --listen"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 127.0.0.1 is itself, 0.0.0.0 all its addresses"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use that port; ports from 1024 on are open to all"
        }
        _ => return format!("cannot listen on {address}: {error}"),
    };
    format!("cannot listen on {address}: {advice}")
}

fn open_log(settings: &ServeSettings) -> Result<Arc<dyn EventLog>, Failure> {
    let retention = Retention {
        events_max: settings.log_events_max,
        bytes_max: settings.log_bytes_max,
        age_max_ms: millis(settings.log_age_max),
        rules: settings.retention.clone(),
    };
    let keys =
        KeyWindow { age_max_ms: millis(settings.key_window), runs_max: size(settings.keys_max) };
    match settings.log {
        LogPlace::Disk => {
            let durability =
                if settings.durability == "os" { Durability::Os } else { Durability::Fsync };
            let options = DiskLogOptions { retention, keys, durability, segment_bytes: None };
            let folder = log_folder(&settings.data);
            let log = DiskLog::open(&folder, options)
                .map_err(|error| Failure::Failed(cannot_open(&settings.data, &error)))?;
            let Bounds { oldest, next } = log.bounds();
            info!("keeping events in {}, where {} are", folder.display(), next - oldest);
            Ok(Arc::new(log))
        }
        LogPlace::Memory => {
            let epoch = random_epoch()
                .map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
            Ok(Arc::new(MemoryLog::new(epoch, MemoryLogOptions { retention, keys })))
        }
    }
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
        limits,
    }
}

fn http_options(settings: &ServeSettings, access: Access, tls: Option<Tls>) -> HttpOptions {
    HttpOptions {
        cors_origins: settings.cors_origins.clone(),
        hosts: (settings.listen.ip().is_loopback() || !settings.hosts.is_empty())
            .then(|| settings.hosts.clone()),
        body_bytes_max: size(settings.max_body_bytes),
        topics_max: size(settings.max_topics_per_event),
        selectors_max: size(settings.max_selectors),
        drain: settings.drain,
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
        connections_per_address_max: limit(settings.max_connections_per_ip),
        connections_per_user_max: limit(settings.max_connections_per_user),
        publish_rate: rate(settings.publish_rate, settings.publish_burst),
        connect_rate: rate(settings.connect_rate, settings.connect_burst),
        tls,
        ..HttpOptions::default()
    }
}

/// Prints the line that scripts wait for.
fn tell_ready(address: SocketAddr, is_encrypted: bool) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let scheme = if is_encrypted { "https" } else { "http" };
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "tidings {version} listening on {scheme}://{address}") {
        // A supervisor may close standard output; the hub serves all the same.
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::from_output(&error)),
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

/// Connections that wait to be accepted. Reconnecting clients come all at once; the kernel takes as
/// many as `net.core.somaxconn` allows, which is 4096 by default.
const ACCEPT_BACKLOG: u32 = 4_096;

const EXAMPLES: &str = "\
Examples:
  tidings serve
  tidings serve --data /var/lib/tidings --log-bytes-max 20GiB --log-age-max 30d
  tidings serve --listen 127.0.0.1:9000 --log memory
  tidings serve --retention 'jobs/{id};events=100' --retention 'chat/{room};age=12h'
  tidings serve --config tidings.toml
  TIDINGS_HEARTBEAT=10s tidings serve
  tidings serve --tls-cert fullchain.pem --tls-key privkey.pem
  tidings serve --listen 0.0.0.0:8080 --key-file hub.key

Each option is also a key of the file (heartbeat = \"10s\") and a variable (TIDINGS_HEARTBEAT).
Flags win over variables, variables over the file. SIGTERM or SIGINT ends the hub in good order, a
second one at once. When the hub is ready it prints one line with its URL.";

#[cfg(test)]
mod tests {
    use tidings_access::Access;

    use super::http_options;
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
        let options = format!("{:?}", http_options(&settings.serve, Access::open(), None));
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
