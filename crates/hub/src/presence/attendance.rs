//! Who has streams open on which topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidings_core::{Identity, Topic};

/// Seconds since the beginning of 1970.
pub(crate) type UnixSeconds = u64;

/// Somebody whose name is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Who vouches for the name; the same name at another issuer is another member.
    pub issuer: Option<Box<str>>,
    /// The name.
    pub user: Box<str>,
}

impl Member {
    /// Whom an identity names; `None` if it names nobody.
    pub(crate) fn of(identity: &Identity) -> Option<Self> {
        let Identity { issuer, user, .. } = identity;
        Some(Self { issuer: issuer.clone(), user: user.clone()? })
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.user.len() + self.issuer.as_ref().map_or(0, |issuer| issuer.len())
    }
}

/// Who is there, by topic.
pub(crate) type Topics = HashMap<Topic, Attendance>;

/// Who is there on one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attendance {
    /// Open streams, also of those who have no name.
    pub(crate) connections: u64,
    pub(crate) members: BTreeMap<Arc<Member>, Here>,
}

/// How long somebody has been there, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) connections: u64,
    pub(crate) since: UnixSeconds,
}

impl Here {
    /// Puts together what two nodes know.
    pub(crate) fn and(self, other: Self) -> Self {
        let connections = self.connections.saturating_add(other.connections);
        Self { connections, since: self.since.min(other.since) }
    }
}
