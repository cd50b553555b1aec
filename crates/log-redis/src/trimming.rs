//! Letting go of events and keys, a bounded number in one step of the server.

use tidings_core::Bounds;
use tidings_log::shared::{Cut, EngineError, Life};

use crate::connection::REPLY_BYTES;
use crate::finding::Link;
use crate::layout::Keys;
use crate::scripts;
use crate::wire::Reply;

/// Trims until all is done, or for so many steps that others have to have their turn.
pub(crate) fn trim(
    link: &mut Link,
    keys: &Keys,
    life: &Life,
    cut: &Cut<'_>,
) -> Result<Bounds, EngineError> {
    let (mut offsets, mut dropped) = (cut.offsets, cut.dropped);
    let mut steps = 0;
    loop {
        let (now, later) = offsets.split_at(offsets.len().min(OFFSETS_STEP));
        // What is dropped is told before it is gone, so that nobody misses it untold.
        let (told, untold) = dropped.split_at(dropped.len().min(OFFSETS_STEP));
        let is_told = untold.is_empty();
        let now = if is_told { now } else { &[] };
        let (bounds, has_more) = step(link, keys, life, cut, now, told)?;
        dropped = untold;
        if is_told {
            offsets = later;
        }
        steps += 1;
        if offsets.is_empty() && dropped.is_empty() && (!has_more || steps >= STEPS_MAX) {
            return Ok(bounds);
        }
    }
}

fn step(
    link: &mut Link,
    keys: &Keys,
    life: &Life,
    cut: &Cut<'_>,
    offsets: &[u64],
    dropped: &[(tidings_core::Topic, u64)],
) -> Result<(Bounds, bool), EngineError> {
    let mut words = vec![life.epoch.to_string(), life.server.clone()];
    let window = cut.keys;
    let numbers = [
        cut.events_max,
        cut.bytes_max,
        cut.appended_before,
        cut.now,
        window.age_max_ms,
        window.runs_max as u64,
        offsets.len() as u64,
    ];
    words.extend(numbers.iter().map(u64::to_string));
    words.extend(offsets.iter().map(u64::to_string));
    for (topic, offset) in dropped {
        words.push(topic.as_str().to_owned());
        words.push(offset.to_string());
    }
    let names = [
        &keys.events,
        &keys.meta,
        &keys.finished,
        &keys.keys,
        &keys.ages,
        &keys.runs,
        &keys.dropped,
        &keys.holes,
    ];
    let reply = link.run(&scripts::TRIM, &names.map(String::as_str), &words, REPLY_BYTES)?;
    if reply.as_str() == Some("L") {
        return Err(EngineError::OtherLife);
    }
    let told = reply.into_list().unwrap_or_default();
    let number = |place: usize| told.get(place).and_then(Reply::as_u64);
    match (number(0), number(1), number(2)) {
        (Some(next), Some(oldest), Some(more)) if oldest <= next => {
            Ok((Bounds { oldest, next }, more == 1))
        }
        _ => Err(link.connection.unexpected("numbers")),
    }
}

/// So that a step takes about as long as an append.
const OFFSETS_STEP: usize = 500;
/// What is left is for the next time.
const STEPS_MAX: u32 = 100;
