//! Small JSON bodies, as operators and applications send and get them.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::problem::{Kind, Problem};
use crate::publish;

/// Reads a body as JSON.
///
/// # Errors
///
/// It is no JSON, larger than a body may be, or not of this form.
pub(crate) async fn read<T: DeserializeOwned>(
    app: &App,
    head: &Parts,
    body: Body,
) -> Result<T, Problem> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let detail = "Send application/json, and say so in Content-Type.";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail).closing());
    }
    let mut share = app.body_budget().share();
    let bytes_max = BODY_BYTES_MAX.min(app.body_bytes_max());
    let body = publish::whole(body, bytes_max, &mut share).await.map_err(Problem::closing)?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Kind::InvalidJson, format!("Correct the JSON: {error}.")))
}

/// An answer that nobody is to keep.
pub(crate) fn answer<T: Serialize>(answer: Result<T, Problem>) -> Response {
    match answer {
        Ok(body) => ([(CACHE_CONTROL, "no-store")], axum::Json(body)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// More than the topics of any subscription.
const BODY_BYTES_MAX: usize = 1 << 20;
