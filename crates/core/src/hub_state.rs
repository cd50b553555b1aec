//! Decides who receives what.
//!
//! A pure state machine in the manner of a protocol core: `handle_*` takes what happened, plain
//! verbs are commands, `poll_*` gives what to do next, and `now` is an argument. It knows no
//! sockets, no clock, no log, and nothing of what an event contains. Drain the effects after each
//! call that changes something.
//!
//! It guarantees, whatever the order of calls: a subscriber is offered every event from its start
//! on that its interest admits, once, in order, except those that a [`Notice`] announced as gone.
//! A subscriber of exact topics alone ends once they are all finished and it has been offered what
//! was published before, even if the last events are of types that it does not want; of a last event
//! that its rights do not cover it never learns.
//! It keeps nothing for a subscriber but a cursor: what a subscriber cannot take now is read again
//! later. One that conflates is offered, of what it is behind on, the newest event of each topic
//! alone, and told how many were left out; what is live it is offered whole.
//!
//! The log may begin another life: then every subscriber is told that what it has seen is over, and goes on with
//! what is kept. One that comes with an id that the log has given out elsewhere, and that is not known here yet,
//! waits for it.
//!
//! Subscribers with equal interests form a group, and a published event is matched against groups.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use slotmap::{Key, SlotMap};

use crate::conflation::{CONFLATED_TOPICS_MAX, Conflation};
use crate::effect::{
    Batch, CloseReason, ConfirmOutcome, Effect, ExpiryReason, Notice, ReadOutcome, SeekOutcome,
    SubscriberKey, Write,
};
use crate::finished_topics::FinishedTopics;
use crate::short_vec::ShortVec;
use crate::subscriber::{GroupKey, OptionalOffset, Phase, Search, StreamOptions, Subscriber};
use crate::timer_wheel::{Tick, TimerWheel, tick_of};
use crate::{
    Bounds, Entry, Epoch, Gap, GapReason, Interest, Millis, Position, Start, Topic, TopicIndex,
};

/// The times the state machine keeps.
#[derive(Debug, Clone, Copy)]
pub struct StateOptions {
    /// A stream that was silent for this long receives a heartbeat, the first of a silence at most a
    /// fifth earlier.
    pub heartbeat_ms: Millis,
    /// A subscriber that took nothing for this long while bytes waited is closed.
    pub write_timeout_ms: Millis,
    /// How long to wait at least before a log that could not be read is tried again; at most it is
    /// twice that, so that those who wait do not come together.
    pub log_retry_ms: Millis,
    /// How long the head may take to reach the id that someone came with, before the log is asked for that.
    pub confirm_after_ms: Millis,
}

/// The subscribers of one shard and their places in the log.
#[derive(Debug)]
pub struct HubState<P> {
    epoch: Epoch,
    options: StateOptions,
    /// The first offset that has not been appended.
    head: u64,
    subscribers: SlotMap<SubscriberKey, Subscriber>,
    groups: SlotMap<GroupKey, Group>,
    group_by_interest: HashMap<Arc<Interest>, GroupKey>,
    index: TopicIndex<GroupKey>,
    wheel: TimerWheel<SubscriberKey>,
    effects: VecDeque<Effect<P>>,
    broadcasts: VecDeque<Broadcast<P>>,
    /// For those who conflate and are behind, and nobody else.
    conflations: HashMap<SubscriberKey, Box<Conflation<P>>>,
    conflated_topics_max: usize,
    /// Those who are ahead of the head in this life of the log, with their cursors.
    ahead: BTreeSet<(u64, SubscriberKey)>,
    /// The groups that one entry may be for; empty between calls.
    candidates: Vec<GroupKey>,
    /// What the entries being appended hold for each group they matched; empty between calls.
    touched: Vec<Touched<P>>,
    /// What is due; empty between calls.
    due: Vec<(Tick, SubscriberKey)>,
}

/// Subscribers with equal interests.
#[derive(Debug)]
struct Group {
    interest: Arc<Interest>,
    live: ShortVec<SubscriberKey>,
    finished: FinishedTopics,
    member_count: u32,
    /// Its place among the touched groups, or [`UNTOUCHED`], as it is between calls.
    touched: u32,
    /// Whether public events of its topics may not be for it.
    is_filtered: bool,
}

/// A group that entries being appended are for, or whose topics they finish.
#[derive(Debug)]
struct Touched<P> {
    group: GroupKey,
    matched: Vec<Arc<Entry<P>>>,
}

/// A batch on its way to the live members of a group, from the last to the first, so that a member
/// that leaves only moves one that has been visited.
#[derive(Debug)]
struct Broadcast<P> {
    group: GroupKey,
    /// `None` if nothing is to be offered, but who has settled everything before `next` may end.
    batch: Option<Arc<Batch<P>>>,
    /// Everything before this offset is settled for those who have been visited.
    next: u64,
    /// How many members are still to be visited; `None` before the first.
    remaining: Option<usize>,
}

