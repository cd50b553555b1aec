//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings::{AppendError, Position, PublishError};

/// What went wrong: gives the `type`, the `title` and the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MissingTopic,
    InvalidTopic,
    InvalidSelector,
    InvalidEventType,
    InvalidParameter,
    InvalidKey,
    InvalidJson,
    InvalidField,
    UnknownField,
    CrossSite,
    UnknownHost,
    NotFound,
    PresenceOff,
    MethodNotAllowed,
    NotAcceptable,
    AmbiguousCredentials,
    MissingToken,
    InvalidToken,
    InvalidTicket,
    Denied,
    MissingRight,
    TopicFinished,
    EventTooLarge,
    BodyTooLarge,
    BodyTimeout,
    UnsupportedMediaType,
    TooManyRequests,
    TooManyConnections,
    TooManyTickets,
    TooBusy,
    AuthorizationUnavailable,
    RevocationFailed,
    ShuttingDown,
    LogUnavailable,
}

impl Kind {
    /// The last part of the `type`, the title, and the status.
    fn describe(self) -> (&'static str, &'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::MissingTopic => ("missing-topic", "No topic is given", S::BAD_REQUEST),
            Self::InvalidTopic => ("invalid-topic", "A topic is not valid", S::BAD_REQUEST),
            Self::InvalidSelector => {
                ("invalid-selector", "A topic selector is not valid", S::BAD_REQUEST)
            }
            Self::InvalidEventType => {
                ("invalid-event-type", "An event type is not valid", S::BAD_REQUEST)
            }
            Self::InvalidParameter => {
                ("invalid-parameter", "A query parameter is not valid", S::BAD_REQUEST)
            }
            Self::InvalidKey => ("invalid-key", "An idempotency key is not valid", S::BAD_REQUEST),
            Self::InvalidJson => {
                ("invalid-json", "The body is not what it should be", S::BAD_REQUEST)
            }
            Self::InvalidField => {
                ("invalid-field", "A field of an event is not valid", S::BAD_REQUEST)
            }
            Self::UnknownField => {
                ("unknown-field", "An event has a field that is not known", S::BAD_REQUEST)
            }
            Self::CrossSite => {
                ("cross-site", "A page of another site may not publish here", S::FORBIDDEN)
            }
            Self::UnknownHost => {
                ("unknown-host", "The hub is not this host", S::MISDIRECTED_REQUEST)
            }
            Self::NotFound => ("not-found", "There is nothing at this path", S::NOT_FOUND),
            Self::PresenceOff => {
                ("presence-off", "It is not known who is there on a topic", S::NOT_FOUND)
            }
            Self::MethodNotAllowed => {
                ("method-not-allowed", "The path does not know this method", S::METHOD_NOT_ALLOWED)
            }
            Self::NotAcceptable => {
                ("not-acceptable", "The hub has no answer of this media type", S::NOT_ACCEPTABLE)
            }
            Self::AmbiguousCredentials => {
                ("ambiguous-credentials", "More than one credential is given", S::BAD_REQUEST)
            }
            Self::MissingToken => ("missing-token", "A token is missing", S::UNAUTHORIZED),
            Self::InvalidToken => ("invalid-token", "The token does not hold", S::UNAUTHORIZED),
            Self::InvalidTicket => ("invalid-ticket", "The ticket does not hold", S::UNAUTHORIZED),
            Self::Denied => ("denied", "The application does not admit the client", S::FORBIDDEN),
            Self::MissingRight => ("missing-right", "A right is missing", S::FORBIDDEN),
            Self::TopicFinished => ("topic-finished", "A topic is finished", S::CONFLICT),
            Self::EventTooLarge => {
                ("event-too-large", "An event is too large", S::PAYLOAD_TOO_LARGE)
            }
            Self::BodyTooLarge => ("body-too-large", "The body is too large", S::PAYLOAD_TOO_LARGE),
            Self::BodyTimeout => ("body-timeout", "The body came too slowly", S::REQUEST_TIMEOUT),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "The body is of a media type that is not taken",
                S::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::TooManyRequests => {
                ("too-many-requests", "Too much is asked for too fast", S::TOO_MANY_REQUESTS)
            }
            Self::TooManyConnections => {
                ("too-many-connections", "Too many connections are open", S::SERVICE_UNAVAILABLE)
            }
            Self::TooManyTickets => {
                ("too-many-tickets", "Too many tickets are out", S::SERVICE_UNAVAILABLE)
            }
            Self::AuthorizationUnavailable => (
                "authorization-unavailable",
                "Nobody says what the client may do",
                S::SERVICE_UNAVAILABLE,
            ),
            Self::RevocationFailed => {
                ("revocation-failed", "The token is not blocked for good", S::SERVICE_UNAVAILABLE)
            }
            Self::TooBusy => {
                ("too-busy", "Too much is being published at once", S::SERVICE_UNAVAILABLE)
            }
            Self::ShuttingDown => {
                ("shutting-down", "The hub is shutting down", S::SERVICE_UNAVAILABLE)
            }
            Self::LogUnavailable => {
                ("log-unavailable", "The log cannot be written now", S::SERVICE_UNAVAILABLE)
            }
        }
    }
}

