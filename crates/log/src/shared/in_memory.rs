//! A store in memory that fails on demand: for tests of what stands above an engine, and to say in code what
//! an engine does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Entry, Epoch, Topic};

use super::UNPOISONED;
use super::engine::{
    Append, Cut, Engine, EngineError, Fetched, Life, Opened, Outcome, Placed, Seen, StepLimit, Wish,
};
use super::lives::{LifeRecord, judge};
use crate::keys::{HashSeed, KeyId, KeyRun};
use crate::ledger::{Ledger, Plan};
use crate::memory::entry;
use crate::{Body, KeyWindow, Record, Refusal, Ring, UnixMillis, entry_bytes};

/// A store that the engines of several nodes reach.
#[derive(Debug, Clone, Default)]
pub struct InMemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    store: Mutex<Store>,
    /// Signalled with every change.
    changed: Condvar,
}

/// The way of one node to an [`InMemoryStore`].
#[derive(Debug)]
pub struct InMemoryEngine {
    shared: Arc<Shared>,
    faults: Mutex<HashMap<Call, VecDeque<Fault>>>,
    is_cut: AtomicBool,
    is_kicked: AtomicBool,
    opened: Mutex<u64>,
}

/// What is asked of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Engine::open`].
    Open,
    /// [`Engine::append`].
    Append,
    /// [`Engine::read`] and [`Engine::read_backwards`].
    Read,
    /// [`Engine::wait`].
    Wait,
    /// [`Engine::bounds`].
    Bounds,
    /// [`Engine::trim`].
    Trim,
    /// [`Engine::put_note`] and [`Engine::notes`].
    Note,
}

/// What becomes of a call instead of what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails without effect.
    Fails(EngineError),
    /// It has its effect, and the answer is lost.
    AnswerLost,
    /// It is not answered, and an append has its effect when [`InMemoryStore::deliver_late`] is called.
    Late,
    /// The store loses all it has just before.
    Emptied,
    /// It has its effect, and the answer takes this long.
    Slow(Duration),
}

/// A fault of the store itself, which a test of what stands above it has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The next event is acknowledged and not stored.
    Skip,
    /// The next event is stored twice.
    Repeat,
    /// The next two events that a node waits for change places for it.
    Reorder,
}

#[derive(Debug)]
struct Store {
    runs: u64,
    is_durable: bool,
    is_down: bool,
    unwritable: Option<String>,
    record: Option<LifeRecord>,
    ring: Ring<Body>,
    seed: HashSeed,
    window: KeyWindow,
    ledger: Ledger,
    keys: Vec<(KeyId, u64, UnixMillis)>,
    dropped: BTreeMap<Topic, u64>,
    writers: HashMap<u64, (u64, Vec<Outcome>)>,
    notes: BTreeMap<String, (Vec<u8>, Instant)>,
    late: Vec<OwnedAppend>,
    flaws: Vec<Flaw>,
}

#[derive(Debug)]
struct OwnedAppend {
    life: Life,
    writer: u64,
    sequence: u64,
    publishes: Vec<Vec<Record>>,
    now: UnixMillis,
    keys: KeyWindow,
}

impl InMemoryStore {
    /// A store without a log. One that `is_durable` loses nothing when it is restarted.
    pub fn new(is_durable: bool) -> Self {
        let store = Self::default();
        store.lock().is_durable = is_durable;
        store
    }

    /// The way of one more node to it.
    pub fn engine(&self) -> InMemoryEngine {
        InMemoryEngine {
            shared: Arc::clone(&self.shared),
            faults: Mutex::default(),
            is_cut: AtomicBool::new(false),
            is_kicked: AtomicBool::new(false),
            opened: Mutex::new(0),
        }
    }

    /// Starts it anew: notes are gone, and it has another name.
    pub fn restart(&self) {
        self.change(Store::restart);
    }

    /// Loses the newest events. Followed by [`restart`](Self::restart) this is what happens when an older copy is
    /// started, or when a server takes over that had not received all; without, it should not happen.
    pub fn lose_tail(&self, events: u64) {
        self.change(|store| store.lose_tail(events));
    }

