//! Base64url without padding (RFC 7515 section 2), with one spelling for each value.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Returns `None` for anything that [`encode`] would not have written: padding, other characters,
/// bits after the last byte.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
