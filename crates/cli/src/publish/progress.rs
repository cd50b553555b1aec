//! How far a long input has come, for whoever sits at the terminal.

use std::fmt::Write;
use std::future::pending;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::time::sleep;

use crate::publish::lines::Place;

/// A line on standard error that tells the progress, when that is a terminal.
pub(super) struct Progress {
    bar: Option<Bar>,
}

struct Bar {
    line: ProgressBar,
    has_size: bool,
    begun: Instant,
    is_shown: AtomicBool,
    lines: Arc<AtomicU64>,
}

impl Progress {
    /// Tells nothing.
    pub(super) fn none() -> Self {
        Self { bar: None }
    }

    /// Tells the progress of an input of `size` bytes, if that is known; nothing when standard error
    /// is no terminal.
    pub(super) fn new(size: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self::none();
        }
        let lines = Arc::new(AtomicU64::new(0));
        let line = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        line.set_style(style(size.is_some(), &lines));
        let (begun, is_shown) = (Instant::now(), AtomicBool::new(false));
        Self { bar: Some(Bar { line, has_size: size.is_some(), begun, is_shown, lines }) }
    }

    /// Tells that the input was sent up to `place`.
    pub(super) fn set(&self, place: Place) {
        let Some(bar) = &self.bar else { return };
        bar.lines.store(place.lines, Ordering::Relaxed);
        bar.line.set_position(if bar.has_size { place.bytes } else { place.lines });
    }

    /// Shows the line when [`SHOWN_AFTER`] has passed. Never ends.
    pub(super) async fn show_later(&self) {
        if let Some(bar) = &self.bar {
            sleep(SHOWN_AFTER).await;
            bar.is_shown.store(true, Ordering::Relaxed);
            bar.line.set_draw_target(ProgressDrawTarget::stderr());
            bar.line.enable_steady_tick(REDRAWN_AFTER);
        }
        pending::<()>().await;
    }

    /// Takes the line away while `write` writes to the terminal.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.line.suspend(write),
            None => write(),
        }
    }

    /// Takes the line away for good.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.line.finish_and_clear();
        }
    }

    /// Takes the line away for good, and tells the sum if there was a line.
    pub(super) fn finish(&self) {
        self.clear();
        let Some(bar) = &self.bar else { return };
        if bar.is_shown.load(Ordering::Relaxed) {
            let (lines, seconds) = (bar.lines.load(Ordering::Relaxed), bar.begun.elapsed());
            let rate = lines as f64 / seconds.as_secs_f64();
            eprintln!(
                "tidings: {} events published in {:.1} s, {} a second",
                HumanCount(lines),
                seconds.as_secs_f64(),
                HumanCount(rate as u64),
            );
        }
    }
}

fn style(has_size: bool, lines: &Arc<AtomicU64>) -> ProgressStyle {
    let template = if has_size { WITH_SIZE } else { WITHOUT_SIZE };
    let (count, counted) = (Arc::clone(lines), Arc::clone(lines));
    let rate = move |state: &ProgressState, out: &mut dyn Write| {
        // The position counts bytes or lines; its rate is the more exact for being known of late.
        let lines = counted.load(Ordering::Relaxed) as f64;
        let rate = state.per_sec() * lines / (state.pos().max(1)) as f64;
        let _ = write!(out, "{}", HumanCount(rate as u64));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("events", move |_: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}", HumanCount(count.load(Ordering::Relaxed)));
        })
        .with_key("rate", rate)
}

/// What is over sooner needs no line.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

/// How often the line is drawn anew while nothing moves.
const REDRAWN_AFTER: Duration = Duration::from_millis(250);

const WITH_SIZE: &str = "{percent:>3}% {bar:20} {events} events, {rate}/s, \
                         {binary_bytes} of {binary_total_bytes}, {eta} left";
const WITHOUT_SIZE: &str = "{spinner} {events} events, {rate}/s, {elapsed}";
