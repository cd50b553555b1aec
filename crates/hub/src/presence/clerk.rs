//! The thread that looks who is there: a few times a second it exchanges notes with other nodes, reads
//! what was told, and tells what has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tidings_core::{Epoch, Interest, Millis, Position, Rights, Selector, Topic};
use tidings_log::{Board, ReadError};
use tokio::sync::{mpsc, oneshot};

use crate::clock::unix_now;
use crate::hub::{PublishError, Published};
use crate::journal::{Publish, Work};
use crate::presence::announcer::{Announcer, BLIND_MS};
use crate::presence::attendance::Topics;
use crate::presence::ledger::{Change, Ledger, News};
use crate::presence::nodes::{Beat, NodeId, Nodes};
use crate::presence::note::{
    read_beat, read_ledger, read_topics, write_beat, write_ledger, write_topics,
};
use crate::presence::registry::Registry;
use crate::presence::{Book, Presence, PresenceOptions, unix_seconds};
use crate::surroundings::Surroundings;
use crate::tail::LifeBegun;

pub(crate) struct Clerk {
    presence: Arc<Presence>,
    around: Surroundings,
    journal: mpsc::WeakSender<Work>,
    finish: std_mpsc::Receiver<oneshot::Sender<()>>,
    announcer: Announcer,
    /// Where the ledger was when it was last looked at.
    read_to: u64,
    /// Who is there on this node, and the version of that.
    own: (u64, Arc<Topics>),
    exchange: Exchange,
    /// Time that has passed while it could be seen who is there.
    watched_ms: Millis,
    /// What was told is read to its end.
    is_ready: bool,
    /// Something changed since it was last looked at what to tell.
    is_stirred: bool,
    /// When there may be something to tell although nothing changed.
    due_ms: Option<Millis>,
    is_failing: bool,
}

/// What was exchanged with other nodes, and when, by the hub's clock.
#[derive(Debug, Default)]
struct Exchange {
    beats: u64,
    beat_at: Option<Millis>,
    /// What the last beat said.
    said: Option<(u64, bool)>,
    read_at: Option<Millis>,
    topics_at: Option<Millis>,
    topics_version: Option<u64>,
    /// Not before this: large notes are written seldom.
    topics_due: Millis,
    ledger_at: Option<Millis>,
    ledger_position: Option<u64>,
    /// Nothing before this, as it failed.
    retry_at: Millis,
}

impl Presence {
    /// Knows nothing yet.
    pub(crate) fn new(options: PresenceOptions, around: &Surroundings) -> std::io::Result<Self> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
        let selectors = vec![Selector::Exact(Topic::parse(Topic::PRESENCE).expect("it is one"))];
        let nodes = Nodes::new(NodeId(u64::from_le_bytes(bits)), unix_now());
        let LifeBegun { epoch, bounds, .. } = around.tail.life();
        let ledger = Ledger::new(epoch, bounds.oldest);
        Ok(Self {
            registry: Arc::new(Registry::new(options)),
            around: around.clone(),
            news: Interest::new(selectors, News::event_types(), Rights::everything()),
            book: Book { nodes, ledger }.into(),
            leads: false.into(),
            told: Default::default(),
            failures: 0.into(),
        })
    }
}

impl Clerk {
    pub(crate) fn new(
        presence: Arc<Presence>,
        around: Surroundings,
        journal: mpsc::WeakSender<Work>,
        finish: std_mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        let options = presence.registry.options();
        let grace_ms = u64::try_from(options.grace.as_millis()).unwrap_or(u64::MAX);
        let announcer = Announcer::new(grace_ms, options.members_max);
        Self {
            presence,
            around,
            journal,
            finish,
            announcer,
            read_to: 0,
            own: (0, Arc::default()),
            exchange: Exchange::default(),
            watched_ms: 0,
            is_ready: false,
            is_stirred: true,
            due_ms: None,
            is_failing: false,
        }
    }

    /// Works until the hub is dropped, or is shutting down and has ended its streams.
    pub(crate) fn run(mut self) {
        let mut last = self.around.clock.now();
        self.load();
        loop {
            match self.finish.recv_timeout(INTERVAL) {
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(done) => {
                    self.go_away();
                    return drop(done);
                }
            }
            let now = self.around.clock.now();
            self.look(now, now.saturating_sub(last));
            last = now;
        }
    }

