//! The authorisation webhook: a server of yours says what a subscriber may do, from the cookies and
//! headers that the subscriber sent.
//!
//! **Nobody is let in for want of an answer.** What is not an answer to the letter is none.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{self, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidings_auth::{Grant, UnixSeconds};
use tidings_core::{Identity, Rights, Selector, SelectorError};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::calendar::unix_seconds;
use crate::halves::Halves;
use crate::log_gate::LogGate;
use crate::outgoing::{self, OutgoingError, Redirects, random_id};
use crate::{AccessError, AuthorizationFigures, AuthorizationWebhook, WebhookSecret};

/// What a subscriber wants, and all that is known of it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The topics and selectors that it asks for, as written.
    pub topics: Vec<String>,
    /// The event types that it asks for; empty for all.
    pub events: Vec<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The method of its request.
    pub method: String,
    /// The path and query of its request.
    pub url: String,
    /// The headers of its request. Those that are about the connection are left out of what is
    /// asked.
    pub headers: HeaderMap,
}

/// Why there are no rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthorizeError {
    /// The server answered `401` or `403`.
    #[error("the authorisation webhook denies access")]
    Denied,
    /// There is no server to ask, no answer in time, too many ask, or the answer is none. Nobody is
    /// let in for that; to try again later may help.
    #[error("the authorisation webhook gives no answer")]
    Unavailable,
}

/// Asks the server, each question once at a time.
pub(crate) struct Authorizer {
    options: AuthorizationWebhook,
    client: Client,
    secret: Option<WebhookSecret>,
    calls: Semaphore,
    desk: Mutex<Desk>,
    counters: Counters,
    gate: LogGate,
}

struct Desk {
    /// Questions that are being asked, or wait for it.
    asked: HashMap<QuestionHash, watch::Receiver<Option<Outcome>>>,
    answers: Halves<QuestionHash, (Arc<Grant>, Instant)>,
}

#[derive(Default)]
struct Counters {
    allowed: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    turned_away: AtomicU64,
    cached: AtomicU64,
    latency_us: AtomicU64,
}

type Outcome = Result<Arc<Grant>, AuthorizeError>;

/// The same for questions that have the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct QuestionHash([u8; 32]);

/// A question as it is asked.
#[derive(Serialize)]
struct Body<'a> {
    topics: &'a [String],
    events: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    method: &'a str,
    url: &'a str,
    headers: BTreeMap<&'a str, String>,
}

