//! What a subscriber asks for, in a query or in the JSON of a ticket.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use tidings::{Begin, EventType, Selector};

use crate::header_names::LAST_EVENT_ID;
use crate::options::{POLL_WAIT_DEFAULT, POLL_WAIT_MAX};
use crate::problem::{Kind, Problem};
use crate::query::{pairs, text};

/// What a subscriber asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// At least one.
    pub(crate) selectors: Vec<Selector>,
    pub(crate) event_types: Vec<EventType>,
    pub(crate) begin: Begin,
    pub(crate) control_off: bool,
    pub(crate) conflate: bool,
    pub(crate) poll: Option<Duration>,
}

/// The subscription of a ticket, as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WantedJson {
    topics: Vec<String>,
    #[serde(default)]
    events: Vec<String>,
    last: Option<LastJson>,
    last_event_id: Option<String>,
    control: Option<String>,
    #[serde(default)]
    conflate: bool,
    /// Seconds.
    pub(crate) lifetime: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LastJson {
    Count(u64),
    Word(String),
}

impl Wanted {
    /// Reads a query. Parameters that are not known are left alone: browsers and caches add some.
    pub(crate) fn parse(query: &[u8], selectors_max: usize) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        let (mut last, mut id, mut is_poll, mut wait) = (None, Vec::new(), false, None);
        for (name, value) in pairs(query) {
            match name.as_slice() {
                b"topic" => wanted.add_selector(value, selectors_max)?,
                b"event" => wanted.add_event_type(value, selectors_max)?,
                b"last" => last = Some(parse_last(&value)?),
                name if is_last_event_id(name) => id = value,
                b"mode" => is_poll = choice(&value, "mode", ["stream", "poll"])?,
                b"control" => wanted.control_off = choice(&value, "control", ["on", "off"])?,
                b"conflate" => wanted.conflate = choice(&value, "conflate", ["0", "1"])?,
                b"wait" => wait = Some(parse_wait(&value)?),
                _ => {}
            }
        }
        wanted.check_selectors()?;
        wanted.poll = is_poll.then(|| wait.unwrap_or(POLL_WAIT_DEFAULT));
        wanted.begin = if id.is_empty() { last.unwrap_or_default() } else { Begin::After(id) };
        Ok(wanted)
    }

    /// Reads the JSON of a ticket.
    pub(crate) fn from_json(json: WantedJson, selectors_max: usize) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        for topic in json.topics {
            wanted.add_selector(topic.into_bytes(), selectors_max)?;
        }
        for event in json.events {
            wanted.add_event_type(event.into_bytes(), selectors_max)?;
        }
        wanted.check_selectors()?;
        let control = json.control.as_deref().unwrap_or("on");
        wanted.control_off = choice(control.as_bytes(), "control", ["on", "off"])?;
        wanted.conflate = json.conflate;
        let last = match json.last {
            None => None,
            Some(LastJson::Count(count)) => Some(parse_last(count.to_string().as_bytes())?),
            Some(LastJson::Word(word)) => Some(parse_last(word.as_bytes())?),
        };
        let id = json.last_event_id.filter(|id| !id.is_empty());
        wanted.begin =
            id.map_or_else(|| last.unwrap_or_default(), |id| Begin::After(id.into_bytes()));
        Ok(wanted)
    }

    /// Takes from the query of a ticket what may change from one request to the next: where to go
    /// on, and whether to poll.
    pub(crate) fn take_query(&mut self, query: &[u8]) -> Result<(), Problem> {
        let (mut is_poll, mut wait) = (false, None);
        for (name, value) in pairs(query) {
            match name.as_slice() {
                b"mode" => is_poll = choice(&value, "mode", ["stream", "poll"])?,
                b"wait" => wait = Some(parse_wait(&value)?),
                name if is_last_event_id(name) && !value.is_empty() => {
                    self.begin = Begin::After(value);
                }
                b"topic" | b"event" | b"last" | b"control" | b"conflate" => {
                    let name = String::from_utf8_lossy(&name);
                    let detail = "Leave it out: what is subscribed to stands in the ticket.";
                    return Err(Problem::new(Kind::InvalidParameter, detail).field(name));
                }
                _ => {}
            }
        }
        self.poll = is_poll.then(|| wait.unwrap_or(POLL_WAIT_DEFAULT));
        Ok(())
    }

    fn check_selectors(&self) -> Result<(), Problem> {
        if self.selectors.is_empty() {
            let detail =
                "Name what to subscribe to: ?topic=orders, ?topic=orders/{id} or ?topic=*.";
            return Err(Problem::new(Kind::MissingTopic, detail).field("topic"));
        }
        Ok(())
    }

    /// Whether a request asks for a poll, as far as that can be said before all of it is read.
    pub(crate) fn is_poll(head: &Parts) -> bool {
        let query = head.uri.query().unwrap_or_default();
        pairs(query.as_bytes()).any(|(name, value)| name == b"mode" && value == b"poll")
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let selectors = self.selectors.iter().map(|it| it.as_str().len());
        let types = self.event_types.iter().map(|it| it.as_str().len());
        let id = if let Begin::After(id) = &self.begin { id.len() } else { 0 };
        selectors.chain(types).sum::<usize>() + id
    }

    /// The topics and event types, as they were written.
    pub(crate) fn texts(&self) -> (Vec<String>, Vec<String>) {
        (
            self.selectors.iter().map(|it| it.as_str().to_owned()).collect(),
            self.event_types.iter().map(|it| it.as_str().to_owned()).collect(),
        )
    }

    /// The header wins over the query: it is what the browser saw last.
    pub(crate) fn resume_by_header(&mut self, headers: &HeaderMap) {
        let id = headers.get(&LAST_EVENT_ID).map(HeaderValue::as_bytes).unwrap_or_default();
        if !id.is_empty() {
            self.begin = Begin::After(id.to_vec());
        }
    }

    fn add_selector(&mut self, value: Vec<u8>, selectors_max: usize) -> Result<(), Problem> {
        if self.selectors.len() == selectors_max {
            let detail = format!("Give at most {selectors_max} topics; a template covers many.");
            return Err(Problem::new(Kind::InvalidParameter, detail).field("topic"));
        }
        let invalid = |reason: String| {
            Problem::new(Kind::InvalidSelector, format!("Correct the topic: {reason}."))
                .field("topic")
        };
        let value = text(value).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let selector = Selector::parse(&value).map_err(|error| invalid(error.to_string()))?;
        self.selectors.push(selector);
        Ok(())
    }

    fn add_event_type(&mut self, value: Vec<u8>, event_types_max: usize) -> Result<(), Problem> {
        if self.event_types.len() == event_types_max {
            return Err(invalid("event", &format!("at most {event_types_max} event types")));
        }
        let invalid = |reason: String| {
            let detail = format!("Correct the event type: {reason}.");
            Problem::new(Kind::InvalidEventType, detail).field("event")
        };
        let value = text(value).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        let event_type = EventType::parse(&value).map_err(|error| invalid(error.to_string()))?;
        self.event_types.push(event_type);
        Ok(())
    }
}

