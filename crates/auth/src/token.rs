//! Tokens: signed JWTs in the compact form (RFC 7519, RFC 7515), and nothing else that goes by the
//! name.
//!
//! The key decides the algorithm. The header of a token can only make it fail: its key id narrows
//! which keys are tried, and keys, certificates and addresses that it carries are not looked at.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use thiserror::Error;
use tidings_core::Identity;

use crate::{
    Algorithm, Grant, Key, UnixSeconds, base64url,
    claims::VerifiedClaims,
    json::{parse_object, present},
};

/// Whose tokens are trusted, besides that a key of theirs signed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// What `iss` has to be; `None` accepts any, and none.
    pub issuer: Option<String>,
    /// One of them has to stand in `aud`; empty accepts any, and none.
    pub audiences: Vec<String>,
    /// Whether a token has to say when it ends.
    pub requires_expiry: bool,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is not a token, or one of a kind that is not supported.
    #[error("not a token that can be read: {reason}")]
    Malformed {
        /// What is wrong.
        reason: Box<str>,
    },
    /// No key is for the algorithm that it names.
    #[error("no key is for the algorithm {name:?}")]
    WrongAlgorithm {
        /// What the token says, cut to 32 characters.
        name: Box<str>,
    },
    /// No key has the id that it names. A newer key set may.
    #[error("{}", describe_unknown(id.as_deref()))]
    UnknownKey {
        /// The id, at most 256 bytes; `None` when there is no key at all.
        id: Option<String>,
    },
    /// None of the keys signed it.
    #[error("the signature is not that of a known key")]
    BadSignature,
    /// It is over.
    #[error("the token expired at {at}")]
    Expired {
        /// When it ended.
        at: UnixSeconds,
    },
    /// It does not hold yet.
    #[error("the token holds from {from} on")]
    NotYetValid {
        /// When it begins.
        from: UnixSeconds,
    },
    /// Its issuer is not the one whose key signed it.
    #[error("the token is not of the issuer that its key belongs to")]
    WrongIssuer,
    /// It is meant for others.
    #[error("the token is not meant for this hub (aud)")]
    WrongAudience,
    /// It does not say when it ends, and it must.
    #[error("the token has to say when it expires (exp)")]
    MissingExpiry,
    /// Its claims cannot be read.
    #[error("the claims of the token cannot be read: {reason}")]
    BadClaims {
        /// What is wrong.
        reason: Box<str>,
    },
}

/// The longest token that is read. Servers rarely accept longer headers.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How far the clock of an issuer may be ahead, for `nbf` and `iat`. There is no such grace at the
/// end.
const CLOCK_AHEAD_MAX_SECONDS: u64 = 5;

/// The longest key id that is looked for.
const KEY_ID_BYTES_MAX: usize = 256;

/// How much of the name of an algorithm is repeated in an error.
const NAME_CHARS_MAX: usize = 32;

/// What tokens are (RFC 7519 section 5.1, RFC 9068 section 2.1). Others that the same keys sign,
/// such as the news that somebody logged out, give no rights (RFC 8725 section 3.11).
const TYPES: [&str; 4] = ["JWT", "application/jwt", "at+jwt", "application/at+jwt"];

/// Verifies a token, and says what its bearer may do.
///
/// The keys of an authority that are tried are those for the algorithm that the token names. If it
/// names a key too, they are those with that id, or where there is none, those without an id. The
/// first authority that accepts the token counts.
///
/// The rights are those of the claim `tidings`, else of `https://mercure.rocks/`, else of
/// `mercure`; whichever counts, counts alone.
///
/// # Errors
///
/// A [`TokenError`]. Of several authorities it is that of the one which came furthest.
pub fn verify(
    token: &str,
    authorities: &[(&Authority, &[Key])],
    now: UnixSeconds,
) -> Result<Grant, TokenError> {
    let signed = Signed::parse(token)?;
    let id = signed.header.kid.as_deref();
    let (mut is_known_id, mut is_tried) = (false, false);
    let mut refusal = None;
    for (authority, keys) in authorities {
        let has_id = id.is_some() && keys.iter().any(|key| key.id() == id);
        is_known_id |= has_id;
        let signer = keys.iter().find(|key| {
            let is_named = id.is_none() || key.id() == id.filter(|_| has_id);
            let is_candidate = is_named && Some(key.algorithm()) == signed.algorithm;
            is_tried |= is_candidate;
            is_candidate && key.verify(signed.message.as_bytes(), &signed.signature)
        });
        let Some(signer) = signer else { continue };
        match signed.grant(authority, signer, now) {
            Ok(grant) => return Ok(grant),
            Err(TokenError::WrongIssuer) if refusal.is_some() => {}
            Err(e) => refusal = Some(e),
        }
    }
    Err(match refusal {
        Some(refusal) => refusal,
        None if id.is_some() != is_known_id
            || authorities.iter().all(|(_, keys)| keys.is_empty()) =>
        {
            TokenError::UnknownKey { id: signed.header.kid }
        }
        None if is_tried => TokenError::BadSignature,
        None => TokenError::wrong_algorithm(&signed.header.alg),
    })
}

