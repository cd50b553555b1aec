//! The engine: which call uses which connection and statement.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tidings_core::{Bounds, Epoch, Topic};
use tidings_log::KeyWindow;
use tidings_log::shared::{
    Append, Cut, Engine, EngineError, Fetched, Life, LifeRecord, Opened, Outcome, Seen, StepLimit,
    Wish, judge,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::types::ToSql;

use crate::columns::{Answer, Columns, parsed};
use crate::fault::{Fault, Place};
use crate::rows::{self, Direction, signed};
use crate::session::{Session, UNPOISONED, within};
use crate::url::Target;
use crate::wakening::{Hearing, Signals};
use crate::{UrlError, moving, notifying, schema};

/// A log in a Postgres database.
///
/// Its methods block the thread that calls them; they may be called from within an asynchronous runtime, which they
/// block as well.
pub struct PostgresEngine {
    inner: Arc<Inner>,
    /// Taken when the engine is dropped.
    runtime: Option<Runtime>,
    has_tasks: AtomicBool,
    listener: tokio::sync::Mutex<Listener>,
}

/// What calls and tasks share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) target: Target,
    pub(crate) place: Place,
    pub(crate) signals: Arc<Signals>,
    idle: Mutex<Vec<Session>>,
    state: Mutex<State>,
    is_reached: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    log: Option<OpenLog>,
    /// What is known of the bounds in this life.
    bounds: Option<Bounds>,
    writer: Option<(u64, u64)>,
    trimmed: Trimmed,
}

/// The log as it was opened.
#[derive(Debug, Clone)]
pub(crate) struct OpenLog {
    pub(crate) id: i16,
    pub(crate) life: Life,
    pub(crate) keys: KeyWindow,
}

/// What the last trims have cleaned up.
#[derive(Debug, Default)]
struct Trimmed {
    writer: Option<(u64, u64)>,
    at: Option<Instant>,
}

/// The connection of [`Engine::wait`].
#[derive(Debug, Default)]
struct Listener {
    session: Option<Arc<Session>>,
    /// Up to where all was read, and what had been heard before.
    drained: Option<(u64, u64)>,
    read_at: Option<Instant>,
    listened_at: Option<Instant>,
    was_warned: bool,
}

