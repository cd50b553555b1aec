//! What tokens say: read strictly, and written for minting.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected, Visitor, value::SeqAccessDeserializer},
};
use serde_json::value::RawValue;
use tidings_core::{Rights, Selector};

use crate::{
    UnixSeconds,
    json::{Object, Strings, parse_object, present},
};

/// What a token is to say, for [`SigningKey::sign`](crate::SigningKey::sign).
///
/// The rights go into the claim `mercure`, or into `tidings` when the bearer is to operate the hub or to
/// know who is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who mints it, `iss`.
    pub issuer: Option<String>,
    /// Whom it is for, `sub`.
    pub user: Option<String>,
    /// Where it is meant to be used, `aud`.
    pub audience: Vec<String>,
    /// Its own name, `jti`, by which it may be revoked.
    pub token_id: Option<String>,
    /// Selectors of the topics that may be published to; `None` is no publishing at all.
    pub publish: Option<Vec<String>>,
    /// Selectors of the private events that may be received; `None` is none.
    pub subscribe: Option<Vec<String>>,
    /// Selectors of the topics of which may be known who is present; `None` is none.
    pub presence: Option<Vec<String>>,
    /// Whether the hub may be operated.
    pub operate: bool,
    /// When it was minted, `iat`.
    pub issued_at: Option<UnixSeconds>,
    /// From when it holds, `nbf`.
    pub not_before: Option<UnixSeconds>,
    /// From when it does not hold any more, `exp`.
    pub expires_at: Option<UnixSeconds>,
    /// JSON to attach for others to read.
    pub payload: Option<String>,
}

/// The claims of a token whose signature was found good.
pub(crate) struct VerifiedClaims {
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) token_id: Option<Box<str>>,
    pub(crate) audiences: Vec<String>,
    pub(crate) issued_at: Option<UnixSeconds>,
    pub(crate) not_before: Option<UnixSeconds>,
    pub(crate) expires_at: Option<UnixSeconds>,
    pub(crate) publish: Option<Rights>,
    pub(crate) subscribe: Rights,
    pub(crate) presence: Rights,
    pub(crate) operate: bool,
    pub(crate) payload: Option<Box<str>>,
}

/// The most selectors that a token may have for each right.
pub(crate) const SELECTORS_MAX: usize = 1000;

/// The greatest length of an issuer, a user or a token id, as of a topic.
pub const NAME_BYTES_MAX: usize = 1024;

/// The most audiences that a token may name.
const AUDIENCES_MAX: usize = 100;

/// 9999-12-31 23:59:59. What is greater was meant in another unit.
const SECONDS_MAX: u64 = 253_402_300_799;

impl VerifiedClaims {
    /// Reads the claims.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let members: Members = parse_object(json)?;
        let rights = if let Some(Object(tidings)) = members.tidings {
            tidings
        } else if let Some(Object(mercure)) = members.namespaced.or(members.mercure) {
            mercure.into()
        } else {
            TidingsMember::default()
        };
        let operate = rights.operate.unwrap_or_default();
        let presence = match rights.presence {
            _ if operate => vec![Selector::All],
            Some(list) => selectors("presence", &list.0)?,
            None => Vec::new(),
        };
        let subscribe = match rights.subscribe {
            Some(list) => Rights::of(selectors("subscribe", &list.0)?),
            None => Rights::public_only(),
        };
        let publish = rights.publish.map(|list| selectors("publish", &list.0)).transpose()?;
        Ok(Self {
            issuer: name("iss", members.iss)?,
            user: name("sub", members.sub)?,
            token_id: name("jti", members.jti)?,
            audiences: members.aud.map(|list| list.0).unwrap_or_default(),
            issued_at: members.iat.map(Seconds::floor),
            not_before: members.nbf.map(Seconds::ceil),
            expires_at: members.exp.map(Seconds::floor),
            publish: publish.map(Rights::of),
            subscribe: subscribe.with_presence(&presence),
            presence: Rights::of(presence),
            operate,
            payload: rights.payload.map(|raw| raw.get().into()),
        })
    }
}

