//! The connection webhook: a server of yours is told when users come and go.
//!
//! **Everything that is told is told at least once, and in order for each user**; what that means,
//! and where it ends, is in `docs/operate/webhooks.md`. News is written down, where there is a
//! folder, before it is told.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use thiserror::Error;
use tidings_core::Identity;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::calendar::unix_ms;
use crate::journal::Journal;
use crate::log_gate::LogGate;
use crate::news::{Line, News, User};
use crate::outbox::{Outbox, OutboxOptions};
use crate::outgoing::{self, OutgoingError, Redirects};
use crate::roll::{Moment, Roll};
use crate::{AccessError, ConnectionWebhook, NewsFigures, WebhookSecret};

/// A stream that opened, and whose it is.
#[derive(Clone, Debug)]
pub struct ConnectionAbout {
    /// Who it belongs to.
    pub identity: Arc<Identity>,
    /// The address of the client.
    pub ip: Option<IpAddr>,
}

/// A stream of a user, for as long as this lives.
#[derive(Debug)]
#[must_use = "the stream counts as ended when this is dropped"]
pub struct ConnectionNews {
    user: Arc<User>,
    reason: Option<Box<str>>,
    informer: Arc<Informer>,
}

impl ConnectionNews {
    /// The stream ended, for `reason`: a word such as `expired`. Dropping says the same without a
    /// reason.
    pub fn ended(mut self, reason: &str) {
        self.reason = Some(reason.into());
    }
}

impl Drop for ConnectionNews {
    fn drop(&mut self) {
        self.informer.handle_ended(&self.user, self.reason.as_deref());
    }
}

/// Tells the server, in a task of its own.
pub(crate) struct Informer {
    options: ConnectionWebhook,
    client: Client,
    secret: Option<WebhookSecret>,
    started_at: Instant,
    desk: Mutex<Desk>,
    /// There is something new on the desk.
    wake: Notify,
    undelivered: watch::Sender<usize>,
    is_kept: bool,
    counters: Counters,
    gate: LogGate,
}

struct Desk {
    roll: Roll,
    outbox: Outbox,
    /// News that is not written down yet.
    news: Vec<News>,
    /// Of news that was delivered or dropped, what is not written down yet.
    done: Vec<Line<'static>>,
}

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    failed_attempts: AtomicU64,
    dropped: AtomicU64,
    unkept: AtomicU64,
}

/// Where news is written down.
struct Spool {
    journal: Journal,
    /// Something could not be written, so the file is to be written anew.
    has_holes: bool,
}