impl PostgresEngine {
    /// Takes `url` apart; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If it is no URL of a database, in words without the password.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let target = Target::parse(url)?;
        let servers: Vec<&str> = target.servers.iter().map(|server| &*server.name).collect();
        let place = Place {
            server: format!("Postgres at {}", servers.join(",")),
            user: target.user.clone().unwrap_or_else(|| "of this system's user".to_owned()),
            database: target.database.clone(),
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tidings-postgres")
            .enable_all()
            .build()
            .map_err(|error| UrlError(format!("no thread can be started for it: {error}")))?;
        let inner = Inner {
            signals: Arc::new(Signals::new(&target.log)),
            target,
            place,
            idle: Mutex::default(),
            state: Mutex::default(),
            is_reached: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
            runtime: Some(runtime),
            has_tasks: AtomicBool::new(false),
            listener: tokio::sync::Mutex::default(),
        })
    }

    /// The URL of the log as it may be shown: without a password.
    pub fn redacted_url(&self) -> String {
        let Target { servers, user, database, log, .. } = &self.inner.target;
        let names: Vec<&str> = servers.iter().map(|server| &*server.name).collect();
        let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let hosts = names.join(",");
        match hosts.starts_with('/') {
            true => format!("postgres://{user}/{database}?host={hosts}&name={log}"),
            false => format!("postgres://{user}{hosts}/{database}?name={log}"),
        }
    }

    fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        let runtime = self.runtime.as_ref().expect("it is taken by drop alone");
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        // A thread that belongs to a runtime must not enter another one.
        std::thread::scope(|scope| {
            let joined = scope.spawn(|| runtime.block_on(future)).join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts what runs beside the calls.
    fn start_tasks(&self) {
        if self.has_tasks.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(runtime) = &self.runtime {
            runtime.spawn(notifying::run(self.inner.clone()));
            runtime.spawn(moving::run(self.inner.clone()));
        }
    }
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for PostgresEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEngine").field("url", &self.redacted_url()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn open_log(&self) -> Option<OpenLog> {
        self.state().log.clone()
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::SeqCst)
    }

    pub(crate) async fn connect(&self) -> Result<Session, Fault> {
        Session::connect(&self.target, &self.place, None).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// The number of the log, and a connection to the server that the life is on.
    async fn session_for(&self, life: &Life) -> Result<(i16, Session), EngineError> {
        let id = self.log_id()?;
        let session = self.session(|idle| idle.server == life.server).await?;
        // What was connected to just now tells where the log is.
        if session.server != life.server {
            return Err(EngineError::OtherLife);
        }
        Ok((id, session))
    }

    fn log_id(&self) -> Result<i16, EngineError> {
        let not_open =
            || EngineError::Unavailable(format!("{} is not open yet", self.place.server));
        self.state().log.as_ref().map(|log| log.id).ok_or_else(not_open)
    }

    /// A connection that is idle, or a new one.
    async fn session(&self, is_right: impl Fn(&Session) -> bool) -> Result<Session, EngineError> {
        let idle = || self.idle.lock().expect(UNPOISONED).pop();
        while let Some(session) = idle() {
            if !session.is_closed() && is_right(&session) {
                return Ok(session);
            }
        }
        let connected = self.connect().await;
        connected.map_err(|fault| self.error(fault))
    }

    /// Keeps the connection for the next call if it still can be used.
    fn settle<T>(&self, session: Session, result: Result<T, Fault>) -> Result<T, EngineError> {
        let is_usable = match &result {
            Ok(_) => true,
            Err(fault) => fault.leaves_connection(),
        };
        if is_usable && !session.is_closed() {
            let mut idle = self.idle.lock().expect(UNPOISONED);
            if idle.len() < IDLE_MAX {
                idle.push(session);
            }
        }
        result
            .inspect(|_| self.is_reached.store(true, Ordering::SeqCst))
            .map_err(|it| self.error(it))
    }

    fn error(&self, fault: Fault) -> EngineError {
        let error = fault.into_engine_error(&self.place);
        if matches!(error, EngineError::Unavailable(_) | EngineError::Refused(_)) {
            self.is_reached.store(false, Ordering::SeqCst);
        }
        error
    }

    /// Remembers bounds, which do not go back within a life.
    fn note_bounds(&self, life: &Life, bounds: Bounds) -> Bounds {
        let mut state = self.state();
        if state.log.as_ref().is_none_or(|log| log.life.epoch != life.epoch) {
            return bounds;
        }
        let known = state.bounds.get_or_insert(bounds);
        known.oldest = known.oldest.max(bounds.oldest);
        known.next = known.next.max(bounds.next);
        *known
    }
}

impl Engine for PostgresEngine {
    fn name(&self) -> String {
        self.inner.place.server.clone()
    }

    fn open(&self, seen: Option<&Seen>, fresh: Epoch) -> Result<Opened, EngineError> {
        let inner = &*self.inner;
        let opened = self.block_on(async {
            let mut session = inner.connect().await.map_err(|fault| inner.error(fault))?;
            // What is idle may lead to another server.
            inner.idle.lock().expect(UNPOISONED).clear();
            let result = open(&mut session, inner, seen, fresh).await;
            inner.settle(session, result)
        });
        let (id, opened) = opened?;
        let mut state = inner.state();
        let keys = state.log.as_ref().map_or_else(KeyWindow::default, |log| log.keys);
        state.log = Some(OpenLog { id, life: opened.life.clone(), keys });
        state.bounds = Some(opened.bounds);
        drop(state);
        self.start_tasks();
        Ok(opened)
    }

