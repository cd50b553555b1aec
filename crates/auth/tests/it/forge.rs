//! Signs any header and claims, sensible or not, with another implementation of tokens.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

pub(crate) const SECRET: &str = include_str!("keys/secret.txt");
pub(crate) const RSA: &str = include_str!("keys/rsa.pem");
pub(crate) const RSA_PUBLIC: &str = include_str!("keys/rsa-public.pem");
pub(crate) const P256: &str = include_str!("keys/p256.pem");

/// A moment at which the tokens of the tests hold.
pub(crate) const NOW: u64 = 1_900_000_000;

/// Claims that every key of the tests may vouch for.
pub(crate) const CLAIMS: &str = r#"{"sub":"ann","exp":2000000000,"mercure":{"publish":["*"]}}"#;

/// Signs with HS256 and the secret of the tests, whatever the header says.
pub(crate) fn forge(header: &str, claims: &str) -> String {
    sign(header.as_bytes(), claims.as_bytes(), &hmac(SECRET.trim_end()), Algorithm::HS256)
}

pub(crate) fn sign(header: &[u8], claims: &[u8], key: &EncodingKey, by: Algorithm) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = crypto::sign(message.as_bytes(), key, by).unwrap();
    format!("{message}.{signature}")
}

pub(crate) fn hmac(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(secret.as_bytes())
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