    /// Loses all it has.
    pub fn empty(&self) {
        self.change(Store::empty);
    }

    /// Begins to answer, or ceases to.
    pub fn set_down(&self, is_down: bool) {
        self.change(|store| store.is_down = is_down);
    }

    /// Refuses to be written for a reason, or no longer.
    pub fn set_unwritable(&self, reason: Option<&str>) {
        self.change(|store| store.unwritable = reason.map(str::to_owned));
    }

    /// Has appends that were [late](Fault::Late) take effect, as far as they may.
    pub fn deliver_late(&self) {
        self.change(|store| {
            for append in std::mem::take(&mut store.late) {
                let OwnedAppend { life, writer, sequence, publishes, now, keys } = append;
                let (life, publishes) = (&life, &*publishes);
                let append = Append { life, writer, sequence, publishes, now, keys };
                // Nobody waits for an answer.
                let _ = store.append(&append);
            }
        });
    }

    /// Makes one mistake.
    pub fn break_once(&self, flaw: Flaw) {
        self.change(|store| store.flaws.push(flaw));
    }

    /// Whether it has still to make a mistake that it was told to.
    pub fn is_to_break(&self) -> bool {
        !self.lock().flaws.is_empty()
    }

    /// What can be read.
    pub fn bounds(&self) -> Bounds {
        self.lock().ring.bounds()
    }

    /// All that is in it, oldest first.
    pub fn entries(&self) -> Vec<Entry<Body>> {
        self.lock().ring.iter().map(|entry| Entry::clone(entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().expect(UNPOISONED)
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }
}

impl InMemoryEngine {
    /// Has something else become of the next call of a kind, after those told before.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.faults.lock().expect(UNPOISONED).entry(call).or_default().push_back(fault);
    }

    /// Whether all came to pass that was to become of calls of a kind.
    pub fn has_failed(&self, call: Call) -> bool {
        self.faults.lock().expect(UNPOISONED).get(&call).is_none_or(VecDeque::is_empty)
    }

    /// Cuts this node off from the store, or connects it again.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// How often the store was opened, or tried to.
    pub fn opened(&self) -> u64 {
        *self.opened.lock().expect(UNPOISONED)
    }

    /// Does `act` to the store, unless a fault prevents it or loses the answer.
    fn call<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut Store) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut store = self.reach()?;
        match self.next_fault(call) {
            None => act(&mut store),
            Some(Fault::Fails(error)) => Err(error),
            Some(Fault::Late) => Err(unavailable("no answer in time")),
            Some(Fault::Emptied) => {
                store.empty();
                act(&mut store)
            }
            Some(Fault::AnswerLost) => {
                act(&mut store)?;
                self.shared.changed.notify_all();
                Err(unavailable("the connection was lost"))
            }
            Some(Fault::Slow(time)) => {
                let outcome = act(&mut store);
                let changed = &self.shared.changed;
                drop(changed.wait_timeout_while(store, time, |_| true).expect(UNPOISONED));
                outcome
            }
        }
    }

    fn reach(&self) -> Result<MutexGuard<'_, Store>, EngineError> {
        let store = self.shared.store.lock().expect(UNPOISONED);
        if store.is_down || self.is_cut.load(Ordering::SeqCst) {
            return Err(unavailable("connection refused"));
        }
        Ok(store)
    }

    fn is_late(&self, call: Call) -> bool {
        let faults = self.faults.lock().expect(UNPOISONED);
        faults.get(&call).is_some_and(|faults| faults.front() == Some(&Fault::Late))
    }

    fn next_fault(&self, call: Call) -> Option<Fault> {
        self.faults.lock().expect(UNPOISONED).get_mut(&call)?.pop_front()
    }
}

impl Engine for InMemoryEngine {
    fn name(&self) -> String {
        "a store in memory".to_owned()
    }

    fn open(&self, seen: Option<&Seen>, fresh: Epoch) -> Result<Opened, EngineError> {
        *self.opened.lock().expect(UNPOISONED) += 1;
        self.call(Call::Open, |store| Ok(store.open(seen, fresh)))
    }

