//! Events as lines.

use serde::Serialize;
use serde_json::Value;
use tidings_sse::Event;

/// Says whether the hub speaks of the stream. Such events carry no id of their own; those that tell
/// who joined and left are events like others.
pub(super) fn is_control(event: &Event) -> bool {
    event.event.starts_with(CONTROL_PREFIX) && !PRESENCE.contains(&&*event.event)
}

/// Writes one event: as JSON, or as id, type and data with tabs between. Further lines of the data
/// stand after two tabs, where no event begins because a type is never empty. With `printable`,
/// control characters are replaced by their symbols, so that data cannot steer a terminal.
pub(super) fn write_event(event: &Event, json: bool, printable: bool, out: &mut Vec<u8>) {
    if json {
        let id = (!is_control(event)).then_some(&*event.id);
        let line = JsonLine { id, event: &event.event, data: &event.data };
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
        return;
    }
    let mut lead = format!("{}\t{}\t", event.id, event.event);
    for line in event.data.split('\n') {
        let text = lead + line + "\n";
        if printable {
            out.extend_from_slice(text.chars().map(symbol).collect::<String>().as_bytes());
        } else {
            out.extend_from_slice(text.as_bytes());
        }
        lead = "\t\t".to_owned();
    }
}

/// What a control event means, in words.
pub(super) fn told(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |name: &str| data[name].as_str();
    let from = text("oldest").map_or_else(String::new, |oldest| format!(", {oldest}"));
    match event.event.strip_prefix(CONTROL_PREFIX) {
        Some("gap") => {
            let requested = text("requested").unwrap_or("the last event");
            let why = match text("reason") {
                Some("unknown-epoch") => format!("{requested} is of an earlier life of the log"),
                Some("invalid") => format!("{requested} is no id of this hub"),
                _ => format!("what followed {requested} is no longer all kept"),
            };
            format!("events may be missing: {why}; going on with the oldest kept{from}")
        }
        Some("lagged") => {
            format!(
                "events are missing: this reader is too slow; going on with the oldest kept{from}"
            )
        }
        Some("conflated") => {
            let skipped = data["skipped"].as_u64().unwrap_or_default();
            let events = if skipped == 1 { "event" } else { "events" };
            format!("left out {skipped} {events} that newer ones follow")
        }
        Some("expired") => match text("reason") {
            Some("revoked") => "the token was revoked".into(),
            Some("closed") => "the operator of the hub closed the stream".into(),
            _ => "the token has expired".into(),
        },
        Some("shutdown") => "the hub is shutting down".into(),
        _ => format!("{}: {}", event.event, event.data),
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    id: Option<&'a str>,
    event: &'a str,
    data: &'a str,
}

/// The symbol of a control character (Unicode block "Control Pictures"); tab and line feed stay.
fn symbol(letter: char) -> char {
    match letter {
        '\t' | '\n' => letter,
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        _ => letter,
    }
}

const CONTROL_PREFIX: &str = "tidings.";
const PRESENCE: [&str; 2] = ["tidings.joined", "tidings.left"];

#[cfg(test)]
mod tests {
    use tidings_sse::Event;

    use super::{told, write_event};

    fn event(id: &str, event: &str, data: &str) -> Event {
        Event { id: id.into(), event: event.into(), data: data.into() }
    }

    #[track_caller]
    fn check_line(given: &Event, json: bool, printable: bool, expected: &str) {
        let mut out = Vec::new();
        write_event(given, json, printable, &mut out);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }

    #[test]
    fn a_line_holds_id_type_and_data_and_further_lines_are_marked() {
        check_line(&event("a-1", "message", "hi"), false, false, "a-1\tmessage\thi\n");
        check_line(&event("a-1", "x", ""), false, false, "a-1\tx\t\n");
        check_line(&event("", "x", "one\n\ttwo\n"), false, false, "\tx\tone\n\t\t\ttwo\n\t\t\n");
        check_line(&event("a-1", "x", "\u{1b}[2J"), false, false, "a-1\tx\t\u{1b}[2J\n");
        check_line(&event("a-1", "x", "\u{1b}[2J\u{9b}é"), false, true, "a-1\tx\t␛[2J\u{fffd}é\n");
    }

    #[test]
    fn json_lines_hold_everything_and_control_events_have_no_id() {
        check_line(
            &event("a-1", "x", "one\ntwo"),
            true,
            true,
            "{\"id\":\"a-1\",\"event\":\"x\",\"data\":\"one\\ntwo\"}\n",
        );
        check_line(
            &event("a-1", "tidings.joined", "{}"),
            true,
            false,
            "{\"id\":\"a-1\",\"event\":\"tidings.joined\",\"data\":\"{}\"}\n",
        );
        check_line(
            &event("a-1", "tidings.shutdown", "{}"),
            true,
            false,
            "{\"id\":null,\"event\":\"tidings.shutdown\",\"data\":\"{}\"}\n",
        );
    }

    #[track_caller]
    fn check_told(kind: &str, data: &str, expected: &str) {
        assert_eq!(told(&event("", kind, data)), expected);
    }

    #[test]
    fn control_events_are_told_in_words() {
        check_told(
            "tidings.gap",
            r#"{"requested":"a-3","oldest":"a-20","reason":"trimmed"}"#,
            "events may be missing: what followed a-3 is no longer all kept; going on with the \
             oldest kept, a-20",
        );
        check_told(
            "tidings.gap",
            r#"{"requested":"b-3","oldest":null,"reason":"unknown-epoch"}"#,
            "events may be missing: b-3 is of an earlier life of the log; going on with the oldest \
             kept",
        );
        check_told(
            "tidings.lagged",
            r#"{"oldest":"a-20"}"#,
            "events are missing: this reader is too slow; going on with the oldest kept, a-20",
        );
        let left_out = |skipped| format!("{{\"skipped\":{skipped}}}");
        check_told("tidings.conflated", &left_out(1), "left out 1 event that newer ones follow");
        check_told("tidings.conflated", &left_out(7), "left out 7 events that newer ones follow");
        for (reason, told) in [
            ("expired", "the token has expired"),
            ("revoked", "the token was revoked"),
            ("closed", "the operator of the hub closed the stream"),
        ] {
            check_told("tidings.expired", &format!("{{\"reason\":\"{reason}\"}}"), told);
        }
        check_told("tidings.shutdown", "{}", "the hub is shutting down");
        check_told("tidings.new", "x", "tidings.new: x");
    }
}
