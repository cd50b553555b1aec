//! Keys that mint tokens.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use thiserror::Error;

use crate::{
    Algorithm, Claims, Key, KeyError, TOKEN_BYTES_MAX, algorithm::Family, base64url, der, jwk,
    key::Form,
};

/// Mints tokens, which its [`SigningKey::verifying_key`] verifies.
pub struct SigningKey {
    key: Key,
    signer: Signer,
}

pub(crate) enum Signer {
    Secret(Arc<hmac::Key>),
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
}

/// Why a token was not minted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// No hub would accept these claims.
    #[error("a hub would not accept the claims: {reason}")]
    BadClaims {
        /// What is wrong.
        reason: Box<str>,
    },
    /// The token would be longer than [`TOKEN_BYTES_MAX`].
    #[error("the token would have {bytes} bytes, and at most {TOKEN_BYTES_MAX} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The key failed to sign.
    #[error("the key failed to sign")]
    Failed,
}

impl SigningKey {
    /// Reads a PEM private key, a private JWK, or a secret as text, as [`Key::parse`] does. Of
    /// several it is the first that can sign.
    ///
    /// # Errors
    ///
    /// A [`KeyError`], of a public key [`KeyError::Public`].
    pub fn parse(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        match Form::of(bytes)? {
            Form::Pem(blocks) => {
                let private = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
                let block = private.or(blocks.first()).ok_or(KeyError::Empty)?;
                Self::of_pem(block.tag(), block.contents(), algorithm)
            }
            Form::Json(json) => jwk::parse_signing_key(json, algorithm),
            Form::Secret(secret) => Self::secret(secret, algorithm),
        }
    }

    /// Mints a token.
    ///
    /// # Errors
    ///
    /// A [`SignError`]; what is minted can be read by [`verify`](crate::verify).
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let claims =
            claims.to_json().map_err(|reason| SignError::BadClaims { reason: reason.into() })?;
        let header = Header { alg: self.key.algorithm().as_str(), typ: "JWT", kid: self.key.id() };
        let header = serde_json::to_string(&header).map_err(|_| SignError::Failed)?;
        let mut token = base64url::encode(header.as_bytes());
        token.push('.');
        token.push_str(&base64url::encode(claims.as_bytes()));
        let signature = self.signature(token.as_bytes()).ok_or(SignError::Failed)?;
        token.push('.');
        token.push_str(&base64url::encode(&signature));
        if token.len() > TOKEN_BYTES_MAX {
            return Err(SignError::TooLong { bytes: token.len() });
        }
        Ok(token)
    }

    /// Returns the key that verifies what this one signs.
    #[must_use]
    pub fn verifying_key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn into_verifying_key(self) -> Key {
        self.key
    }

    /// Names the key, in place of the name that it may have: what it signs then says `kid`.
    #[must_use]
    pub fn with_id(mut self, id: Option<&str>) -> Self {
        self.key = self.key.with_id(id);
        self
    }

    pub(crate) fn secret(secret: &[u8], algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        let algorithm = algorithm.unwrap_or(Algorithm::Hs256);
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return Err(KeyError::WrongAlgorithm { algorithm, kind: Family::Hmac.describe() }),
        };
        if let Some(kind) = public_without_frame(secret) {
            return Err(KeyError::NotASecret { kind });
        }
        let (bytes, bytes_min) = (secret.len(), hash.tag_len());
        if bytes < bytes_min {
            return Err(KeyError::TooShort { algorithm, bytes, bytes_min });
        }
        if is_guessable(secret) {
            return Err(KeyError::Guessable);
        }
        let secret = Arc::new(hmac::Key::new(hash, secret));
        let key = Key::of_secret(algorithm, Arc::clone(&secret));
        Ok(Self { key, signer: Signer::Secret(secret) })
    }

    pub(crate) fn of_pem(
        tag: &str,
        der: &[u8],
        algorithm: Option<Algorithm>,
    ) -> Result<Self, KeyError> {
        match tag {
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                Self::of_signer(Signer::parse(der)?, algorithm)
            }
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => Err(KeyError::Public),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            tag => Err(KeyError::Unsupported { kind: tag.into() }),
        }
    }

    pub(crate) fn of_signer(
        signer: Signer,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, KeyError> {
        let key = match &signer {
            Signer::Secret(secret) => {
                Key::of_secret(algorithm.unwrap_or(Algorithm::Hs256), Arc::clone(secret))
            }
            Signer::Rsa(pair) => Key::of_public(pair.public_key().as_ref(), algorithm)?,
            Signer::Ec(pair) => Key::of_public(pair.public_key().as_ref(), algorithm)?,
            Signer::Ed(pair) => Key::of_public(pair.public_key().as_ref(), algorithm)?,
        };
        Ok(Self { key, signer })
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Secret(secret) => Some(hmac::sign(secret, message).as_ref().to_vec()),
            Signer::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match self.key.algorithm() {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Signer::Ed(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }
}

impl Signer {
    /// Reads PKCS#8, PKCS#1 or SEC 1.
    fn parse(der: &[u8]) -> Result<Self, KeyError> {
        for rsa in [RsaKeyPair::from_pkcs8(der), RsaKeyPair::from_der(der)] {
            match rsa {
                Ok(pair) => return Ok(Self::Rsa(Box::new(pair))),
                Err(e) if ["TooSmall", "TooLarge"].contains(&&*e.to_string()) => {
                    return Err(KeyError::RsaLength);
                }
                Err(_) => {}
            }
        }
        for curve in [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
                return Ok(Self::Ec(Box::new(pair)));
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed(Box::new(pair)));
        }
        Err(KeyError::Unsupported { kind: "neither RSA, P-256, P-384 nor Ed25519".into() })
    }

    pub(crate) fn curve(algorithm: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
        match algorithm {
            Algorithm::Es256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// Secrets that stand in manuals.
const PUBLISHED: [&[u8]; 3] = [
    b"!ChangeThisMercureHubJWTSecretKey!",
    b"a-string-secret-at-least-256-bits-long",
    b"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
];

/// How many different bytes a secret has at least; 32 random digits have fewer than this once in
/// ten million times.
const DIFFERENT_BYTES_MIN: usize = 6;

fn is_guessable(secret: &[u8]) -> bool {
    let mut is_seen = [false; 256];
    secret.iter().for_each(|byte| is_seen[usize::from(*byte)] = true);
    let different = is_seen.iter().filter(|seen| **seen).count();
    different < DIFFERENT_BYTES_MIN || PUBLISHED.contains(&secret)
}

/// Recognises what everybody may know and should not be taken for a secret.
fn public_without_frame(secret: &[u8]) -> Option<&'static str> {
    for (start, kind) in [
        (&b"ssh-"[..], "an SSH key"),
        (b"ecdsa-sha2-", "an SSH key"),
        (b"http://", "a URL"),
        (b"https://", "a URL"),
    ] {
        if secret.starts_with(start) {
            return Some(kind);
        }
    }
    let text: Vec<u8> = secret.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(text).ok()?;
    let is_public = Key::of_public(&bytes, None).is_ok() && bytes.first() == Some(&der::SEQUENCE);
    (is_public || der::public_key_of_certificate(&bytes).is_some())
        .then_some("a public key without its PEM frame")
}
