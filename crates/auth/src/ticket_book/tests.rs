use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A book with one ticket, which expires at 100.
fn issued() -> (TicketBook<&'static str>, String) {
    let mut book = TicketBook::new(10);
    let id = book.issue([7; 18], "orders", 100, 0).unwrap();
    (book, id)
}

/// Opens the ticket by these clients one after the other, nothing being closed.
fn check(steps: &[(&str, bool, UnixSeconds, Result<(), TicketError>)]) {
    let (mut book, id) = issued();
    for (client, resumes, now, expected) in steps {
        let answer = book.open(&id, address(client), *resumes, *now);
        let answer =
            answer.map(|ticket| assert_eq!((*ticket.opens, ticket.expires_at), ("orders", 100)));
        assert_eq!(answer, *expected, "{client} at {now} in {steps:?}");
    }
}

#[test]
fn a_ticket_opens_once_and_then_for_the_same_client_to_continue() {
    check(&[
        ("192.0.2.1", false, 0, Ok(())),
        ("192.0.2.1", false, 1, Err(TicketError::Used)),
        ("192.0.2.2", true, 1, Err(TicketError::OtherClient)),
        ("192.0.2.2", false, 1, Err(TicketError::OtherClient)),
        ("192.0.2.1", true, 1, Ok(())),
    ]);
}

#[test]
fn who_comes_first_need_not_resume_and_may() {
    check(&[("192.0.2.1", true, 0, Ok(())), ("192.0.2.1", false, 0, Err(TicketError::Used))]);
}

#[test]
fn a_ticket_has_two_streams_at_a_time() {
    check(&[
        ("192.0.2.1", false, 0, Ok(())),
        ("192.0.2.1", true, 0, Ok(())),
        ("192.0.2.1", true, 0, Err(TicketError::TooMany)),
    ]);
    let (mut book, id) = issued();
    for resumes in [false, true, true, true] {
        book.open(&id, HOME, resumes, 0).unwrap();
        book.close(&id);
    }
    book.open(&id, HOME, true, 0).unwrap();
}

#[test]
fn a_client_is_an_ipv4_address_or_the_first_half_of_an_ipv6_one() {
    let other = Err(TicketError::OtherClient);
    for (first, second, expected) in [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", Ok(())),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", other),
        ("192.0.2.1", "::ffff:192.0.2.1", Ok(())),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", other),
        ("192.0.2.1", "::192.0.2.1", other),
        ("::1", "127.0.0.1", other),
    ] {
        check(&[(first, false, 0, Ok(())), (second, true, 0, expected)]);
    }
}

#[test]
fn a_ticket_ends_at_its_second() {
    check(&[("192.0.2.1", false, 99, Ok(())), ("192.0.2.1", true, 100, Err(TicketError::Expired))]);
    let (mut book, id) = issued();
    book.forget_expired(99);
    assert_eq!(book.len(), 1);
    book.forget_expired(100);
    assert!(book.is_empty());
    assert_eq!(book.open(&id, HOME, false, 100), Err(TicketError::Unknown));
}

#[test]
fn what_is_no_id_opens_nothing() {
    let (mut book, id) = issued();
    let long = "A".repeat(100_000);
    for other in
        ["", "A", &id[1..], &format!("{id}="), &format!("{id} "), &id.to_lowercase(), &long]
    {
        assert_eq!(book.open(other, HOME, false, 0), Err(TicketError::Unknown), "{other}");
        book.close(other);
        book.undo(other, true);
    }
    assert_eq!(id.len(), 24);
    assert!(book.open(&id, HOME, false, 0).unwrap().is_first);
}

#[test]
fn a_full_book_takes_no_more_until_one_expires() {
    let mut book = TicketBook::new(2);
    let first = book.issue([0; 18], (), 10, 0).unwrap();
    book.issue([1; 18], (), 20, 0).unwrap();
    assert_eq!(book.issue([2; 18], (), 30, 9), Err(TicketBookFull));
    assert!(book.open(&first, HOME, false, 9).is_ok());
    assert!(book.issue([2; 18], (), 30, 10).is_ok());
    assert_eq!(book.len(), 2);
    assert_eq!(TicketBook::new(0).issue([0; 18], (), 10, 0), Err(TicketBookFull));
}

#[test]
fn a_stream_that_did_not_begin_does_not_use_the_ticket_up() {
    let (mut book, id) = issued();
    assert!(book.open(&id, HOME, false, 0).unwrap().is_first);
    book.undo(&id, true);
    assert!(book.open(&id, address("198.51.100.1"), false, 0).unwrap().is_first);
    // A later one that did not begin leaves it to who has it.
    assert!(!book.open(&id, address("198.51.100.1"), true, 0).unwrap().is_first);
    book.undo(&id, false);
    assert_eq!(book.open(&id, HOME, true, 0), Err(TicketError::OtherClient));
}

