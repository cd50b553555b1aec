//! JSON Web Keys and sets of them (RFC 7517, RFC 7518 section 6, RFC 8037).

use aws_lc_rs::{
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Algorithm, Key, KeyError, SigningKey,
    algorithm::Family,
    base64url,
    json::{Object, parse_object},
    signing_key::Signer,
};

/// Reads a set of public keys, such as one that was fetched from its issuer.
///
/// Left out are keys that cannot be used: of another kind or curve, meant for encryption, too
/// weak, or not what they say they are. Secrets are left out as well, for whoever can fetch the
/// set knows them. `algorithm` is as for [`Key::parse`], and keys that say another one are left
/// out. The set may be empty, and so may be what is left.
///
/// # Errors
///
/// [`KeyError::Malformed`] when it is not a JWK set, [`KeyError::TooMany`].
pub fn parse_jwk_set(json: &[u8], algorithm: Option<Algorithm>) -> Result<Vec<Key>, KeyError> {
    let usable = read_set(json)?.into_iter().filter_map(|jwk| jwk.public_key(algorithm).ok());
    Ok(usable.collect())
}

/// Reads a JWK or a set from a file, secrets included.
pub(crate) fn parse_keys(json: &[u8], algorithm: Option<Algorithm>) -> Result<Vec<Key>, KeyError> {
    if !is_set(json)? {
        return Ok(vec![read_one(json)?.key(algorithm)?]);
    }
    let mut keys = Vec::new();
    let mut refusal = KeyError::Empty;
    for jwk in read_set(json)? {
        match jwk.key(algorithm) {
            Ok(key) => keys.push(key),
            Err(e) => refusal = e,
        }
    }
    if keys.is_empty() { Err(refusal) } else { Ok(keys) }
}

pub(crate) fn parse_signing_key(
    json: &[u8],
    algorithm: Option<Algorithm>,
) -> Result<SigningKey, KeyError> {
    if !is_set(json)? {
        return read_one(json)?.signing_key(algorithm);
    }
    let mut refusal = KeyError::Empty;
    for jwk in read_set(json)? {
        match jwk.signing_key(algorithm) {
            Ok(key) => return Ok(key),
            Err(e) => refusal = e,
        }
    }
    Err(refusal)
}

/// A key as it is written; what it holds is not checked yet.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    use_: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Box<RawValue>>,
}

/// The longest key id that is kept, as of those that tokens may name.
const ID_BYTES_MAX: usize = 256;

fn is_set(json: &[u8]) -> Result<bool, KeyError> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        keys: Option<Box<RawValue>>,
    }
    let members: Members = parse_object(json).map_err(|e| KeyError::malformed(&e))?;
    Ok(members.keys.is_some())
}

fn read_one(json: &[u8]) -> Result<Jwk, KeyError> {
    parse_object(json).map_err(|e| KeyError::malformed(&e))
}

/// Reads those of a set that have the form of a key.
fn read_set(json: &[u8]) -> Result<Vec<Jwk>, KeyError> {
    let set: Set = parse_object(json).map_err(|e| KeyError::malformed(&e))?;
    if set.keys.len() > Key::COUNT_MAX {
        return Err(KeyError::TooMany);
    }
    let read = |raw: Box<RawValue>| serde_json::from_str::<Object<Jwk>>(raw.get()).ok();
    Ok(set.keys.into_iter().filter_map(read).map(|jwk| jwk.0).collect())
}

impl Jwk {
    fn key(&self, algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        match self.kty.as_str() {
            "oct" => {
                Ok(self.read_secret(self.algorithm(algorithm, "verify")?)?.into_verifying_key())
            }
            _ => self.public_key(algorithm),
        }
    }

    fn public_key(&self, algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        let algorithm = self.algorithm(algorithm, "verify")?;
        let key = match self.kty.as_str() {
            "RSA" => {
                let components = self.rsa()?;
                // Any of RSA's will do to write the numbers as DER.
                let public = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                let public = public.map_err(|e| KeyError::malformed(&e.to_string()))?;
                Key::of_public(public.as_ref(), algorithm)?
            }
            "EC" => Key::of_public(&self.point()?, algorithm)?,
            "OKP" => {
                self.ed25519()?;
                Key::of_public(&number("x", self.x.as_ref())?, algorithm)?
            }
            kty => return Err(KeyError::Unsupported { kind: kty.chars().take(32).collect() }),
        };
        Ok(key.with_id(self.kid.as_deref()))
    }

