//! Keys that verify tokens, read once from whatever form they come in.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest, hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RsaParameters, RsaSubjectPublicKey, VerificationAlgorithm,
    },
};
use pem::Pem;
use thiserror::Error;

use crate::{Algorithm, SigningKey, algorithm::Family, der, jwk};

/// Verifies signatures of one [`Algorithm`].
///
/// Cloning is cheap.
#[derive(Clone)]
pub struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Arc<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why something is not a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// There is nothing.
    #[error("there is no key")]
    Empty,
    /// It looks like a key, but cannot be read.
    #[error("the key cannot be read: {reason}")]
    Malformed {
        /// What is wrong.
        reason: Box<str>,
    },
    /// It is a key of a kind that signs no tokens here.
    #[error("this kind of key is not supported: {kind}")]
    Unsupported {
        /// What it is.
        kind: Box<str>,
    },
    /// It is encrypted.
    #[error("the key is encrypted; decrypt it first")]
    Encrypted,
    /// It is not for the algorithm that was asked for, or that it says itself.
    #[error("{algorithm} does not go with {kind}")]
    WrongAlgorithm {
        /// What it should have been for.
        algorithm: Algorithm,
        /// What it is.
        kind: &'static str,
    },
    /// A secret is shorter than the hashes that are made with it (RFC 7518 section 3.2).
    #[error("a secret for {algorithm} has at least {bytes_min} bytes, this one has {bytes}")]
    TooShort {
        /// What the secret is for.
        algorithm: Algorithm,
        /// Its length.
        bytes: usize,
        /// The least length.
        bytes_min: usize,
    },
    /// An RSA key is shorter than [`Key::RSA_BITS_MIN`] (RFC 7518 section 3.3), or longer than
    /// [`Key::RSA_BITS_MAX`].
    #[error("an RSA key has {} to {} bits", Key::RSA_BITS_MIN, Key::RSA_BITS_MAX)]
    RsaLength,
    /// A secret is one that everybody knows, or of a few characters that repeat.
    #[error("the secret can be guessed; use random bytes, as of `openssl rand -base64 48`")]
    Guessable,
    /// It is a public key in a form without a frame, which would have become a secret.
    #[error("this is {kind}, not a secret; public keys come as PEM or JWK")]
    NotASecret {
        /// What it is.
        kind: &'static str,
    },
    /// It says that it is for something else (`use`, `key_ops`).
    #[error("the key says that it is not for signatures (`use`, `key_ops`)")]
    OtherUse,
    /// It cannot sign, because it is a public key.
    #[error("a public key cannot sign")]
    Public,
    /// There are more than [`Key::COUNT_MAX`].
    #[error("there are more than {} keys", Key::COUNT_MAX)]
    TooMany,
}

impl Key {
    /// The most keys that are read from one file or key set.
    pub const COUNT_MAX: usize = 100;

    /// The least length of an RSA key.
    pub const RSA_BITS_MIN: u32 = 2048;

    /// The greatest length of an RSA key, which bounds what a signature costs.
    pub const RSA_BITS_MAX: u32 = 8192;