/// A token taken apart; nothing in it is known to be true.
struct Signed<'a> {
    header: Header,
    algorithm: Option<Algorithm>,
    /// Header and claims, as they were signed.
    message: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// What of a header means something here (RFC 7515 section 4.1); the rest is ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    zip: Option<IgnoredAny>,
}

impl<'a> Signed<'a> {
    fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::malformed("not three parts between two dots"));
        };
        let message = &token[..header.len() + 1 + claims.len()];
        let header = base64url::decode(header)
            .ok_or_else(|| TokenError::malformed("the header is not base64url"))?;
        let header: Header =
            parse_object(&header).map_err(|e| TokenError::malformed(&format!("header: {e}")))?;
        header.check().map_err(TokenError::malformed)?;
        let algorithm = header.alg.parse().ok();
        let signature = base64url::decode(signature)
            .ok_or_else(|| TokenError::malformed("the signature is not base64url"))?;
        Ok(Self { header, algorithm, message, claims, signature })
    }

    /// What the claims give, once the signature was found to be of a key of `authority`.
    fn grant(
        &self,
        authority: &Authority,
        signer: &Key,
        now: UnixSeconds,
    ) -> Result<Grant, TokenError> {
        let json = base64url::decode(self.claims)
            .ok_or_else(|| TokenError::BadClaims { reason: "not base64url".into() })?;
        let claims = VerifiedClaims::parse(&json)
            .map_err(|reason| TokenError::BadClaims { reason: reason.into() })?;
        authority.accept(&claims, now)?;
        let VerifiedClaims { issuer, user, token_id, .. } = claims;
        let vouched_by = Some(signer.mark(authority.issuer.as_deref()));
        Ok(Grant {
            identity: Arc::new(Identity { issuer, user, token_id, vouched_by }),
            publish: claims.publish,
            subscribe: claims.subscribe,
            presence: claims.presence,
            operate: claims.operate,
            expires_at: claims.expires_at,
            payload: claims.payload,
        })
    }
}

impl Header {
    fn check(&self) -> Result<(), &'static str> {
        if self.crit.is_some() || self.b64.is_some() {
            return Err("it needs an extension that is not supported (crit, b64)");
        }
        if self.enc.is_some() || self.zip.is_some() {
            return Err("it is encrypted or compressed (enc, zip)");
        }
        if self.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
            return Err("the key id is longer than 256 bytes (kid)");
        }
        let is_token = |typ: &String| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ));
        if !self.typ.as_ref().is_none_or(is_token) {
            return Err("it is of another type than JWT (typ)");
        }
        Ok(())
    }
}

impl Authority {
    fn accept(&self, claims: &VerifiedClaims, now: UnixSeconds) -> Result<(), TokenError> {
        if self.issuer.is_some() && self.issuer.as_deref() != claims.issuer.as_deref() {
            return Err(TokenError::WrongIssuer);
        }
        let is_for = |audience| claims.audiences.contains(audience);
        if !self.audiences.is_empty() && !self.audiences.iter().any(is_for) {
            return Err(TokenError::WrongAudience);
        }
        match claims.expires_at {
            Some(at) if now >= at => return Err(TokenError::Expired { at }),
            None if self.requires_expiry => return Err(TokenError::MissingExpiry),
            _ => {}
        }
        let from = claims.not_before.max(claims.issued_at).unwrap_or_default();
        if now.saturating_add(CLOCK_AHEAD_MAX_SECONDS) < from {
            return Err(TokenError::NotYetValid { from });
        }
        Ok(())
    }
}

fn describe_unknown(id: Option<&str>) -> String {
    match id {
        Some(id) => format!("no key has the id {id:?}"),
        None => "there is no key that could have signed it".to_owned(),
    }
}

impl TokenError {
    fn malformed(reason: &str) -> Self {
        Self::Malformed { reason: reason.into() }
    }

    fn wrong_algorithm(name: &str) -> Self {
        Self::WrongAlgorithm { name: name.chars().take(NAME_CHARS_MAX).collect() }
    }
}