    fn look(&mut self, now: Millis, elapsed_ms: Millis) {
        if self.presence.registry.version() != self.own.0 {
            let (version, topics) = self.presence.registry.topics();
            self.own = (version, Arc::new(topics));
            self.is_stirred = true;
        }
        let log = Arc::clone(&self.around.log);
        match log.board() {
            None => self.watch(elapsed_ms),
            Some(_) if now < self.exchange.retry_at => return,
            Some(board) => {
                let exchanged = self.exchange(board, now);
                if !self.settle(exchanged, now) {
                    return;
                }
            }
        }
        let has_read = match self.read_news() {
            Ok(has_read) => has_read,
            Err(error) => self.settle(Err(error), now),
        };
        self.is_ready |= has_read && self.presence.book().nodes.is_complete();
        let leads = has_read && self.is_ready && self.presence.book().nodes.leads();
        self.presence.leads.store(leads, Relaxed);
        if self.is_stirred || self.due_ms.is_some_and(|due| due <= self.watched_ms) {
            self.announce(leads, now);
        }
        if leads && let Some(board) = log.board() {
            let put = self.put_ledger(board, now);
            self.settle(put, now);
        }
    }

    /// So much time has passed since it was last seen who is there.
    fn watch(&mut self, elapsed_ms: Millis) {
        self.watched_ms += elapsed_ms.min(STEP_MAX_MS);
        if elapsed_ms > BLIND_MS {
            self.announcer.handle_blind();
        }
    }