    fn append(&self, append: &Append<'_>) -> Result<Vec<Outcome>, EngineError> {
        if self.is_late(Call::Append) {
            self.reach()?.late.push(append.into());
        }
        let outcome = self.call(Call::Append, |store| store.append(append));
        self.shared.changed.notify_all();
        outcome
    }

    fn read(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.call(Call::Read, |store| {
            store.check(life)?;
            Ok(store.read(wish))
        })
    }

    fn read_backwards(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.call(Call::Read, |store| {
            store.check(life)?;
            Ok(store.read_backwards(wish))
        })
    }

    fn wait(
        &self,
        life: &Life,
        from: u64,
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Fetched, EngineError> {
        let store = self.reach()?;
        let is_idle = |store: &mut Store| {
            let is_cut = store.is_down || self.is_cut.load(Ordering::SeqCst);
            let is_kicked = self.is_kicked.swap(false, Ordering::SeqCst);
            !is_cut && !is_kicked && store.check(life).is_ok() && store.ring.bounds().next <= from
        };
        let changed = &self.shared.changed;
        drop(changed.wait_timeout_while(store, timeout, is_idle).expect(UNPOISONED));
        self.call(Call::Wait, |store| {
            store.check(life)?;
            let mut fetched = store.read(&Wish { from, until: u64::MAX, topics: None, limit });
            store.reorder(&mut fetched.entries);
            Ok(fetched)
        })
    }

    fn kick(&self) {
        self.is_kicked.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    fn bounds(&self, life: &Life) -> Result<Bounds, EngineError> {
        self.call(Call::Bounds, |store| {
            store.check(life)?;
            Ok(store.ring.bounds())
        })
    }

    fn trim(&self, life: &Life, cut: &Cut<'_>) -> Result<Bounds, EngineError> {
        self.call(Call::Trim, |store| {
            store.check(life)?;
            store.trim(cut);
            Ok(store.ring.bounds())
        })
    }

    fn put_note(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), EngineError> {
        self.call(Call::Note, |store| {
            store.notes.insert(name.to_owned(), (note.to_owned(), Instant::now() + ttl));
            Ok(())
        })
    }

    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        self.call(Call::Note, |store| {
            let now = Instant::now();
            store.notes.retain(|_, (_, until)| *until > now);
            let found = store.notes.iter().filter(|(name, _)| name.starts_with(prefix));
            Ok(found.map(|(name, (note, _))| (name.clone(), note.clone())).collect())
        })
    }
}

impl Default for Store {
    fn default() -> Self {
        let (seed, window) = (HashSeed::random(), KeyWindow::default());
        Self {
            runs: 0,
            is_durable: false,
            is_down: false,
            unwritable: None,
            record: None,
            ring: Ring::new(1),
            seed,
            window,
            ledger: Ledger::new(seed, window),
            keys: Vec::new(),
            dropped: BTreeMap::new(),
            writers: HashMap::new(),
            notes: BTreeMap::new(),
            late: Vec::new(),
            flaws: Vec::new(),
        }
    }
}

impl Store {
    fn server(&self) -> String {
        format!("run {}", self.runs)
    }

    fn check(&self, life: &Life) -> Result<(), EngineError> {
        let epoch = life.epoch.to_string();
        let is_same = self.record.as_ref().is_some_and(|record| record.epoch == epoch);
        if is_same && life.server == self.server() { Ok(()) } else { Err(EngineError::OtherLife) }
    }

    fn restart(&mut self) {
        self.runs += 1;
        self.notes.clear();
    }

    fn empty(&mut self) {
        let (runs, is_durable) = (self.runs, self.is_durable);
        *self = Self { runs, is_durable, ..Self::default() };
    }

    fn open(&mut self, seen: Option<&Seen>, fresh: Epoch) -> Opened {
        let bounds = self.ring.bounds();
        let verdict =
            judge(self.record.as_ref(), &self.server(), bounds.next, seen, self.is_durable, fresh);
        self.record = verdict.record.or(self.record.take());
        let last = self.ring.iter().filter(|entry| entry.is_final);
        let topics = last.flat_map(|it| it.topics.iter().map(|topic| (topic.clone(), it.offset)));
        let finished = topics.collect();
        let dropped = self.dropped.iter().map(|(topic, &offset)| (topic.clone(), offset)).collect();
        Opened { life: verdict.life, bounds, finished, dropped }
    }

