//! Events as the hub takes them.

use serde::Serialize;

/// What the events of one call share.
#[derive(Clone, Debug)]
pub(super) struct EventKind {
    pub(super) topic: String,
    pub(super) event: Option<String>,
    /// Only for those who have the right; else as the hub has it.
    pub(super) is_private: bool,
    /// What stands before the number of a line in its key.
    pub(super) key_prefix: Option<String>,
}

#[derive(Serialize)]
struct EventBody<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
    data: &'a str,
}

impl EventKind {
    /// Writes one event as one line of JSON.
    pub(super) fn write(&self, data: &str, key: Option<&str>, out: &mut Vec<u8>) {
        let event = self.event.as_deref();
        let body = EventBody { topic: &self.topic, event, key, private: self.is_private, data };
        if serde_json::to_writer(&mut *out, &body).is_ok() {
            out.push(b'\n');
        }
    }
}
