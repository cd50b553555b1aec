//! The process's own log: what the hub says of itself, on standard error.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// Starts to write what is at least as grave as `level`; of the libraries, warnings and errors only,
/// unless everything is asked for. `json` writes one object a line.
pub(super) fn start(level: &str, json: bool) {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let http2 = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::ERROR) };
    let targets = Targets::new()
        .with_default(libraries)
        .with_target(HTTP2_TARGET, http2)
        .with_target(OWN_TARGETS, level);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    // A second start would be refused; there is none.
    let _ = registry().with(lines.with_filter(targets)).try_init();
}

/// It warns of each client that breaks the rules, which anybody can do as often as they like; the
/// metrics count those.
const HTTP2_TARGET: &str = "h2";
/// All crates of tidings begin with this.
const OWN_TARGETS: &str = "tidings";