#[test]
fn tickets_of_whom_is_shut_out_are_forgotten() {
    let mut book = TicketBook::new(10);
    let ann = book.issue([0; 18], "ann", 10, 0).unwrap();
    let bob = book.issue([1; 18], "bob", 10, 0).unwrap();
    book.retain(|user| *user != "ann");
    assert_eq!(book.open(&ann, HOME, false, 0), Err(TicketError::Unknown));
    assert!(book.open(&bob, HOME, false, 0).is_ok());
    book.forget_expired(10);
    assert_eq!((book.len(), book.expiries.len()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Issue { lifetime: u64 },
    Open { ticket: usize, host: u8, resumes: bool },
    Close { ticket: usize },
    Undo { ticket: usize },
    Wait { seconds: u64 },
    ShutOut { user: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..8_u64).prop_map(|lifetime| Step::Issue { lifetime }),
        6 => (0..12_usize, 0..3_u8, any::<bool>())
            .prop_map(|(ticket, host, resumes)| Step::Open { ticket, host, resumes }),
        2 => (0..12_usize).prop_map(|ticket| Step::Close { ticket }),
        1 => (0..12_usize).prop_map(|ticket| Step::Undo { ticket }),
        1 => (0..3_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..3_u8).prop_map(|user| Step::ShutOut { user }),
    ];
    prop::collection::vec(step, 0..80)
}

/// What is known of a ticket that was issued; the book may have forgotten it once it is over.
#[derive(Default)]
struct Known {
    id: String,
    user: u8,
    expires_at: u64,
    is_out: bool,
    client: Option<u8>,
    /// For each open stream, whether it was the first.
    streams: Vec<bool>,
}

const TICKETS_MAX: usize = 4;

proptest! {
    #[test]
    fn the_book_agrees_with_a_list(steps in steps()) {
        let mut book = TicketBook::new(TICKETS_MAX);
        let mut known: Vec<Known> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Issue { lifetime } => {
                    let user = known.len() as u8 % 3;
                    let expires_at = now + lifetime;
                    let out = known.iter().filter(|k| k.is_out && k.expires_at > now).count();
                    match book.issue([known.len() as u8; 18], user, expires_at, now) {
                        Ok(id) => {
                            prop_assert!(out < TICKETS_MAX);
                            known.push(Known { id, user, expires_at, is_out: true, ..Known::default() });
                        }
                        Err(TicketBookFull) => prop_assert_eq!(out, TICKETS_MAX),
                    }
                }
                Step::Open { ticket, host, resumes } => {
                    let Some(ticket) = known.get_mut(ticket) else { continue };
                    let client = IpAddr::V6(Ipv6Addr::new(1, 0, 0, host.into(), now as u16, 0, 0, 1));
                    let may_open = ticket.is_out
                        && ticket.expires_at > now
                        && match ticket.client {
                            None => true,
                            Some(first) => first == host && resumes && ticket.streams.len() < 2,
                        };
                    let answer = book.open(&ticket.id, client, resumes, now);
                    prop_assert_eq!(answer.is_ok(), may_open, "{:?}", answer);
                    if let Ok(opened) = answer {
                        prop_assert_eq!((*opened.opens, opened.is_first), (ticket.user, ticket.client.is_none()));
                        ticket.client = Some(host);
                        ticket.streams.push(opened.is_first);
                    }
                }
                Step::Close { ticket } => {
                    let Some(ticket) = known.get_mut(ticket) else { continue };
                    if ticket.streams.pop().is_some() {
                        book.close(&ticket.id);
                    }
                }
                Step::Undo { ticket } => {
                    let Some(ticket) = known.get_mut(ticket) else { continue };
                    if let Some(is_first) = ticket.streams.pop() {
                        book.undo(&ticket.id, is_first);
                        if is_first && ticket.streams.is_empty() {
                            ticket.client = None;
                        }
                    }
                }
                Step::Wait { seconds } => now += seconds,
                Step::ShutOut { user } => {
                    book.retain(|other| *other != user);
                    known.iter_mut().filter(|k| k.user == user).for_each(|k| k.is_out = false);
                }
            }
            prop_assert!(book.len() <= TICKETS_MAX);
            prop_assert_eq!(book.len(), book.expiries.len());
        }
    }
}