    fn signing_key(&self, algorithm: Option<Algorithm>) -> Result<SigningKey, KeyError> {
        let algorithm = self.algorithm(algorithm, "sign")?;
        if self.kty == "oct" {
            return self.read_secret(algorithm);
        }
        if self.d.is_none() {
            return Err(KeyError::Public);
        }
        let number_of = |name, member: &Option<String>| number(name, member.as_ref());
        let d = number_of("d", &self.d)?;
        let signer = match self.kty.as_str() {
            "RSA" => {
                let pair = RsaKeyPair::from_components(&KeyPairComponents {
                    public_key: self.rsa()?,
                    d,
                    p: number_of("p", &self.p)?,
                    q: number_of("q", &self.q)?,
                    dP: number_of("dp", &self.dp)?,
                    dQ: number_of("dq", &self.dq)?,
                    qInv: number_of("qi", &self.qi)?,
                });
                pair.map(Box::new).map(Signer::Rsa)
            }
            "EC" => {
                let curve = Signer::curve(self.curve()?).ok_or(KeyError::Empty)?;
                EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &self.point()?)
                    .map(Box::new)
                    .map(Signer::Ec)
            }
            "OKP" => {
                self.ed25519()?;
                Ed25519KeyPair::from_seed_and_public_key(&d, &number_of("x", &self.x)?)
                    .map(Box::new)
                    .map(Signer::Ed)
            }
            kty => return Err(KeyError::Unsupported { kind: kty.chars().take(32).collect() }),
        };
        let signer = signer.map_err(|e| KeyError::malformed(&e.to_string()))?;
        Ok(SigningKey::of_signer(signer, algorithm)?.with_id(self.kid.as_deref()))
    }

    /// Says what the key is for, after checking that it is for that.
    fn algorithm(
        &self,
        wanted: Option<Algorithm>,
        operation: &str,
    ) -> Result<Option<Algorithm>, KeyError> {
        let allows = |ops: &Vec<String>| ops.iter().any(|op| op == operation);
        if self.use_.as_ref().is_some_and(|use_| use_ != "sig")
            || !self.key_ops.as_ref().is_none_or(allows)
        {
            return Err(KeyError::OtherUse);
        }
        if self.kid.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return Err(KeyError::malformed("the id is longer than 256 bytes (kid)"));
        }
        let Some(name) = &self.alg else { return Ok(wanted) };
        let own = name
            .parse()
            .map_err(|_| KeyError::Unsupported { kind: name.chars().take(32).collect() })?;
        match wanted {
            Some(algorithm) if algorithm != own => {
                Err(KeyError::WrongAlgorithm { algorithm, kind: "a key whose `alg` is another" })
            }
            _ => Ok(Some(own)),
        }
    }

    fn read_secret(&self, algorithm: Option<Algorithm>) -> Result<SigningKey, KeyError> {
        let secret = number("k", self.k.as_ref())?;
        Ok(SigningKey::secret(&secret, algorithm)?.with_id(self.kid.as_deref()))
    }

    fn rsa(&self) -> Result<PublicKeyComponents<Vec<u8>>, KeyError> {
        Ok(PublicKeyComponents {
            n: number("n", self.n.as_ref())?,
            e: number("e", self.e.as_ref())?,
        })
    }

    fn curve(&self) -> Result<Algorithm, KeyError> {
        match self.crv.as_deref() {
            Some("P-256") => Ok(Algorithm::Es256),
            Some("P-384") => Ok(Algorithm::Es384),
            curve => Err(unsupported_curve(curve)),
        }
    }

    fn ed25519(&self) -> Result<(), KeyError> {
        match self.crv.as_deref() {
            Some("Ed25519") => Ok(()),
            curve => Err(unsupported_curve(curve)),
        }
    }

    /// The point in its uncompressed form (SEC 1 section 2.3.3).
    fn point(&self) -> Result<Vec<u8>, KeyError> {
        let coordinate_bytes = if self.curve()?.family() == Family::P256 { 32 } else { 48 };
        let (x, y) = (number("x", self.x.as_ref())?, number("y", self.y.as_ref())?);
        if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
            return Err(KeyError::malformed("x and y do not have the length of the curve"));
        }
        Ok([&[4][..], &x, &y].concat())
    }
}

fn number(name: &str, member: Option<&String>) -> Result<Vec<u8>, KeyError> {
    let text = member.ok_or_else(|| KeyError::malformed(&format!("there is no {name}")))?;
    base64url::decode(text)
        .ok_or_else(|| KeyError::malformed(&format!("{name} is not base64url without padding")))
}

fn unsupported_curve(curve: Option<&str>) -> KeyError {
    KeyError::Unsupported { kind: curve.unwrap_or("no curve").chars().take(32).collect() }
}
