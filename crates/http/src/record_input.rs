//! Events as publishers write them: checked here once, so that what leaves is a [`Record`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidings::{EventType, Key, RESERVED_KEYS, Record, Topic};

use crate::options::RETRY_MS_MAX;
use crate::problem::{Kind, Problem, event_too_large};
use crate::query::{pairs, text};

/// The bounds of one event, and of one array of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordLimits {
    pub(crate) array_events_max: usize,
    pub(crate) topics_max: usize,
    pub(crate) event_bytes_max: usize,
    /// Whether an event is private that does not say so.
    pub(crate) default_private: bool,
}

/// What a JSON body holds.
#[derive(Debug)]
pub(crate) enum Events {
    One(Record),
    Several(Vec<Record>),
}

/// Reads a JSON body: one event, or an array of at least one.
pub(crate) fn from_json(body: &[u8], limits: RecordLimits) -> Result<Events, Problem> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(Events::One(event_from_json(body, limits)?));
    }
    let events: Vec<&RawValue> =
        at_most(limits.array_events_max, body).map_err(|error| not_json(&error))?;
    if events.is_empty() {
        return Err(Problem::new(Kind::InvalidJson, "Send an array of at least one event."));
    }
    if events.len() > limits.array_events_max {
        let detail = format!(
            "An array has at most {} events: send several, or application/x-ndjson, which is \
             streamed.",
            limits.array_events_max
        );
        return Err(Problem::new(Kind::BodyTooLarge, detail));
    }
    let read = |(place, event): (usize, &&RawValue)| {
        event_from_json(event.get().as_bytes(), limits)
            .map_err(|problem| problem.at(&format!("Event {} of the array", place + 1)))
    };
    Ok(Events::Several(events.iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

/// Reads one event that is a JSON object.
pub(crate) fn event_from_json(json: &[u8], limits: RecordLimits) -> Result<Record, Problem> {
    let Fields(fields) = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
    let mut draft = Draft::default();
    for (name, value) in fields {
        match &*name {
            "topic" => draft.set_topics(&topics_from_json(value, limits)?, limits)?,
            "event" => draft.set_event_type(&string(value, "event", "a string")?)?,
            "data" => draft.set_data(data_from_json(value)?, limits)?,
            "retry" => draft.set_retry(value.get())?,
            "private" => {
                let private = serde_json::from_str(value.get());
                draft.set_private(private.map_err(|_| invalid("private", "true or false"))?)?;
            }
            "key" => draft.set_key(&string(value, "key", "a string")?)?,
            "final" => {
                let is_final = serde_json::from_str(value.get());
                draft.set_final(is_final.map_err(|_| invalid("final", "true or false"))?)?;
            }
            _ => return Err(unknown_field(&name)),
        }
    }
    draft.finish(limits)
}

/// Reads one event that is an HTML form.
pub(crate) fn event_from_form(body: &[u8], limits: RecordLimits) -> Result<Record, Problem> {
    let mut draft = Draft::default();
    let mut topics = Vec::new();
    for (name, value) in pairs(body) {
        let name = String::from_utf8_lossy(&name).into_owned();
        let value = text(value).map_err(|_| invalid(&name, "UTF-8"))?;
        match name.as_str() {
            "topic" => topics.push(value),
            "event" => draft.set_event_type(&value)?,
            "data" => draft.set_data(value, limits)?,
            "retry" => draft.set_retry(&value)?,
            "private" => draft.set_private(switch(&value, "private")?)?,
            "key" => draft.set_key(&value)?,
            "final" => draft.set_final(switch(&value, "final")?)?,
            _ => return Err(unknown_field(&name)),
        }
    }
    if !topics.is_empty() {
        draft.set_topics(&Texts::Several(topics), limits)?;
    }
    draft.finish(limits)
}

/// An event of which some fields have been read.
#[derive(Default)]
struct Draft {
    topics: Option<Arc<[Topic]>>,
    event_type: Option<EventType>,
    data: Option<String>,
    retry_ms: Option<u64>,
    private: Option<bool>,
    key: Option<Key>,
    is_final: Option<bool>,
}

impl Draft {
    fn set_topics(&mut self, texts: &Texts<'_>, limits: RecordLimits) -> Result<(), Problem> {
        let parse = |text: &str| {
            Topic::parse_published(text)
                .map_err(|error| Problem::new(Kind::InvalidTopic, sentence(&error)).field("topic"))
        };
        let topics = match texts {
            Texts::One(text) => [parse(text)?].into(),
            Texts::Several(texts) if texts.is_empty() => return Err(missing_topic()),
            Texts::Several(texts) if texts.len() > limits.topics_max => {
                let most = format!("at most {} topics", limits.topics_max);
                return Err(invalid("topic", &most));
            }
            Texts::Several(texts) => {
                let mut topics: Vec<Topic> = Vec::with_capacity(texts.len());
                for text in texts {
                    let topic = parse(text)?;
                    if !topics.contains(&topic) {
                        topics.push(topic);
                    }
                }
                topics.into()
            }
        };
        once(&mut self.topics, topics, "topic")
    }

    fn set_event_type(&mut self, text: &str) -> Result<(), Problem> {
        let event_type = EventType::parse_published(text).map_err(|error| {
            Problem::new(Kind::InvalidEventType, sentence(&error)).field("event")
        })?;
        once(&mut self.event_type, event_type, "event")
    }

    fn set_data(&mut self, data: String, limits: RecordLimits) -> Result<(), Problem> {
        if data.len() > limits.event_bytes_max {
            return Err(event_too_large(data.len(), limits.event_bytes_max));
        }
        once(&mut self.data, data, "data")
    }

    fn set_retry(&mut self, text: &str) -> Result<(), Problem> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let retry_ms = digits.then(|| text.parse().ok()).flatten();
        let Some(retry_ms) = retry_ms.filter(|&retry_ms| retry_ms <= RETRY_MS_MAX) else {
            let range = format!("a whole number of milliseconds from 0 to {RETRY_MS_MAX}");
            return Err(invalid("retry", &range));
        };
        once(&mut self.retry_ms, retry_ms, "retry")
    }

    fn set_private(&mut self, private: bool) -> Result<(), Problem> {
        once(&mut self.private, private, "private")
    }

    fn set_key(&mut self, text: &str) -> Result<(), Problem> {
        let key = Key::parse(text)
            .map_err(|error| Problem::new(Kind::InvalidKey, sentence(&error)).field("key"))?;
        check_key(&key).map_err(|problem| problem.field("key"))?;
        once(&mut self.key, key, "key")
    }

    fn set_final(&mut self, is_final: bool) -> Result<(), Problem> {
        once(&mut self.is_final, is_final, "final")
    }

    fn finish(self, limits: RecordLimits) -> Result<Record, Problem> {
        Ok(Record {
            topics: self.topics.ok_or_else(missing_topic)?,
            event_type: self.event_type,
            private: self.private.unwrap_or(limits.default_private),
            data: self.data.unwrap_or_default().into(),
            retry_ms: self.retry_ms,
            key: self.key,
            is_final: self.is_final.unwrap_or(false),
        })
    }
}

fn once<T>(place: &mut Option<T>, value: T, field: &str) -> Result<(), Problem> {
    if place.replace(value).is_some() {
        let detail = format!("Give {field} once.");
        return Err(Problem::new(Kind::InvalidField, detail).field(field));
    }
    Ok(())
}

/// Refuses the keys by which the hub itself publishes.
pub(crate) fn check_key(key: &Key) -> Result<(), Problem> {
    if key.as_str().starts_with(RESERVED_KEYS) {
        let detail = format!("Choose a key that does not begin with {RESERVED_KEYS}");
        return Err(Problem::new(Kind::InvalidKey, detail));
    }
    Ok(())
}

/// What a form says with a checkbox.
fn switch(value: &str, field: &str) -> Result<bool, Problem> {
    match value {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(invalid(field, "true or false")),
    }
}

/// What stands for one topic or several.
enum Texts<'a> {
    One(Cow<'a, str>),
    Several(Vec<String>),
}

fn topics_from_json(value: &RawValue, limits: RecordLimits) -> Result<Texts<'_>, Problem> {
    const EXPECTED: &str = "a string or an array of strings";
    if value.get().starts_with('[') {
        let topics = at_most(limits.topics_max, value.get().as_bytes());
        topics.map(Texts::Several).map_err(|_| invalid("topic", EXPECTED))
    } else {
        Ok(Texts::One(string(value, "topic", EXPECTED)?))
    }
}

