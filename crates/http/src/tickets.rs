//! `POST /tickets`: a token and a subscription for a URL that opens this one stream.
//!
//! `EventSource` can set no headers, and a token in a URL ends up in logs and histories. Who finds
//! a ticket there can do nothing with it: it opens once, and then goes on only where it was and from
//! where it is used.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use tidings::{Begin, Position};
use tidings_auth::{TicketBook, UnixSeconds};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::account::{Accounts, Source};
use crate::app::App;
use crate::authorize::{Caller, now};
use crate::json_body;
use crate::places::{Place, Places};
use crate::problem::{Kind, Problem};
use crate::query::pairs;
use crate::wanted::{Wanted, WantedJson};

/// The tickets that are out; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tickets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Mutex<TicketBook<Arc<TicketStream>>>,
    /// Memory for what they open, in pieces of [`PIECE_BYTES`]: one for each ticket that may be out.
    room: Arc<Semaphore>,
    /// What one user, or else one address, has of them.
    places: Arc<Places>,
    /// Tickets of one source.
    each_max: usize,
    accounts: Accounts,
}

/// What a ticket opens.
#[derive(Debug)]
pub(crate) struct TicketStream {
    pub(crate) wanted: Wanted,
    pub(crate) caller: Caller,
    /// After which its first stream began, once that is known.
    began_after: OnceLock<Position>,
    _room: OwnedSemaphorePermit,
    _place: Option<Place>,
}

/// A stream that a ticket has opened; gives its place back when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenedTicket {
    tickets: Tickets,
    id: String,
    stream: Arc<TicketStream>,
    expires_at: UnixSeconds,
    is_first: bool,
    has_begun: AtomicBool,
}

impl Tickets {
    pub(crate) fn new(tickets_max: usize) -> Self {
        let pieces = tickets_max.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            book: Mutex::new(TicketBook::new(tickets_max)),
            room: Arc::new(Semaphore::new(pieces)),
            places: Arc::default(),
            each_max: tickets_max.div_ceil(SHARES),
            accounts: Accounts::default(),
        }))
    }

    /// Issues a ticket.
    ///
    /// # Errors
    ///
    /// Too many are out, or too many of this source.
    fn issue(
        &self,
        source: Source<'_>,
        wanted: Wanted,
        caller: Caller,
        expires_at: UnixSeconds,
    ) -> Result<String, Problem> {
        let now = now();
        self.book().forget_expired(now);
        let account = self.0.accounts.source(source);
        let Inner { places, each_max, .. } = &*self.0;
        let place = account.map(|account| places.take(account, *each_max).ok_or_else(too_many));
        let pieces = u32::try_from(wanted.bytes().div_ceil(PIECE_BYTES)).map_err(|_| too_many())?;
        let room = Arc::clone(&self.0.room).try_acquire_many_owned(pieces.max(1));
        let stream = TicketStream {
            wanted,
            caller,
            began_after: OnceLock::new(),
            _room: room.map_err(|_| too_many())?,
            _place: place.transpose()?,
        };
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|_| too_many())?;
        let issued = self.book().issue(random, Arc::new(stream), expires_at, now);
        issued.map_err(|_| too_many())
    }

    /// How many are out.
    pub(crate) fn count(&self) -> usize {
        self.book().len()
    }

    /// Forgets those that were issued to who is shut out.
    pub(crate) fn retain(&self, mut keeps: impl FnMut(&Caller) -> bool) {
        self.book().retain(|stream| keeps(&stream.caller));
    }

    fn book(&self) -> MutexGuard<'_, TicketBook<Arc<TicketStream>>> {
        self.0.book.lock().expect("no thread panics while it holds the tickets")
    }
}

impl OpenedTicket {
    /// What the ticket was issued for.
    pub(crate) fn stream(&self) -> &TicketStream {
        &self.stream
    }

    /// When the ticket ends, and with it the stream.
    pub(crate) fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// Takes note that a stream has begun, and after which event.
    pub(crate) fn begin(&self, after: Option<Position>) {
        self.has_begun.store(true, Ordering::Relaxed);
        if let Some(after) = after {
            let _ = self.stream.began_after.set(after);
        }
    }
}

impl Drop for OpenedTicket {
    fn drop(&mut self) {
        let mut book = self.tickets.book();
        if *self.has_begun.get_mut() {
            book.close(&self.id);
        } else {
            book.undo(&self.id, self.is_first);
        }
    }
}

/// The ticket of a query, if it has one.
pub(crate) fn in_query(query: &str) -> Result<Option<String>, Problem> {
    let mut ids = pairs(query.as_bytes()).filter(|(name, _)| name == b"ticket");
    let Some((_, id)) = ids.next() else { return Ok(None) };
    match (String::from_utf8(id), ids.next()) {
        (Ok(id), None) => Ok(Some(id)),
        _ => Err(invalid_ticket()),
    }
}

