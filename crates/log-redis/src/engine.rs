//! The log as nodes use it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Entry, Epoch, Topic};
use tidings_log::Body;
use tidings_log::shared::{
    Append, Cut, Engine, EngineError, Fetched, Life, NOTE_BYTES_MAX, Opened, Outcome, Seen,
    StepLimit, Wish,
};

use crate::address::{Address, UrlError};
use crate::appending;
use crate::connection::REPLY_BYTES;
use crate::finding::{Finder, Link};
use crate::layout::{EXACT_MAX, Keys, parse_entry};
use crate::opening;
use crate::scripts::{self, Script};
use crate::tls;
use crate::wire::{Commands, Reply, ReplyFault};

/// A log in a Redis or Valkey server, which any number of nodes may share.
///
/// Connects when it is opened, and again by itself whenever it is asked for something and has no connection.
/// Appends, waits, reads and everything else have connections of their own, so that none stands behind another:
/// at most five.
pub struct RedisEngine {
    finder: Finder,
    keys: Keys,
    append: Slot,
    wait: Slot,
    reads: [Slot; 2],
    rest: Slot,
    /// How large entries were lately, to ask for as many as are wanted.
    entry_bytes: AtomicUsize,
}

type Slot = Mutex<Option<Link>>;

impl RedisEngine {
    /// Understands a URL; connects to nothing.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL is wrong, or a file of TLS that it names cannot be used.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let address = Address::parse(url)?;
        let tls = address.tls.as_ref().map(tls::config).transpose()?;
        let keys = Keys::of(&address.name);
        Ok(Self {
            finder: Finder::new(address, tls),
            keys,
            append: Slot::default(),
            wait: Slot::default(),
            reads: Default::default(),
            rest: Slot::default(),
            entry_bytes: AtomicUsize::new(ENTRY_BYTES_GUESS),
        })
    }

    /// The URL without its passwords.
    pub fn redacted_url(&self) -> String {
        self.finder.address.to_string()
    }

    fn connect(&self) -> Result<Link, EngineError> {
        self.finder.connect(&self.keys.meta)
    }

    /// Does something with the connection in `slot`, if it is one to the server of this life.
    fn with_link<T>(
        &self,
        mut slot: MutexGuard<'_, Option<Link>>,
        life: &Life,
        mut action: impl FnMut(&mut Link) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if slot.as_ref().is_some_and(|link| link.connection.is_closed()) {
            *slot = None;
        }
        let mut is_old = slot.is_some();
        let mut is_second = false;
        // What is sent a second time may have had its effect the first time, whatever the answer.
        let unsure = |is_second: bool, error: EngineError| match error {
            error if is_second => EngineError::Unavailable(error.to_string()),
            error => error,
        };
        loop {
            let link = slot.take().map_or_else(|| self.connect(), Ok);
            let mut link = link.map_err(|error| unsure(is_second, error))?;
            if link.facts.identity != life.server {
                return Err(unsure(is_second, EngineError::OtherLife));
            }
            let result = action(&mut link);
            if link.connection.is_usable() {
                *slot = Some(link);
            } else if is_old && link.connection.was_closed() {
                // It was closed while nobody used it. Whatever is asked for can be asked for twice.
                (is_old, is_second) = (false, true);
                continue;
            }
            return result.map_err(|error| unsure(is_second, error));
        }
    }

    /// The connection for reading that is free, or whichever will be.
    fn reading(&self) -> MutexGuard<'_, Option<Link>> {
        for slot in &self.reads {
            match slot.try_lock() {
                Ok(slot) => return slot,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        lock(&self.reads[0])
    }

    /// How many entries to ask for, for about so many bytes.
    fn count(&self, limit: StepLimit) -> usize {
        let entry = self.entry_bytes.load(Ordering::Relaxed).max(1);
        (limit.bytes_max / entry).clamp(1, limit.events_max.clamp(1, COUNT_MAX))
    }

    fn take_note_of_sizes(&self, entries: &[Entry<Body>]) {
        if let Some(mean) = entries.iter().map(entry_size).sum::<usize>().checked_div(entries.len())
        {
            let before = self.entry_bytes.load(Ordering::Relaxed);
            // Larger ones at once, smaller ones by and by.
            self.entry_bytes.store(mean.max(before - before / 4), Ordering::Relaxed);
        }
    }

    fn read_range(&self, life: &Life, wish: &Wish<'_>, way: Way) -> Result<Fetched, EngineError> {
        let Wish { from, until, limit, .. } = *wish;
        let until = until.min(EXACT_MAX);
        if from >= until {
            let bounds = self.bounds(life)?;
            return Ok(Fetched { entries: Vec::new(), end: from, bounds });
        }
        let (low, high) = (format!("{from}-0"), format!("{}-0", until - 1));
        let (verb, first, last) = match way {
            Way::Forward => ("XRANGE", &low, &high),
            Way::Backward => ("XREVRANGE", &high, &low),
        };
        let mut count = self.count(limit);
        loop {
            let words = [verb, &self.keys.events, first, last, "COUNT", &count.to_string()];
            let range = self.with_link(self.reading(), life, |link| {
                self.fetch(link, life, &words, limit, COMMAND_TIMEOUT)
            })?;
            match range {
                Some(range) => return Ok(range.into_fetched(way, from, until, count, limit)),
                None if count == 1 => return Err(self.too_large(from, until)),
                None => {
                    count = (count / 16).max(1);
                    self.entry_bytes.store(reply_bytes(limit) / count, Ordering::Relaxed);
                }
            }
        }
    }

    /// Sends a command that answers entries; `None` if they are too many for the limit.
    fn fetch(
        &self,
        link: &mut Link,
        life: &Life,
        words: &[&str],
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Option<Range>, EngineError> {
        let mut commands = Commands::default();
        commands.add(&["HGET", &self.keys.meta, "next"]).add(words);
        self.add_bounds(&mut commands);
        let replies = match link.connection.exchange(&commands, 3, reply_bytes(limit), timeout) {
            Ok(replies) => replies,
            Err(ReplyFault::TooLarge) => return Ok(None),
            Err(fault) => return Err(link.connection.fault(&fault)),
        };
        let mut replies = replies.into_iter();
        let mut reply = || replies.next().unwrap_or(Reply::Nil);
        let (before, entries, bounds) = (reply(), reply(), reply());
        // Whose log it is first: in another life anything may stand there.
        let bounds = self.parse_bounds(link, life, bounds)?;
        let entries = match entries {
            Reply::Error(error) => return Err(link.connection.refusal(&error)),
            Reply::List(entries) if words[0] == "XREAD" => without_key(entries),
            Reply::List(entries) => entries,
            _ => Vec::new(),
        };
        let entries = self.parse_entries(entries, bounds)?;
        self.take_note_of_sizes(&entries);
        Ok(Some(Range { before: before.as_u64().unwrap_or_default(), entries, bounds }))
    }

    fn parse_entries(
        &self,
        entries: Vec<Reply>,
        bounds: Bounds,
    ) -> Result<Vec<Entry<Body>>, EngineError> {
        let parse = |entry: Reply| {
            let id = match &entry {
                Reply::List(parts) => parts.first().and_then(Reply::as_str).map(str::to_owned),
                _ => None,
            };
            parse_entry(entry)
                .filter(|entry| entry.offset < bounds.next)
                .ok_or_else(|| opening::foreign(&self.name(), &self.keys, id.as_deref()))
        };
        entries.into_iter().map(parse).collect()
    }

    fn too_large(&self, from: u64, until: u64) -> EngineError {
        EngineError::Damaged(format!(
            "{}: {} holds an entry between {from}-0 and {until}-0 that is larger than any that a hub writes",
            self.name(),
            self.keys.events
        ))
    }

    /// Asks for what [`parse_bounds`](Self::parse_bounds) reads.
    fn add_bounds(&self, commands: &mut Commands) {
        commands.add(&["HMGET", &self.keys.meta, "epoch", "server", "next", "oldest"]);
    }

    fn parse_bounds(
        &self,
        link: &mut Link,
        life: &Life,
        reply: Reply,
    ) -> Result<Bounds, EngineError> {
        let fields = match reply {
            Reply::Error(error) => return Err(link.connection.refusal(&error)),
            reply => reply.into_list().unwrap_or_default(),
        };
        let is = |place: usize, expected: &str| {
            fields.get(place).and_then(Reply::as_str) == Some(expected)
        };
        if !is(0, &life.epoch.to_string()) || !is(1, &life.server) {
            return Err(EngineError::OtherLife);
        }
        let number = |place: usize| fields.get(place).and_then(Reply::as_u64);
        match (number(2), number(3)) {
            (Some(next), Some(oldest)) if (1..=next).contains(&oldest) && next <= EXACT_MAX => {
                Ok(Bounds { oldest, next })
            }
            _ => Err(link.connection.unexpected("numbers")),
        }
    }
}

impl Engine for RedisEngine {
    fn name(&self) -> String {
        format!("Redis at {}", self.finder.address.place)
    }

    fn open(&self, seen: Option<&Seen>, fresh: Epoch) -> Result<Opened, EngineError> {
        for slot in [&self.append, &self.wait, &self.reads[0], &self.reads[1]] {
            // What is under way ends by itself, and finds out.
            if let Ok(mut slot) = slot.try_lock() {
                *slot = None;
            }
        }
        let mut slot = lock(&self.rest);
        *slot = None;
        let mut link = self.connect()?;
        let opened = opening::open(&mut link, &self.keys, seen, fresh)?;
        *slot = Some(link);
        Ok(opened)
    }

    fn append(&self, append: &Append<'_>) -> Result<Vec<Outcome>, EngineError> {
        self.with_link(lock(&self.append), append.life, |link| {
            appending::append(link, &self.keys, self.finder.address.replicas, append)
        })
    }

    fn read(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.read_range(life, wish, Way::Forward)
    }

    fn read_backwards(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.read_range(life, wish, Way::Backward)
    }

    fn wait(
        &self,
        life: &Life,
        from: u64,
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Fetched, EngineError> {
        if timeout.is_zero() {
            return self.read(life, &Wish { from, until: EXACT_MAX, topics: None, limit });
        }
        let count = self.count(limit);
        let block = timeout.clamp(Duration::from_millis(1), BLOCK_MAX);
        let (count_text, block_ms) = (count.to_string(), block.as_millis().to_string());
        let after = format!("{}-0", from.saturating_sub(1));
        let events = self.keys.events.as_str();
        let words = ["XREAD", "COUNT", &count_text, "BLOCK", &block_ms, "STREAMS", events, &after];
        let range = self.with_link(lock(&self.wait), life, |link| {
            link.check_identity()?;
            self.fetch(link, life, &words, limit, block + COMMAND_TIMEOUT)
        })?;
        match range {
            Some(range) => Ok(range.into_fetched(Way::Forward, from, u64::MAX, count, limit)),
            None => {
                self.entry_bytes.store(reply_bytes(limit) / count, Ordering::Relaxed);
                self.read(life, &Wish { from, until: EXACT_MAX, topics: None, limit })
            }
        }
    }

    fn bounds(&self, life: &Life) -> Result<Bounds, EngineError> {
        self.with_link(lock(&self.rest), life, |link| {
            let mut commands = Commands::default();
            self.add_bounds(&mut commands);
            let reply = link.connection.call(&commands, 1, REPLY_BYTES, COMMAND_TIMEOUT)?.pop();
            self.parse_bounds(link, life, reply.unwrap_or(Reply::Nil))
        })
    }

    fn trim(&self, life: &Life, cut: &Cut<'_>) -> Result<Bounds, EngineError> {
        self.with_link(lock(&self.rest), life, |link| {
            crate::trimming::trim(link, &self.keys, life, cut)
        })
    }

    fn put_note(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), EngineError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(EngineError::Unwritable(format!("the note {name} is too large")));
        }
        let ttl = ttl.as_millis().clamp(1, u128::from(u32::MAX)).to_string();
        let keys = [self.keys.notes.as_str(), &self.keys.notes_until];
        self.with_any_link(|link| {
            let words = [name.as_bytes(), note, ttl.as_bytes()];
            link.run(&scripts::NOTE, &keys, &words, REPLY_BYTES).map(drop)
        })
    }

    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let keys = [self.keys.notes.as_str(), &self.keys.notes_until];
        let reply = self.with_any_link(|link| {
            link.run(&scripts::NOTES, &keys, &[prefix.as_bytes()], NOTES_BYTES)
        })?;
        let mut parts = reply.into_list().unwrap_or_default().into_iter();
        let mut notes = Vec::new();
        while let (Some(name), Some(Reply::Text(note))) = (parts.next(), parts.next()) {
            if let Some(name) = name.as_str() {
                notes.push((name.to_owned(), note));
            }
        }
        notes.sort();
        Ok(notes)
    }
}

