//! The little that is asked of an HTTP client: bounded in time and size, never led elsewhere
//! unnoticed.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response};
use thiserror::Error;

use crate::calendar::unix_seconds;
use crate::web_url::is_protected;
use crate::{WebUrl, WebhookSecret};

/// Why there is no answer to a request.
#[derive(Debug, Error)]
pub(crate) enum OutgoingError {
    #[error("{}", causes(.0))]
    Transport(#[from] reqwest::Error),
    #[error("the body is longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
}

impl OutgoingError {
    /// The request may never have been sent: a connection that was kept had been closed.
    pub(crate) fn is_worth_an_immediate_retry(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_request() && !error.is_timeout() && !error.is_connect())
    }
}

/// Whether redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    Never,
    /// A few, to where nobody can change what is fetched.
    Protected,
}

/// A client for `url` that waits `timeout` at most, body included.
pub(crate) fn client(
    url: &WebUrl,
    timeout: Duration,
    redirects: Redirects,
) -> Result<Client, reqwest::Error> {
    let policy = match redirects {
        Redirects::Never => Policy::none(),
        Redirects::Protected => Policy::custom(follow_protected),
    };
    let builder = Client::builder()
        .timeout(timeout)
        .redirect(policy)
        .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")));
    // What is on this machine is not asked for by way of another.
    let builder = if url.is_loopback() { builder.no_proxy() } else { builder };
    builder.build()
}

/// The body of `response`, up to `bytes_max`.
pub(crate) async fn body_of(
    mut response: Response,
    bytes_max: usize,
) -> Result<Vec<u8>, OutgoingError> {
    if response.content_length().is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(OutgoingError::TooLong { bytes_max });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(OutgoingError::TooLong { bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An id that no other request has.
pub(crate) fn random_id() -> Box<str> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the operating system has random numbers");
    format!("msg_{}", URL_SAFE_NO_PAD.encode(bits)).into()
}

/// The headers of Standard Webhooks, with a signature if there is a secret.
pub(crate) fn signed_headers(secret: Option<&WebhookSecret>, id: &str, body: &[u8]) -> HeaderMap {
    let at = unix_seconds();
    let signature = secret.map(|secret| ("webhook-signature", secret.sign(id, at, body)));
    let headers = [("webhook-id", id.to_owned()), ("webhook-timestamp", at.to_string())];
    let values = headers.into_iter().chain(signature).map(|(name, value)| {
        let value = HeaderValue::try_from(value).expect("ids, numbers and base64 are visible");
        (HeaderName::from_static(name), value)
    });
    values.collect()
}

fn follow_protected(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_same_scheme =
        attempt.previous().last().is_some_and(|from| from.scheme() == attempt.url().scheme());
    if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("too many redirects")
    } else if is_same_scheme && is_protected(attempt.url()) {
        attempt.follow()
    } else {
        attempt.error("redirected to another scheme or machine")
    }
}

/// An error and what led to it: reqwest's own text stops before the interesting part.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

const REDIRECTS_MAX: usize = 3;