impl<P> HubState<P> {
    /// Makes a state without subscribers that has settled everything before `head`.
    pub fn new(epoch: Epoch, head: u64, options: StateOptions) -> Self {
        Self {
            epoch,
            options,
            head,
            subscribers: SlotMap::with_key(),
            groups: SlotMap::with_key(),
            group_by_interest: HashMap::new(),
            index: TopicIndex::new(),
            wheel: TimerWheel::new(),
            effects: VecDeque::new(),
            broadcasts: VecDeque::new(),
            conflations: HashMap::new(),
            conflated_topics_max: CONFLATED_TOPICS_MAX,
            ahead: BTreeSet::new(),
            candidates: Vec::new(),
            touched: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Adds a subscriber. A `gap` that was found while its start was resolved is announced first.
    /// A subscriber that is owed nothing any more is closed by the next effects.
    ///
    /// `finished` are all topics that `interest` names and that the log holds for finished by an event
    /// that it may receive, each with the offset of that event. The log must be asked after the last call of
    /// [`handle_appended`](Self::handle_appended): it may know of more events, but not of fewer.
    pub fn subscribe(
        &mut self,
        interest: Interest,
        finished: &[(Topic, u64)],
        start: Start,
        gap: Option<Gap>,
        stream: StreamOptions,
        now: Millis,
    ) -> SubscriberKey {
        let group = self.join_group(interest, finished);
        let subscriber = Subscriber::new(group, start, stream, now);
        let key = self.subscribers.insert(subscriber);
        if let Some(gap) = gap {
            self.announce(key, Notice::Gap(gap));
        }
        self.schedule(key, now);
        match (start, self.subscribers[key].rare().search) {
            (Start::Ahead(position), _) => self.wait_ahead(key, position.epoch, now),
            (_, Some(search)) => self.seek(key, search),
            _ => self.advance(key, now),
        }
        key
    }

    /// Forgets a subscriber. A key that is gone already is no error.
    pub fn unsubscribe(&mut self, key: SubscriberKey) {
        self.remove(key);
    }

    /// Ends every stream, spread over `drain_ms`; see [`dismiss`](Self::dismiss).
    pub fn shutdown(&mut self, retry_ms: Millis, drain_ms: Millis, now: Millis) {
        let keys: Vec<SubscriberKey> = self.subscribers.keys().collect();
        for (index, &key) in keys.iter().enumerate() {
            let end_at = now + drain_ms * index as Millis / keys.len() as Millis;
            self.dismiss(key, retry_ms, end_at, now);
        }
    }

    /// Ends a stream at a time: it is told to come back after a time between `retry_ms` and five times
    /// that. Events are delivered until it ends. A key that is gone already is no error.
    pub fn dismiss(&mut self, key: SubscriberKey, retry_ms: Millis, end_at: Millis, now: Millis) {
        let Some(subscriber) = self.subscribers.get(key) else { return };
        let retry_ms = retry_ms + (4.0 * subscriber.jitter() * retry_ms as f64) as Millis;
        self.announce(key, Notice::Shutdown { retry_ms });
        let end = (end_at, CloseReason::Shutdown);
        self.subscribers[key].update_rare(|rare| rare.end = Some(end));
        self.schedule(key, now);
    }

    /// Ends a stream at once, and tells it why. A key that is gone already is no error.
    pub fn expel(&mut self, key: SubscriberKey, reason: ExpiryReason) {
        if self.subscribers.contains_key(key) {
            self.expire(key, reason);
        }
    }

    /// The subscribers, in an order that stays, from the one after `after` on.
    pub fn subscribers_after(
        &self,
        after: Option<SubscriberKey>,
    ) -> impl Iterator<Item = SubscriberKey> {
        let place = |key: SubscriberKey| key.data().as_ffi() & u64::from(u32::MAX);
        let after = after.map(place);
        self.subscribers.keys().filter(move |&key| after.is_none_or(|after| place(key) > after))
    }

    /// What a subscriber wants, and up to where everything is settled for it.
    pub fn subscriber(&self, key: SubscriberKey) -> Option<(&Arc<Interest>, Position)> {
        let subscriber = self.subscribers.get(key)?;
        Some((&self.groups[subscriber.group].interest, self.stands_at(key)))
    }

    /// Takes events that have been appended to the log, in order and without a hole.
    ///
    /// # Panics
    ///
    /// If the first offset is not the one after the last event handed in.
    pub fn handle_appended(&mut self, entries: &[Arc<Entry<P>>]) {
        for entry in entries {
            assert_eq!(entry.offset, self.head, "appended events leave no hole");
            self.head += 1;
            self.index.matches(&entry.topics, &mut self.candidates);
            for key in self.candidates.drain(..) {
                let group = &mut self.groups[key];
                group.finished.note(&group.interest, entry);
                if group.live.is_empty() {
                    continue;
                }
                let passes = !(group.is_filtered || entry.private)
                    || group.interest.passes(
                        &entry.topics,
                        entry.event_type.as_ref(),
                        entry.private,
                    );
                let is_over = entry.is_final && group.finished.end().is_some();
                if !passes && !is_over {
                    continue;
                }
                if group.touched == UNTOUCHED {
                    group.touched = self.touched.len() as u32;
                    self.touched.push(Touched { group: key, matched: Vec::new() });
                }
                if passes {
                    let touched = &mut self.touched[group.touched as usize];
                    touched.matched.push(Arc::clone(entry));
                }
            }
        }
        let next = self.head;
        for Touched { group, matched: entries } in self.touched.drain(..) {
            self.groups[group].touched = UNTOUCHED;
            let batch = (!entries.is_empty()).then(|| Arc::new(Batch { entries, next }));
            self.broadcasts.push_back(Broadcast { group, batch, next, remaining: None });
        }
        self.overtake();
    }

    /// Takes note that events up to, not including, `next` have been appended but cannot be handed
    /// in: who is live reads them from the log. `finished` asks the log for the offset of the last
    /// event of a topic, `None` while it is open or if it is not for those who want this.
    pub fn handle_skipped(
        &mut self,
        next: u64,
        finished: impl Fn(&Interest, &Topic) -> Option<u64>,
    ) {
        let settled: Vec<(SubscriberKey, u64)> = self
            .groups
            .values()
            .flat_map(|group| group.live.as_slice().iter().map(|&key| (key, self.settled(key))))
            .collect();
        self.head = self.head.max(next);
        self.ask_finished(finished);
        for (key, cursor) in settled {
            if cursor < self.head {
                self.leave_live(key);
                self.subscribers[key].cursor = cursor;
                self.read(key);
            } else if self.is_finished(key) {
                self.finish(key);
            }
        }
        self.overtake();
    }

    /// Takes note that the log has begun another life, of which `bounds` can be read; what is appended next
    /// comes by [`handle_appended`](Self::handle_appended). Every subscriber is told that the life is over in
    /// which it stood, and goes on with the oldest kept event. Who has no place yet looks for it anew. What was
    /// asked of the log in another life needs no answer. `finished` is asked as in
    /// [`handle_skipped`](Self::handle_skipped).
    ///
    /// # Panics
    ///
    /// If effects are left to be done.
    pub fn handle_new_life(
        &mut self,
        epoch: Epoch,
        bounds: Bounds,
        finished: impl Fn(&Interest, &Topic) -> Option<u64>,
        now: Millis,
    ) {
        let is_idle = self.effects.is_empty() && self.broadcasts.is_empty();
        assert!(is_idle, "what happened in one life is done before the next begins");
        let stood: Vec<(SubscriberKey, Position)> =
            self.subscribers.keys().map(|key| (key, self.stands_at(key))).collect();
        let ended = std::mem::replace(&mut self.epoch, epoch);
        self.head = bounds.next;
        self.ahead = BTreeSet::new();
        self.conflations = HashMap::new();
        self.groups.values_mut().for_each(|group| group.live = ShortVec::Empty);
        self.ask_finished(finished);
        for (key, stood_at) in stood {
            self.begin_life(key, stood_at, ended, bounds, now);
        }
    }

    /// Takes the answer to [`Effect::Write`]: the first `accepted` entries were taken, and
    /// `writable` says whether more would be. What was not taken is offered again from the log.
    pub fn handle_written(
        &mut self,
        write: &Write<P>,
        accepted: usize,
        writable: bool,
        now: Millis,
    ) {
        let key = write.subscriber;
        let Some(subscriber) = self.subscribers.get_mut(key) else { return };
        let rest = write.batch.entries.get(accepted);
        subscriber.cursor = rest.map_or(write.batch.next, |entry| entry.offset);
        if accepted > 0 {
            subscriber.written_at = now;
            subscriber.resumed_after = OptionalOffset::NONE;
        }
        let is_answered = accepted > 0 && !subscriber.is_plain() && subscriber.rare().is_poll;
        if subscriber.conflate && !write.live {
            self.note_offered(key, &write.batch, accepted);
        }
        if self.is_finished(key) {
            self.finish(key);
        } else if is_answered {
            self.close(key, CloseReason::PollDone);
        } else if rest.is_some() || !writable {
            self.block(key, now);
        } else if self.subscribers[key].phase == Phase::Offering {
            self.advance(key, now);
        }
    }

    /// Takes note that a subscriber that was blocked can be written to again.
    pub fn handle_writable(&mut self, key: SubscriberKey, now: Millis) {
        if self.phase(key) == Some(Phase::Blocked) {
            self.advance(key, now);
        }
    }

    /// Takes the answer to [`Effect::Heartbeat`] where none was sent because earlier bytes have
    /// been waiting since `since`.
    pub fn handle_backlog(&mut self, key: SubscriberKey, since: Millis, now: Millis) {
        if !self.subscribers.contains_key(key) {
            return;
        }
        let deadline = since + self.options.write_timeout_ms;
        if deadline <= now {
            self.close(key, CloseReason::WriteTimeout);
        } else {
            self.schedule_at(key, deadline);
        }
    }

    /// Takes the answer to [`Effect::Read`]. `epoch` was that of the [state](Self::epoch) when the log was asked:
    /// an answer of another life is of no use.
    pub fn handle_read(
        &mut self,
        key: SubscriberKey,
        epoch: Epoch,
        outcome: ReadOutcome<P>,
        now: Millis,
    ) {
        if epoch != self.epoch || self.phase(key) != Some(Phase::Reading) {
            return;
        }
        match outcome {
            ReadOutcome::Entries { entries, next, dropped, is_scarce } => {
                self.tell_dropped(key, dropped);
                let entries = self.admitted(key, entries);
                if self.subscribers[key].conflate {
                    self.conflate(key, entries, next, is_scarce, now);
                } else {
                    self.offer(key, entries, next, now);
                }
            }
            ReadOutcome::Trimmed { oldest } => {
                self.skip_to(key, oldest);
                self.advance(key, now);
            }
            // What was read before is not held until the log is back.
            ReadOutcome::Failed if self.holds(key) => self.offer_held(key),
            ReadOutcome::Failed => self.wait_for_log(key, now),
        }
    }

    /// Takes the answer to [`Effect::Seek`]; `epoch` as in [`handle_read`](Self::handle_read).
    pub fn handle_sought(
        &mut self,
        key: SubscriberKey,
        epoch: Epoch,
        outcome: SeekOutcome,
        now: Millis,
    ) {
        if epoch != self.epoch || self.phase(key) != Some(Phase::Seeking) {
            return;
        }
        match outcome {
            SeekOutcome::Found { found, lowest, before, complete } => {
                let subscriber = &mut self.subscribers[key];
                subscriber.cursor = lowest.unwrap_or(subscriber.cursor);
                let search = subscriber.rare().search;
                let wanted = search.map_or(0, |search| search.wanted.saturating_sub(found));
                if wanted == 0 || complete {
                    subscriber.update_rare(|rare| (rare.last, rare.search) = (0, None));
                    self.advance(key, now);
                } else {
                    self.seek(key, Search { wanted, before });
                }
            }
            SeekOutcome::Failed => self.wait_for_log(key, now),
        }
    }

    /// Takes the answer to [`Effect::Confirm`]; `epoch` as in [`handle_read`](Self::handle_read).
    pub fn handle_confirmed(
        &mut self,
        key: SubscriberKey,
        epoch: Epoch,
        outcome: ConfirmOutcome,
        now: Millis,
    ) {
        if epoch != self.epoch || self.phase(key) != Some(Phase::Confirming) {
            return;
        }
        self.subscribers[key].phase = Phase::Ahead;
        let is_of_this_life = self.subscribers[key].rare().ahead_in == Some(self.epoch);
        match outcome {
            ConfirmOutcome::Unknown { oldest } => {
                let stood_at = self.stands_at(key);
                let reason =
                    if is_of_this_life { GapReason::Invalid } else { GapReason::UnknownEpoch };
                self.leave_ahead(key);
                self.begin_anew(key, stood_at, reason, oldest);
                return self.advance(key, now);
            }
            // The head will get there.
            ConfirmOutcome::GivenOut if is_of_this_life => {}
            // The other life will come; unless it is over by then as well.
            ConfirmOutcome::GivenOut | ConfirmOutcome::Failed => {
                self.ask_at(key, self.retry_at(key, now));
            }
        }
        if let Some((_, reason)) = self.subscribers[key].rare().end.filter(|&(at, _)| at <= now) {
            self.close(key, reason);
        }
    }

    /// Takes note of the time: sends heartbeats and ends what has timed out.
    pub fn handle_timeout(&mut self, now: Millis) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        for (tick, key) in due.drain(..) {
            // One that was scheduled again since has an entry of its own for that.
            if self.subscribers.get(key).is_some_and(|subscriber| subscriber.timer == tick) {
                self.handle_deadline(key, now);
            }
        }
        self.due = due;
        self.due.shrink_to(DUE_CAPACITY_KEPT);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), or `None` if nothing waits.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.wheel.next_deadline()
    }