impl RedisEngine {
    /// As [`with_link`](Self::with_link), whatever life the log has.
    fn with_any_link<T>(
        &self,
        action: impl FnMut(&mut Link) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut slot = lock(&self.rest);
        if slot.is_none() {
            *slot = Some(self.connect()?);
        }
        let server = slot.as_ref().map(|link| link.facts.identity.clone()).unwrap_or_default();
        let life = Life { epoch: Epoch::from_random(0), server };
        self.with_link(slot, &life, action)
    }
}

impl Link {
    /// Runs a script, which the server need not know yet.
    pub(crate) fn run<A: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[&str],
        arguments: &[A],
        bytes_max: usize,
    ) -> Result<Reply, EngineError> {
        let attempt = |link: &mut Self, verb: &str, name: &str| {
            let mut commands = Commands::default();
            commands.begin(3 + keys.len() + arguments.len()).word(verb).word(name);
            commands.word(keys.len().to_string());
            for key in keys {
                commands.word(key);
            }
            for argument in arguments {
                commands.word(argument);
            }
            let reply = link.connection.call(&commands, 1, bytes_max, COMMAND_TIMEOUT)?.pop();
            Ok(reply.unwrap_or(Reply::Nil))
        };
        let mut reply = attempt(self, "EVALSHA", &script.hash)?;
        if matches!(&reply, Reply::Error(error) if error.starts_with("NOSCRIPT")) {
            reply = attempt(self, "EVAL", script.text)?;
        }
        match reply {
            Reply::Error(error) => Err(self.connection.refusal(&error)),
            reply => Ok(reply),
        }
    }

    /// Makes sure, now and then, that the server is still what it was: a master that became a replica
    /// and a master again may have lost what it had.
    fn check_identity(&mut self) -> Result<(), EngineError> {
        if self.checked_at.elapsed() < CHECK_INTERVAL {
            return Ok(());
        }
        let facts = crate::server::ServerFacts::ask(&mut self.connection)?;
        self.checked_at = Instant::now();
        if facts.identity == self.facts.identity { Ok(()) } else { Err(EngineError::OtherLife) }
    }
}