    fn append(&self, append: &Append<'_>) -> Result<Vec<Outcome>, EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let (id, session) = inner.session_for(append.life).await?;
            let columns = Columns::of(append);
            let timeout = inner.target.call_timeout;
            let is_empty = columns.topics.is_empty();
            let mut tries = 0;
            let result = loop {
                let result = match is_empty {
                    true => within(timeout, try_writing(&session, id, append)).await,
                    false => within(timeout, append_once(&session, id, append, &columns)).await,
                };
                tries += 1;
                match result {
                    Err(fault) if fault.is_collision() && tries < COLLISIONS_MAX => {}
                    result => break result,
                }
            };
            let answer = inner.settle(session, result)?;
            if !is_empty {
                let mut state = inner.state();
                state.writer = Some((append.writer, append.sequence));
                if let Some(log) = &mut state.log {
                    log.keys = append.keys;
                }
                if let Some(bounds) = &mut state.bounds {
                    bounds.next = bounds.next.max(answer.next);
                }
                drop(state);
                inner.signals.appended.notify_one();
            }
            Ok(answer.outcomes)
        })
    }

    fn read(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.step(life, wish, Direction::Forward)
    }

    fn read_backwards(&self, life: &Life, wish: &Wish<'_>) -> Result<Fetched, EngineError> {
        self.step(life, wish, Direction::Backward)
    }

    fn wait(
        &self,
        life: &Life,
        from: u64,
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Fetched, EngineError> {
        self.block_on(async {
            let mut listener = self.listener.lock().await;
            let waited = self.inner.wait(&mut listener, life, from, limit, timeout).await;
            waited.map_err(|fault| {
                let keeps = fault.leaves_connection();
                if !keeps {
                    listener.session = None;
                }
                self.inner.error(fault)
            })
        })
    }

    fn kick(&self) {
        self.inner.signals.kick();
    }

    fn bounds(&self, life: &Life) -> Result<Bounds, EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let (id, session) = inner.session_for(life).await?;
            let timeout = inner.target.call_timeout;
            let result = within(timeout, rows::bounds(&session, id, life)).await;
            inner.settle(session, result).map(|bounds| inner.note_bounds(life, bounds))
        })
    }

    fn trim(&self, life: &Life, cut: &Cut<'_>) -> Result<Bounds, EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let (id, session) = inner.session_for(life).await?;
            let result = trim(&session, inner, id, life, cut).await;
            inner.settle(session, result).map(|bounds| inner.note_bounds(life, bounds))
        })
    }

    fn put_note(&self, name: &str, note: &[u8], ttl: Duration) -> Result<(), EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let id = inner.log_id()?;
            let session = inner.session(|_| true).await?;
            let result = within(inner.target.call_timeout, async {
                let statement = session.prepared(PUT_NOTE).await?;
                let seconds = ttl.as_secs_f64();
                session.client.execute(&statement, &[&id, &name, &note, &seconds]).await?;
                Ok(())
            })
            .await;
            inner.settle(session, result)
        })
    }

    fn notes(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let id = inner.log_id()?;
            let session = inner.session(|_| true).await?;
            let result = within(inner.target.call_timeout, async {
                let statement = session.prepared(NOTES).await?;
                let rows = session.client.query(&statement, &[&id, &prefix]).await?;
                let notes = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                notes.collect()
            })
            .await;
            inner.settle(session, result)
        })
    }
}

impl PostgresEngine {
    fn step(
        &self,
        life: &Life,
        wish: &Wish<'_>,
        direction: Direction,
    ) -> Result<Fetched, EngineError> {
        let inner = &*self.inner;
        self.block_on(async {
            let (id, session) = inner.session_for(life).await?;
            let timeout = inner.target.call_timeout;
            let result = within(timeout, rows::read(&session, id, life, wish, direction)).await;
            let mut fetched = inner.settle(session, result)?;
            fetched.bounds = inner.note_bounds(life, fetched.bounds);
            Ok(fetched)
        })
    }
}

