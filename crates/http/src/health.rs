//! Whether the process lives and whether it should be sent new clients.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::app::App;

pub(crate) async fn live() -> Response {
    answer(StatusCode::OK, r#"{"status":"ok"}"#)
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    if app.hub().is_shutting_down() {
        let body = r#"{"status":"unavailable","reason":"shutting-down"}"#;
        return answer(StatusCode::SERVICE_UNAVAILABLE, body);
    }
    if app.hub().has_failed() {
        let body = r#"{"status":"unavailable","reason":"failed"}"#;
        return answer(StatusCode::SERVICE_UNAVAILABLE, body);
    }
    answer(StatusCode::OK, r#"{"status":"ok"}"#)
}

fn answer(status: StatusCode, body: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
