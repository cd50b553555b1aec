//! The outermost layer: every response names its request, and problems get their body.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::Next;
use axum::response::Response;

use crate::header_names::X_REQUEST_ID;
use crate::problem::Problem;

/// Keeps the id that a proxy gave the request if it is harmless, else gives it one.
pub(crate) async fn name_request(request: Request, next: Next) -> Response {
    let given = request.headers().get(&X_REQUEST_ID).filter(|id| is_harmless(id.as_bytes()));
    let id = given.cloned().unwrap_or_else(random_id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let instance = id.to_str().unwrap_or_default();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        tracing::debug!(%method, path, instance, ?problem, "refused");
        *response.body_mut() = Body::from(problem.to_json(instance));
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_REQUEST_ID, id);
    response
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte))
}

fn random_id() -> HeaderValue {
    HeaderValue::try_from(format!("{:016x}", fastrand::u64(..))).expect("hex is a valid header")
}

const ID_BYTES_MAX: usize = 128;