    /// What to do next, or `None` when all is done.
    pub fn poll_effect(&mut self) -> Option<Effect<P>> {
        self.effects.pop_front().or_else(|| self.poll_broadcast())
    }

    /// Which life of the log this is about.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first offset that has not been appended.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// How many subscribers there are.
    pub fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    /// How many different interests the subscribers have.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn poll_broadcast(&mut self) -> Option<Effect<P>> {
        while let Some(broadcast) = self.broadcasts.front_mut() {
            let live =
                self.groups.get(broadcast.group).map_or(&[][..], |group| group.live.as_slice());
            let remaining = broadcast.remaining.unwrap_or(live.len()).min(live.len());
            let Some(place) = remaining.checked_sub(1) else {
                self.broadcasts.pop_front();
                continue;
            };
            broadcast.remaining = Some(place);
            let (key, next) = (live[place], broadcast.next);
            let subscriber = &mut self.subscribers[key];
            // It went live after this batch was appended, or has been visited.
            let is_settled = subscriber.cursor >= next;
            let Some(batch) = broadcast.batch.clone().filter(|_| !is_settled) else {
                subscriber.cursor = subscriber.cursor.max(next);
                if self.is_finished(key) {
                    self.finish(key);
                    return self.effects.pop_front();
                }
                continue;
            };
            let cursor = subscriber.cursor;
            if cursor > batch.entries[0].offset {
                // It began in the middle of the batch.
                self.leave_live(key);
                self.read(key);
                return self.effects.pop_front();
            }
            return Some(Effect::Write(Write { subscriber: key, batch, live: true }));
        }
        None
    }

    /// Moves a subscriber on from its cursor: to its end if its topics are finished, to the live
    /// members at the head, else to a read.
    fn advance(&mut self, key: SubscriberKey, now: Millis) {
        if self.is_finished(key) {
            return self.finish(key);
        }
        let head = self.head;
        let subscriber = &mut self.subscribers[key];
        if subscriber.conflate && self.conflations.contains_key(&key) {
            return self.advance_conflation(key, now);
        }
        if subscriber.cursor < head {
            return self.read(key);
        }
        let rare = subscriber.rare();
        if rare.expires_at.is_some_and(|at| at <= now) {
            return self.expire(key, ExpiryReason::Expired);
        }
        if let Some((_, reason)) = rare.end.filter(|&(deadline, _)| deadline <= now) {
            return self.close(key, reason);
        }
        if rare.is_poll && rare.is_told {
            return self.close(key, CloseReason::PollDone);
        }
        self.go_live(key);
    }

    fn go_live(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        if subscriber.told_until == OptionalOffset::NONE {
            subscriber.told_until = Some(subscriber.cursor.saturating_sub(1)).into();
        }
        let live = &mut self.groups[subscriber.group].live;
        subscriber.phase = Phase::Live { place: live.len() as u32 };
        live.push(key);
    }

    /// Waits for an id of that life of the log, after which the subscriber is to begin.
    fn wait_ahead(&mut self, key: SubscriberKey, epoch: Epoch, now: Millis) {
        let subscriber = &mut self.subscribers[key];
        let cursor = subscriber.cursor;
        if epoch == self.epoch && cursor <= self.head {
            subscriber.update_rare(|rare| rare.ahead_in = None);
            return self.advance(key, now);
        }
        subscriber.phase = Phase::Ahead;
        subscriber.update_rare(|rare| rare.ahead_in = Some(epoch));
        let is_poll = subscriber.rare().is_poll;
        if epoch == self.epoch {
            self.ahead.insert((cursor, key));
            // Nearly always the node is only a little behind the one that the client comes from.
            if !is_poll {
                return self.ask_at(key, now + self.options.confirm_after_ms);
            }
        }
        self.confirm(key);
    }

    /// Moves on those whom the head has overtaken.
    fn overtake(&mut self) {
        while let Some(&(cursor, key)) = self.ahead.first()
            && cursor <= self.head
        {
            self.leave_ahead(key);
            if self.is_finished(key) {
                self.finish(key);
            } else if cursor < self.head {
                self.read(key);
            } else {
                self.go_live(key);
            }
        }
    }

    fn leave_ahead(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        self.ahead.remove(&(subscriber.cursor, key));
        subscriber.update_rare(|rare| (rare.ahead_in, rare.retry_at) = (None, None));
    }

    fn confirm(&mut self, key: SubscriberKey) {
        let position = self.stands_at(key);
        self.subscribers[key].phase = Phase::Confirming;
        self.effects.push_back(Effect::Confirm { subscriber: key, position });
    }

    /// Asks the log at a time, or asks it again.
    fn ask_at(&mut self, key: SubscriberKey, at: Millis) {
        self.subscribers[key].update_rare(|rare| rare.retry_at = Some(at));
        self.schedule_at(key, at);
    }

    fn retry_at(&self, key: SubscriberKey, now: Millis) -> Millis {
        let retry_ms = self.options.log_retry_ms;
        now + retry_ms + (self.subscribers[key].jitter() * retry_ms as f64) as Millis
    }

    /// Has a subscriber begin in a life of the log that is new for it.
    fn begin_life(
        &mut self,
        key: SubscriberKey,
        stood_at: Position,
        ended: Epoch,
        bounds: Bounds,
        now: Millis,
    ) {
        let subscriber = &mut self.subscribers[key];
        subscriber.update_rare(|rare| rare.retry_at = None);
        let (phase, rare) = (subscriber.phase, subscriber.rare());
        // Its place among the live ones is gone.
        if let Phase::Live { .. } = phase {
            subscriber.phase = Phase::Reading;
        }
        if rare.search.is_some() {
            subscriber.cursor = bounds.next;
            self.seek(key, Search { wanted: rare.last, before: bounds.next });
        } else if rare.ahead_in.is_some_and(|epoch| epoch != ended) {
            self.wait_ahead(key, stood_at.epoch, now);
        } else {
            subscriber.update_rare(|rare| rare.ahead_in = None);
            self.begin_anew(key, stood_at, GapReason::UnknownEpoch, bounds.oldest);
            if phase != Phase::Blocked {
                self.advance(key, now);
            }
        }
    }

    /// Goes on at `oldest`, and says that it cannot be after where a subscriber stood.
    fn begin_anew(
        &mut self,
        key: SubscriberKey,
        stood_at: Position,
        reason: GapReason,
        oldest: u64,
    ) {
        let subscriber = &mut self.subscribers[key];
        subscriber.cursor = oldest;
        subscriber.resumed_after = OptionalOffset::NONE;
        let is_at_head = oldest >= self.head;
        subscriber.told_until = is_at_head.then(|| oldest.saturating_sub(1)).into();
        self.announce(key, Notice::Gap(Gap::after(stood_at, oldest, reason)));
    }

    fn ask_finished(&mut self, finished: impl Fn(&Interest, &Topic) -> Option<u64>) {
        for group in self.groups.values_mut() {
            let topics = group.interest.exact_topics().into_iter().flatten();
            let known =
                topics.filter_map(|topic| Some((topic.clone(), finished(&group.interest, topic)?)));
            group.finished.replace(&group.interest, &known.collect::<Vec<_>>(), self.head);
        }
    }

    fn read(&mut self, key: SubscriberKey) {
        let from = self.position(key);
        let subscriber = &mut self.subscribers[key];
        subscriber.phase = Phase::Reading;
        self.effects.push_back(Effect::Read {
            subscriber: key,
            interest: Arc::clone(&self.groups[subscriber.group].interest),
            from,
            until: self.head,
        });
    }

    fn seek(&mut self, key: SubscriberKey, search: Search) {
        let subscriber = &mut self.subscribers[key];
        subscriber.phase = Phase::Seeking;
        subscriber.update_rare(|rare| rare.search = Some(search));
        self.effects.push_back(Effect::Seek {
            subscriber: key,
            interest: Arc::clone(&self.groups[subscriber.group].interest),
            before: search.before,
            wanted: search.wanted,
        });
    }

    /// Leaves out what is not for a subscriber.
    fn admitted(&self, key: SubscriberKey, mut entries: Vec<Arc<Entry<P>>>) -> Vec<Arc<Entry<P>>> {
        let position = self.position(key);
        let interest = &self.groups[self.subscribers[key].group].interest;
        entries.retain(|entry| {
            entry.offset >= position
                && interest.admits(&entry.topics, entry.event_type.as_ref(), entry.private)
        });
        entries
    }

    /// Offers what was read, or goes on where nothing of it interests the subscriber.
    fn offer(&mut self, key: SubscriberKey, entries: Vec<Arc<Entry<P>>>, next: u64, now: Millis) {
        let subscriber = &mut self.subscribers[key];
        if entries.is_empty() {
            subscriber.cursor = next;
            return self.advance(key, now);
        }
        subscriber.phase = Phase::Offering;
        let batch = Arc::new(Batch { entries, next });
        self.effects.push_back(Effect::Write(Write { subscriber: key, batch, live: false }));
    }

    /// Holds the newest of what was read, and goes on reading or offers it.
    fn conflate(
        &mut self,
        key: SubscriberKey,
        entries: Vec<Arc<Entry<P>>>,
        next: u64,
        is_scarce: bool,
        now: Millis,
    ) {
        let topics_max = self.conflated_topics_max;
        let conflation =
            self.conflations.entry(key).or_insert_with(|| Box::new(Conflation::new(topics_max)));
        let subscriber = &mut self.subscribers[key];
        conflation.hold(&self.groups[subscriber.group].interest, entries, next, self.head);
        if conflation.is_empty() {
            subscriber.cursor = next;
        } else if is_scarce {
            return self.offer_held(key);
        }
        self.advance(key, now);
    }

    /// Moves a subscriber on that conflates and is behind.
    fn advance_conflation(&mut self, key: SubscriberKey, now: Millis) {
        let conflation = &self.conflations[&key];
        let is_over = conflation.is_over(self.subscribers[key].cursor);
        match conflation.is_empty() {
            true if is_over => {
                self.forget_conflation(key);
                self.advance(key, now);
            }
            false if conflation.is_complete() => self.offer_held(key),
            _ => self.read(key),
        }
    }

    /// Offers what is held, after saying how much was left out.
    fn offer_held(&mut self, key: SubscriberKey) {
        let Some(conflation) = self.conflations.get_mut(&key) else { return };
        let (skipped, batch) = conflation.take();
        if skipped > 0 {
            self.announce(key, Notice::Conflated { skipped });
        }
        self.subscribers[key].phase = Phase::Offering;
        let batch = Arc::new(batch);
        self.effects.push_back(Effect::Write(Write { subscriber: key, batch, live: false }));
    }

    /// Remembers what a subscriber that conflates has not taken of what it was offered.
    fn note_offered(&mut self, key: SubscriberKey, batch: &Batch<P>, accepted: usize) {
        let Some(conflation) = self.conflations.get_mut(&key) else { return };
        let refused = batch.entries.get(accepted..).unwrap_or_default();
        conflation.handle_offered(batch.next, refused);
        if conflation.is_over(self.subscribers[key].cursor) {
            self.forget_conflation(key);
        }
    }

    fn forget_conflation(&mut self, key: SubscriberKey) {
        self.conflations.remove(&key);
        if self.conflations.is_empty() {
            self.conflations = HashMap::new();
        }
    }

    fn holds(&self, key: SubscriberKey) -> bool {
        self.conflations.get(&key).is_some_and(|conflation| !conflation.is_empty())
    }

    /// Where a subscriber reads on: at its cursor, unless it holds what it has not been offered.
    fn position(&self, key: SubscriberKey) -> u64 {
        let Subscriber { cursor, conflate, .. } = self.subscribers[key];
        let conflation = conflate.then(|| self.conflations.get(&key)).flatten();
        conflation.map_or(cursor, |conflation| conflation.position(cursor))
    }

    /// Goes on at `oldest`, and says what is gone.
    fn skip_to(&mut self, key: SubscriberKey, oldest: u64) {
        let missed = self.position(key);
        match self.conflations.get_mut(&key) {
            Some(conflation) if !conflation.is_empty() => conflation.skip_to(oldest.max(missed)),
            _ => self.subscribers[key].cursor = oldest.max(missed),
        }
        self.tell_gone(key, missed, oldest);
    }

    /// Says what was removed from the middle of the log, unless it is known.
    fn tell_dropped(&mut self, key: SubscriberKey, dropped: Option<u64>) {
        let subscriber = &mut self.subscribers[key];
        // What lies beyond the head will be handed in all the same.
        let dropped = dropped.unwrap_or(0).min(self.head.saturating_sub(1));
        let told_until = subscriber.told_until.get().unwrap_or(dropped);
        subscriber.told_until = Some(told_until.max(dropped)).into();
        if dropped > told_until {
            // What is held may be refused; then all from the cursor on is read again.
            let missed = subscriber.cursor;
            self.tell_gone(key, missed, dropped + 1);
        }
    }

    /// Says that events from `missed` up to, not including, `oldest` are gone.
    fn tell_gone(&mut self, key: SubscriberKey, missed: u64, oldest: u64) {
        let subscriber = &mut self.subscribers[key];
        let resumed_after = std::mem::replace(&mut subscriber.resumed_after, OptionalOffset::NONE);
        let notice = match resumed_after.get() {
            Some(offset) => {
                let position = Position { epoch: self.epoch, offset };
                Notice::Gap(Gap::after(position, oldest, GapReason::Trimmed))
            }
            None => Notice::Lagged { missed, oldest },
        };
        self.announce(key, notice);
    }

    fn announce(&mut self, key: SubscriberKey, notice: Notice) {
        let subscriber = &mut self.subscribers[key];
        if subscriber.control || matches!(notice, Notice::Shutdown { .. }) {
            if !subscriber.is_plain() {
                // Only to a poll does it matter.
                subscriber.update_rare(|rare| rare.is_told = rare.is_poll);
            }
            self.effects.push_back(Effect::Announce { subscriber: key, notice });
        }
    }

    fn block(&mut self, key: SubscriberKey, now: Millis) {
        self.leave_live(key);
        self.subscribers[key].phase = Phase::Blocked;
        self.schedule_at(key, now + self.options.write_timeout_ms);
    }

    fn wait_for_log(&mut self, key: SubscriberKey, now: Millis) {
        self.subscribers[key].phase = Phase::WaitingForLog;
        self.ask_at(key, self.retry_at(key, now));
    }

    fn close(&mut self, key: SubscriberKey, reason: CloseReason) {
        let settled = self.stands_at(key);
        self.remove(key);
        self.effects.push_back(Effect::Close { subscriber: key, reason, settled });
    }

    /// Whether nothing more is to come for a subscriber.
    fn is_finished(&self, key: SubscriberKey) -> bool {
        let subscriber = &self.subscribers[key];
        let end = self.groups[subscriber.group].finished.end();
        end.is_some_and(|offset| offset < subscriber.cursor)
    }

    fn finish(&mut self, key: SubscriberKey) {
        let topics = self.groups[self.subscribers[key].group].finished.topics();
        self.announce(key, Notice::Finished { topics });
        self.close(key, CloseReason::Finished);
    }

    fn expire(&mut self, key: SubscriberKey, reason: ExpiryReason) {
        self.announce(key, Notice::Expired { reason });
        self.close(key, CloseReason::Expired(reason));
    }

    /// The first offset that is not settled for a subscriber.
    fn settled(&self, key: SubscriberKey) -> u64 {
        let subscriber = &self.subscribers[key];
        match subscriber.phase {
            Phase::Live { .. } => self
                .broadcasts
                .iter()
                .filter(|broadcast| broadcast.group == subscriber.group)
                .find_map(|broadcast| Some(broadcast.batch.as_ref()?.entries[0].offset))
                .unwrap_or(self.head)
                .max(subscriber.cursor),
            _ => subscriber.cursor,
        }
    }

    /// Up to where everything is settled for a subscriber; that may be in another life of the log.
    fn stands_at(&self, key: SubscriberKey) -> Position {
        let epoch = self.subscribers[key].rare().ahead_in.unwrap_or(self.epoch);
        Position { epoch, offset: self.settled(key).saturating_sub(1) }
    }

    fn handle_deadline(&mut self, key: SubscriberKey, now: Millis) {
        let subscriber = &mut self.subscribers[key];
        subscriber.timer = Tick::MAX;
        let rare = subscriber.rare();
        if rare.expires_at.is_some_and(|at| at <= now) {
            return self.expire(key, ExpiryReason::Expired);
        }
        let end = rare.end.filter(|&(deadline, _)| deadline <= now);
        if let Some((_, reason)) = end.filter(|&(_, reason)| may_end(reason, subscriber.phase)) {
            return self.close(key, reason);
        }
        match subscriber.phase {
            phase @ (Phase::WaitingForLog | Phase::Ahead)
                if rare.retry_at.is_some_and(|retry_at| retry_at <= now) =>
            {
                subscriber.update_rare(|rare| rare.retry_at = None);
                match rare.search {
                    _ if phase == Phase::Ahead => self.confirm(key),
                    Some(search) => self.seek(key, search),
                    None => self.read(key),
                }
            }
            phase => {
                let after = heartbeat_after(&self.options, subscriber);
                let is_silent = subscriber.written_at + after <= now || phase == Phase::Blocked;
                if is_silent {
                    // Those that follow are spread already, and come no earlier than they must.
                    subscriber.written_at = now + self.options.heartbeat_ms - after;
                }
                self.effects.push_back(Effect::Heartbeat { subscriber: key, is_silent });
            }
        }
        self.schedule(key, now);
    }

    /// Schedules the next thing that may happen to a subscriber by itself.
    fn schedule(&mut self, key: SubscriberKey, now: Millis) {
        let subscriber = &self.subscribers[key];
        let silent = subscriber.written_at + heartbeat_after(&self.options, subscriber);
        let rare = subscriber.rare();
        // An end that has passed waits for the phase, not for the time.
        let end = rare.end.map(|(deadline, _)| deadline).filter(|&deadline| deadline >= now);
        let first =
            [end, rare.expires_at, rare.retry_at].into_iter().flatten().fold(silent, Millis::min);
        self.schedule_at(key, first.max(now));
    }

    fn schedule_at(&mut self, key: SubscriberKey, at: Millis) {
        let (subscriber, tick) = (&mut self.subscribers[key], tick_of(at));
        if tick < subscriber.timer {
            subscriber.timer = tick;
            self.wheel.schedule(tick, key);
        }
    }

    fn join_group(&mut self, interest: Interest, finished: &[(Topic, u64)]) -> GroupKey {
        if let Some(&key) = self.group_by_interest.get(&interest) {
            let group = &mut self.groups[key];
            group.member_count += 1;
            group.finished.replace(&group.interest, finished, self.head);
            return key;
        }
        let interest = Arc::new(interest.compact());
        let mut known = FinishedTopics::default();
        known.replace(&interest, finished, self.head);
        let key = self.groups.insert(Group {
            interest: Arc::clone(&interest),
            live: ShortVec::Empty,
            finished: known,
            member_count: 1,
            touched: UNTOUCHED,
            is_filtered: !interest.wants_all_types(),
        });
        for selector in interest.selectors() {
            self.index.insert(selector, key);
        }
        self.group_by_interest.insert(interest, key);
        key
    }

    fn remove(&mut self, key: SubscriberKey) {
        if !self.subscribers.contains_key(key) {
            return;
        }
        self.leave_live(key);
        if let Phase::Ahead | Phase::Confirming = self.subscribers[key].phase {
            self.leave_ahead(key);
        }
        if self.subscribers[key].conflate {
            self.forget_conflation(key);
        }
        let group_key = self.subscribers[key].group;
        self.subscribers.remove(key);
        let group = &mut self.groups[group_key];
        group.member_count -= 1;
        if group.member_count == 0 {
            let interest = Arc::clone(&group.interest);
            for selector in interest.selectors() {
                self.index.remove(selector, group_key);
            }
            self.group_by_interest.remove(&interest);
            self.groups.remove(group_key);
        }
    }

    fn leave_live(&mut self, key: SubscriberKey) {
        let subscriber = &self.subscribers[key];
        let Phase::Live { place } = subscriber.phase else { return };
        let live = &mut self.groups[subscriber.group].live;
        live.swap_remove(place as usize);
        if let Some(&moved) = live.as_slice().get(place as usize) {
            self.subscribers[moved].phase = Phase::Live { place };
        }
    }

    fn phase(&self, key: SubscriberKey) -> Option<Phase> {
        self.subscribers.get(key).map(|subscriber| subscriber.phase)
    }
}

/// Whether what is under way may be cut short. A poll first gets what is kept: until it has
/// reached the head, nobody knows that there is nothing; nor whether its id is one while the log is being asked.
fn may_end(reason: CloseReason, phase: Phase) -> bool {
    let is_settling =
        matches!(phase, Phase::Seeking | Phase::Reading | Phase::Offering | Phase::Confirming);
    !(reason == CloseReason::PollElapsed && is_settling)
}

/// How long a stream may be silent after an event, which may have gone to all streams at once: the
/// heartbeat, or up to a fifth less.
fn heartbeat_after(options: &StateOptions, subscriber: &Subscriber) -> Millis {
    let spread = options.heartbeat_ms as f64 / 5.0;
    options.heartbeat_ms - (spread * subscriber.jitter()) as Millis
}

/// The place of a group that is not among the touched ones.
const UNTOUCHED: u32 = u32::MAX;
/// Room that is kept for what comes due together.
const DUE_CAPACITY_KEPT: usize = 1_024;

#[cfg(test)]
mod tests;
