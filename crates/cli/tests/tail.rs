//! How `tidings tail` behaves towards each answer a server can give, played by a scripted socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

/// What one connection is answered with, and whether it then stays open in silence.
struct Answer {
    text: String,
    held: bool,
}

/// An answer with a status line, headers and a body that ends with the connection.
fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}");
    Answer { text, held: false }
}

/// An event stream that asks for the shortest wait and then ends.
fn stream(headers: &str, body: &str) -> Answer {
    let headers = format!("content-type: text/event-stream\r\n{headers}");
    answer("200 OK", &headers, &format!("retry: 1\n:\n{body}"))
}

fn no_content() -> Answer {
    answer("204 No Content", "", "")
}

/// What a run of `tidings tail` came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: Option<i32>,
    out: String,
    err: String,
    /// The first line and the `Last-Event-ID` of each request.
    requests: Vec<(String, Option<String>)>,
}

/// Runs `tidings tail` with `args` against a server that gives `answers`, one for each connection.
fn run(args: &[&str], answers: Vec<Answer>) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let mut held = Vec::new();
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().expect("a connection");
            requests.push(read_head(&socket));
            socket.write_all(answer.text.as_bytes()).expect("somebody who reads");
            if answer.held {
                held.push(socket);
            }
        }
        requests
    });
    let output = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["tail", "--url", &url])
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("tidings runs");
    Run {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).replace(&url, "URL"),
        err: String::from_utf8_lossy(&output.stderr).replace(&url, "URL"),
        requests: server.join().expect("the server ends"),
    }
}

fn read_head(socket: &TcpStream) -> (String, Option<String>) {
    let lines: Vec<String> = BufReader::new(socket)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let id = lines.iter().find_map(|line| line.strip_prefix("last-event-id: "));
    (lines[0].clone(), id.map(str::to_owned))
}

#[track_caller]
fn check(
    args: &[&str],
    answers: Vec<Answer>,
    status: i32,
    out: &str,
    err: &str,
    requests: &[(&str, Option<&str>)],
) {
    let expected = Run {
        status: Some(status),
        out: out.to_owned(),
        err: err.to_owned(),
        requests: requests
            .iter()
            .map(|(query, id)| (format!("GET /events?{query} HTTP/1.1"), id.map(str::to_owned)))
            .collect(),
    };
    assert_eq!(run(args, answers), expected);
}

const ENDED: &str = "tidings: the hub ended the stream; trying again\n";
const AGAIN: &str = "tidings: connected again\n";

#[test]
fn a_stream_is_resumed_after_the_last_event_and_204_ends_it() {
    check(
        &["a/b", "*", "--event", "x", "--last", "5"],
        vec![
            stream("", "id: e-1\nevent: x\ndata: one\n\nid: e-2\ndata: cut off"),
            stream("", "id: e-2\nevent: x\ndata: two\ndata: lines\n\n"),
            no_content(),
        ],
        0,
        "e-1\tx\tone\ne-2\tx\ttwo\n\t\tlines\n",
        &format!("{ENDED}{AGAIN}{ENDED}"),
        &[
            ("topic=a%2Fb&topic=*&event=x&last=5", None),
            ("topic=a%2Fb&topic=*&event=x", Some("e-1")),
            ("topic=a%2Fb&topic=*&event=x", Some("e-2")),
        ],
    );
}

#[test]
fn a_stream_that_brought_nothing_is_resumed_where_it_began() {
    check(
        &["a", "--last", "5"],
        vec![stream("last-event-id: e-7\r\n", ""), no_content()],
        0,
        "",
        ENDED,
        &[("topic=a&last=5", None), ("topic=a", Some("e-7"))],
    );
}

#[test]
fn the_start_is_asked_for_again_while_no_position_is_known() {
    let answers = || vec![stream("", ""), no_content()];
    let query = "topic=a&last=earliest";
    check(&["a", "--from", "earliest"], answers(), 0, "", ENDED, &[(query, None), (query, None)]);
    let asked = ("topic=a", Some("e-1"));
    check(&["a", "--from", "e-1"], answers(), 0, "", ENDED, &[asked, asked]);
}

#[test]
fn the_newest_of_each_topic_is_asked_for_with_every_stream() {
    let left_out = "event: tidings.conflated\ndata: {\"skipped\":2}\n\nid: e-3\ndata: x\n\n";
    check(
        &["a", "--last", "5", "--conflate"],
        vec![stream("", left_out), no_content()],
        0,
        "e-3\tmessage\tx\n",
        &format!("tidings: left out 2 events that newer ones follow\n{ENDED}"),
        &[("topic=a&last=5&conflate=1", None), ("topic=a&conflate=1", Some("e-3"))],
    );
}

