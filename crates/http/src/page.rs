//! The page at `/` and the description of the API, both from the binary.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::problem::{Kind, Problem};

pub(crate) async fn index() -> Response {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(crate) async fn asset(name: Result<Path<String>, PathRejection>) -> Response {
    match name.as_ref().map_or("", |Path(name)| name.as_str()) {
        "app.js" => file("text/javascript; charset=utf-8", include_str!("page/app.js")),
        "style.css" => file("text/css; charset=utf-8", include_str!("page/style.css")),
        "favicon.svg" => file("image/svg+xml", include_str!("page/favicon.svg")),
        _ => not_found().await.into_response(),
    }
}

pub(crate) async fn openapi() -> Response {
    file("application/json", include_str!("../openapi.json"))
}

pub(crate) async fn not_found() -> Problem {
    Problem::new(Kind::NotFound, "Look at /openapi.json for what there is.")
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "Use one of the methods in Allow.")
}

/// The page has its own scripts and styles, in files of their own, and talks to its own hub.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'";

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, content).into_response()
}