/// The rights as they are answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answer {
    #[serde(default)]
    user: Option<Box<str>>,
    subscribe: Vec<Box<str>>,
    #[serde(default)]
    publish: Option<Vec<Box<str>>>,
    #[serde(default)]
    presence: Vec<Box<str>>,
    #[serde(default)]
    operate: bool,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Why an answer is none.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error("there is none in time")]
    Timeout,
    #[error("{0}")]
    Outgoing(#[from] OutgoingError),
    #[error("its status is {0}")]
    Status(StatusCode),
    #[error("it is not the JSON that was asked for: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it holds a selector that is none: {0}")]
    Selector(#[from] SelectorError),
    #[error("it holds more than {SELECTORS_MAX} selectors")]
    TooManySelectors,
    #[error("the user has not 1 to {USER_BYTES_MAX} bytes")]
    User,
    #[error("it is over at once (expiresIn)")]
    Over,
}

impl Authorizer {
    pub(crate) fn new(
        options: AuthorizationWebhook,
        secret: Option<WebhookSecret>,
    ) -> Result<Arc<Self>, AccessError> {
        let client = outgoing::client(&options.url, options.timeout, Redirects::Never)
            .map_err(|error| AccessError::Client { reason: error.to_string() })?;
        if !options.url.is_protected() {
            let url = &options.url;
            warn!(%url, "credentials go to the authorisation webhook over http, for all on the way to read");
        }
        let answers = Halves::new(options.cached_max);
        Ok(Arc::new(Self {
            calls: Semaphore::new(options.calls_max.clamp(1, Semaphore::MAX_PERMITS)),
            desk: Mutex::new(Desk { asked: HashMap::new(), answers }),
            options,
            client,
            secret,
            counters: Counters::default(),
            gate: LogGate::default(),
        }))
    }

    pub(crate) async fn authorize(self: &Arc<Self>, question: &Question) -> Outcome {
        let mut outcome = self.ask(question)?;
        // Without an outcome, the task that asks has come to an end before its time.
        let outcome = outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(AuthorizeError::Unavailable))
    }

    pub(crate) fn figures(&self) -> AuthorizationFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AuthorizationFigures {
            allowed: of(&self.counters.allowed),
            denied: of(&self.counters.denied),
            failed: of(&self.counters.failed),
            turned_away: of(&self.counters.turned_away),
            cached: of(&self.counters.cached),
            latency_sum: Duration::from_micros(of(&self.counters.latency_us)),
        }
    }

    /// Finds the answer, or who is waiting for it, or begins to ask.
    fn ask(
        self: &Arc<Self>,
        question: &Question,
    ) -> Result<watch::Receiver<Option<Outcome>>, AuthorizeError> {
        let hash = question.hash();
        let mut desk = self.desk();
        if let Some((grant, until)) = desk.answers.get(&hash) {
            let is_over = grant.expires_at.is_some_and(|at| at <= unix_seconds());
            if Instant::now() < *until && !is_over {
                self.counters.cached.fetch_add(1, Ordering::Relaxed);
                return Ok(watch::channel(Some(Ok(grant.clone()))).1);
            }
            desk.answers.remove(&hash);
        }
        if let Some(outcome) = desk.asked.get(&hash) {
            return Ok(outcome.clone());
        }
        if desk.asked.len() >= self.options.waiting_max {
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(AuthorizeError::Unavailable);
        }
        let (sender, outcome) = watch::channel(None);
        desk.asked.insert(hash, outcome.clone());
        let asked = Asked { authorizer: self.clone(), hash };
        let body = question.body();
        // Whoever asked first may go away; the others still want to know.
        tokio::spawn(async move {
            let outcome = asked.authorizer.outcome(body).await;
            asked.authorizer.remember(hash, &outcome);
            drop(asked);
            sender.send_replace(Some(outcome));
        });
        Ok(outcome)
    }

    async fn outcome(&self, body: Vec<u8>) -> Outcome {
        let answered = tokio::time::timeout(self.options.timeout, self.call(body)).await;
        let (counter, outcome) = match answered.unwrap_or(Err(NoAnswer::Timeout)) {
            Ok(Some(grant)) => (&self.counters.allowed, Ok(Arc::new(grant))),
            Ok(None) => (&self.counters.denied, Err(AuthorizeError::Denied)),
            Err(error) => {
                if let Some(withheld) = self.gate.pass() {
                    let url = &self.options.url;
                    warn!(%url, %error, withheld, "no answer of the authorisation webhook; access is refused");
                }
                (&self.counters.failed, Err(AuthorizeError::Unavailable))
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Asks the server; `None` if it denies.
    async fn call(&self, body: Vec<u8>) -> Result<Option<Grant>, NoAnswer> {
        let permit = self.calls.acquire().await.map_err(|_| NoAnswer::Timeout)?;
        let _latency = Latency { since: Instant::now(), sum_us: &self.counters.latency_us };
        let mut response = self.post(body.clone()).await;
        if let Err(error) = &response
            && error.is_worth_an_immediate_retry()
        {
            response = self.post(body).await;
        }
        let response = response?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
            status => return Err(NoAnswer::Status(status)),
        }
        let body = outgoing::body_of(response, self.options.bytes_max).await?;
        drop(permit);
        parse_answer(&body, unix_seconds()).map(Some)
    }

    async fn post(&self, body: Vec<u8>) -> Result<reqwest::Response, OutgoingError> {
        let url = self.options.url.as_url().clone();
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        let headers = outgoing::signed_headers(self.secret.as_ref(), &random_id(), &body);
        Ok(request.headers(headers).body(body).send().await?)
    }

    fn remember(&self, hash: QuestionHash, outcome: &Outcome) {
        if let Ok(grant) = outcome
            && !self.options.cache.is_zero()
        {
            let until = Instant::now() + self.options.cache;
            self.desk().answers.insert(hash, (grant.clone(), until));
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("url", &self.options.url).finish_non_exhaustive()
    }
}

/// A question that is being asked, until this is dropped.
struct Asked {
    authorizer: Arc<Authorizer>,
    hash: QuestionHash,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.authorizer.desk().asked.remove(&self.hash);
    }
}

/// Counts how long something took, also when it is given up.
struct Latency<'a> {
    since: Instant,
    sum_us: &'a AtomicU64,
}