impl Claims {
    /// Writes the claims as JSON.
    ///
    /// # Errors
    ///
    /// Says what a hub would not accept.
    pub(crate) fn to_json(&self) -> Result<String, String> {
        let payload = match &self.payload {
            Some(json) => Some(serde_json::from_str(json).map_err(|e| format!("payload: {e}"))?),
            None => None,
        };
        let rights = WrittenRights {
            publish: self.publish.as_deref(),
            subscribe: self.subscribe.as_deref(),
            payload,
            presence: self.presence.as_deref(),
            operate: self.operate,
        };
        let has_rights =
            rights.publish.is_some() || rights.subscribe.is_some() || rights.payload.is_some();
        let is_ours = self.operate || self.presence.is_some();
        let written = Written {
            iss: self.issuer.as_deref(),
            sub: self.user.as_deref(),
            aud: &self.audience,
            jti: self.token_id.as_deref(),
            iat: self.issued_at,
            nbf: self.not_before,
            exp: self.expires_at,
            mercure: (!is_ours && has_rights).then_some(&rights),
            tidings: is_ours.then_some(&rights),
        };
        let json = serde_json::to_string(&written).map_err(|e| e.to_string())?;
        VerifiedClaims::parse(json.as_bytes())?;
        Ok(json)
    }
}

fn name(claim: &str, value: Option<String>) -> Result<Option<Box<str>>, String> {
    let Some(value) = value else { return Ok(None) };
    if value.is_empty() {
        return Err(format!("{claim} is empty"));
    }
    if value.len() > NAME_BYTES_MAX {
        return Err(format!("{claim} has more than {NAME_BYTES_MAX} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("{claim} has control characters"));
    }
    Ok(Some(value.into()))
}

fn selectors(right: &str, texts: &[String]) -> Result<Vec<Selector>, String> {
    let parse = |text: &String| Selector::parse(text).map_err(|e| format!("{right}: {e}"));
    texts.iter().map(parse).collect()
}

#[derive(Deserialize)]
struct Members {
    #[serde(default, deserialize_with = "present")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    mercure: Option<Object<MercureMember>>,
    #[serde(default, deserialize_with = "present", rename = "https://mercure.rocks/")]
    namespaced: Option<Object<MercureMember>>,
    #[serde(default, deserialize_with = "present")]
    tidings: Option<Object<TidingsMember>>,
}

/// What others may add to is not ours to refuse.
#[derive(Deserialize)]
struct MercureMember {
    publish: Option<Strings<SELECTORS_MAX>>,
    subscribe: Option<Strings<SELECTORS_MAX>>,
    payload: Option<Box<RawValue>>,
}

/// A member that is not known may be a right that was misspelt.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TidingsMember {
    publish: Option<Strings<SELECTORS_MAX>>,
    subscribe: Option<Strings<SELECTORS_MAX>>,
    payload: Option<Box<RawValue>>,
    presence: Option<Strings<SELECTORS_MAX>>,
    #[serde(default, deserialize_with = "present")]
    operate: Option<bool>,
}

impl From<MercureMember> for TidingsMember {
    fn from(MercureMember { publish, subscribe, payload }: MercureMember) -> Self {
        Self { publish, subscribe, payload, presence: None, operate: None }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aud: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mercure: Option<&'a WrittenRights<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tidings: Option<&'a WrittenRights<'a>>,
}

#[derive(Serialize)]
struct WrittenRights<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a [String]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    operate: bool,
}

/// One string or a list of them (RFC 7519 section 4.1.3).
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Audience, A::Error> {
                let list = Strings::<AUDIENCES_MAX>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Audience(list.0))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// A moment as RFC 7519 section 2 writes it (`NumericDate`): whole seconds and whether there is a
/// fraction.
#[derive(Clone, Copy)]
struct Seconds {
    whole: u64,
    has_fraction: bool,
}

impl Seconds {
    fn floor(self) -> UnixSeconds {
        self.whole
    }

    fn ceil(self) -> UnixSeconds {
        self.whole + u64::from(self.has_fraction)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970, up to the year 9999")
            }

            fn visit_u64<E: Error>(self, whole: u64) -> Result<Seconds, E> {
                if whole > SECONDS_MAX {
                    return Err(E::invalid_value(Unexpected::Unsigned(whole), &self));
                }
                Ok(Seconds { whole, has_fraction: false })
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
                if !(0.0..=SECONDS_MAX as f64).contains(&seconds) {
                    return Err(E::invalid_value(Unexpected::Float(seconds), &self));
                }
                Ok(Seconds { whole: seconds as u64, has_fraction: seconds.fract() != 0.0 })
            }
        }
        deserializer.deserialize_any(Number)
    }
}