    fn append(&mut self, append: &Append<'_>) -> Result<Vec<Outcome>, EngineError> {
        if let Some((sequence, outcomes)) = self.writers.get(&append.writer) {
            if *sequence > append.sequence {
                return Err(unavailable("it comes too late"));
            }
            self.check(append.life)?;
            if *sequence == append.sequence {
                return Ok(outcomes.clone());
            }
        }
        self.check(append.life)?;
        if let Some(reason) = &self.unwritable {
            return Err(EngineError::Unwritable(reason.clone()));
        }
        if append.publishes.is_empty() {
            return Ok(Vec::new());
        }
        if self.keys.is_empty() {
            self.window = append.keys;
            self.rebuild_ledger();
        }
        let next = self.ring.bounds().next;
        let ring = &self.ring;
        let is_kept = |offset: u64, _: &Topic| ring.get(offset).is_some();
        let mut plan = self.ledger.plan(append.publishes.to_vec(), next, append.now, is_kept);
        self.ledger.settle(&plan, append.now);
        self.keys.extend(plan.keys.iter().map(|&(id, offset)| (id, offset, append.now)));
        for record in std::mem::take(&mut plan.records) {
            self.push(record, append.now);
        }
        let outcomes = outcomes(plan, next);
        self.writers.insert(append.writer, (append.sequence, outcomes.clone()));
        Ok(outcomes)
    }

    fn push(&mut self, record: Record, now: UnixMillis) {
        let repeated = self.take_flaw(Flaw::Repeat).then(|| record.clone());
        if self.take_flaw(Flaw::Skip) {
            self.ring.push_empty();
            return;
        }
        for record in [Some(record), repeated].into_iter().flatten() {
            let entry = entry(self.ring.bounds().next, record, now);
            let bytes = entry_bytes(&entry, entry.payload.data.len());
            self.ring.push(Arc::new(entry), bytes);
        }
    }

    fn read(&self, wish: &Wish<'_>) -> Fetched {
        let bounds = self.ring.bounds();
        let until = wish.until.min(bounds.next);
        let mut room = Room::new(wish.limit);
        let mut fetched = Fetched { entries: Vec::new(), end: wish.from, bounds };
        for offset in wish.from.max(bounds.oldest)..until {
            if let Some(entry) = self.wanted(offset, wish.topics) {
                if !room.takes(entry) {
                    return fetched;
                }
                fetched.entries.push(Entry::clone(entry));
            }
            fetched.end = offset + 1;
        }
        fetched
    }

    fn read_backwards(&self, wish: &Wish<'_>) -> Fetched {
        let bounds = self.ring.bounds();
        let until = wish.until.min(bounds.next);
        let mut room = Room::new(wish.limit);
        let mut fetched = Fetched { entries: Vec::new(), end: until, bounds };
        for offset in (wish.from.max(bounds.oldest)..until).rev() {
            if let Some(entry) = self.wanted(offset, wish.topics) {
                if !room.takes(entry) {
                    return fetched;
                }
                fetched.entries.push(Entry::clone(entry));
            }
            fetched.end = offset;
        }
        fetched.end = fetched.end.min(wish.from.max(bounds.oldest));
        fetched
    }

    fn wanted(&self, offset: u64, topics: Option<&[Topic]>) -> Option<&Arc<Entry<Body>>> {
        let entry = self.ring.get(offset)?;
        let is_under = |topics: &[Topic]| entry.topics.iter().any(|topic| topics.contains(topic));
        topics.is_none_or(is_under).then_some(entry)
    }

