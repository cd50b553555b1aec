//! Keys, the sets that a server publishes of them, and tokens that they sign.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidings_auth::{Claims, SigningKey, UnixSeconds};

use crate::stand::Reply;

/// A key that signs.
pub(crate) struct Signer {
    id: String,
    public: String,
    key: SigningKey,
}

impl Signer {
    pub(crate) fn new(id: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let seed: Curve25519SeedBin<'_> = pair.seed().unwrap().as_be_bytes().unwrap();
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        let private = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": id, "x": public,
            "d": URL_SAFE_NO_PAD.encode(seed.as_ref()),
        });
        let key = SigningKey::parse(private.to_string().as_bytes(), None).unwrap();
        Self { id: id.to_owned(), public, key }
    }

    pub(crate) fn key(&self) -> tidings_auth::Key {
        self.key.verifying_key().clone()
    }

    pub(crate) fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.id, "x": self.public})
    }

    /// A token for `user` that holds for an hour.
    pub(crate) fn token(&self, user: &str) -> String {
        self.sign(Claims { user: Some(user.to_owned()), ..Claims::default() })
    }

    pub(crate) fn sign(&self, claims: Claims) -> String {
        let expires_at = claims.expires_at.or(Some(unix_now() + 3600));
        self.key.sign(&Claims { expires_at, ..claims }).unwrap()
    }
}

/// The answer of a server that publishes the keys of `signers`.
pub(crate) fn key_set(signers: &[&Signer]) -> Reply {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    Reply::Json(json!({ "keys": keys }).to_string())
}

pub(crate) fn unix_now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