    /// Remembers whether something went well, and says so when that changes.
    fn settle(&mut self, result: Result<(), String>, now: Millis) -> bool {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("it can be told again who is present");
                }
                true
            }
            Err(error) => {
                self.presence.failures.fetch_add(1, Relaxed);
                self.exchange.retry_at = now + RETRY_MS;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error, "what is told of who is present may be out of date");
                }
                false
            }
        }
    }

    /// Takes up what another node has read of the news, if the log has no other life by now.
    fn load(&mut self) {
        let log = &*self.around.log;
        let LifeBegun { epoch, bounds, .. } = self.around.tail.life();
        let note = log.board().and_then(|board| board.notes(LEDGER).ok()?.into_iter().next());
        let ledger = note.and_then(|(_, note)| match read_ledger(&note) {
            Ok(ledger) => Some(ledger),
            Err(error) => {
                tracing::warn!(error, "a note on who is present is not understood");
                None
            }
        });
        // What it has read beyond this node's own log comes once this node has it, too.
        let is_known = |it: &Ledger| it.epoch() == epoch;
        let ledger = ledger.filter(is_known);
        let ledger = ledger.unwrap_or_else(|| Ledger::new(epoch, bounds.oldest));
        self.presence.book().ledger = ledger;
        self.is_stirred = true;
    }

    /// Reads what was told since, and says whether that is all.
    fn read_news(&mut self) -> Result<bool, String> {
        let epoch = self.around.tail.life().epoch;
        if self.presence.book().ledger.epoch() != epoch {
            self.is_ready = false;
            self.load();
        }
        if !self.around.log.is_known() {
            return Ok(false);
        }
        let mut steps = 0;
        loop {
            let (position, is_end) = {
                let mut book = self.presence.book();
                let is_end = self.presence.read_tail(&mut book);
                (book.ledger.position(), is_end)
            };
            self.is_stirred |= std::mem::replace(&mut self.read_to, position) != position;
            if is_end || steps == READ_STEPS_MAX || !self.around.is_in(epoch) {
                return Ok(is_end);
            }
            self.read_log(position, epoch)?;
            steps += 1;
        }
    }

    /// Reads a step of what the tail does not hold any more.
    fn read_log(&self, from: u64, epoch: Epoch) -> Result<(), String> {
        let Surroundings { tail, log, read_limit, .. } = &self.around;
        let step = match log.read(from, tail.next(), &self.presence.news, *read_limit) {
            Ok(step) if self.around.is_in(epoch) => step,
            Ok(_) => return Ok(()),
            Err(ReadError::Trimmed { oldest }) => {
                self.presence.book().ledger.handle_read(oldest);
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        let mut book = self.presence.book();
        for entry in step.entries {
            let event_type = entry.event_type.as_ref();
            book.ledger.handle_event(entry.offset, event_type, &entry.payload.data);
        }
        book.ledger.handle_read(step.next);
        Ok(())
    }

    /// Looks what is to be told, and tells it if it is up to this node.
    fn announce(&mut self, leads: bool, now: Millis) {
        let (others, position, task) = {
            let book = self.presence.book();
            let others: Vec<Arc<Topics>> = book.nodes.topics().cloned().collect();
            let nodes: Vec<&Topics> =
                std::iter::once(&self.own.1).chain(&others).map(|it| &**it).collect();
            let (ledger, now) = (&book.ledger, unix_seconds());
            let task = self.announcer.poll(&nodes, ledger, self.watched_ms, now, CHANGES_MAX);
            (others.len(), book.ledger.position(), task)
        };
        self.is_stirred = leads && !task.changes.is_empty();
        self.due_ms = task.due_ms;
        // Whoever does not lead looks again, in case it is to.
        if !leads && !task.changes.is_empty() {
            self.due_ms = Some(self.watched_ms);
        }
        if leads && !task.changes.is_empty() {
            tracing::debug!(
                changes = task.changes.len(),
                nodes = others + 1,
                "telling who is present"
            );
            let told = self.tell(task.changes, position);
            self.settle(told, now);
            // So that they are in the next list.
            let mut book = self.presence.book();
            self.presence.read_tail(&mut book);
        }
    }

    fn tell(&mut self, changes: Vec<Change>, position: u64) -> Result<(), String> {
        let Some(journal) = self.journal.upgrade() else { return Ok(()) };
        let epoch = self.presence.book().ledger.epoch();
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(record) = change.record(epoch) else { continue };
            let (reply, answer) = oneshot::channel();
            let bytes = record.data.len();
            let at_micros = self.around.clock.now_micros();
            let publish = Publish { records: vec![record], bytes, at_micros, reply };
            if journal.blocking_send(Work::Publish(publish)).is_err() {
                break;
            }
            self.announcer.handle_proposed(&change, self.watched_ms);
            answers.push((change, answer));
        }
        let mut result = Ok(());
        for (change, answer) in answers {
            let answer = answer.blocking_recv().unwrap_or(Err(PublishError::ShuttingDown));
            match answer {
                Ok(published) => {
                    self.handle_told(&change, &published, Position { epoch, offset: position });
                }
                Err(error) => {
                    self.announcer.handle_failed(&change);
                    result = Err(error.to_string());
                }
            }
        }
        result
    }

    /// A change is in the log. The ledger had read everything before `read_to` when it was proposed.
    fn handle_told(&mut self, change: &Change, published: &Published, read_to: Position) {
        if published.repeated() == 0 {
            self.presence.told[usize::from(change.news == News::Left)].fetch_add(1, Relaxed);
            return;
        }
        // Another node was first; or it was long ago, and nobody knows any more.
        let is_read = |id: &Position| id.epoch == read_to.epoch && id.offset < read_to.offset;
        if let Some(id) = published.ids().next().filter(is_read) {
            self.announcer.handle_forgotten(change, id.offset);
        }
    }

    /// Tells other nodes who is there on this one, and reads what they tell.
    fn exchange(&mut self, board: &dyn Board, now: Millis) -> Result<(), String> {
        let is_due = |at: Option<Millis>, every: Millis| at.is_none_or(|at| at + every <= now);
        let (version, topics) = self.own.clone();
        let me = self.presence.book().nodes.me();
        let is_new = self.exchange.topics_version != Some(version);
        if is_new && self.exchange.topics_due <= now
            || is_due(self.exchange.topics_at, TOPICS_EVERY_MS)
        {
            let note = write_topics(version, &topics);
            board.put(&format!("{TOPICS}{me}"), &note, TOPICS_TTL)?;
            self.exchange.topics_at = Some(now);
            self.exchange.topics_version = Some(version);
            self.exchange.topics_due = now + note.len() as u64 / NOTE_BYTES_MS;
        }
        let says = (self.exchange.topics_version.unwrap_or_default(), self.is_ready);
        if self.exchange.said != Some(says) || is_due(self.exchange.beat_at, BEAT_EVERY_MS) {
            self.put_beat(board, BEAT_TTL, false)?;
            self.exchange.said = Some(says);
            self.exchange.beat_at = Some(now);
        }
        if is_due(self.exchange.read_at, READ_EVERY_MS) {
            self.read_nodes(board)?;
            let before = self.exchange.read_at.replace(now);
            self.watch(before.map_or(0, |before| now - before));
        }
        Ok(())
    }

    fn put_beat(
        &mut self,
        board: &dyn Board,
        ttl: Duration,
        is_leaving: bool,
    ) -> Result<(), String> {
        let (me, started_ms) = {
            let book = self.presence.book();
            (book.nodes.me(), book.nodes.started_ms())
        };
        self.exchange.beats += 1;
        let beat = Beat {
            count: self.exchange.beats,
            started_ms,
            version: self.exchange.topics_version.unwrap_or_default(),
            is_ready: self.is_ready,
            is_leaving,
        };
        board.put(&format!("{BEATS}{me}"), &write_beat(&beat), ttl)
    }

    fn read_nodes(&mut self, board: &dyn Board) -> Result<(), String> {
        let now = self.around.clock.now();
        let notes = board.notes(BEATS)?;
        let beats = notes.iter().filter_map(|(name, note)| {
            let id = NodeId::parse(name.strip_prefix(BEATS)?)?;
            // Of a later version: it tells what this one does not understand.
            Some((id, read_beat(note).ok()?))
        });
        let elapsed_ms = self.exchange.read_at.map_or(0, |before| now - before).min(STEP_MAX_MS);
        let beats: HashMap<NodeId, Beat> = beats.collect();
        let (wanted, has_changed) = {
            let mut book = self.presence.book();
            let before = book.nodes.count();
            let wanted = book.nodes.handle_beats(beats, elapsed_ms);
            (wanted, book.nodes.count() != before)
        };
        self.is_stirred |= has_changed || !wanted.is_empty();
        let members_max = self.presence.registry.options().members_max;
        for id in wanted {
            let Some((_, note)) = board.notes(&format!("{TOPICS}{id}"))?.into_iter().next() else {
                continue;
            };
            match read_topics(&note, members_max) {
                Ok((version, topics)) => {
                    self.presence.book().nodes.handle_topics(id, version, topics);
                }
                Err(error) => tracing::debug!(node = %id, error, "a note is not understood"),
            }
        }
        Ok(())
    }

    /// Puts up what was read, for nodes that start.
    fn put_ledger(&mut self, board: &dyn Board, now: Millis) -> Result<(), String> {
        let (position, is_due) = {
            let book = self.presence.book();
            let at = self.exchange.ledger_at;
            let is_new = self.exchange.ledger_position.is_none_or(|it| it < book.ledger.position());
            let every = if is_new { LEDGER_NEW_EVERY_MS } else { LEDGER_EVERY_MS };
            (book.ledger.position(), at.is_none_or(|at| at + every <= now))
        };
        if !is_due {
            return Ok(());
        }
        let note = write_ledger(&self.presence.book().ledger);
        if let Some(note) = note {
            board.put(LEDGER, &note, LEDGER_TTL)?;
        }
        self.exchange.ledger_at = Some(now);
        self.exchange.ledger_position = Some(position);
        Ok(())
    }

    /// The node's streams have ended: others need not wait to know.
    fn go_away(&mut self) {
        let log = Arc::clone(&self.around.log);
        if let Some(board) = log.board() {
            // If it fails, the others find out in a while.
            let _ = self.put_beat(board, GONE_TTL, true);
        }
    }
}