impl Inner {
    async fn wait(
        &self,
        listener: &mut Listener,
        life: &Life,
        from: u64,
        limit: StepLimit,
        timeout: Duration,
    ) -> Result<Fetched, Fault> {
        let id = self.log_id()?;
        let begun = Instant::now();
        let deadline = begun + timeout;
        // A node that appends much is kicked as often; it need not ask each time what is there.
        let mut fresh_for = READ_AGAIN_AFTER.min(timeout);
        loop {
            let session = self.listening(listener, life).await?;
            let now = Instant::now();
            let interval = match self.signals.hearing(now) {
                Hearing::Good => POLL,
                Hearing::Unknown | Hearing::Lost => POLL_UNHEARD,
            };
            let news = self.signals.news();
            let is_due = listener.read_at.is_none_or(|at| now >= at + fresh_for.min(interval));
            fresh_for = interval;
            let is_drained =
                listener.drained.is_some_and(|(end, heard)| heard == news && from >= end);
            if is_due || !is_drained {
                let wish = Wish { from, until: u64::MAX, topics: None, limit };
                let read = rows::read(&session, id, life, &wish, Direction::Forward);
                let mut fetched = within(self.target.call_timeout, read).await?;
                listener.read_at = Some(now);
                let is_all = fetched.end >= fetched.bounds.next;
                listener.drained = is_all.then_some((fetched.end, news));
                fetched.bounds = self.note_bounds(life, fetched.bounds);
                if !fetched.entries.is_empty() || fetched.end > from || fetched.bounds.oldest > from
                {
                    return Ok(fetched);
                }
            }
            let is_kicked = self.signals.take_kick();
            let now = Instant::now();
            if is_kicked || now >= deadline {
                let bounds = self.state().bounds.unwrap_or(Bounds { oldest: from, next: from });
                return Ok(Fetched { entries: Vec::new(), end: from, bounds });
            }
            let poll = listener.read_at.map_or(now, |at| at + interval);
            let until = deadline.min(poll);
            let _ = tokio::time::timeout_at(until.into(), self.signals.wake.notified()).await;
        }
    }

    /// The connection that listens, made anew where it is gone or hears nothing.
    async fn listening(&self, listener: &mut Listener, life: &Life) -> Result<Arc<Session>, Fault> {
        let hearing = self.signals.hearing(Instant::now());
        if hearing == Hearing::Lost && !listener.was_warned {
            listener.was_warned = true;
            tracing::warn!(
                server = %self.place.server,
                "notifications do not arrive, so the log is asked {} times a second; LISTEN needs a direct connection, or a \
                 pooler in session mode, not pgbouncer with pool_mode=transaction",
                1_000 / POLL_UNHEARD.as_millis()
            );
        }
        // Somebody may have taken away what the connection was told to listen to.
        let is_tried = hearing != Hearing::Lost
            || listener.listened_at.is_some_and(|at| at.elapsed() < LISTEN_AGAIN_AFTER);
        let is_usable = listener.session.as_ref().is_some_and(|session| !session.is_closed());
        if !is_usable || !is_tried {
            listener.session = None;
            listener.drained = None;
            let signals = self.signals.clone();
            let heard: crate::session::Heard =
                Arc::new(move |notification| signals.handle_notification(notification));
            let session = Session::connect(&self.target, &self.place, Some(&heard)).await?;
            let listen = self.signals.listen_sql();
            within(self.target.call_timeout, async {
                Ok(session.client.batch_execute(&listen).await?)
            })
            .await?;
            self.signals.note_listening();
            listener.listened_at = Some(Instant::now());
            listener.session = Some(Arc::new(session));
        }
        match &listener.session {
            Some(session) if session.server == life.server => Ok(session.clone()),
            _ => Err(Fault::Engine(EngineError::OtherLife)),
        }
    }
}

