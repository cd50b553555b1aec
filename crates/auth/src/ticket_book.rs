//! Tickets: ids that open one stream, for clients that cannot send a token.
//!
//! Who finds a ticket in a log or a history can do nothing with it: it was used, and only the
//! address that used it may come back, only to continue, and only to what the ticket was issued
//! for. The book keeps no ids, so neither can whoever reads its memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

use crate::{UnixSeconds, base64url};

/// The tickets that are out, and for each a `T`: what it opens.
///
/// Holds at most as many as it was made for. An expired ticket is forgotten at the next call that
/// comes with the time.
#[derive(Debug)]
pub struct TicketBook<T> {
    tickets: BTreeMap<Digest, Entry<T>>,
    expiries: BTreeSet<(UnixSeconds, Digest)>,
    tickets_max: usize,
}

/// What a ticket opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket<'a, T> {
    /// What it was issued for.
    pub opens: &'a T,
    /// When it ends, and with it every stream that it opened.
    pub expires_at: UnixSeconds,
    /// Whether this stream is the first that it opens.
    pub is_first: bool,
}

/// Why a ticket opens nothing. Clients are to be told one and the same of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    /// There is no such ticket, or it was forgotten after it expired.
    #[error("there is no such ticket")]
    Unknown,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// It opened its stream already, and the client does not come to continue it.
    #[error("the ticket was used already")]
    Used,
    /// It belongs to the address that used it first.
    #[error("the ticket belongs to another client")]
    OtherClient,
    /// It has two streams open.
    #[error("the ticket has {} streams open", STREAMS_MAX)]
    TooMany,
}

/// The book holds as many tickets as it may; some will expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("as many tickets are out as may be")]
pub struct TicketBookFull;

/// How many streams of a ticket may be open at a time: one whose end has not been noticed, and the
/// one that replaces it.
const STREAMS_MAX: usize = 2;

/// SHA-256 of an id: what is looked up by a secret takes a time that tells nothing of it.
type Digest = [u8; 32];

#[derive(Debug)]
struct Entry<T> {
    opens: T,
    expires_at: UnixSeconds,
    /// Who opened it first.
    client: Option<Network>,
    stream_count: usize,
}

/// What counts as one client: an IPv4 address or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl<T> TicketBook<T> {
    /// Begins an empty book for at most `tickets_max` tickets.
    #[must_use]
    pub fn new(tickets_max: usize) -> Self {
        Self { tickets: BTreeMap::new(), expiries: BTreeSet::new(), tickets_max }
    }

    /// Issues a ticket, and returns its id: 24 characters of `[A-Za-z0-9_-]`.
    ///
    /// `random` has to be unpredictable and used once.
    ///
    /// # Errors
    ///
    /// [`TicketBookFull`], when that many have not expired yet.
    pub fn issue(
        &mut self,
        random: [u8; 18],
        opens: T,
        expires_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<String, TicketBookFull> {
        self.forget_expired(now);
        if self.tickets.len() >= self.tickets_max {
            return Err(TicketBookFull);
        }
        let id = base64url::encode(&random);
        let digest = digest_of(&id);
        let entry = Entry { opens, expires_at, client: None, stream_count: 0 };
        if let Some(replaced) = self.tickets.insert(digest, entry) {
            self.expiries.remove(&(replaced.expires_at, digest));
        }
        self.expiries.insert((expires_at, digest));
        Ok(id)
    }

    /// Opens a stream by a ticket. The caller says when it ended, by [`TicketBook::close`].
    ///
    /// The first time any client may, and is remembered by its address (of IPv6 the first 64
    /// bits). From then on it may only when it `resumes`, that is, says after which event it
    /// continues.
    ///
    /// # Errors
    ///
    /// A [`TicketError`]; nothing was opened.
    pub fn open(
        &mut self,
        id: &str,
        client: IpAddr,
        resumes: bool,
        now: UnixSeconds,
    ) -> Result<Ticket<'_, T>, TicketError> {
        let entry = self.tickets.get_mut(&digest_of(id)).ok_or(TicketError::Unknown)?;
        if now >= entry.expires_at {
            return Err(TicketError::Expired);
        }
        let network = Network::of(client);
        let is_first = entry.client.is_none();
        match entry.client {
            None => entry.client = Some(network),
            Some(first) if first != network => return Err(TicketError::OtherClient),
            Some(_) if !resumes => return Err(TicketError::Used),
            Some(_) if entry.stream_count >= STREAMS_MAX => return Err(TicketError::TooMany),
            Some(_) => {}
        }
        entry.stream_count += 1;
        Ok(Ticket { opens: &entry.opens, expires_at: entry.expires_at, is_first })
    }

    /// Notes that a stream which [`TicketBook::open`] opened has ended. Does nothing for a ticket
    /// that was forgotten.
    pub fn close(&mut self, id: &str) {
        if let Some(entry) = self.tickets.get_mut(&digest_of(id)) {
            entry.stream_count = entry.stream_count.saturating_sub(1);
        }
    }

    /// Notes that a stream did not begin after all, say because the hub is full. A ticket that it
    /// was the `first` of, and the only one, can be used as if it had not been.
    pub fn undo(&mut self, id: &str, first: bool) {
        if let Some(entry) = self.tickets.get_mut(&digest_of(id)) {
            entry.stream_count = entry.stream_count.saturating_sub(1);
            if first && entry.stream_count == 0 {
                entry.client = None;
            }
        }
    }

    /// Forgets the tickets that have expired.
    pub fn forget_expired(&mut self, now: UnixSeconds) {
        while let Some((expires_at, digest)) = self.expiries.first().copied()
            && expires_at <= now
        {
            self.expiries.pop_first();
            self.tickets.remove(&digest);
        }
    }

    /// Forgets the tickets of which `keeps` says no, such as those of a user who was shut out.
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        let expiries = &mut self.expiries;
        self.tickets.retain(|digest, entry| {
            let is_kept = keeps(&entry.opens);
            if !is_kept {
                expiries.remove(&(entry.expires_at, *digest));
            }
            is_kept
        });
    }

    /// How many tickets are out, of which some may have expired.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Tells whether no ticket is out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&v6.octets()[..8]);
                Self::V6(prefix)
            }
        }
    }
}

fn digest_of(id: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, id.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests;
