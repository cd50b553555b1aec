//! One subscriber: a cursor in the log and what it is doing there.

use slotmap::new_key_type;

use crate::effect::CloseReason;
use crate::{Millis, Start};

new_key_type! {
    /// Names a group of subscribers with equal interests.
    pub(crate) struct GroupKey;
}

/// How a stream is to be served.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Whether notices are delivered.
    pub control: bool,
    /// `Some(deadline)` ends the stream after the first batch, or at the deadline without one.
    pub poll_deadline: Option<Millis>,
    /// Spreads what would otherwise happen to all streams at once: any number from 0 up to,
    /// not including, 1.
    pub jitter: f32,
}

/// A cursor and its phase. `cursor` is the first offset that has not been offered; for a live
/// subscriber it may lag behind the head by events that do not interest it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) group: GroupKey,
    pub(crate) cursor: u64,
    pub(crate) phase: Phase,
    /// The offset it resumed after, until it has received something: what is found to be gone
    /// by then is a gap, later it means that the subscriber fell behind.
    pub(crate) resumed_after: Option<u64>,
    /// The highest offset whose removal from the middle of the log it need not be told of again.
    /// `None` for a start that named no id until what is kept has been read: it begins with that.
    pub(crate) told_until: Option<u64>,
    pub(crate) stream: StreamOptions,
    /// A notice was delivered: enough of an answer for a poll.
    pub(crate) is_told: bool,
    /// When it ends in any case, and why.
    pub(crate) end: Option<(Millis, CloseReason)>,
    pub(crate) written_at: Millis,
    /// The wheel entry that counts; others are stale.
    pub(crate) timer_at: Millis,
}

/// What a subscriber is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Looking backwards for the last events it wants; the cursor is at the oldest found so far.
    Seeking(Search),
    /// A read is under way.
    Reading,
    /// A batch that was read is being offered.
    Offering,
    /// The log could not be read; it is tried again at this time.
    WaitingForLog { retry_at: Millis, search: Option<Search> },
    /// Everything before the head is settled; new events go straight to it. The number is its
    /// place among the live members of its group.
    Live { place: u32 },
    /// Its socket takes nothing more.
    Blocked,
}

/// How much of a search backwards is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Search {
    /// So many are still to be found,
    pub(crate) wanted: u32,
    /// below this offset.
    pub(crate) before: u64,
}

impl Subscriber {
    /// A new subscriber has a step under way already: [`Phase::Reading`] or [`Phase::Seeking`].
    pub(crate) fn new(
        group: GroupKey,
        start: Start,
        head: u64,
        stream: StreamOptions,
        now: Millis,
    ) -> Self {
        let (cursor, phase, resumed_after) = match start {
            Start::At(offset) => (offset, Phase::Reading, None),
            Start::After(offset) => (offset + 1, Phase::Reading, Some(offset)),
            Start::Last(0) => (head, Phase::Reading, None),
            Start::Last(wanted) => (head, Phase::Seeking(Search { wanted, before: head }), None),
        };
        let end = stream.poll_deadline.map(|deadline| (deadline, CloseReason::PollElapsed));
        let timer_at = Millis::MAX;
        Self {
            group,
            cursor,
            phase,
            resumed_after,
            told_until: resumed_after,
            stream,
            is_told: false,
            end,
            written_at: now,
            timer_at,
        }
    }
}
