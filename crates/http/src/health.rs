//! Whether the process lives and whether it should be sent new clients.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::app::App;

pub(crate) async fn live() -> Response {
    answer(StatusCode::OK, &Health { status: "ok", reason: None, detail: None })
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    let Some((reason, detail)) = why_unready(&app) else { return live().await };
    let health = Health { status: "unavailable", reason: Some(reason), detail };
    answer(StatusCode::SERVICE_UNAVAILABLE, &health)
}

/// Why the hub should not be sent new clients, as a word for programs and perhaps more for people.
pub(crate) fn why_unready(app: &App) -> Option<(&'static str, Option<String>)> {
    let hub = app.hub();
    if app.is_leaving() {
        Some(("shutting-down", None))
    } else if hub.has_failed() {
        Some(("failed", None))
    } else {
        hub.failure().map(|failure| ("log-unavailable", Some(failure)))
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn answer(status: StatusCode, health: &Health) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, serde_json::to_string(health).expect("it is plain JSON")).into_response()
}
