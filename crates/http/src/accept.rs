//! Which answer an `Accept` header allows (RFC 9110, section 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The forms in which a subscription is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    EventStream,
    /// One batch as one JSON document; only for polls.
    Json,
}

/// Chooses a form; `None` if the hub has none that is allowed.
///
/// A poll is answered as JSON only where JSON is named, for `*/*` means an event stream.
pub(crate) fn choose(headers: &HeaderMap, is_poll: bool) -> Option<Form> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return Some(Form::EventStream);
    }
    let quality = |names: &[&str]| {
        let named = |name: &&&str| ranges.iter().any(|(range, _)| range == **name);
        let name = names.iter().find(named)?;
        ranges.iter().filter(|(range, _)| range == name).map(|&(_, quality)| quality).max()
    };
    let stream = quality(&["text/event-stream", "text/*", "*/*"]).unwrap_or(0);
    let named_stream = quality(&["text/event-stream"]).unwrap_or(0);
    let json = quality(&["application/json"]).unwrap_or(0);
    if is_poll && json > 0 && json >= named_stream {
        Some(Form::Json)
    } else {
        (stream > 0).then_some(Form::EventStream)
    }
}

/// The media ranges with their quality in thousandths.
fn ranges(headers: &HeaderMap) -> Vec<(String, u16)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty());
    ranges
        .map(|range| {
            let mut parts = range.split(';');
            let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let quality = parts.find_map(|part| {
                let (key, value) = part.split_once('=')?;
                key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
            });
            (name, (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, is_poll: bool, expected: Option<Form>) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(choose(&headers, is_poll), expected, "{accept} poll={is_poll}");
    }

    #[test]
    fn a_stream_is_answered_to_whoever_takes_one() {
        for accept in ["", "*/*", "text/*", "text/event-stream", "TEXT/Event-Stream;q=0.1"] {
            check(accept, false, Some(Form::EventStream));
            check(accept, true, Some(Form::EventStream));
        }
        check("application/json, text/plain, */*", false, Some(Form::EventStream));
        check("application/json", false, None);
        check("text/html", false, None);
        check("text/event-stream;q=0, */*", false, None);
    }

    #[test]
    fn a_poll_is_answered_as_json_where_json_is_named() {
        check("application/json", true, Some(Form::Json));
        check("application/json, text/plain, */*", true, Some(Form::Json));
        check("text/event-stream, application/json;q=0.5", true, Some(Form::EventStream));
        check("text/html", true, None);
    }
}