/// A string as it is, `null` as the empty string, any other value as compact JSON.
fn data_from_json(value: &RawValue) -> Result<String, Problem> {
    match value.get().as_bytes()[0] {
        b'"' => Ok(string(value, "data", "JSON whose strings are whole Unicode")?.into_owned()),
        b'n' => Ok(String::new()),
        _ => Ok(compact(value.get())),
    }
}

fn string<'a>(value: &'a RawValue, field: &str, expected: &str) -> Result<Cow<'a, str>, Problem> {
    let quoted = value.get();
    let plain = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|plain| memchr::memchr(b'\\', plain.as_bytes()).is_none()) {
        // What a string of valid JSON holds is what it means, unless it is escaped.
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => match serde_json::from_str(quoted) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(invalid(field, expected)),
        },
    }
}

/// Leaves out the white space between the tokens of valid JSON and changes nothing else: numbers,
/// escapes, the order of members and repeated ones stay as they were.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    // By turns what stands between strings, and strings with both their quotation marks.
    while let Some(begin) = memchr::memchr(b'"', rest.as_bytes()) {
        out.extend(rest[..begin].split_ascii_whitespace());
        let string = &rest[begin..];
        let mut end = 1;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &string.as_bytes()[end..]) {
            end += found + 1;
            match string.as_bytes()[end - 1] {
                b'"' => break,
                _ => end += 1,
            }
        }
        out.push_str(&string[..end]);
        rest = &string[end..];
    }
    out.extend(rest.split_ascii_whitespace());
    out
}

