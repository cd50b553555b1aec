//! What a check found, for people and for machines.

use std::fmt::Write as _;
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;
use tidings::Position;
use tidings::disk::{CheckReport, CheckedSegment, Damage, SegmentState};

/// The report as lines.
pub(super) fn lines(folder: &Path, found: &CheckReport) -> String {
    let sum = Summary::of(folder, found);
    let none = || "none".to_owned();
    let mut text = String::new();
    for (name, value) in [
        ("log", sum.folder.clone()),
        ("state", sum.state.told().to_owned()),
        ("epoch", sum.epoch.clone().unwrap_or_else(none)),
        ("oldest", sum.oldest.clone().unwrap_or_else(none)),
        ("newest", sum.newest.clone().unwrap_or_else(none)),
        ("events", HumanCount(sum.events).to_string()),
        ("bytes", format!("{} ({})", HumanCount(sum.bytes), BinaryBytes(sum.bytes))),
        ("segments", sum.segments.len().to_string()),
    ] {
        let _ = writeln!(text, "{name:<9} {value}");
    }
    for (segment, stands) in found.segments.iter().zip(&sum.segments) {
        let events = match segment.events {
            0 => "no events".to_owned(),
            1 => format!("one event, {}", segment.base),
            count => format!(
                "{} events, {}",
                HumanCount(count),
                range(segment.base, segment.next.saturating_sub(1))
            ),
        };
        let _ = writeln!(
            text,
            "  {}: {events}, {} bytes, {}",
            segment.file,
            HumanCount(segment.bytes),
            stands.state
        );
    }
    text + &damages(found)
}

/// The damages with what each means, as lines.
pub(super) fn damages(found: &CheckReport) -> String {
    found.damages.iter().fold(String::new(), |mut text, damage| {
        let _ = writeln!(text, "  damaged: {damage}\n    {}", meaning(damage, &found.segments));
        text
    })
}

/// The report as one JSON object on a line.
pub(super) fn json_line(folder: &Path, found: &CheckReport) -> String {
    let mut line = serde_json::to_string(&Summary::of(folder, found)).unwrap_or_default();
    line.push('\n');
    line
}

/// `event 7` or `events 7 to 9`, by their offsets.
pub(super) fn range(first: u64, last: u64) -> String {
    if first == last { format!("event {first}") } else { format!("events {first} to {last}") }
}

#[derive(Serialize)]
struct Summary<'a> {
    folder: String,
    state: State,
    epoch: Option<String>,
    /// The id of the first event that may be there.
    oldest: Option<String>,
    newest: Option<String>,
    events: u64,
    bytes: u64,
    segments: Vec<SegmentJson<'a>>,
    damages: Vec<DamageJson<'a>>,
}

#[derive(Serialize)]
struct SegmentJson<'a> {
    file: &'a str,
    first: u64,
    next: u64,
    events: u64,
    bytes: u64,
    state: &'static str,
}

#[derive(Serialize)]
struct DamageJson<'a> {
    file: &'a str,
    position: u64,
    what: &'a str,
    meaning: String,
}

/// What a log is like as a whole.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// There is no log.
    Empty,
    Whole,
    /// Whole, but not closed.
    Unclosed,
    Damaged,
}

impl State {
    fn told(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Whole => "whole",
            Self::Unclosed => {
                "whole, but not closed: a process ended at once, and the next start mends it"
            }
            Self::Damaged => "damaged",
        }
    }
}

impl<'a> Summary<'a> {
    fn of(folder: &Path, found: &'a CheckReport) -> Self {
        let id = |offset| found.epoch.map(|epoch| Position { epoch, offset }.to_string());
        let events = found.segments.iter().map(|segment| segment.events).sum();
        let next = found.segments.last().map(|segment| segment.next);
        let (oldest, newest) = match (found.segments.first(), next) {
            (Some(first), Some(next)) if events > 0 => (id(first.base), id(next - 1)),
            _ => (None, None),
        };
        Self {
            folder: folder.display().to_string(),
            state: state(found),
            epoch: found.epoch.map(|epoch| epoch.to_string()),
            oldest,
            newest,
            events,
            bytes: found.segments.iter().map(|segment| segment.bytes).sum(),
            segments: found.segments.iter().map(segment_json).collect(),
            damages: found
                .damages
                .iter()
                .map(|damage| DamageJson {
                    file: &damage.file,
                    position: damage.position,
                    what: &damage.what,
                    meaning: meaning(damage, &found.segments),
                })
                .collect(),
        }
    }
}

fn state(found: &CheckReport) -> State {
    if !found.damages.is_empty() {
        State::Damaged
    } else if found.epoch.is_none() {
        State::Empty
    } else if found.segments.iter().any(|segment| segment.state == SegmentState::Unsealed) {
        State::Unclosed
    } else {
        State::Whole
    }
}

fn segment_json(segment: &CheckedSegment) -> SegmentJson<'_> {
    let &CheckedSegment { ref file, base: first, next, events, bytes, state } = segment;
    let state = match state {
        SegmentState::Sealed => "sealed",
        SegmentState::Unsealed => "not closed",
        SegmentState::Damaged => "damaged",
    };
    SegmentJson { file, first, next, events, bytes, state }
}

/// What it means for the events that `damage` is where it is.
fn meaning(damage: &Damage, segments: &[CheckedSegment]) -> String {
    let Some(place) = segments.iter().position(|segment| segment.file == damage.file) else {
        return "this file says which log it is: without it, ids begin anew and keys are forgotten"
            .into();
    };
    let segment = &segments[place];
    let next = segments.get(place + 1).map_or(segment.next, |next| next.base.max(segment.next));
    match next.checked_sub(1).filter(|&last| last >= segment.base) {
        Some(last) => format!("it holds {}, of which some may be lost", range(segment.base, last)),
        None => format!("it holds the events from {} on, of which some may be lost", segment.base),
    }
}
