//! What is in the log, read as a client reads it.

use std::net::SocketAddr;

use serde_json::Value;

use crate::connection::Connection;

/// Everything that is in the log, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct History {
    pub(crate) events: Vec<KeptEvent>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct KeptEvent {
    pub(crate) id: String,
    pub(crate) topics: Vec<String>,
    pub(crate) data: String,
    pub(crate) is_final: bool,
}

impl History {
    /// Reads all of it.
    pub(crate) fn read(address: SocketAddr) -> Self {
        let mut history = Self::default();
        history.read_on(address);
        history
    }

    /// Reads what follows what was read before.
    pub(crate) fn read_on(&mut self, address: SocketAddr) {
        let mut connection = Connection::open(address).unwrap();
        loop {
            let from = match self.events.last() {
                Some(event) => format!("lastEventId={}", event.id),
                None => "last=earliest".to_owned(),
            };
            let request = format!(
                "GET /events?topic=*&mode=poll&wait=0&{from} HTTP/1.1\r\nhost: localhost\r\n\
                 accept: application/json\r\n\r\n"
            );
            connection.send(request.as_bytes()).unwrap();
            let head = connection.head().unwrap();
            let body = connection.body(&head).unwrap();
            assert_eq!(head.status, 200, "{}", String::from_utf8_lossy(&body));
            let batch: Value = serde_json::from_slice(&body).unwrap();
            let batch = batch["events"].as_array().unwrap();
            if batch.is_empty() {
                return;
            }
            self.events.extend(batch.iter().map(KeptEvent::read));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

impl KeptEvent {
    fn read(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let Some(id) = text(&event["id"]) else { panic!("the hub says: {event}") };
        let topics = event["topics"].as_array().unwrap().iter().filter_map(text).collect();
        let data = text(&event["data"]).unwrap();
        Self { id, topics, data, is_final: event["final"] == true }
    }
}
