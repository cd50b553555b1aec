//! Which other origins may read and publish: those that are listed, and no others.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::header_names::{IDEMPOTENCY_KEY, LAST_EVENT_ID, X_REQUEST_ID};

/// Whether pages of `origin` may use the hub.
pub(crate) fn is_listed(origins: &[String], origin: &str) -> bool {
    origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
}

/// The layer that says so to browsers; `None` if no origin is listed. Credentials are allowed to
/// listed origins, never to `*`.
pub(crate) fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let everyone = origins.iter().any(|origin| origin == "*");
    let allowed = if everyone {
        AllowOrigin::any()
    } else {
        let origins = origins.to_vec();
        AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            origin.to_str().is_ok_and(|origin| is_listed(&origins, origin))
        })
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers([LAST_EVENT_ID, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, IDEMPOTENCY_KEY])
        .expose_headers([LAST_EVENT_ID, X_REQUEST_ID])
        .max_age(PREFLIGHT_AGE_MAX);
    Some(if everyone { layer } else { layer.allow_credentials(true) })
}

/// How long a browser may remember the answer: browsers cap it at 2 hours or a day.
const PREFLIGHT_AGE_MAX: Duration = Duration::from_secs(2 * 60 * 60);