/// Why the server has not taken news.
#[derive(Debug, Error)]
enum NotTaken {
    #[error("{0}")]
    Outgoing(#[from] OutgoingError),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl Informer {
    /// Reads what is kept in `folder`, and begins to tell in `tasks`.
    pub(crate) fn start(
        options: ConnectionWebhook,
        secret: Option<WebhookSecret>,
        folder: Option<&Path>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, AccessError> {
        let client = outgoing::client(&options.url, options.timeout, Redirects::Never)
            .map_err(|error| AccessError::Client { reason: error.to_string() })?;
        if !options.url.is_protected() {
            let url = &options.url;
            warn!(%url, "users are told of over http, for all on the way to read and change");
        }
        let spool =
            folder.map(|folder| Journal::open::<Line<'_>>(folder, FILE_NAME)).transpose()?;
        let (journal, lines) = spool.unzip();
        let informer = Arc::new(Self {
            desk: Mutex::new(Desk::new(&options, lines.unwrap_or_default())),
            client,
            secret,
            started_at: Instant::now(),
            wake: Notify::new(),
            undelivered: watch::Sender::new(0),
            is_kept: journal.is_some(),
            counters: Counters::default(),
            gate: LogGate::default(),
            options,
        });
        let spool = journal.map(|journal| Spool { journal, has_holes: false });
        tasks.spawn(informer.clone().run(spool));
        Ok(informer)
    }

    pub(crate) fn connected(self: &Arc<Self>, about: &ConnectionAbout) -> Option<ConnectionNews> {
        let name = about.identity.user.clone()?;
        let user = User { issuer: about.identity.issuer.clone(), name };
        let now = self.now();
        let mut desk = self.desk();
        let has_room = desk.undelivered_count() < self.options.undelivered_max;
        let (user, news) = desk.roll.handle_connected(user, about.ip, has_room, now)?;
        if let Some(news) = news {
            desk.news.push(news);
            self.wake.notify_one();
        }
        Some(ConnectionNews { user, reason: None, informer: self.clone() })
    }

    /// Every stream is about to end. Where nothing outlives the process, tells now that all users
    /// are gone, and returns when that is done, or after `within`.
    pub(crate) async fn finish(&self, within: Duration) {
        if self.is_kept {
            return;
        }
        {
            let mut desk = self.desk();
            desk.roll.handle_shutdown(self.now());
            self.take_news(&mut desk);
            self.undelivered.send_replace(desk.undelivered_count());
        }
        let mut undelivered = self.undelivered.subscribe();
        self.wake.notify_one();
        let _ = tokio::time::timeout(within, undelivered.wait_for(|count| *count == 0)).await;
    }

    pub(crate) fn figures(&self) -> NewsFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let desk = self.desk();
        NewsFigures {
            users: desk.roll.user_count() as u64,
            delivered: of(&self.counters.delivered),
            failed_attempts: of(&self.counters.failed_attempts),
            undelivered: desk.undelivered_count() as u64,
            dropped: desk.roll.dropped_count() + of(&self.counters.dropped),
            unkept: of(&self.counters.unkept),
        }
    }

    fn handle_ended(&self, user: &Arc<User>, reason: Option<&str>) {
        let now = self.now();
        self.desk().roll.handle_ended(user, reason, now);
        self.wake.notify_one();
    }

    async fn run(self: Arc<Self>, mut spool: Option<Spool>) {
        let mut attempts = JoinSet::new();
        loop {
            spool = self.write_down(spool).await;
            let deadline = {
                let mut desk = self.desk();
                let now_ms = self.now().monotonic_ms;
                while let Some(news) = desk.outbox.poll_attempt(now_ms) {
                    attempts.spawn(self.clone().attempt(news));
                }
                self.undelivered.send_replace(desk.undelivered_count());
                let outbox = desk.outbox.deadline_ms(now_ms);
                outbox.into_iter().chain(desk.roll.deadline_ms()).min()
            };
            let deadline = deadline.map(|at_ms| self.started_at + Duration::from_millis(at_ms));
            tokio::select! {
                () = self.wake.notified() => {}
                Some(_) = attempts.join_next() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Takes what is news by now, and hands it to the outbox once it is on the disk.
    async fn write_down(&self, spool: Option<Spool>) -> Option<Spool> {
        let (news, done, live) = {
            let mut desk = self.desk();
            self.take_news(&mut desk);
            let (news, done) = (std::mem::take(&mut desk.news), std::mem::take(&mut desk.done));
            let is_due = spool.as_ref().is_some_and(|spool| spool.is_due(desk.live_count()));
            let live = is_due.then(|| desk.lines(&news));
            (news, done, live)
        };
        let spool = match spool {
            Some(spool) if !news.is_empty() || !done.is_empty() => {
                self.spool(spool, &news, done, live).await
            }
            spool => spool,
        };
        let mut desk = self.desk();
        news.into_iter().for_each(|news| desk.outbox.push(news));
        spool
    }

    async fn spool(
        &self,
        mut spool: Spool,
        news: &[News],
        done: Vec<Line<'static>>,
        live: Option<Vec<Line<'static>>>,
    ) -> Option<Spool> {
        let count = news.len() as u64;
        let lines: Vec<_> = done.into_iter().chain(news.iter().map(News::line)).collect();
        let write = move || {
            let written = spool.write(&lines, count > 0, live.as_deref());
            (spool, written)
        };
        let (spool, written) = match tokio::task::spawn_blocking(write).await {
            Ok((spool, written)) => (Some(spool), written),
            Err(error) => (None, Err(error.into())),
        };
        if let Err(error) = written {
            self.counters.unkept.fetch_add(count, Ordering::Relaxed);
            if let Some(withheld) = self.gate.pass() {
                warn!(%error, withheld, "news of users is told, but cannot be written down");
            }
        }
        spool
    }

    /// Moves what became news by time and room from the roll to the desk.
    fn take_news(&self, desk: &mut Desk) {
        let now = self.now();
        loop {
            let has_room = desk.undelivered_count() < self.options.undelivered_max;
            let Some(news) = desk.roll.poll_news(has_room, now) else { return };
            desk.news.push(news);
        }
    }

    async fn attempt(self: Arc<Self>, news: Arc<News>) {
        let sent = self.send(&news).await;
        let now_ms = self.now().monotonic_ms;
        let chance = fastrand::f64();
        let mut desk = self.desk();
        let is_done = match &sent {
            Ok(()) => {
                desk.outbox.handle_delivered(&news);
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(NotTaken::Status(status)) if is_refusal(*status) => {
                let is_dropped = desk.outbox.handle_refused(&news, now_ms, chance);
                self.counters.dropped.fetch_add(u64::from(is_dropped), Ordering::Relaxed);
                is_dropped
            }
            Err(_) => {
                desk.outbox.handle_failed(&news, now_ms, chance);
                false
            }
        };
        if is_done && self.is_kept {
            desk.done.push(Line::Done { id: news.id.to_string().into() });
        }
        drop(desk);
        if let Err(error) = sent {
            self.counters.failed_attempts.fetch_add(1, Ordering::Relaxed);
            self.report(&news, &error, is_done);
        }
    }

    async fn send(&self, news: &News) -> Result<(), NotTaken> {
        let body = news.body();
        let url = self.options.url.as_url().clone();
        let headers = outgoing::signed_headers(self.secret.as_ref(), &news.id, &body);
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        let response = request.headers(headers).body(body).send().await;
        let response = response.map_err(OutgoingError::from)?;
        let status = response.status();
        // What is left unread keeps the connection from being used again.
        let _ = outgoing::body_of(response, ANSWER_BYTES_MAX).await;
        if status.is_success() { Ok(()) } else { Err(NotTaken::Status(status)) }
    }

    fn report(&self, news: &News, error: &NotTaken, is_dropped: bool) {
        let (url, id) = (&self.options.url, &news.id);
        if is_dropped {
            warn!(%url, %id, %error, "news of a user was refused for too long, and is dropped");
        } else if let Some(withheld) = self.gate.pass() {
            warn!(%url, %id, %error, withheld, "cannot deliver news of a user; trying again");
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        let elapsed = self.started_at.elapsed().as_millis();
        Moment { monotonic_ms: u64::try_from(elapsed).unwrap_or(u64::MAX), unix_ms: unix_ms() }
    }
}

impl fmt::Debug for Informer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer").field("url", &self.options.url).finish_non_exhaustive()
    }
}

impl Desk {
    /// Goes on from what the lines of a process before this one say.
    fn new(options: &ConnectionWebhook, lines: Vec<Line<'static>>) -> Self {
        let mut desk = Self {
            roll: Roll::new(millis(options.debounce), options.users_max),
            outbox: Outbox::new(OutboxOptions {
                calls_max: options.calls_max.max(1),
                refused_for_max_ms: millis(options.refused_for_max),
                backoff: options.backoff,
            }),
            news: Vec::new(),
            done: Vec::new(),
        };
        let done: HashSet<String> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Done { id } => Some(id.to_string()),
                _ => None,
            })
            .collect();
        let mut told = HashMap::new();
        for line in lines {
            if let Some(user) = line.user() {
                told.insert(Arc::new(user), line.tells_presence());
            }
            if let Some(news) = line.into_news()
                && !done.contains(&*news.id)
            {
                desk.outbox.push(news);
            }
        }
        let now = Moment { monotonic_ms: 0, unix_ms: unix_ms() };
        for (user, presence) in told {
            if let Some(ip) = presence {
                desk.roll.handle_remembered(user, ip, now);
            }
        }
        let (users, news) = (desk.roll.user_count(), desk.outbox.len());
        if users + news > 0 {
            info!(users, news, "users who were there, and news that waits, were found");
        }
        desk
    }

    fn undelivered_count(&self) -> usize {
        self.outbox.len() + self.news.len()
    }

    /// About how many lines [`lines`](Self::lines) has.
    fn live_count(&self) -> usize {
        self.undelivered_count() + self.roll.user_count()
    }

    /// All that matters, `news` being on its way to the outbox.
    fn lines(&self, news: &[News]) -> Vec<Line<'static>> {
        let waiting = self.outbox.news().map(|news| news.line());
        // What was told last counts, so it stands behind what is still to be told.
        let told = self.roll.told().map(|(user, ip)| Line::there(user, ip));
        waiting.chain(news.iter().map(News::line)).chain(told).collect()
    }
}

impl Spool {
    fn is_due(&self, live_count: usize) -> bool {
        self.has_holes || self.journal.line_count() > 2 * live_count + SPARE_LINES
    }

    /// Writes `lines`, or in their place all that matters.
    fn write(
        &mut self,
        lines: &[Line<'_>],
        has_news: bool,
        live: Option<&[Line<'_>]>,
    ) -> io::Result<()> {
        let written = match live {
            Some(live) => self.journal.rewrite(live),
            None if has_news => self.journal.append(lines),
            // To tell again what was told is better than to wait for the disk.
            None => self.journal.append_unsynced(lines),
        };
        self.has_holes = written.is_err();
        written
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells whether a server that answers so would take other news. The rest of `4xx` says that nothing
/// is taken, here or now.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !TAKES_NOTHING.contains(&status.as_u16())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const FILE_NAME: &str = "connections.jsonl";

/// Lines that are left in the file though they do not matter any more, before it is written anew.
const SPARE_LINES: usize = 1000;

/// Of an answer that nobody reads.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Unauthorized, forbidden, not found, method not allowed, proxy authentication, timeout, gone,
/// misdirected, too early, too many requests.
const TAKES_NOTHING: [u16; 10] = [401, 403, 404, 405, 407, 408, 410, 421, 425, 429];