impl fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisEngine").field(&self.finder.address).finish()
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Forward,
    Backward,
}

/// What one command has found.
#[derive(Debug)]
struct Range {
    /// What was next before it: what is below that was there, or is gone.
    before: u64,
    entries: Vec<Entry<Body>>,
    /// After it.
    bounds: Bounds,
}

impl Range {
    /// What is handed on, of what was asked for with `count`, and how far that goes.
    fn into_fetched(
        self,
        way: Way,
        from: u64,
        until: u64,
        count: usize,
        limit: StepLimit,
    ) -> Fetched {
        let Self { before, entries, bounds } = self;
        let is_all = entries.len() < count;
        let (entries, is_cut) = within(entries, limit.bytes_max);
        let last = entries.last().map(|entry| entry.offset);
        let end = match (way, last) {
            (Way::Forward, Some(last)) if is_cut || !is_all => last + 1,
            (Way::Forward, last) => before.min(until).max(last.map_or(from, |last| last + 1)),
            (Way::Backward, Some(last)) if is_cut || !is_all => last,
            (Way::Backward, _) => from,
        };
        Fetched { entries, end, bounds }
    }
}

/// The entries that XREAD has found, out of the list of streams.
fn without_key(streams: Vec<Reply>) -> Vec<Reply> {
    let stream = streams.into_iter().next().and_then(Reply::into_list);
    let entries = stream.and_then(|stream| stream.into_iter().nth(1));
    entries.and_then(Reply::into_list).unwrap_or_default()
}