#[test]
fn passing_failures_are_told_once_and_tried_again() {
    check(
        &["a", "--json"],
        vec![
            stream("", "id: 1\ndata: x\n\n"),
            answer("503 Service Unavailable", "", ""),
            answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
            stream("", "event: tidings.shutdown\ndata: {}\n\n"),
            no_content(),
        ],
        0,
        "{\"id\":\"1\",\"event\":\"message\",\"data\":\"x\"}\n\
         {\"id\":null,\"event\":\"tidings.shutdown\",\"data\":\"{}\"}\n",
        &format!("{ENDED}{AGAIN}{ENDED}"),
        &[
            ("topic=a", None),
            ("topic=a", Some("1")),
            ("topic=a", Some("1")),
            ("topic=a", Some("1")),
            ("topic=a", Some("1")),
        ],
    );
}

#[test]
fn lasting_failures_end_it_with_the_problem() {
    let problem = r#"{"title":"The selector is invalid","detail":"close the brace"}"#;
    for (given, told) in [
        (
            answer("400 Bad Request", "content-type: application/problem+json\r\n", problem),
            "The selector is invalid: close the brace",
        ),
        (
            answer("404 Not Found", "content-type: text/html\r\n", "<h1>no</h1>"),
            "the answer was 404 Not Found, and not from a tidings hub; is the URL right?",
        ),
        (
            answer("301 Moved Permanently", "location: https://hub.example/events?topic=a\r\n", ""),
            "the hub is at another place: use --url https://hub.example",
        ),
        (
            answer("200 OK", "content-type: text/html\r\n", "<h1>hello</h1>"),
            "URL/events answers with `text/html`, not with an event stream; is the URL right?",
        ),
    ] {
        check(&["a"], vec![given], 1, "", &format!("tidings: {told}\n"), &[("topic=a", None)]);
    }
}

/// Answers as a hub that asks for tokens does.
fn refused(kind: &str, title: &str) -> Answer {
    let problem =
        format!(r#"{{"type":"urn:tidings:problem:{kind}","title":"{title}","detail":"Why."}}"#);
    answer("401 Unauthorized", "content-type: application/problem+json\r\n", &problem)
}

const EXPIRED: &str = "event: tidings.expired\ndata: {\"reason\":\"expired\"}\n\n";

#[test]
fn a_token_that_does_not_hold_ends_it_and_is_told_with_what_to_do() {
    let makes = "who has the hub's key makes one with `tidings token`\n";
    for (args, kind, advice) in [
        (&["a"][..], "missing-token", "give one with TIDINGS_TOKEN, --token-file or --token; "),
        (&["a", "--token", "t"], "invalid-token", ""),
        (&["a", "--token", "t"], "missing-right", ""),
    ] {
        check(
            args,
            vec![refused(kind, "No")],
            1,
            "",
            &format!("tidings: No: Why.\n  {advice}{makes}"),
            &[("topic=a", None)],
        );
    }
    check(
        &["a", "--token", "t"],
        vec![stream("", &format!("id: 1\ndata: x\n\n{EXPIRED}")), refused("invalid-token", "No")],
        1,
        "1\tmessage\tx\n",
        &format!("tidings: the token has expired\n{ENDED}tidings: No: Why.\n  {makes}"),
        &[("topic=a", None), ("topic=a", Some("1"))],
    );
}

#[test]
fn a_token_in_a_file_may_be_renewed_while_it_runs() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "t-1\n").expect("room");
    let path = file.path().to_str().expect("text");
    check(
        &["a", "--token-file", path],
        vec![
            stream("", &format!("id: 1\ndata: x\n\n{EXPIRED}")),
            refused("invalid-token", "No"),
            stream("", "id: 2\ndata: y\n\n"),
            no_content(),
        ],
        0,
        "1\tmessage\tx\n2\tmessage\ty\n",
        &format!("tidings: the token has expired\n{ENDED}{AGAIN}{ENDED}"),
        &[
            ("topic=a", None),
            ("topic=a", Some("1")),
            ("topic=a", Some("1")),
            ("topic=a", Some("2")),
        ],
    );
    let told = refused("invalid-token", "No");
    let err = "tidings: No: Why.\n  who has the hub's key makes one with `tidings token`\n";
    check(&["a", "--token-file", path], vec![told], 1, "", err, &[("topic=a", None)]);
}

#[test]
fn a_silent_connection_is_given_up() {
    let mut silent = stream("", "id: 1\ndata: x\n\n");
    silent.held = true;
    check(
        &["a", "--silence", "200ms"],
        vec![silent, no_content()],
        0,
        "1\tmessage\tx\n",
        "tidings: nothing came for 200ms; trying again\n",
        &[("topic=a", None), ("topic=a", Some("1"))],
    );
}

#[test]
fn a_count_ends_it_in_the_middle_of_a_stream() {
    let mut held = stream(
        "",
        "event: tidings.gap\ndata: {\"requested\":\"q\",\"reason\":\"invalid\"}\n\n\
         id: 1\ndata: x\n\nid: 2\ndata: y\n\nid: 3\ndata: z\n\n",
    );
    held.held = true;
    check(
        &["a", "--count", "2"],
        vec![held],
        0,
        "1\tmessage\tx\n2\tmessage\ty\n",
        "tidings: events may be missing: q is no id of this hub; going on with the oldest kept\n",
        &[("topic=a", None)],
    );
}