    /// Reads keys, in the order in which they stand there; at least one.
    ///
    /// Text with a PEM frame is public keys, private keys of which the public half is taken, or a
    /// certificate, of a chain the first. An object is a JWK or a JWK set. Anything else is a
    /// secret as text, without one line end at its end. What looks like a key never becomes a
    /// secret.
    ///
    /// `algorithm` is what they are for. Absent, it is HS256 for a secret, RS256 for RSA, and for
    /// others the one that their curve has; a JWK may say it itself.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] of the first that is no key or too weak. Of a JWK set unusable ones are left
    /// out, but one has to be left.
    pub fn parse(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<Vec<Self>, KeyError> {
        let keys = match Form::of(bytes)? {
            Form::Pem(blocks) => Self::parse_pem(&blocks, algorithm)?,
            Form::Json(json) => jwk::parse_keys(json, algorithm)?,
            Form::Secret(secret) => {
                vec![SigningKey::secret(secret, algorithm)?.into_verifying_key()]
            }
        };
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
    }

    /// Tells whether this key signed `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(secret) => hmac::verify(secret, message, signature).is_ok(),
            Material::Public(public) => public.verify_sig(message, signature).is_ok(),
        }
    }

    /// Returns the id, by which tokens may name the key.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns what signatures have to be of.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns a number for the key and the issuer that it is trusted for, as in
    /// [`Identity::vouched_by`](tidings_core::Identity::vouched_by): the same for the same, whatever
    /// its id, and no help in finding the key.
    #[must_use]
    pub fn mark(&self, issuer: Option<&str>) -> u64 {
        let material = match &self.material {
            Material::Secret(secret) => digest::digest(
                &digest::SHA256,
                hmac::sign(secret, b"the mark of this secret").as_ref(),
            ),
            Material::Public(public) => digest::digest(&digest::SHA256, public.as_ref()),
        };
        let mut whole = digest::Context::new(&digest::SHA256);
        whole.update(material.as_ref());
        whole.update(format!("{} {issuer:?}", self.algorithm).as_bytes());
        let mark = whole.finish();
        mark.as_ref().iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
    }

    pub(crate) fn with_id(mut self, id: Option<&str>) -> Self {
        self.id = id.map(Into::into);
        self
    }

    pub(crate) fn of_secret(algorithm: Algorithm, secret: Arc<hmac::Key>) -> Self {
        Self { id: None, algorithm, material: Material::Secret(secret) }
    }

    /// Reads a public key: a `SubjectPublicKeyInfo`, an `RSAPublicKey`, a point of `algorithm`'s
    /// curve, or 32 bytes of Ed25519.
    pub(crate) fn of_public(der: &[u8], algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        let (algorithm, kind) = if let Ok(rsa) = RsaSubjectPublicKey::from_der(der) {
            let bits = RsaParameters::public_modulus_len(rsa.as_ref()).unwrap_or_default();
            if !(Self::RSA_BITS_MIN..=Self::RSA_BITS_MAX).contains(&bits) {
                return Err(KeyError::RsaLength);
            }
            (algorithm.unwrap_or(Algorithm::Rs256), Family::Rsa)
        } else {
            let is_of = |algorithm| {
                verifier(algorithm).is_some_and(|by| ParsedPublicKey::new(by, der).is_ok())
            };
            let curves = [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];
            let own = curves.into_iter().find(|curve| is_of(*curve));
            let own = own.ok_or_else(|| KeyError::Unsupported {
                kind: "neither RSA, P-256, P-384 nor Ed25519".into(),
            })?;
            (algorithm.unwrap_or(own), own.family())
        };
        if algorithm.family() != kind {
            return Err(KeyError::WrongAlgorithm { algorithm, kind: kind.describe() });
        }
        let public = verifier(algorithm).and_then(|by| ParsedPublicKey::new(by, der).ok());
        let public = public.ok_or_else(|| KeyError::malformed("the numbers do not fit"))?;
        Ok(Self { id: None, algorithm, material: Material::Public(public) })
    }

    fn parse_pem(blocks: &[Pem], algorithm: Option<Algorithm>) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        let mut has_certificate = false;
        for block in blocks {
            let der = block.contents();
            match block.tag() {
                "CERTIFICATE" if has_certificate => {}
                "CERTIFICATE" => {
                    has_certificate = true;
                    let key = der::public_key_of_certificate(der);
                    let key = key.ok_or_else(|| KeyError::malformed("not a certificate"))?;
                    keys.push(Self::of_public(key, algorithm)?);
                }
                "PUBLIC KEY" | "RSA PUBLIC KEY" => keys.push(Self::of_public(der, algorithm)?),
                // Says only which curve the key after it has, which says so too.
                "EC PARAMETERS" => {}
                tag => keys.push(SigningKey::of_pem(tag, der, algorithm)?.into_verifying_key()),
            }
        }
        Ok(keys)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The forms in which keys come.
pub(crate) enum Form<'a> {
    Pem(Vec<Pem>),
    Json(&'a [u8]),
    Secret(&'a [u8]),
}

impl<'a> Form<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, KeyError> {
        let trimmed = bytes.trim_ascii();
        if trimmed.is_empty() {
            return Err(KeyError::Empty);
        }
        let text = str::from_utf8(bytes).map_err(|_| {
            KeyError::malformed("not text; DER becomes PEM by `openssl pkey -pubin -inform DER`")
        })?;
        if text.contains("-----BEGIN ") {
            let blocks = pem::parse_many(bytes).map_err(|e| KeyError::malformed(&e.to_string()))?;
            // What OpenSSL encrypted before PKCS#8 says so above its text.
            if blocks.iter().any(|block| block.headers().get("Proc-Type").is_some()) {
                return Err(KeyError::Encrypted);
            }
            return match blocks.len() {
                0 => Err(KeyError::malformed("a PEM frame that does not end")),
                1..=Key::COUNT_MAX => Ok(Self::Pem(blocks)),
                _ => Err(KeyError::TooMany),
            };
        }
        if trimmed.starts_with(b"{") {
            return Ok(Self::Json(trimmed));
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Ok(Self::Secret(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

impl KeyError {
    pub(crate) fn malformed(reason: &str) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}

/// What verifies signatures of a public key.
fn verifier(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &ED25519,
    })
}