    fn trim(&mut self, cut: &Cut<'_>) {
        for &offset in cut.offsets {
            self.ring.remove(offset);
        }
        for (topic, offset) in cut.dropped {
            let known = self.dropped.entry(topic.clone()).or_default();
            *known = (*known).max(*offset);
        }
        let bounds = self.ring.bounds();
        let old = self.ring.iter().take_while(|it| it.payload.appended_at < cut.appended_before);
        let mut oldest = old.last().map_or(bounds.oldest, |entry| entry.offset + 1);
        oldest = oldest.max(bounds.next.saturating_sub(cut.events_max));
        while self.ring.bounds().oldest < oldest {
            self.ring.pop();
        }
        let newest_bytes = self.ring.newest_bytes();
        let bytes_max = usize::try_from(cut.bytes_max).unwrap_or(usize::MAX).max(newest_bytes);
        self.ring.shrink(usize::MAX, bytes_max);
        let oldest = self.ring.bounds().oldest;
        self.ledger.trim(oldest, cut.now);
        self.dropped.retain(|_, offset| *offset >= oldest);
    }

    fn lose_tail(&mut self, events: u64) {
        let Bounds { oldest, next } = self.ring.bounds();
        let next = next.saturating_sub(events).max(oldest);
        let mut ring = Ring::new(oldest);
        for offset in oldest..next {
            match self.ring.get(offset) {
                Some(entry) => {
                    ring.push(Arc::clone(entry), entry_bytes(entry, entry.payload.data.len()));
                }
                None => ring.push_empty(),
            }
        }
        self.ring = ring;
        self.keys.retain(|&(_, offset, _)| offset < next);
        self.writers.retain(|_, (_, outcomes)| outcomes.iter().all(|it| is_below(it, next)));
        self.rebuild_ledger();
    }

    fn rebuild_ledger(&mut self) {
        self.ledger = Ledger::new(self.seed, self.window);
        for &(id, offset, at) in &self.keys {
            self.ledger.insert_key_run(KeyRun { id, offset, count: 1, at });
        }
        for entry in self.ring.iter().filter(|entry| entry.is_final) {
            for topic in entry.topics.iter() {
                self.ledger.finish(topic.clone(), entry.offset);
            }
        }
    }

    /// Makes its mistake with what a node has waited for.
    fn reorder(&mut self, entries: &mut [Entry<Body>]) {
        if let [first, second, ..] = entries
            && self.take_flaw(Flaw::Reorder)
        {
            std::mem::swap(first, second);
            std::mem::swap(&mut first.offset, &mut second.offset);
        }
    }

    fn take_flaw(&mut self, flaw: Flaw) -> bool {
        let place = self.flaws.iter().position(|it| *it == flaw);
        place.map(|place| self.flaws.remove(place)).is_some()
    }
}

/// What is left of a limit.
struct Room {
    events: usize,
    bytes: usize,
    is_empty: bool,
}

impl Room {
    fn new(limit: StepLimit) -> Self {
        Self { events: limit.events_max, bytes: limit.bytes_max, is_empty: true }
    }

    /// Whether one more entry may be taken; the first one in any case.
    fn takes(&mut self, entry: &Entry<Body>) -> bool {
        let bytes = entry_bytes(entry, entry.payload.data.len());
        if !std::mem::take(&mut self.is_empty) && (self.events == 0 || self.bytes < bytes) {
            return false;
        }
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

impl From<&Append<'_>> for OwnedAppend {
    fn from(append: &Append<'_>) -> Self {
        let Append { life, writer, sequence, publishes, now, keys } = *append;
        Self { life: life.clone(), writer, sequence, publishes: publishes.to_vec(), now, keys }
    }
}

/// What became of each publish, when what is new begins at `next`.
fn outcomes(plan: Plan, mut next: u64) -> Vec<Outcome> {
    let outcome = |outcome| match outcome {
        Err(Refusal::Finished { topic, offset }) => Outcome::Finished { topic, offset },
        Ok(offsets) => {
            let offsets: crate::Offsets = offsets;
            let placed = offsets.iter().map(|offset| {
                let is_repeated = offset != next;
                next += u64::from(!is_repeated);
                Placed { offset, is_repeated }
            });
            Outcome::Appended(placed.collect())
        }
    };
    plan.outcomes.into_iter().map(outcome).collect()
}

fn is_below(outcome: &Outcome, next: u64) -> bool {
    match outcome {
        Outcome::Appended(placed) => placed.iter().all(|placed| placed.offset < next),
        Outcome::Finished { .. } => true,
    }
}

fn unavailable(reason: &str) -> EngineError {
    EngineError::Unavailable(reason.to_owned())
}