async fn open(
    session: &mut Session,
    inner: &Inner,
    seen: Option<&Seen>,
    fresh: Epoch,
) -> Result<(i16, Opened), Fault> {
    let timeout = inner.target.call_timeout;
    let place = &inner.place;
    if !within(timeout, schema::is_made(&session.client, place)).await? {
        within(timeout * MAKING_FACTOR, schema::make(&mut session.client, place)).await?;
    }
    if !session.is_synced {
        tracing::warn!(
            server = %inner.place.server,
            "fsync or full_page_writes is off: a crash of the machine loses acknowledged events, and may damage what is \
             stored; every start of the server begins another life of the log unless a node vouches for it"
        );
    }
    within(timeout, open_log(session, inner, seen, fresh)).await
}

/// Takes the log up, or makes it.
async fn open_log(
    session: &mut Session,
    inner: &Inner,
    seen: Option<&Seen>,
    fresh: Epoch,
) -> Result<(i16, Opened), Fault> {
    let name = &inner.target.log;
    let server = session.server.clone();
    let transaction = session.client.transaction().await?;
    let id: i16 = match transaction.query_opt(FIND_LOG, &[name]).await? {
        Some(row) => row.try_get(0)?,
        None => {
            transaction.execute(MAKE_LOG, &[name]).await?;
            transaction.query_one(FIND_LOG, &[name]).await?.try_get(0)?
        }
    };
    transaction.execute(MAKE_KEPT, &[&id]).await?;
    transaction.execute(LOCK_LOG, &[&id]).await?;
    let row = transaction.query_one(LOG, &[&id]).await?;
    let stored: &str = row.try_get("life")?;
    let stored: Option<LifeRecord> = serde_json::from_str(stored).ok();
    let (oldest, next): (i64, i64) = (row.try_get("oldest")?, row.try_get("next")?);
    let verdict = judge(stored.as_ref(), &server, next as u64, seen, false, fresh);
    if let Some(record) = &verdict.record {
        let text = serde_json::to_string(record).map_err(|error| {
            EngineError::Damaged(format!("the life of the log cannot be written: {error}"))
        })?;
        transaction.execute(PUT_LIFE, &[&id, &record.epoch, &text]).await?;
    }
    let finished = topics(&transaction.query(FINISHED, &[&id]).await?)?;
    let dropped = topics(&transaction.query(DROPPED, &[&id]).await?)?;
    transaction.commit().await?;
    let bounds = Bounds { oldest: oldest as u64, next: next as u64 };
    Ok((id, Opened { life: verdict.life, bounds, finished, dropped }))
}

fn topics(rows: &[tokio_postgres::Row]) -> Result<Vec<(Topic, u64)>, Fault> {
    let topic = |row: &tokio_postgres::Row| {
        Ok((parsed(row.try_get(0)?)?, row.try_get::<_, i64>(1)? as u64))
    };
    rows.iter().map(topic).collect()
}

async fn append_once(
    session: &Session,
    id: i16,
    append: &Append<'_>,
    columns: &Columns<'_>,
) -> Result<Answer, Fault> {
    let epoch = append.life.epoch.to_string();
    // Numbers of 64 bits go into signed columns and out again.
    let (writer, sequence) = (append.writer as i64, append.sequence as i64);
    let now = signed(append.now);
    let since = signed(append.now.saturating_sub(append.keys.age_max_ms));
    let Columns { publishes, sizes, flags, retry, types, topics, more, keys, data } = columns;
    let parameters: &[&(dyn ToSql + Sync)] = &[
        &id, &epoch, &writer, &sequence, &now, &since, publishes, sizes, flags, retry, types,
        topics, more, keys, data,
    ];
    let statement = session.prepared(APPEND).await?;
    let row = session.client.query_one(&statement, parameters).await?;
    Answer::of(&row, append.publishes)
}

