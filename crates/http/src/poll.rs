//! A poll that is answered as JSON: the same batch and ids as a stream.

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings::{Delivered, Subscription, Topic};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    events: Vec<Item>,
    last_event_id: Option<String>,
}

/// An event, or, without `id` and `topics`, something about the stream.
#[derive(Serialize)]
struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
    #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
    is_final: bool,
}

/// Waits for the batch, which the subscription bounds in size and time.
pub(crate) async fn answer(mut subscription: Subscription) -> Response {
    let mut events = Vec::new();
    while let Some(delivered) = subscription.next().await {
        events.push(item(delivered));
    }
    let last_event_id = subscription.settled().map(|position| position.to_string());
    let batch = Batch { events, last_event_id };
    let json = serde_json::to_string(&batch).expect("a batch is plain JSON");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, json).into_response()
}

fn item(delivered: Delivered) -> Item {
    match delivered {
        Delivered::Event(event) => Item {
            id: Some(event.id.to_string()),
            event: event.event_type,
            data: event.data,
            topics: Some(event.topics.iter().map(Topic::to_string).collect()),
            is_final: event.is_final,
        },
        Delivered::Control { event_type, data } => {
            Item { id: None, event: Some(event_type), data, topics: None, is_final: false }
        }
    }
}
