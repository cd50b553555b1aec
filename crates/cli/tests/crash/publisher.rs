//! A client that publishes in every way, and again when an answer is lost, if it can do so without
//! doubles.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::connection::{Connection, is_lost};
use crate::ledger::{Event, Ledger, Outcome, Publish};
use crate::whereabouts::{Count, Whereabouts};

pub(crate) struct Publisher {
    name: usize,
    random: Rng,
    whereabouts: Arc<Whereabouts>,
    ledger: Arc<Mutex<Ledger>>,
    connection: Option<Connection>,
    /// The life of the hub that the connection is, or was, to.
    life: u64,
    /// How many publishes were begun, and before that life.
    number: usize,
    number_before: usize,
    /// Topics that have had their last event for sure.
    finished: Vec<String>,
}

/// How events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Array,
    Lines,
    /// Lines without a length before them: they are appended as they come.
    Chunks,
}

/// Where keys stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    InEvents,
    InHead,
}

impl Publisher {
    pub(crate) fn new(
        name: usize,
        random: Rng,
        whereabouts: Arc<Whereabouts>,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        Self {
            name,
            random,
            whereabouts,
            ledger,
            connection: None,
            life: 0,
            number: 0,
            number_before: 0,
            finished: Vec::new(),
        }
    }

    /// Publishes until it is told to end, and then until everything is acknowledged that has keys.
    pub(crate) fn run(mut self) {
        while !self.whereabouts.is_ending() {
            if self.number - self.number_before >= PER_LIFE_MAX {
                self.whereabouts.rest(self.life);
                (self.connection, self.number_before) = (None, self.number);
                continue;
            }
            self.number += 1;
            match self.random.u32(0..10) {
                0 => self.publish_job(),
                1 => self.publish_to_what_is_finished(),
                2 => self.subscribe_to_what_is_finished(),
                _ => self.publish_some(),
            }
        }
    }

    /// Publishes one event and sees to it that it is acknowledged.
    pub(crate) fn publish_for_sure(mut self, event: Event) {
        self.publish(vec![event], Form::Single, Keys::InEvents);
    }

    fn publish_some(&mut self) {
        let forms = [Form::Single, Form::Array, Form::Lines, Form::Chunks];
        let form = forms[self.random.usize(..forms.len())];
        let keys = [Keys::None, Keys::InEvents, Keys::InHead][self.random.usize(..3)];
        let count = if form == Form::Single { 1 } else { self.random.usize(1..12) };
        let events = (0..count).map(|place| self.event(place)).collect();
        self.publish(events, form, keys);
    }

    /// An event of a random size, under one or two topics.
    fn event(&mut self, place: usize) -> Event {
        let mut topics = vec![format!("publishers/{}", self.name)];
        if self.random.u32(0..4) == 0 {
            topics.push("some".to_owned());
        }
        let padding = "x".repeat(self.random.usize(0..4_000) / self.random.usize(1..20));
        Event { topics, data: self.data(place, &padding), is_final: false }
    }

    fn data(&self, place: usize, text: &str) -> String {
        format!("{}/{}/{place} {text}", self.name, self.number)
    }

    /// A topic of its own from its first event to its last.
    fn publish_job(&mut self) {
        let topic = format!("jobs/{}/{}", self.name, self.number);
        let mut events: Vec<Event> = (0..self.random.usize(1..5))
            .map(|place| {
                let data = self.data(place, "done");
                Event { topics: vec![topic.clone()], data, is_final: false }
            })
            .collect();
        events.last_mut().unwrap().is_final = true;
        self.publish(events, Form::Array, Keys::InEvents);
        self.finished.push(topic);
    }

    /// One that must be refused, however often the hub was killed since.
    fn publish_to_what_is_finished(&mut self) {
        let Some(topic) = self.random.choice(&self.finished).cloned() else { return };
        let data = self.data(0, "too late");
        let event = Event { topics: vec![topic], data, is_final: false };
        self.publish(vec![event], Form::Single, Keys::None);
    }