/// Finds out whether the log can be written.
async fn try_writing(session: &Session, id: i16, append: &Append<'_>) -> Result<Answer, Fault> {
    let epoch = append.life.epoch.to_string();
    let statement = session.prepared(TRY_WRITING).await?;
    let row = session.client.query_one(&statement, &[&id, &epoch]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(Fault::Engine(EngineError::OtherLife));
    }
    let outcomes = append.publishes.iter().map(|_| Outcome::Appended(Vec::new())).collect();
    Ok(Answer { next: 0, outcomes })
}

async fn trim(
    session: &Session,
    inner: &Inner,
    id: i16,
    life: &Life,
    cut: &Cut<'_>,
) -> Result<Bounds, Fault> {
    let timeout = inner.target.call_timeout;
    let epoch = life.epoch.to_string();
    let (events_max, bytes_max) = (signed(cut.events_max), signed(cut.bytes_max));
    let before = signed(cut.appended_before);
    let since = signed(cut.now.saturating_sub(cut.keys.age_max_ms));
    let keys_max = i64::try_from(cut.keys.runs_max).unwrap_or(i64::MAX);
    let parameters: &[&(dyn ToSql + Sync)] =
        &[&id, &epoch, &events_max, &bytes_max, &before, &since, &keys_max];
    let begun = Instant::now();
    let mut collisions = 0;
    let bounds = loop {
        let step = within(timeout, async {
            let statement = session.prepared(TRIM).await?;
            Ok(session.client.query_one(&statement, parameters).await?)
        });
        let row = match step.await {
            Err(fault) if fault.is_collision() && collisions < COLLISIONS_MAX => {
                collisions += 1;
                continue;
            }
            row => row?,
        };
        if row.try_get::<_, i16>("status")? != 0 {
            return Err(Fault::Engine(EngineError::OtherLife));
        }
        let (oldest, next): (i64, i64) = (row.try_get("oldest")?, row.try_get("next")?);
        // The rest waits for the next time: others want to use the log as well.
        if !row.try_get::<_, bool>("more")? || begun.elapsed() > TRIM_MAX {
            break Bounds { oldest: oldest as u64, next: next as u64 };
        }
    };
    drop_events(session, inner, id, &epoch, cut).await?;
    clean_up(session, inner, id, cut).await?;
    Ok(bounds)
}

/// Lets go of what retention rules drop.
async fn drop_events(
    session: &Session,
    inner: &Inner,
    id: i16,
    epoch: &str,
    cut: &Cut<'_>,
) -> Result<(), Fault> {
    let mut topics: Vec<&str> = cut.dropped.iter().map(|(topic, _)| topic.as_str()).collect();
    let mut highest: Vec<i64> = cut.dropped.iter().map(|&(_, offset)| signed(offset)).collect();
    let mut offsets = cut.offsets.chunks(DROP_STEP).map(<[u64]>::to_vec).collect::<Vec<_>>();
    if offsets.is_empty() && !topics.is_empty() {
        offsets.push(Vec::new());
    }
    for step in offsets {
        let step: Vec<i64> = step.into_iter().map(signed).collect();
        let is_same = within(inner.target.call_timeout, async {
            let statement = session.prepared(DROP_EVENTS).await?;
            let parameters: &[&(dyn ToSql + Sync)] = &[&id, &epoch, &step, &topics, &highest];
            Ok(session.client.query_one(&statement, parameters).await?.try_get(0)?)
        });
        if !is_same.await? {
            return Err(Fault::Engine(EngineError::OtherLife));
        }
        // What was lost is remembered before it is gone, so by the first step.
        topics.clear();
        highest.clear();
    }
    Ok(())
}