/// Opens what a ticket was issued for, at `begin` if the client goes on.
///
/// # Errors
///
/// The ticket does not open anything for this client. The client is not told why: what it does not
/// know about the ticket, it has no business to know.
pub(crate) fn open(app: &App, head: &Parts, id: String) -> Result<(OpenedTicket, Wanted), Problem> {
    let query = head.uri.query().unwrap_or_default();
    let mut asked = Wanted::default();
    asked.take_query(query.as_bytes())?;
    asked.resume_by_header(&head.headers);
    let is_resuming = matches!(asked.begin, Begin::After(_));
    // Without a server of its own the hub does not know where requests come from.
    let address = app.client_address(&head.extensions, &head.headers);
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let tickets = app.tickets().clone();
    let (stream, expires_at, is_first) = {
        let mut book = tickets.book();
        let ticket = book.open(&id, address, is_resuming, now()).map_err(|_| invalid_ticket())?;
        (Arc::clone(ticket.opens), ticket.expires_at, ticket.is_first)
    };
    let has_begun = AtomicBool::new(false);
    let opened = OpenedTicket { tickets, id, stream, expires_at, is_first, has_begun };
    let identity = opened.stream.caller.identity();
    if identity.is_some_and(|identity| !app.access().still_vouches_for(identity)) {
        return Err(invalid_ticket());
    }
    let mut wanted = opened.stream.wanted.clone();
    wanted.poll = asked.poll;
    if is_resuming {
        if let (Begin::After(id), Some(first)) = (&asked.begin, opened.stream.began_after.get())
            && !goes_on(id, *first)
        {
            return Err(invalid_ticket());
        }
        wanted.begin = asked.begin;
    }
    Ok((opened, wanted))
}

/// Whether an id is one that a stream has got, which began after `first`.
fn goes_on(id: &[u8], first: Position) -> bool {
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse::<Position>().ok());
    id.is_some_and(|id| id.epoch == first.epoch && id.offset >= first.offset)
}

fn invalid_ticket() -> Problem {
    let detail = "Get a new ticket with POST /tickets: this one opens nothing (any more) here.";
    Problem::new(Kind::InvalidTicket, detail)
}

/// What a client gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    url: String,
    expires_at: UnixSeconds,
}

pub(crate) async fn issue(State(app): State<App>, request: Request) -> Response {
    json_body::answer(issue_for(&app, request).await)
}

async fn issue_for(app: &App, request: Request) -> Result<Issued, Problem> {
    let (head, body) = request.into_parts();
    let caller = Caller::of(app, &head).await.map_err(Problem::closing)?;
    caller.check_known(app).map_err(Problem::closing)?;
    let json: WantedJson = json_body::read(app, &head, body).await?;
    let lifetime = json.lifetime.unwrap_or(app.options().ticket_lifetime.as_secs());
    if !(1..=TICKET_LIFETIME_MAX_SECONDS).contains(&lifetime) {
        let detail = format!("Give a number of seconds from 1 to {TICKET_LIFETIME_MAX_SECONDS}.");
        return Err(Problem::new(Kind::InvalidField, detail).field("lifetime"));
    }
    let wanted = Wanted::from_json(json, app.limits().selectors_max)?;
    let caller = caller.admitted(app, &head, &wanted).await?;
    let expires_at = caller.expires_at().unwrap_or(u64::MAX).min(now() + lifetime);
    let address = app.client_address(&head.extensions, &head.headers);
    let identity = caller.identity().cloned();
    let source = Source { identity: identity.as_deref(), address };
    let id = app.tickets().issue(source, wanted, caller, expires_at)?;
    // The body may have taken its time, in which the token was revoked. Later than that finds the
    // ticket, and nobody knows the id of one that is not answered with.
    Caller::of(app, &head).await?;
    Ok(Issued { url: format!("/events?ticket={id}"), expires_at })
}

fn too_many() -> Problem {
    let detail = "Come back after the time in Retry-After, or let tickets expire sooner: as many \
                  are out as max_tickets allows, in all or for one user or address.";
    Problem::new(Kind::TooManyTickets, detail).retry_after(5)
}

/// What a ticket takes at most for one of `max_tickets`: a longer list of topics counts as several.
const PIECE_BYTES: usize = 1 << 10;
/// One user, or else one address, may have one in so many of the tickets.
const SHARES: usize = 10;
/// The longest life of a ticket: a day.
pub(crate) const TICKET_LIFETIME_MAX_SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tidings::{Epoch, Selector};

    use super::*;

    #[test]
    fn one_address_has_a_tenth_of_the_tickets_and_long_lists_count_as_several() {
        let tickets = Tickets::new(100);
        let issue = |address: u32, topics: usize| {
            let selector = |number| Selector::parse(&format!("{number:1000}")).unwrap();
            let selectors = (0..topics).map(selector).collect();
            let wanted = Wanted { selectors, ..Wanted::default() };
            let address = Some(Ipv4Addr::from_bits(address).into());
            let source = Source { identity: None, address };
            tickets.issue(source, wanted, Caller::Anonymous, u64::MAX).is_ok()
        };
        assert!((0..10).all(|_| issue(1, 1)) && !issue(1, 1));
        assert!((0..3).all(|_| issue(2, 25)), "75 of the 90 KiB that are left");
        assert!(!issue(3, 25) && issue(3, 10));
        tickets.retain(|_| false);
        assert!(issue(1, 50));
        assert_eq!(tickets.count(), 1);
    }

    #[test]
    fn a_stream_goes_on_with_ids_that_it_can_have_got() {
        let epoch = Epoch::from_random(7);
        let first = Position { epoch, offset: 5 };
        let check = |epoch, offset, expected| {
            let id = Position { epoch, offset }.to_string();
            assert_eq!(goes_on(id.as_bytes(), first), expected, "{id}");
        };
        check(epoch, 5, true);
        check(epoch, 900, true);
        check(epoch, 4, false);
        check(Epoch::from_random(8), 900, false);
        assert!(!goes_on(b"forged", first) && !goes_on(b"\xff", first));
    }
}
