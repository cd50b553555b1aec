//! One subscriber: a cursor in the log and what it is doing there.

use slotmap::new_key_type;

use crate::effect::CloseReason;
use crate::timer_wheel::Tick;
use crate::{Epoch, Millis, Start};

new_key_type! {
    /// Names a group of subscribers with equal interests.
    pub(crate) struct GroupKey;
}

/// How a stream is to be served.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Whether notices are delivered.
    pub control: bool,
    /// Whether of what it is behind on it is offered the newest event of each topic alone.
    pub conflate: bool,
    /// `Some(deadline)` ends the stream after the first batch, or at the deadline without one.
    pub poll_deadline: Option<Millis>,
    /// When it may no longer receive anything: the stream ends then, at most a tick of the timers
    /// later.
    pub expires_at: Option<Millis>,
    /// Spreads what would otherwise happen to all streams at once: any number from 0 up to,
    /// not including, 1.
    pub jitter: f32,
}

/// A cursor and its phase. `cursor` is the first offset that has not been offered; for a live
/// subscriber it may lag behind the head by events that do not interest it.
///
/// There may be a million of them, so what few have at a time stands apart.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) group: GroupKey,
    pub(crate) cursor: u64,
    /// The offset it resumed after, until it has received something: what is found to be gone
    /// by then is a gap, later it means that the subscriber fell behind.
    pub(crate) resumed_after: OptionalOffset,
    /// The highest offset whose removal from the middle of the log it need not be told of again.
    /// `None` for a start that named no id until what is kept has been read: it begins with that.
    pub(crate) told_until: OptionalOffset,
    pub(crate) written_at: Millis,
    pub(crate) phase: Phase,
    /// The wheel entry that counts; others are stale.
    pub(crate) timer: Tick,
    /// In 65,536ths.
    jitter: u16,
    /// Whether notices are delivered.
    pub(crate) control: bool,
    pub(crate) conflate: bool,
    rare: Option<Box<Rare>>,
}

/// What a subscriber has that waits, searches or will end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    /// It ends after the first batch.
    pub(crate) is_poll: bool,
    /// A notice was delivered: enough of an answer for a poll.
    pub(crate) is_told: bool,
    /// When it ends in any case, and why.
    pub(crate) end: Option<(Millis, CloseReason)>,
    /// When it may no longer receive anything.
    pub(crate) expires_at: Option<Millis>,
    /// How many events it wanted to begin with, until they are found.
    pub(crate) last: u32,
    /// What is left of its search backwards.
    pub(crate) search: Option<Search>,
    /// The life of the log of the id that it came with, while it is ahead.
    pub(crate) ahead_in: Option<Epoch>,
    /// When the log is asked, or asked again.
    pub(crate) retry_at: Option<Millis>,
}

/// What a subscriber is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Looking backwards for the last events it wants; the cursor is at the oldest found so far.
    Seeking,
    /// A read is under way.
    Reading,
    /// A batch that was read is being offered.
    Offering,
    /// The log could not be read, and is tried again at a certain time.
    WaitingForLog,
    /// Everything before the head is settled; new events go straight to it. The number is its
    /// place among the live members of its group.
    Live { place: u32 },
    /// Its socket takes nothing more.
    Blocked,
    /// The id that it came with is beyond the head, or of another life of the log. It waits until the
    /// head or that life is there; at a certain time the log is asked whether there is such an id.
    Ahead,
    /// As before, and the log is being asked.
    Confirming,
}

/// How much of a search backwards is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Search {
    /// So many are still to be found,
    pub(crate) wanted: u32,
    /// below this offset.
    pub(crate) before: u64,
}

/// An offset or none, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionalOffset(u64);

impl Subscriber {
    /// A new subscriber has a step under way already: [`Phase::Reading`] or [`Phase::Seeking`].
    pub(crate) fn new(group: GroupKey, start: Start, stream: StreamOptions, now: Millis) -> Self {
        let (cursor, search, resumed_after) = match start {
            Start::At(offset) => (offset, None, None),
            Start::After(offset) => (offset + 1, None, Some(offset)),
            Start::Last { wanted: 0, before } => (before, None, None),
            Start::Last { wanted, before } => (before, Some(Search { wanted, before }), None),
            Start::Ahead(position) => (position.offset + 1, None, Some(position.offset)),
        };
        let last = search.map_or(0, |search| search.wanted);
        let end = stream.poll_deadline.map(|deadline| (deadline, CloseReason::PollElapsed));
        let (is_poll, expires_at) = (end.is_some(), stream.expires_at);
        let resumed_after = OptionalOffset::from(resumed_after);
        let mut subscriber = Self {
            group,
            cursor,
            resumed_after,
            told_until: resumed_after,
            written_at: now,
            phase: if search.is_some() { Phase::Seeking } else { Phase::Reading },
            timer: Tick::MAX,
            jitter: (stream.jitter * 65_536.0) as u16,
            control: stream.control,
            conflate: stream.conflate,
            rare: None,
        };
        subscriber.set_rare(Rare { is_poll, end, expires_at, last, search, ..Rare::default() });
        subscriber
    }

    /// From 0 up to, not including, 1.
    pub(crate) fn jitter(&self) -> f64 {
        f64::from(self.jitter) / 65_536.0
    }

    pub(crate) fn rare(&self) -> Rare {
        self.rare.as_deref().copied().unwrap_or_default()
    }

    /// Changes what is rare; takes no memory for nothing.
    pub(crate) fn update_rare(&mut self, update: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare();
        update(&mut rare);
        self.set_rare(rare);
    }

    fn set_rare(&mut self, rare: Rare) {
        if rare == Rare::default() {
            self.rare = None;
        } else {
            **self.rare.get_or_insert_default() = rare;
        }
    }

    /// Whether there is nothing rare about it, which is cheap to ask.
    pub(crate) fn is_plain(&self) -> bool {
        self.rare.is_none()
    }
}

impl OptionalOffset {
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn get(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl From<Option<u64>> for OptionalOffset {
    fn from(offset: Option<u64>) -> Self {
        offset.map_or(Self::NONE, Self)
    }
}

/// What a slot of 72 bytes leaves when its key's version is taken off.
const _: () = assert!(size_of::<Subscriber>() <= 64);