/// The first entries that fit, at least one, and whether there were more.
fn within(mut entries: Vec<Entry<Body>>, bytes_max: usize) -> (Vec<Entry<Body>>, bool) {
    let mut bytes = 0_usize;
    let fit = entries.iter().take_while(|entry| {
        let is_first = bytes == 0;
        bytes = bytes.saturating_add(entry_size(entry));
        is_first || bytes <= bytes_max
    });
    let fit = fit.count();
    let is_cut = fit < entries.len();
    entries.truncate(fit);
    (entries, is_cut)
}

fn entry_size(entry: &Entry<Body>) -> usize {
    tidings_log::entry_bytes(entry, entry.payload.data.len())
}

/// More than entries of about the expected size take.
fn reply_bytes(limit: StepLimit) -> usize {
    limit.bytes_max.saturating_mul(4).clamp(REPLY_BYTES_MIN, REPLY_BYTES_MAX)
}

pub(crate) fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a command may take that does not wait for anything.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a wait may last at the server: so that it is soon noticed if the server has stopped.
const BLOCK_MAX: Duration = Duration::from_secs(1);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const ENTRY_BYTES_GUESS: usize = 512;
const COUNT_MAX: usize = 10_000;
const REPLY_BYTES_MIN: usize = 32 << 20;
const REPLY_BYTES_MAX: usize = 512 << 20;
const NOTES_BYTES: usize = 256 << 20;

/// What a topic is finished by, or has lost.
pub(crate) type TopicOffsets = Vec<(Topic, u64)>;