impl Drop for Latency<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(took, Ordering::Relaxed);
    }
}

impl Question {
    fn body(&self) -> Vec<u8> {
        let body = Body {
            topics: &self.topics,
            events: &self.events,
            ip: self.ip,
            method: &self.method,
            url: &self.url,
            headers: end_to_end(&self.headers),
        };
        serde_json::to_vec(&body).expect("texts are JSON")
    }

    /// All that an answer may depend on counts, except what is known to change while the asker and
    /// its rights stay the same: the place where it resumes, and what its software prefers.
    fn hash(&self) -> QuestionHash {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for list in [&self.topics, &self.events] {
            add(&(list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| add(text.as_bytes()));
        }
        add(self.ip.map(|ip| ip.to_string()).unwrap_or_default().as_bytes());
        add(self.method.as_bytes());
        let (path, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        add(path.as_bytes());
        let query: Vec<_> = query.split('&').filter(|pair| !is_resumption(pair)).collect();
        add(query.join("&").as_bytes());
        for (name, value) in end_to_end(&self.headers) {
            if !NOT_CREDENTIALS.contains(&name) {
                add(name.as_bytes());
                add(value.as_bytes());
            }
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        QuestionHash(bytes)
    }
}

/// Tells whether a parameter says after which event to resume.
fn is_resumption(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    ["lastEventId", "Last-Event-ID", "last_event_id"].contains(&name)
}

/// The headers that are not about the connection (RFC 9110, section 7.6.1), those of one name in one
/// value. Bytes that are not UTF-8 are replaced.
fn end_to_end(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let connection = headers.get_all(header::CONNECTION).iter();
    let named: Vec<_> = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut kept = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        if HOP_BY_HOP.contains(name) || named.iter().any(|other| other == name.as_str()) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let separator = if *name == header::COOKIE { "; " } else { ", " };
        kept.entry(name.as_str())
            .and_modify(|before| {
                before.push_str(separator);
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    kept
}

fn parse_answer(body: &[u8], now: UnixSeconds) -> Result<Grant, NoAnswer> {
    let answer: Answer = serde_json::from_slice(body)?;
    if answer.user.as_ref().is_some_and(|user| user.is_empty() || user.len() > USER_BYTES_MAX) {
        return Err(NoAnswer::User);
    }
    if answer.expires_in == Some(0) {
        return Err(NoAnswer::Over);
    }
    let publish = answer.publish.as_deref().map(parse_selectors).transpose()?;
    let presence = parse_selectors(&answer.presence)?;
    let presence = if answer.operate { vec![Selector::All] } else { presence };
    Ok(Grant {
        identity: Arc::new(Identity { user: answer.user, ..Identity::default() }),
        publish: publish.map(Rights::of),
        subscribe: Rights::of(parse_selectors(&answer.subscribe)?).with_presence(&presence),
        presence: Rights::of(presence),
        operate: answer.operate,
        expires_at: answer.expires_in.map(|seconds| now.saturating_add(seconds)),
        payload: None,
    })
}

fn parse_selectors(selectors: &[Box<str>]) -> Result<Vec<Selector>, NoAnswer> {
    if selectors.len() > SELECTORS_MAX {
        return Err(NoAnswer::TooManySelectors);
    }
    Ok(selectors.iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?)
}

/// What is between two servers, and not between the asker and the hub.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers that no server decides rights by, and that differ between requests of one client.
const NOT_CREDENTIALS: [&str; 12] = [
    "accept-encoding",
    "cache-control",
    "last-event-id",
    "pragma",
    "traceparent",
    "tracestate",
    "x-amzn-trace-id",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-correlation-id",
    "x-request-id",
];

/// In one list of an answer; as many as a token may have.
const SELECTORS_MAX: usize = 1000;

/// As many as the user of a token may have.
const USER_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