fn missing_topic() -> Problem {
    let detail = "Name the topic, or an array of topics, that the event is published under.";
    Problem::new(Kind::MissingTopic, detail).field("topic")
}

fn unknown_field(name: &str) -> Problem {
    let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    let detail = "The fields are topic, event, data, retry, private, key and final: correct it or \
                  leave it out.";
    Problem::new(Kind::UnknownField, detail).field(shown)
}

fn invalid(field: &str, expected: &str) -> Problem {
    let shown: String = field.chars().take(SHOWN_CHARS_MAX).collect();
    Problem::new(Kind::InvalidField, format!("Give {expected}.")).field(shown)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::InvalidJson, format!("Send an event as a JSON object: {error}."))
}

/// An error of the core as a sentence.
pub(crate) fn sentence(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

/// Reads a JSON array, and keeps one more than `max` of its items at most: enough to tell that there
/// are too many.
fn at_most<'de, T: Deserialize<'de>>(max: usize, json: &'de [u8]) -> serde_json::Result<Vec<T>> {
    struct Items<T>(usize, PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while items.len() <= self.0
                && let Some(item) = seq.next_element()?
            {
                items.push(item);
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(items)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let items = deserializer.deserialize_seq(Items(max, PhantomData))?;
    deserializer.end()?;
    Ok(items)
}

/// The members of a JSON object, in order, repeated ones included; of many, as many as cannot all
/// be right.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the fields of an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(FIELDS_MAX);
                while fields.len() <= FIELDS_MAX
                    && let Some((Name(name), value)) = map.next_entry()?
                {
                    fields.push((name, value));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The name of a member, borrowed unless it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// How many fields an event may have: one more is unknown or given twice.
const FIELDS_MAX: usize = 7;
/// How much of a hostile name is repeated.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests;
