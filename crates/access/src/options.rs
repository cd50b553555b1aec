//! What [`Access::start`](crate::Access::start) is given.

use std::path::PathBuf;
use std::time::Duration;

use tidings_auth::{Algorithm, Authority, Key};

use crate::{Backoff, WebUrl, WebUrlError, WebhookSecret};

/// Who is believed, who is asked and who is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct AccessOptions {
    /// Whose tokens are believed. Empty: nobody's.
    pub authorities: Vec<AuthorityOptions>,
    /// Who says what a subscriber without a token may do.
    pub authorization_webhook: Option<AuthorizationWebhook>,
    /// Who is told that users come and go.
    pub connection_webhook: Option<ConnectionWebhook>,
    /// Signs the requests of both webhooks. `None`: they are not signed.
    pub webhook_secret: Option<WebhookSecret>,
    /// Where revocations, and what is to be told about users, outlive the process. It is created
    /// when it is not there. `None`: they do not.
    pub folder: Option<PathBuf>,
    /// Verified tokens that are remembered. 10,000.
    pub tokens_max: usize,
    /// Token ids that can be blocked at once. 100,000.
    pub revocations_max: usize,
}

impl Default for AccessOptions {
    /// Nobody is believed, asked or told.
    fn default() -> Self {
        Self {
            authorities: Vec::new(),
            authorization_webhook: None,
            connection_webhook: None,
            webhook_secret: None,
            folder: None,
            tokens_max: 10_000,
            revocations_max: 100_000,
        }
    }
}

/// One authority and where its keys come from.
#[derive(Debug)]
pub struct AuthorityOptions {
    /// Which of its tokens are believed.
    pub authority: Authority,
    /// Keys that are known from the start and stay.
    pub keys: Vec<Key>,
    /// Where more keys are fetched. At the start one of all its keys is enough; sets that are missing
    /// then are fetched later.
    pub jwks: Vec<JwksOptions>,
}

/// A set of keys that is fetched over HTTP, and how often.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JwksOptions {
    /// Where it is. `https`, or this machine.
    pub url: WebUrl,
    /// What keys that do not say it are for. `None`: what their kind suggests.
    pub algorithm: Option<Algorithm>,
    /// For one fetch, body included. 5 s.
    pub timeout: Duration,
    /// The shortest time for which a set is held to be fresh, whatever its server says. 60 s.
    pub age_min: Duration,
    /// The longest time for which a set is held to be fresh, and that of a set without
    /// `Cache-Control: max-age`. 15 min.
    pub age_max: Duration,
    /// The shortest time between two fetches that tokens with an unknown key bring about. 15 s.
    pub cooldown: Duration,
    /// How long a key that the set did not have is not looked for again, unless the set changes.
    /// 60 s.
    pub unknown_for: Duration,
    /// After failed fetches. 5 s to 2 min.
    pub backoff: Backoff,
    /// Bytes of a set. 1 MiB.
    pub bytes_max: usize,
}

impl JwksOptions {
    /// The set at `url`, with the defaults.
    ///
    /// # Errors
    ///
    /// It is no URL of a server, or neither `https` nor this machine.
    pub fn new(url: &str) -> Result<Self, WebUrlError> {
        Ok(Self {
            url: WebUrl::parse_protected(url)?,
            algorithm: None,
            timeout: Duration::from_secs(5),
            age_min: Duration::from_secs(60),
            age_max: Duration::from_secs(15 * 60),
            cooldown: Duration::from_secs(15),
            unknown_for: Duration::from_secs(60),
            backoff: Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(120) },
            bytes_max: 1 << 20,
        })
    }
}

/// The server that says what a subscriber may do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizationWebhook {
    /// Where it is asked. `http` to another machine is taken, and warned of.
    pub url: WebUrl,
    /// For one answer, waiting for a free place included. 5 s.
    pub timeout: Duration,
    /// How long an answer is given again to the same question. Zero: never. 10 s.
    pub cache: Duration,
    /// Answers that are remembered. 10,000.
    pub cached_max: usize,
    /// Questions that are asked at once; more wait. 256.
    pub calls_max: usize,
    /// Questions that are asked or wait; over it there is no answer. 4,096.
    pub waiting_max: usize,
    /// Bytes of an answer. 1 MiB.
    pub bytes_max: usize,
}

impl AuthorizationWebhook {
    /// The server at `url`, with the defaults.
    ///
    /// # Errors
    ///
    /// It is no URL of a server.
    pub fn new(url: &str) -> Result<Self, WebUrlError> {
        Ok(Self {
            url: WebUrl::parse(url)?,
            timeout: Duration::from_secs(5),
            cache: Duration::from_secs(10),
            cached_max: 10_000,
            calls_max: 256,
            waiting_max: 4096,
            bytes_max: 1 << 20,
        })
    }
}

/// The server that is told when users come and go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionWebhook {
    /// Where it is told. `http` to another machine is taken, and warned of.
    pub url: WebUrl,
    /// A user whose last stream ended is gone after this time without another. 5 s.
    pub debounce: Duration,
    /// For one request. 10 s.
    pub timeout: Duration,
    /// Between attempts to deliver. 1 s to 60 s.
    pub backoff: Backoff,
    /// Requests under way at once; those about one user follow each other. 8.
    pub calls_max: usize,
    /// News that waits to be delivered. Over it, news is made up for later: of a user who came and
    /// went meanwhile, only how things are then is told. 100,000.
    pub undelivered_max: usize,
    /// Users who are known at once; of those over it nothing is told. 1,000,000.
    pub users_max: usize,
    /// News that the receiver refuses as wrong (`4xx`) is tried for so long, and then dropped. 24 h.
    pub refused_for_max: Duration,
}

impl ConnectionWebhook {
    /// The server at `url`, with the defaults.
    ///
    /// # Errors
    ///
    /// It is no URL of a server.
    pub fn new(url: &str) -> Result<Self, WebUrlError> {
        Ok(Self {
            url: WebUrl::parse(url)?,
            debounce: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
            calls_max: 8,
            undelivered_max: 100_000,
            users_max: 1_000_000,
            refused_for_max: Duration::from_secs(24 * 60 * 60),
        })
    }
}
