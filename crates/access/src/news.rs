//! What is told about users, and how it is written: to the receiver, and to the disk.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::calendar::rfc3339;
use crate::outgoing::random_id;

/// A user: the same name at another issuer is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) name: Box<str>,
}

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// The same whenever it is told again.
    pub(crate) id: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) user: Arc<User>,
    pub(crate) ip: Option<IpAddr>,
    /// When it happened, in milliseconds since 1970.
    pub(crate) unix_ms: u64,
    pub(crate) reason: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Connected,
    Disconnected,
}

/// A line of the file that news and users are kept in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Line<'a> {
    /// It is to be told.
    News {
        id: Cow<'a, str>,
        kind: Kind,
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<Cow<'a, str>>,
        user: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip: Option<IpAddr>,
        at: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    /// It was told, or dropped.
    Done { id: Cow<'a, str> },
    /// The user was told to be there.
    There {
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<Cow<'a, str>>,
        user: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip: Option<IpAddr>,
    },
}

impl News {
    /// News with an id of its own, of 128 random bits.
    pub(crate) fn new(
        kind: Kind,
        user: Arc<User>,
        ip: Option<IpAddr>,
        unix_ms: u64,
        reason: Option<Box<str>>,
    ) -> Self {
        Self { id: random_id(), kind, user, ip, unix_ms, reason }
    }

    /// The body of the request.
    pub(crate) fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            user: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            issuer: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ip: Option<IpAddr>,
            at: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
        }
        let body = Body {
            r#type: match self.kind {
                Kind::Connected => "tidings.connected",
                Kind::Disconnected => "tidings.disconnected",
            },
            user: &self.user.name,
            issuer: self.user.issuer.as_deref(),
            ip: self.ip,
            at: rfc3339(self.unix_ms),
            reason: self.reason.as_deref(),
        };
        serde_json::to_vec(&body).expect("texts and numbers are JSON")
    }

    pub(crate) fn line(&self) -> Line<'static> {
        let owned = |text: &str| Cow::Owned(text.to_owned());
        Line::News {
            id: owned(&self.id),
            kind: self.kind,
            issuer: self.user.issuer.as_deref().map(owned),
            user: owned(&self.user.name),
            ip: self.ip,
            at: self.unix_ms,
            reason: self.reason.as_deref().map(owned),
        }
    }
}

impl Line<'_> {
    pub(crate) fn there(user: &User, ip: Option<IpAddr>) -> Line<'static> {
        Line::There {
            issuer: user.issuer.as_deref().map(|issuer| Cow::Owned(issuer.to_owned())),
            user: Cow::Owned(user.name.to_string()),
            ip,
        }
    }

    /// Whom it is about.
    pub(crate) fn user(&self) -> Option<User> {
        let (Line::News { issuer, user, .. } | Line::There { issuer, user, .. }) = self else {
            return None;
        };
        Some(User { issuer: issuer.as_deref().map(Into::into), name: user.as_ref().into() })
    }

    /// From where the user is told to be there; `None` if it is not.
    pub(crate) fn tells_presence(&self) -> Option<Option<IpAddr>> {
        match self {
            Line::News { kind: Kind::Connected, ip, .. } | Line::There { ip, .. } => Some(*ip),
            Line::News { .. } | Line::Done { .. } => None,
        }
    }

    pub(crate) fn into_news(self) -> Option<News> {
        let user = self.user().map(Arc::new);
        let Line::News { id, kind, ip, at, reason, .. } = self else { return None };
        let reason = reason.map(|reason| reason.as_ref().into());
        Some(News { id: id.as_ref().into(), kind, user: user?, ip, unix_ms: at, reason })
    }
}
