//! A decoder so naive that it is obviously right: it has the whole input and goes line by line,
//! in the words of section 9.2.6 of the WHATWG HTML standard.

use std::sync::Arc;

use tidings_sse::{DecodeError, Decoder, Event, Item};

/// Everything an event source keeps between connections.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) last_event_id: String,
}

impl Oracle {
    /// Decodes the whole body of one connection, comments included.
    pub(crate) fn decode(&mut self, body: &[u8]) -> Vec<Item> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let text = String::from_utf8_lossy(body).replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();

        let mut items = Vec::new();
        let (mut data, mut event_type) = (String::new(), String::new());
        let mut last_id = self.last_event_id.clone();
        for line in lines {
            if line.is_empty() {
                self.last_event_id.clone_from(&last_id);
                if !data.is_empty() {
                    assert_eq!(data.pop(), Some('\n'));
                    let event = if event_type.is_empty() { "message" } else { &event_type };
                    items.push(event_item(&self.last_event_id, event, &data));
                }
                data.clear();
                event_type.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            if field.is_empty() {
                items.push(Item::Comment(value.to_owned()));
                continue;
            }
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event_type),
                "data" => data.extend([value, "\n"]),
                "id" if !value.contains('\0') => value.clone_into(&mut last_id),
                "retry" if !value.is_empty() && value.chars().all(|c| c.is_ascii_digit()) => {
                    items.push(Item::Retry(value.parse().unwrap_or(u64::MAX)));
                }
                _ => {}
            }
        }
        items
    }
}

/// Feeds `decoder` the chunks one after another, and gives all items and the error that ended it.
pub(crate) fn decode_chunks<'a>(
    decoder: &mut Decoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Item>, Option<DecodeError>) {
    let mut items = Vec::new();
    for mut chunk in chunks {
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
        assert!(chunk.is_empty(), "a chunk is taken as a whole");
    }
    (items, None)
}

pub(crate) fn event_item(id: &str, event: &str, data: &str) -> Item {
    Item::Event(Event { id: Arc::from(id), event: Arc::from(event), data: data.to_owned() })
}

pub(crate) fn without_comments(mut items: Vec<Item>) -> Vec<Item> {
    items.retain(|item| !matches!(item, Item::Comment(_)));
    items
}