/// Removes answers that nobody asks for any more, and old notes.
async fn clean_up(session: &Session, inner: &Inner, id: i16, cut: &Cut<'_>) -> Result<(), Fault> {
    let (writer, is_due) = {
        let mut state = inner.state();
        let writer = state.writer.filter(|it| state.trimmed.writer != Some(*it));
        let is_due = state.trimmed.at.is_none_or(|at| at.elapsed() > CLEAN_UP_EVERY);
        if is_due {
            state.trimmed.at = Some(Instant::now());
        }
        state.trimmed.writer = state.writer;
        (writer, is_due)
    };
    within(inner.target.call_timeout, async {
        if let Some((writer, sequence)) = writer {
            let (writer, sequence) = (writer as i64, sequence as i64);
            let statement = session.prepared(FORGET_ANSWERS).await?;
            session.client.execute(&statement, &[&id, &writer, &sequence]).await?;
        }
        let statement = session.prepared(SETTLE_TOPICS).await?;
        session.client.execute(&statement, &[]).await?;
        if is_due {
            let before = signed(cut.now.saturating_sub(ANSWER_AGE_MAX_MS));
            session.client.execute(FORGET_OLD_ANSWERS, &[&id, &before]).await?;
            session.client.execute(FORGET_NOTES, &[&id]).await?;
        }
        Ok(())
    })
    .await
}

const APPEND: &str = "
    select status, first, offsets, refused, refused_topics, refused_offsets
    from tidings.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
const TRY_WRITING: &str = "select tidings.try_writing($1, $2)";
const TRIM: &str =
    "select status, more, oldest, next from tidings.trim($1, $2, $3, $4, $5, $6, $7)";
const DROP_EVENTS: &str = "select tidings.drop_events($1, $2, $3, $4, $5)";
/// Puts new entries of the index into their places, which an append would have to do at some time, and a search wade
/// through until then.
const SETTLE_TOPICS: &str = "select gin_clean_pending_list('tidings.events_by_topic')";
const FORGET_ANSWERS: &str =
    "delete from tidings.appends a where a.log = $1 and a.writer = $2 and a.sequence < $3";
const FORGET_OLD_ANSWERS: &str = "delete from tidings.appends a where a.log = $1 and a.at < $2";
const FORGET_NOTES: &str =
    "delete from tidings.notes n where n.log = $1 and n.until < clock_timestamp()";
const PUT_NOTE: &str = "
    insert into tidings.notes (log, name, note, until)
    values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
    on conflict (log, name) do update set note = excluded.note, until = excluded.until";
const NOTES: &str = "
    select n.name, n.note from tidings.notes n
    where n.log = $1 and starts_with(n.name, $2) and n.until > clock_timestamp()
    order by n.name";
const FIND_LOG: &str = "select id from tidings.logs where name = $1";
const MAKE_LOG: &str = "insert into tidings.logs (name) values ($1) on conflict (name) do nothing";
const MAKE_KEPT: &str = "insert into tidings.kept (log) values ($1) on conflict (log) do nothing";
/// The lock under which offsets are given out.
const LOCK_LOG: &str = "select pg_advisory_xact_lock(1953064033, $1::smallint)";
const LOG: &str = "
    select l.life, k.oldest, h.next
    from tidings.logs l join tidings.kept k on k.log = l.id cross join lateral tidings.head(l.id) h
    where l.id = $1";
const PUT_LIFE: &str = "update tidings.logs set epoch = $2, life = $3 where id = $1";
const FINISHED: &str = "select topic, \"offset\" from tidings.finished where log = $1 order by 2";
const DROPPED: &str = "select topic, \"offset\" from tidings.dropped where log = $1 order by 2";

/// How long nothing is asked again if nothing was heard.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often others are asked for news of which no notification has told.
const POLL: Duration = Duration::from_secs(1);
/// The same where notifications do not come.
const POLL_UNHEARD: Duration = Duration::from_millis(100);
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Connections to keep for later calls.
const IDLE_MAX: usize = 4;
/// How often a transaction that met another one is repeated.
const COLLISIONS_MAX: u32 = 5;
/// How much longer than a call the tables may take that are made once.
const MAKING_FACTOR: u32 = 10;
const TRIM_MAX: Duration = Duration::from_secs(1);
const DROP_STEP: usize = 5_000;
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);
const ANSWER_AGE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
