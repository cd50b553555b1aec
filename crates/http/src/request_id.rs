//! Every response names its request.

use axum::http::{HeaderMap, HeaderValue};

use crate::header_names::X_REQUEST_ID;

/// The id that a proxy gave the request, if it is harmless, else a new one.
pub(crate) fn name(request_headers: &HeaderMap) -> HeaderValue {
    let given = request_headers.get(&X_REQUEST_ID).filter(|id| is_harmless(id.as_bytes()));
    given.cloned().unwrap_or_else(random_id)
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