/// How often it looks: changes of the meantime are told together.
const INTERVAL: Duration = Duration::from_millis(200);
/// However long it could not look, no more than this has passed for those it looks at.
const STEP_MAX_MS: Millis = 1_000;
/// How long to leave alone what has failed.
const RETRY_MS: Millis = 1_000;
/// Changes that are told at once.
const CHANGES_MAX: usize = 512;
/// Steps of reading at once.
const READ_STEPS_MAX: usize = 64;

/// Names of notes.
const BEATS: &str = "presence/nodes/";
const TOPICS: &str = "presence/topics/";
const LEDGER: &str = "presence/ledger";

/// A node is taken for dead after three beats that were missed.
const BEAT_EVERY_MS: Millis = 3_000;
const BEAT_TTL: Duration = Duration::from_secs(10);
const GONE_TTL: Duration = Duration::from_secs(10);
const READ_EVERY_MS: Millis = 400;
const TOPICS_EVERY_MS: Millis = 20_000;
const TOPICS_TTL: Duration = Duration::from_secs(60);
/// At most 2 MB of them in a second.
const NOTE_BYTES_MS: u64 = 2_000;
const LEDGER_NEW_EVERY_MS: Millis = 5_000;
const LEDGER_EVERY_MS: Millis = 10 * 60 * 1_000;
const LEDGER_TTL: Duration = Duration::from_secs(60 * 60);
