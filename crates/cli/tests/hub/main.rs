//! `serve`, `publish` and `tail` together, as a user runs them.

#![cfg(unix)]

use std::io::BufReader;
use std::net::TcpListener;

use crate::process::{Hub, Process, closed_pipe};

mod disk;
mod keys;
mod process;
mod publish;
mod tokens;

#[test]
fn what_is_published_is_printed_with_the_ids_that_publish_gave() {
    let hub = Hub::start(&[]);
    let first = hub.result(&["publish", "orders/1", "packed"], "");
    let second = hub.result(&["publish", "orders/2", "two\nlines", "--event", "note"], "");
    let third = hub.result(&["publish", "orders/3", "-5", "--json"], "");
    let [first, second] = [first.trim_end(), second.trim_end()];
    let third = third.trim_start_matches("{\"id\":\"").trim_end_matches("\"}\n");
    assert_eq!(
        hub.result(&["tail", "orders/{id}", "--from", "earliest", "--count", "3"], ""),
        format!("{first}\tmessage\tpacked\n{second}\tnote\ttwo\n\t\tlines\n{third}\tmessage\t-5\n")
    );
    assert_eq!(
        hub.result(&["tail", "*", "--from", first, "--count", "1", "--json"], ""),
        format!("{{\"id\":\"{second}\",\"event\":\"note\",\"data\":\"two\\nlines\"}}\n")
    );
    assert_eq!(
        hub.result(&["tail", "*", "--last", "2", "--event", "message", "--count", "1"], ""),
        format!("{first}\tmessage\tpacked\n")
    );
}

#[test]
fn each_line_of_standard_input_is_published() {
    let hub = Hub::start(&[]);
    let lines: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
    let ids = hub.result(&["publish", "lines"], &lines);
    assert_eq!(ids.lines().count(), 5_000);
    let expected: String = ids
        .lines()
        .zip(lines.lines())
        .map(|(id, line)| format!("{id}\tmessage\t{line}\n"))
        .collect();
    let printed = hub.result(&["tail", "lines", "--from", "earliest", "--count", "5000"], "");
    assert!(printed == expected, "the events differ from the lines");
}

#[test]
fn a_problem_is_told_as_the_hub_tells_it() {
    let hub = Hub::start(&["--max-event-bytes", "1KiB"]);
    let large = "x".repeat(2_000);
    for (args, input, part) in [
        (&["publish", "a", "x", "--event", "tidings.gap"][..], "", "tidings."),
        (&["publish", "*", "x"], "", "topic"),
        (&["publish", "a", &large], "", "1024"),
        (&["publish", "a"], &*format!("fine\n{large}\n"), "2"),
        (&["tail", ""], "", "at least one character"),
    ] {
        let told = hub.failure(args, input);
        assert!(told.starts_with("tidings: ") && told.contains(": "), "{told}");
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_name_that_looks_like_a_pattern_and_is_none_is_pointed_out() {
    let hub = Hub::start(&[]);
    let mut tail = hub.tail(&["orders/*", "orders/{id", "orders/{id}", "*"]);
    assert!(tail.told("orders/*").contains("selects the one topic of that name"));
    tail.told("`orders/{id` selects");
    hub.result(&["publish", "orders/1", "one"], "");
}

#[test]
fn a_full_hub_is_told_as_such() {
    let hub = Hub::start(&["--max-connections", "1", "--retry", "100ms"]);
    hub.result(&["publish", "a", "one"], "");
    let mut first = hub.tail(&["a", "--from", "earliest"]);
    first.line();
    let mut second = hub.tail(&["a", "--from", "earliest"]);
    second.told("has no room for another stream");
    drop(first);
    assert!(second.line().ends_with("\tmessage\tone"));
    second.told("connected again");
}

#[test]
fn a_signal_ends_a_hub_in_good_order_and_tail_outlives_it() {
    let hub = Hub::start(&["--drain", "0s", "--retry", "100ms"]);
    let address = hub.url.trim_start_matches("http://").to_owned();
    hub.result(&["publish", "a", "one"], "");
    let mut tail = hub.tail(&["a", "--from", "earliest", "--json"]);
    assert!(tail.line().ends_with(r#""event":"message","data":"one"}"#));
    hub.process.signal("TERM");
    assert!(tail.line().starts_with(r#"{"id":null,"event":"tidings.shutdown""#));
    let (status, out, _) = hub.process.end();
    assert_eq!((status, &*out), (Some(0), ""));
    tail.told("the hub ended the stream; trying again");
    let hub = Hub::start_at(&address, &["--retry", "100ms"]);
    let gap = tail.line();
    assert!(gap.contains("tidings.gap") && gap.contains("unknown-epoch"), "{gap}");
    hub.result(&["publish", "a", "two"], "");
    assert!(tail.line().ends_with(r#""event":"message","data":"two"}"#));
}

#[test]
fn a_second_signal_ends_a_hub_at_once() {
    let hub = Hub::start(&["--drain", "1h"]);
    hub.result(&["publish", "a", "one"], "");
    // The first of several streams is ended at once, the second half an hour later.
    let mut tails = [(); 2].map(|()| hub.tail(&["a", "--from", "earliest", "--json"]));
    tails.iter_mut().for_each(|tail| drop(tail.line()));
    let mut process = hub.process;
    process.signal("INT");
    process.told("draining");
    process.signal("INT");
    let (status, _, err) = process.end();
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("second signal"), "{err}");
}

#[test]
fn an_address_in_use_is_a_failure_that_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (status, out, err) =
        Process::start(&["serve", "--listen", &address, "--log", "memory"]).end();
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("in use") && err.contains("--listen"), "{err}");
}

#[test]
fn a_reader_that_goes_away_ends_tail_quietly() {
    let hub = Hub::start(&[]);
    hub.result(&["publish", "a", "one"], "");
    let mut tail = hub.tail(&["a", "--from", "earliest"]);
    tail.line();
    let Process { out, .. } = &mut tail;
    drop(std::mem::replace(out, BufReader::new(closed_pipe())));
    let status = tail.child.wait().expect("an end");
    assert_eq!(status.code(), Some(0));
}
