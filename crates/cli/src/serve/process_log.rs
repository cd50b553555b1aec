//! The process's own log: what the hub says of itself, on standard error.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

/// Says how grave something must be to be written; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct LogLevel(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// Changes it.
    pub(super) fn change(&self, level: &str) {
        // It fails only once nothing is written any more.
        let _ = self.0.reload(targets(level));
    }
}

/// Starts to write what is at least as grave as `level`; of the libraries, warnings and errors only,
/// unless everything is asked for. `json` writes one object a line.
pub(super) fn start(level: &str, json: bool) -> LogLevel {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    // A second start would be refused; there is none.
    let _ = registry().with(lines.with_filter(filter)).try_init();
    LogLevel(handle)
}

fn targets(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let http2 = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::ERROR) };
    Targets::new()
        .with_default(libraries)
        .with_target(HTTP2_TARGET, http2)
        .with_target(OWN_TARGETS, level)
}

/// It warns of each client that breaks the rules, which anybody can do as often as they like; the
/// metrics count those.
const HTTP2_TARGET: &str = "h2";
/// All crates of tidings begin with this.
const OWN_TARGETS: &str = "tidings";
