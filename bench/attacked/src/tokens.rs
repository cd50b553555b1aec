//! The keys of the hub, tokens that it believes, and such as it must not.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What signs HS256 here. The hub also has a key for ES256, with which nobody signs.
#[derive(Debug, Clone)]
pub struct Tokens {
    secret: [u8; 48],
    now: u64,
}

impl Tokens {
    /// Makes a new secret and writes what the hub is to know to `key_file`.
    ///
    /// # Errors
    ///
    /// If there is no randomness, or the file cannot be written.
    pub fn new(key_file: &Path) -> Result<Self> {
        let mut secret = [0; 48];
        rustix::io::retry_on_intr(|| {
            rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
        })?;
        let keys = json!({"keys": [
            {"kty": "oct", "kid": "hs", "alg": "HS256", "k": encode(secret)},
            {"kty": "EC", "kid": "es", "alg": "ES256", "crv": "P-256", "x": EC_X, "y": EC_Y},
        ]});
        let file = File::options().write(true).create_new(true).mode(0o600).open(key_file);
        file.and_then(|mut file| write!(file, "{keys}")).context("the key file")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self { secret, now })
    }

    /// May receive the topics below `good/`.
    pub fn subscriber(&self, user: usize) -> String {
        self.sign(&self.claims(&format!("user-{user}"), HOUR_S))
    }

    /// May publish to them, too.
    pub fn publisher(&self) -> String {
        let mut claims = self.claims("publisher", HOUR_S);
        claims["mercure"]["publish"] = json!(["good/{number}"]);
        self.sign(&claims)
    }

    /// Number so and so of tokens that are refused, no two alike: a signature of another key, of
    /// either kind, one that has expired, and what is no token at all.
    pub fn bad(&self, number: u64) -> String {
        let user = format!("bad-{number}");
        match number % 4 {
            0 => format!("{}.{}", self.unsigned("HS256", "hs", &user), encode(random(number, 0))),
            1 => {
                let signature = [random(number, 0), random(number, 1)].concat();
                format!("{}.{}", self.unsigned("ES256", "es", &user), encode(signature))
            }
            2 => self.sign(&self.claims(&user, -HOUR_S)),
            _ => format!("{}.{}", encode(random(number, 0)), encode(random(number, 1))),
        }
    }

    fn claims(&self, user: &str, seconds: i64) -> Value {
        json!({
            "sub": user,
            "exp": self.now.saturating_add_signed(seconds),
            "mercure": {"subscribe": ["good/{number}"]},
        })
    }

    fn unsigned(&self, algorithm: &str, key: &str, user: &str) -> String {
        unsigned(algorithm, key, &self.claims(user, HOUR_S))
    }

    fn sign(&self, claims: &Value) -> String {
        let unsigned = unsigned("HS256", "hs", claims);
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length is a key");
        hmac.update(unsigned.as_bytes());
        format!("{unsigned}.{}", encode(hmac.finalize().into_bytes()))
    }
}

fn unsigned(algorithm: &str, key: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": key, "typ": "JWT"});
    format!("{}.{}", encode(header.to_string()), encode(claims.to_string()))
}

fn random(number: u64, part: u8) -> [u8; 32] {
    Sha256::new().chain_update(number.to_le_bytes()).chain_update([part]).finalize().into()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

const HOUR_S: i64 = 3_600;

/// The public key of RFC 7515, appendix A.3.
const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