impl Kind {
    /// What a client is told to bring along (RFC 6750, section 3).
    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::MissingToken => Some("Bearer"),
            Self::InvalidToken => Some(r#"Bearer error="invalid_token""#),
            Self::InvalidTicket => Some(r#"Bearer error="invalid_token""#),
            Self::AmbiguousCredentials => Some(r#"Bearer error="invalid_request""#),
            Self::MissingRight => Some(r#"Bearer error="insufficient_scope""#),
            _ => None,
        }
    }
}

/// An error on its way to the client. The request id is added by the front.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    field: Option<String>,
    line: Option<u64>,
    /// How much of a streamed body was published before, and its last id.
    published: Option<(u64, Option<Position>)>,
    retry_after_s: Option<u64>,
    /// The body of the request was not read to its end, so the connection cannot be used again.
    closes: bool,
}

impl Problem {
    /// `detail` is a sentence that says what to do.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind,
            detail,
            field: None,
            line: None,
            published: None,
            retry_after_s: None,
            closes: false,
        }
    }

    pub(crate) fn field(mut self, name: impl Into<String>) -> Self {
        self.field = Some(name.into());
        self
    }

    pub(crate) fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    pub(crate) fn published(mut self, count: u64, last: Option<Position>) -> Self {
        self.published = Some((count, last));
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn retry_after_or(mut self, seconds: u64) -> Self {
        self.retry_after_s.get_or_insert(seconds);
        self
    }

    /// Tells the client not to use the connection again.
    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Adds where in the body the fault lies.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        self
    }

    /// The last part of its type.
    pub(crate) fn slug(&self) -> &'static str {
        self.kind.describe().0
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Its JSON, for the request `instance`.
    pub(crate) fn to_json(&self, instance: &str) -> String {
        let (slug, title, status) = self.kind.describe();
        let body = Json {
            r#type: format!("urn:tidings:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance,
            field: self.field.as_deref(),
            line: self.line,
            published: self.published.map(|(count, _)| count),
            last_event_id: self.published.and_then(|(_, last)| last).map(|id| id.to_string()),
        };
        serde_json::to_string(&body).expect("a problem is plain JSON")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_id: Option<String>,
}

impl IntoResponse for Problem {
    /// Leaves the body to the front, which knows the request id.
    fn into_response(self) -> Response {
        let mut response = self.kind.describe().2.into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.kind.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::EventTooLarge { bytes, event_bytes_max, .. } => {
                event_too_large(bytes, event_bytes_max)
            }
            PublishError::Finished { topic } => {
                let detail =
                    format!("Publish under another topic: {topic} has had its last event.");
                Self::new(Kind::TopicFinished, detail).field("topic")
            }
            PublishError::Log(reason) => {
                let advice = match &reason {
                    AppendError::Unavailable(_) => {
                        "Nothing was published; try again after a while."
                    }
                    AppendError::Unknown(_) => {
                        "It is not known whether the events were published; with keys they can be \
                         published again without doubling them."
                    }
                };
                Self::new(Kind::LogUnavailable, format!("{advice} {reason}.")).retry_after(1)
            }
            PublishError::ShuttingDown => {
                Self::new(Kind::ShuttingDown, "Publish to another node, or try again.")
                    .retry_after(1)
            }
        }
    }
}

/// The data of one event is over the limit.
pub(crate) fn event_too_large(bytes: usize, event_bytes_max: usize) -> Problem {
    let detail = format!(
        "The data has {bytes} bytes, and at most {event_bytes_max} are taken: publish a reference \
         to it, split it, or raise max_event_bytes."
    );
    Problem::new(Kind::EventTooLarge, detail).field("data")
}

/// The connection ended, or broke the rules of HTTP, within the body.
pub(crate) fn broken_body() -> Problem {
    Problem::new(Kind::InvalidJson, "Send the whole body: it ended early.")
}

/// The body, or the next part of it, took longer than `timeout`.
pub(crate) fn slow_body(timeout: Duration) -> Problem {
    let detail = format!("Send the body faster: too little of it came in {timeout:?}.");
    Problem::new(Kind::BodyTimeout, detail)
}
