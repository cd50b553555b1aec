//! What a hub's operator sees of its connections, and how they are closed.
//!
//! Nothing is kept for it: the shards are asked, one after the other, and go through the subscribers
//! they own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use slotmap::{Key, KeyData};
use tidings_core::{ExpiryReason, Identity, Position, SubscriberKey};
use tokio::sync::oneshot;

use crate::mailbox::{Command, Mailbox};
use crate::shared::Shared;

/// Names a connection of one hub, for as long as the process lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The place of its shard.
    shard: u16,
    key: SubscriberKey,
}

/// A text is not the id of a connection; take one from the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the id of a connection")]
pub struct ConnectionIdError;

/// Which connections are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionFilter {
    /// All of them.
    All,
    /// One.
    Id(ConnectionId),
    /// Those of a user.
    User {
        /// Who vouches for the user; `None` for any.
        issuer: Option<String>,
        /// The user's name.
        user: String,
    },
    /// Those that were let in by a token.
    Token {
        /// Who issued it; `None` for any.
        issuer: Option<String>,
        /// Its id.
        token_id: String,
    },
    /// Those that were let in by one of these keys, as [`Identity::vouched_by`] names them.
    Keys(Arc<[u64]>),
}

/// What is known of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionFigures {
    /// Its id.
    pub id: ConnectionId,
    /// To whom it belongs.
    pub identity: Option<Arc<Identity>>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The topics and selectors it asked for.
    pub topics: Vec<String>,
    /// Everything up to here is settled for it.
    pub position: Position,
    /// How many offsets it is behind the newest event; not all of those need be for it.
    pub lag: u64,
    /// How long it has been open.
    pub age: Duration,
    /// How many bytes it was given, the head of the response not included.
    pub bytes: u64,
}

/// A part of the list of connections.
#[derive(Debug, Clone)]
pub struct ConnectionPage {
    /// In an order that stays.
    pub connections: Vec<ConnectionFigures>,
    /// After which one the next page begins; `None` if this is the last.
    pub next: Option<ConnectionId>,
}

/// What a shard is asked for.
pub(crate) struct Listing {
    pub(crate) filter: ConnectionFilter,
    pub(crate) after: Option<SubscriberKey>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Vec<ConnectionFigures>>,
}

/// Whom a shard is to send away.
pub(crate) struct Expulsion {
    pub(crate) filter: ConnectionFilter,
    pub(crate) reason: ExpiryReason,
    pub(crate) reply: oneshot::Sender<u64>,
}

impl ConnectionId {
    pub(crate) fn new(shard: u16, key: SubscriberKey) -> Self {
        Self { shard, key }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.shard, self.key.data().as_ffi())
    }
}

impl FromStr for ConnectionId {
    type Err = ConnectionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (shard, key) = text.split_once('-').ok_or(ConnectionIdError)?;
        let shard = u16::from_str_radix(shard, 16).map_err(|_| ConnectionIdError)?;
        let key = u64::from_str_radix(key, 16).map_err(|_| ConnectionIdError)?;
        let id = Self { shard, key: KeyData::from_ffi(key).into() };
        // One spelling for each.
        if id.to_string() == text { Ok(id) } else { Err(ConnectionIdError) }
    }
}

impl ConnectionFilter {
    /// Whether a connection is meant.
    pub(crate) fn matches(&self, id: ConnectionId, identity: Option<&Identity>) -> bool {
        let is_of = |wanted: &Option<String>| {
            wanted.is_none() || wanted.as_deref() == identity.and_then(|it| it.issuer.as_deref())
        };
        match self {
            Self::All => true,
            Self::Id(wanted) => *wanted == id,
            Self::User { issuer, user } => {
                identity.is_some_and(|it| it.user.as_deref() == Some(user)) && is_of(issuer)
            }
            Self::Keys(keys) => {
                identity.and_then(|it| it.vouched_by).is_some_and(|by| keys.contains(&by))
            }
            Self::Token { issuer, token_id } => {
                identity.is_some_and(|it| it.token_id.as_deref() == Some(token_id)) && is_of(issuer)
            }
        }
    }
}

/// Lists at most `limit` connections.
pub(crate) async fn list(
    shared: &Shared,
    filter: &ConnectionFilter,
    after: Option<ConnectionId>,
    limit: usize,
) -> ConnectionPage {
    let mut connections: Vec<ConnectionFigures> = Vec::new();
    let first = after.map_or(0, |after| after.shard);
    for (shard, mailbox) in shards(shared).skip(first.into()) {
        let after = after.filter(|after| after.shard == shard).map(|after| after.key);
        // One more than there is room for tells whether there is another page.
        let (reply, answer) = oneshot::channel();
        let room = limit + 1 - connections.len();
        let listing = Listing { filter: filter.clone(), after, limit: room, reply };
        mailbox.send(Command::List(Box::new(listing)));
        // A shard that has failed has no connections.
        connections.extend(answer.await.unwrap_or_default());
        if connections.len() > limit {
            break;
        }
    }
    let is_more = connections.len() > limit;
    connections.truncate(limit);
    let next = connections.last().filter(|_| is_more).map(|last| last.id);
    ConnectionPage { connections, next }
}

/// Ends connections, and says how many.
pub(crate) async fn close(shared: &Shared, filter: &ConnectionFilter, reason: ExpiryReason) -> u64 {
    let mut closed = 0;
    for (_, mailbox) in shards(shared) {
        let (reply, answer) = oneshot::channel();
        let expulsion = Expulsion { filter: filter.clone(), reason, reply };
        mailbox.send(Command::Expel(Box::new(expulsion)));
        closed += answer.await.unwrap_or_default();
    }
    closed
}

fn shards(shared: &Shared) -> impl Iterator<Item = (u16, &Arc<Mailbox>)> {
    (0..=u16::MAX).zip(&shared.shards.mailboxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = ConnectionId::new(3, KeyData::from_ffi(0x1_0000_0007).into());
        assert_eq!(id.to_string(), "3-100000007");
        assert_eq!("3-100000007".parse(), Ok(id));
        for text in ["", "3", "-", "3-", "-1", "03-100000007", "3-0100000007", "3-+1", "70000-1"] {
            assert_eq!(text.parse::<ConnectionId>(), Err(ConnectionIdError), "{text}");
        }
    }
}
