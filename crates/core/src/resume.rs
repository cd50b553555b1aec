//! Where a stream begins, and what is said when it cannot begin where it was asked to.

use crate::{Epoch, Position};

/// The part of the log that can be read: `oldest` up to, not including, `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest kept offset; equal to `next` when nothing is kept.
    pub oldest: u64,
    /// The offset that the next event will have.
    pub next: u64,
}

/// The first event a subscriber is interested in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This offset and all that follow it.
    At(u64),
    /// All that follow this offset, which a client named as the last it has seen.
    After(u64),
    /// The last `wanted` kept events that match and are below the offset `before`, then all from
    /// there on.
    Last {
        /// How many.
        wanted: u32,
        /// The offset of the next event, when the subscriber came.
        before: u64,
    },
    /// All that follow this position, which a client named as the last it has seen, and which this node
    /// has not: of a shared log another node may know more. If nobody has given it out, the stream begins
    /// with everything that is kept.
    Ahead(Position),
}

/// What a subscriber missed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The id that was asked for, as far as it can be repeated safely: at most
    /// [`Gap::REQUESTED_BYTES_MAX`] bytes of printable ASCII, everything else replaced by `?`.
    pub requested: String,
    /// Where the stream goes on: the oldest kept offset, or the next one if nothing is kept.
    pub oldest: u64,
    /// Why it cannot be resumed.
    pub reason: GapReason,
}

impl Gap {
    /// The length at which [`Gap::requested`] is cut.
    pub const REQUESTED_BYTES_MAX: usize = 128;

    /// What someone missed who stood at a position that cannot be resumed.
    pub(crate) fn after(position: Position, oldest: u64, reason: GapReason) -> Self {
        Self { requested: position.to_string(), oldest, reason }
    }

    fn new(requested: &[u8], bounds: Bounds, reason: GapReason) -> Self {
        let printable =
            |&byte: &u8| if matches!(byte, 0x20..=0x7e) { char::from(byte) } else { '?' };
        let requested = requested.iter().take(Self::REQUESTED_BYTES_MAX).map(printable).collect();
        Self { requested, oldest: bounds.oldest, reason }
    }
}

/// Why an id cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Events after it are no longer kept.
    Trimmed,
    /// It is an id of another life of the log.
    UnknownEpoch,
    /// It was never given out by this hub.
    Invalid,
}

impl GapReason {
    /// The word for it on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::UnknownEpoch => "unknown-epoch",
            Self::Invalid => "invalid",
        }
    }
}

/// Where to begin after `requested`, an id as a client sent it: any bytes at all.
///
/// With a gap the stream begins with everything that is kept. If the log `is_shared`, what this node has
/// not seen may have been given out by another one all the same.
pub fn resume_after(
    requested: &[u8],
    epoch: Epoch,
    bounds: Bounds,
    is_shared: bool,
) -> (Start, Option<Gap>) {
    let parsed = std::str::from_utf8(requested).ok().and_then(|text| text.parse::<Position>().ok());
    let reason = match parsed {
        None => GapReason::Invalid,
        Some(position) if position.offset > OFFSET_MAX => GapReason::Invalid,
        Some(position)
            if is_shared && (position.epoch != epoch || position.offset >= bounds.next) =>
        {
            return (Start::Ahead(position), None);
        }
        Some(position) if position.epoch != epoch => GapReason::UnknownEpoch,
        Some(position) if position.offset >= bounds.next => GapReason::Invalid,
        Some(position) if position.offset + 1 < bounds.oldest => GapReason::Trimmed,
        Some(position) => return (Start::After(position.offset), None),
    };
    (Start::At(bounds.oldest), Some(Gap::new(requested, bounds, reason)))
}

/// More than any log gives out, and less than would overflow anywhere.
const OFFSET_MAX: u64 = u64::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { oldest: 20, next: 42 };

    /// `expected` is the offset to resume after.
    fn check(requested: &str, bounds: Bounds, expected: Result<u64, GapReason>) {
        let epoch = Epoch::from_random(7);
        let requested = requested.replace("E-", &format!("{epoch}-"));
        let position = requested.parse::<Position>();
        for is_shared in [false, true] {
            let (start, gap) = resume_after(requested.as_bytes(), epoch, bounds, is_shared);
            // Whether somebody else has given it out is not known yet.
            let is_unseen = |it: &&Position| it.epoch != epoch || it.offset >= bounds.next;
            let unseen = |it: &&Position| it.offset <= OFFSET_MAX && is_unseen(it);
            if is_shared && let Some(&position) = position.as_ref().ok().filter(unseen) {
                assert_eq!((start, gap), (Start::Ahead(position), None), "{requested}");
                continue;
            }
            match expected {
                Ok(offset) => assert_eq!((start, gap), (Start::After(offset), None), "{requested}"),
                Err(reason) => {
                    assert_eq!(start, Start::At(bounds.oldest), "{requested}");
                    assert_eq!(gap.unwrap().reason, reason, "{requested}");
                }
            }
        }
    }

    #[test]
    fn an_id_resumes_only_where_nothing_is_missing() {
        check("E-41", BOUNDS, Ok(41));
        check("E-20", BOUNDS, Ok(20));
        check("E-19", BOUNDS, Ok(19));
        check("E-18", BOUNDS, Err(GapReason::Trimmed));
        check("E-0", BOUNDS, Err(GapReason::Trimmed));
        check("E-0", Bounds { oldest: 1, next: 1 }, Ok(0));
    }

    #[test]
    fn what_was_never_given_out_is_invalid() {
        check("E-42", BOUNDS, Err(GapReason::Invalid));
        check("E-9223372036854775807", BOUNDS, Err(GapReason::Invalid));
        check("E-9223372036854775808", BOUNDS, Err(GapReason::Invalid));
        check("E-18446744073709551615", BOUNDS, Err(GapReason::Invalid));
        check("", BOUNDS, Err(GapReason::Invalid));
        check("41", BOUNDS, Err(GapReason::Invalid));
        check("E-041", BOUNDS, Err(GapReason::Invalid));
        check(&"x".repeat(10_000), BOUNDS, Err(GapReason::Invalid));
    }

    #[test]
    fn an_id_of_another_life_is_not_mistaken() {
        let other = Position { epoch: Epoch::from_random(8), offset: 30 };
        check(&other.to_string(), BOUNDS, Err(GapReason::UnknownEpoch));
    }

    #[test]
    fn a_gap_repeats_the_id_safely() {
        let hostile = [b"a\r\n\0\xff\"".as_slice(), &[b'x'; 10_000]].concat();
        let (_, gap) = resume_after(&hostile, Epoch::from_random(7), BOUNDS, true);
        let requested = gap.unwrap().requested;
        assert_eq!(requested.len(), Gap::REQUESTED_BYTES_MAX);
        assert!(requested.starts_with("a????\"xx"));
    }
}