fn is_last_event_id(name: &[u8]) -> bool {
    [&b"lastEventId"[..], b"lastEventID", b"last_event_id"].contains(&name)
}

/// A number beyond what any log keeps asks for everything.
fn parse_last(value: &[u8]) -> Result<Begin, Problem> {
    if value == b"earliest" {
        return Ok(Begin::Earliest);
    }
    match digits(value) {
        Some(digits) => Ok(Begin::Last(digits.parse().unwrap_or(u32::MAX))),
        None => Err(invalid("last", "earliest, or a number of events")),
    }
}

fn parse_wait(value: &[u8]) -> Result<Duration, Problem> {
    let seconds_max = POLL_WAIT_MAX.as_secs();
    let expected = format!("a number of seconds from 0 to {seconds_max}");
    let seconds = digits(value).and_then(|digits| digits.parse().ok());
    let seconds = seconds.filter(|&seconds| seconds <= seconds_max);
    Ok(Duration::from_secs(seconds.ok_or_else(|| invalid("wait", &expected))?))
}

fn digits(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Whether the second of two words is given.
fn choice(value: &[u8], name: &str, words: [&str; 2]) -> Result<bool, Problem> {
    match words.iter().position(|word| word.as_bytes() == value) {
        Some(place) => Ok(place == 1),
        None => Err(invalid(name, &format!("{} or {}", words[0], words[1]))),
    }
}

fn invalid(name: &str, expected: &str) -> Problem {
    Problem::new(Kind::InvalidParameter, format!("Give {expected}.")).field(name)
}