    /// Nothing is left to deliver of a finished topic to one who asks for what follows.
    fn subscribe_to_what_is_finished(&mut self) {
        let Some(topic) = self.random.choice(&self.finished).cloned() else { return };
        let request = format!(
            "GET /events?topic={topic}&mode=poll&wait=0 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        );
        match self.exchange(request.as_bytes()) {
            Ok((204, _)) => {}
            Ok((status, body)) => {
                assert!(
                    status == 503 && body.contains("shutting-down"),
                    "{topic}: {status} {body}"
                );
                self.connection = None;
            }
            Err(error) => self.lose_connection(&error),
        }
    }

    fn lose_connection(&mut self, error: &io::Error) {
        assert!(is_lost(error), "{error}");
        self.connection = None;
    }

    fn publish(&mut self, events: Vec<Event>, form: Form, keys: Keys) {
        let is_refused = events.iter().any(|event| self.finished.contains(&event.topics[0]));
        let request = self.request(&events, form, keys);
        let is_whole = form != Form::Chunks;
        let publish = Publish { events, is_whole, outcome: Outcome::Unknown };
        self.ledger.lock().unwrap().begin(publish);
        loop {
            self.whereabouts.count(Count::Sent);
            let outcome = match self.exchange(&request) {
                Ok((200, body)) => Outcome::Acknowledged(ids(&body)),
                Ok((409, _)) if is_refused => Outcome::Refused,
                // It is being stopped in good order.
                Ok((503, body)) if form != Form::Chunks => {
                    assert!(body.contains("shutting-down"), "{body}");
                    self.connection = None;
                    Outcome::Refused
                }
                Ok((status, body)) => {
                    assert!(status == 503 && body.contains("shutting-down"), "{status} {body}");
                    self.connection = None;
                    Outcome::Unknown
                }
                Err(error) => {
                    self.lose_connection(&error);
                    Outcome::Unknown
                }
            };
            let is_acknowledged = matches!(outcome, Outcome::Acknowledged(_));
            assert!(!(is_acknowledged && is_refused), "a topic went on after its last event");
            if is_acknowledged || keys == Keys::None {
                self.ledger.lock().unwrap().settle(outcome);
                // Whoever is refused is answered all the same.
                self.whereabouts.count(Count::Acknowledged);
                return;
            }
        }
    }

    /// Sends a request, to the next life of the hub if this one is over.
    fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let (address, life) = self.whereabouts.after(self.life);
                (self.life, self.number_before) = (life, self.number);
                self.connection.insert(Connection::open(address)?)
            }
        };
        connection.send(request)?;
        let head = connection.head()?;
        let body = connection.body(&head)?;
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn request(&mut self, events: &[Event], form: Form, keys: Keys) -> Vec<u8> {
        let key = format!("key {}/{}", self.name, self.number);
        let json = |place: usize, event: &Event| {
            let mut json = json!({ "topic": event.topics, "data": event.data });
            if event.is_final {
                json["final"] = true.into();
            }
            if keys == Keys::InEvents {
                json["key"] = format!("{key}/{place}").into();
            }
            json
        };
        let events: Vec<Value> = events.iter().enumerate().map(|(at, it)| json(at, it)).collect();
        let lines = || events.iter().map(|event| format!("{event}\n")).collect::<Vec<_>>();
        let (content_type, parts) = match form {
            Form::Single => ("application/json", vec![events[0].to_string()]),
            Form::Array => ("application/json", vec![Value::from(events.clone()).to_string()]),
            Form::Lines => ("application/x-ndjson", vec![lines().concat()]),
            Form::Chunks => ("application/x-ndjson", lines()),
        };
        let mut request =
            format!("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n");
        if keys == Keys::InHead {
            let _ = write!(request, "idempotency-key: {key}\r\n");
        }
        if form == Form::Chunks {
            request.push_str("transfer-encoding: chunked\r\n\r\n");
            for part in parts {
                let _ = write!(request, "{:x}\r\n{part}\r\n", part.len());
            }
            request.push_str("0\r\n\r\n");
        } else {
            let body = parts.concat();
            let _ = write!(request, "content-length: {}\r\n\r\n{body}", body.len());
        }
        request.into_bytes()
    }
}

/// Publishes in one life of the hub, so that nothing has to leave the log even if whoever kills the hub
/// gets no turn for long.
pub(crate) const PER_LIFE_MAX: usize = 12;

/// The ids of an answer.
fn ids(body: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(body).unwrap();
    let text = |id: &Value| id.as_str().unwrap().to_owned();
    match answer["ids"].as_array() {
        Some(ids) => ids.iter().map(text).collect(),
        None => vec![text(&answer["id"])],
    }
}
