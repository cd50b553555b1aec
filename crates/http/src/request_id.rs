//! Every response names its request.

use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};

use crate::header_names::X_REQUEST_ID;

/// The id that a proxy gave the request, if it is harmless, else a new one.
pub(crate) fn name(request_headers: &HeaderMap) -> HeaderValue {
    let given = request_headers.get(&X_REQUEST_ID).filter(|id| is_harmless(id.as_bytes()));
    given.cloned().unwrap_or_else(random_id)
}

/// Adds what every response carries.
pub(crate) fn finish(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_REQUEST_ID, id);
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte))
}

fn random_id() -> HeaderValue {
    let random = fastrand::u64(..);
    let digit = |place: u32| b"0123456789abcdef"[(random >> (4 * place)) as usize & 0xf];
    let id: [u8; 16] = std::array::from_fn(|place| digit(place as u32));
    HeaderValue::from_bytes(&id).expect("hex is a valid header")
}

const ID_BYTES_MAX: usize = 128;
