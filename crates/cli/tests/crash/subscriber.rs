//! A client that resumes after the last id it saw whenever its stream ends, and cuts it now and then
//! itself.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tidings_sse::{Decoder, Event, Item};

use crate::connection::{Connection, is_lost};
use crate::history::{History, KeptEvent};
use crate::whereabouts::Whereabouts;

/// Whose interest contains a topic.
type Wants = fn(&str) -> bool;

/// The queries of subscribers, and what they ask for.
pub(crate) const QUERIES: [(&str, Wants); 5] = [
    ("topic=*", |_| true),
    ("topic=publishers/0&topic=publishers/1", |it| it == "publishers/0" || it == "publishers/1"),
    ("topic=publishers/%7Bname%7D", |it| it.starts_with("publishers/")),
    ("topic=some", |it| it == "some"),
    ("topic=jobs/%7Bpublisher%7D/%7Bnumber%7D&topic=some", |it| {
        it == "some" || it.starts_with("jobs/")
    }),
];

/// The topic of the event that is the last.
pub(crate) const END: &str = "end";

pub(crate) struct Subscriber {
    query: &'static str,
    random: Rng,
    whereabouts: Arc<Whereabouts>,
    received: Arc<Mutex<Received>>,
}

/// What a subscriber received.
pub(crate) struct Received {
    query: &'static str,
    wants: Wants,
    /// Id and data of each event.
    events: Vec<(String, String)>,
    pub(crate) connections: usize,
}

impl Received {
    pub(crate) fn new((query, wants): (&'static str, Wants)) -> Self {
        Self { query, wants, events: Vec::new(), connections: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.events.len()
    }

    /// Holds it against the log: it is the events that were asked for, each once, in order; all of them
    /// once the last was seen.
    pub(crate) fn check(&self, history: &History, is_all: bool) {
        let is_wanted = |it: &&KeptEvent| it.topics.iter().any(|it| it == END || (self.wants)(it));
        let mut wanted = history.events.iter().filter(is_wanted);
        for (id, data) in &self.events {
            let Some(event) = wanted.next() else {
                panic!("{}: received what is not in the log: {id} {data}", self.query)
            };
            assert_eq!((id, data), (&event.id, &event.data), "{}", self.query);
        }
        let missing = wanted.next();
        assert!(!is_all || missing.is_none(), "{}: did not receive {missing:?}", self.query);
    }
}

impl Subscriber {
    pub(crate) fn new(
        query: &'static str,
        random: Rng,
        whereabouts: Arc<Whereabouts>,
        received: Arc<Mutex<Received>>,
    ) -> Self {
        Self { query, random, whereabouts, received }
    }

    /// Receives until the event that is the last.
    pub(crate) fn run(mut self) {
        let mut life = 0;
        loop {
            let (address, now) = self.whereabouts.after(life);
            // It may come back to the same hub after it has cut its stream itself.
            while self.random.u32(0..4) == 0 {
                let few = self.random.usize(0..100);
                if self.is_complete_after(address, few) {
                    return;
                }
            }
            if self.is_complete_after(address, usize::MAX) {
                return;
            }
            life = now;
        }
    }

    fn is_complete_after(&mut self, address: SocketAddr, events_max: usize) -> bool {
        match self.receive(address, events_max) {
            Ok(ended) => matches!(ended, Ended::Complete),
            Err(error) => {
                assert!(is_lost(&error), "{}: {error}", self.query);
                false
            }
        }
    }

    fn receive(&mut self, address: SocketAddr, events_max: usize) -> io::Result<Ended> {
        let last_id = self.received.lock().unwrap().events.last().map(|(id, _)| id.clone());
        let from = match &last_id {
            Some(id) => format!(" HTTP/1.1\r\nlast-event-id: {id}\r\n"),
            None => "&last=earliest HTTP/1.1\r\n".to_owned(),
        };
        let request =
            format!("GET /events?{}&topic={END}{from}host: localhost\r\n\r\n", self.query);
        let mut connection = Connection::open(address)?;
        connection.send(request.as_bytes())?;
        let head = connection.head()?;
        assert_eq!(head.status, 200);
        self.received.lock().unwrap().connections += 1;
        let mut decoder = Decoder::default().with_last_event_id(last_id.unwrap_or_default());
        let mut count = 0;
        while let Some(chunk) = connection.chunk()? {
            let mut bytes = &chunk[..];
            while !bytes.is_empty() {
                if count == events_max {
                    return Ok(Ended::Cut);
                }
                let Some(Item::Event(event)) = decoder.decode(&mut bytes).unwrap() else {
                    continue;
                };
                count += 1;
                if let Some(ended) = self.take(&event) {
                    return Ok(ended);
                }
            }
        }
        Ok(Ended::Closed)
    }

    /// Takes an event; says if it is the last one of the stream.
    fn take(&mut self, event: &Event) -> Option<Ended> {
        match &*event.event {
            "tidings.shutdown" => return Some(Ended::Closed),
            control if control.starts_with("tidings.") => {
                panic!("{}: {control} {}", self.query, event.data)
            }
            _ => {}
        }
        let mut received = self.received.lock().unwrap();
        received.events.push((event.id.to_string(), event.data.clone()));
        (event.data == END).then_some(Ended::Complete)
    }
}

/// Why a stream is over.
#[derive(Debug)]
enum Ended {
    /// The event that is the last was received.
    Complete,
    /// By the hub.
    Closed,
    /// By the subscriber itself.
    Cut,
}
