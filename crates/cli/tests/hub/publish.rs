//! How `tidings publish` sends lines, and how it behaves towards each answer a server can give,
//! played by a scripted socket.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::process::{terminal, tidings};

/// How one request is dealt with.
#[derive(Clone, Copy)]
enum Play {
    /// Read to the end and answered with the ids of all lines.
    Answered,
    /// Cut when this many lines have come.
    Cut(u64),
    /// Read to the end, and the answer cut after this many ids.
    AnswerCut(u64),
    /// Refused when this many lines have come, with these headers and this body.
    Refused(u64, &'static str, &'static str),
}

/// What came of the lines of a request.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    first: String,
    count: u64,
}

/// Standard input.
enum Input<'a> {
    /// A regular file, read from this byte on.
    File(&'a str, u64),
    Pipe(&'a str),
}

/// What a run of `tidings publish` came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: Option<i32>,
    out: String,
    err: String,
    requests: Vec<Sent>,
}

/// Runs `tidings publish t` with `args` against a server that plays `plays`, one for each request.
fn run(args: &[&str], input: &Input<'_>, plays: Vec<Play>) -> Run {
    let (listener, url) = listen();
    let server = thread::spawn(move || -> Vec<Sent> {
        plays.into_iter().map(|play| serve(&listener, play)).collect()
    });
    let mut child = publish(&url)
        .args(args)
        .stdin(match input {
            Input::File(text, begin) => file(text, *begin).into(),
            Input::Pipe(_) => Stdio::piped(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    if let (Input::Pipe(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // What ends early does not read to the end.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().expect("an end");
    Run {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).replace(&url, "URL"),
        requests: server.join().expect("the server ends"),
    }
}

/// A server, and its URL.
fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

fn publish(url: &str) -> Command {
    tidings(&["publish", "t", "--url", url])
}

fn file(text: &str, begin: u64) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    file.seek(SeekFrom::Start(begin)).expect("a place");
    file
}

/// Takes one request.
fn serve(listener: &TcpListener, play: Play) -> Sent {
    serve_when(listener, play, || {})
}

/// Takes one request, and answers it after `before_answer`.
fn serve_when(listener: &TcpListener, play: Play, before_answer: impl FnOnce()) -> Sent {
    let (socket, _) = listener.accept().expect("a connection");
    let mut input = BufReader::new(&socket);
    let head: Vec<String> =
        input.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    assert!(head.iter().any(|line| line == "content-type: application/x-ndjson"), "{head:?}");
    let wanted = match play {
        Play::Answered | Play::AnswerCut(_) => u64::MAX,
        Play::Cut(lines) | Play::Refused(lines, ..) => lines,
    };
    let mut sent = Sent { first: String::new(), count: 0 };
    let mut body = BufReader::new(ChunkedBody { input, left: 0, ended: false });
    let mut ids = Vec::new();
    while sent.count < wanted {
        let mut line = String::new();
        if body.read_line(&mut line).expect("text") == 0 {
            break;
        }
        ids.push(id(&line));
        sent.count += 1;
        if sent.count == 1 {
            sent.first = line.trim_end().to_owned();
        }
    }
    before_answer();
    answer(&socket, play, &ids).expect("somebody who reads");
    sent
}

/// The id of the event on a line: that of its key, if it has one.
fn id(line: &str) -> String {
    let key = line.split(r#""key":""#).nth(1).and_then(|rest| rest.split('"').next());
    format!("e-{}", key.unwrap_or("x"))
}

fn answer(mut socket: &TcpStream, play: Play, ids: &[String]) -> io::Result<()> {
    let (head, body) = match play {
        Play::Cut(_) => return Ok(()),
        Play::Answered => ("200 OK\r\n", format!("{{\"ids\":{ids:?}}}")),
        Play::AnswerCut(count) => {
            let mut part = format!("{:?}", &ids[..count as usize]);
            part.pop();
            ("200 OK\r\ncontent-length: 100000\r\n", format!("{{\"ids\":{part},"))
        }
        Play::Refused(_, head, body) => (head, body.to_owned()),
    };
    write!(socket, "HTTP/1.1 {head}connection: close\r\n\r\n{body}")?;
    if let Play::Refused(..) = play {
        // What was not read would make the system cut the answer short.
        socket.shutdown(std::net::Shutdown::Write)?;
        io::copy(&mut socket, &mut io::sink())?;
    }
    Ok(())
}

/// A body with `Transfer-Encoding: chunked`.
struct ChunkedBody<R> {
    input: R,
    left: usize,
    ended: bool,
}

impl<R: BufRead> Read for ChunkedBody<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            let mut size = String::new();
            self.input.read_line(&mut size)?;
            self.left = usize::from_str_radix(size.trim(), 16).expect("a size");
            self.ended = self.left == 0;
        }
        let most = out.len().min(self.left);
        let count = self.input.read(&mut out[..most])?;
        self.left -= count;
        if self.left == 0 {
            self.input.read_line(&mut String::new())?;
        }
        Ok(count)
    }
}

/// Compares a run without what is told of single attempts, which depends on chance.
#[track_caller]
fn check(
    args: &[&str],
    input: &Input<'_>,
    plays: Vec<Play>,
    expected: (i32, &str, &str),
    requests: &[(&str, u64)],
) {
    let mut run = run(args, input, plays);
    run.err = run
        .err
        .split_inclusive('\n')
        .map(|line| match line.split_once("; going on ") {
            Some((_, place)) => format!("{}\n", place.split(" in ").next().unwrap_or_default()),
            None => line.to_owned(),
        })
        .collect();
    let (status, out, err) = expected;
    let requests = requests
        .iter()
        .map(|(members, count)| Sent {
            first: format!("{{\"topic\":\"t\",{members}}}"),
            count: *count,
        })
        .collect();
    let expected = Run { status: Some(status), out: out.into(), err: err.into(), requests };
    assert_eq!(run, expected);
}

const FIRST: &str = r#""key":"p:1","data":"a""#;
const AGAIN: &str = "tidings: the hub answers again\n";
const GO_ON: &str = "to go on, run the same command again with the same --key-prefix: what was \
                     published is not published twice";

#[test]
fn the_key_of_a_line_is_the_prefix_and_its_number() {
    let ids = "e-p:1\ne-p:2\ne-p:3\n";
    for input in
        [Input::Pipe("a\n\nc"), Input::File("a\n\nc", 0), Input::File("skipped\na\n\nc", 8)]
    {
        check(&["--key-prefix", "p"], &input, vec![Play::Answered], (0, ids, ""), &[(FIRST, 3)]);
    }
}

#[test]
fn a_file_with_a_key_prefix_goes_on_by_itself_after_a_cut() {
    let unavailable = Play::Refused(1, "503 Service Unavailable\r\nretry-after: 0\r\n", "");
    check(
        &["--key-prefix", "p"],
        &Input::File("skipped\na\nb\nc\n", 8),
        vec![Play::Cut(2), unavailable, Play::AnswerCut(2), Play::Answered],
        (
            0,
            "e-p:1\ne-p:2\ne-p:3\n",
            &format!("from the start\nfrom the start\nfrom the start\n{AGAIN}"),
        ),
        &[(FIRST, 2), (FIRST, 1), (FIRST, 3), (FIRST, 3)],
    );
}

#[test]
fn what_was_answered_is_not_sent_again() {
    let lines: String = (1..=450_000).fold(String::new(), |mut lines, number| {
        let _ = writeln!(lines, "{number}");
        lines
    });
    let run = run(
        &["--key-prefix", "p"],
        &Input::File(&lines, 0),
        vec![Play::Answered, Play::Cut(100_000), Play::Answered, Play::Answered, Play::Answered],
    );
    assert_eq!(run.status, Some(0), "{}", run.err);
    assert!(run.err.contains("; going on after line "), "{}", run.err);
    assert!(run.err.ends_with(AGAIN), "{}", run.err);
    let ids: String = (1..=450_000).fold(String::new(), |mut ids, number| {
        let _ = writeln!(ids, "e-p:{number}");
        ids
    });
    assert!(run.out == ids, "the ids are not those of the lines");
    let mut next = 1;
    for (number, request) in run.requests.iter().enumerate() {
        let first = format!(r#"{{"topic":"t","key":"p:{next}","data":"{next}"}}"#);
        assert_eq!(request.first, first);
        next += if number == 1 { 0 } else { request.count };
    }
    assert_eq!(next, 450_001);
}

#[test]
fn a_cut_that_cannot_be_mended_here_is_told_with_what_is_known() {
    let perhaps = "published: perhaps some of lines 1 to 3";
    let cut = "cannot reach the hub at URL/events: ";
    for (args, input, advice) in [
        (&["--key-prefix", "p"][..], Input::Pipe("a\nb\nc\n"), GO_ON),
        (&["--key-prefix", "p", "--retry-for", "0"], Input::File("a\nb\nc\n", 0), GO_ON),
        (
            &[],
            Input::File("a\nb\nc\n", 0),
            "with --key-prefix, the same command could be run again, and nothing would be published \
             twice",
        ),
    ] {
        let run = run(args, &input, vec![Play::Cut(2)]);
        assert_eq!((run.status, &*run.out), (Some(1), ""), "{}", run.err);
        assert!(run.err.starts_with(&format!("tidings: {cut}")), "{}", run.err);
        assert!(run.err.ends_with(&format!("\n  {perhaps}\n  {advice}\n")), "{}", run.err);
    }
}

#[test]
fn a_refusal_ends_it_and_tells_what_stands_before() {
    let problem = r#"{"type":"urn:tidings:problem:event-too-large","title":"An event is too large",
        "detail":"Line 3: Split it.","line":3,"published":2}"#;
    let refused = || {
        let head = "413 Payload Too Large\r\ncontent-type: application/problem+json\r\n";
        vec![Play::Refused(3, head, problem)]
    };
    let told = "tidings: An event is too large: Line 3: Split it.\n  published: lines 1 to 2, and no \
                other\n";
    let input = Input::File("a\nb\nc\nd\n", 0);
    let expected = format!("{told}  {GO_ON}\n");
    check(&["--key-prefix", "p"], &input, refused(), (1, "", &expected), &[(FIRST, 3)]);
    let expected = format!("{told}  to go on, publish what follows from line 3 on\n");
    check(&[], &input, refused(), (1, "", &expected), &[(r#""data":"a""#, 3)]);
}

#[test]
fn a_pause_of_the_input_ends_a_request_and_the_next_line_begins_another() {
    let (listener, url) = listen();
    let mut child = publish(&url)
        .args(["--key-prefix", "p"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for (number, data) in ["a", "b", "c"].iter().enumerate() {
        writeln!(stdin, "{data}").expect("somebody who reads");
        let sent = serve(&listener, Play::Answered);
        let number = number + 1;
        let first = format!(r#"{{"topic":"t","key":"p:{number}","data":"{data}"}}"#);
        assert_eq!(sent, Sent { first, count: 1 });
        let printed = out.next().and_then(Result::ok);
        assert_eq!(printed, Some(format!("e-p:{number}")));
    }
    drop(stdin);
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn everything_is_published_though_nobody_reads_the_ids() {
    let lines = "x\n".repeat(450_000);
    let (listener, url) = listen();
    let mut child = publish(&url)
        .stdin(file(&lines, 0))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    drop(child.stdout.take());
    let mut count = 0;
    while count < 450_000 {
        count += serve(&listener, Play::Answered).count;
    }
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    assert_eq!(count, 450_000);
}

/// Publishes with a terminal as standard error, and waits before the answer until all `parts` were
/// told there.
#[track_caller]
fn check_progress(input: Stdio, write: impl FnOnce(&mut Child), parts: &[&str]) {
    let (listener, url) = listen();
    let (terminal, user) = terminal();
    let mut child = publish(&url)
        .env("TERM", "xterm")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(terminal)
        .spawn()
        .expect("tidings starts");
    write(&mut child);
    let mut told = BufReader::new(user);
    serve_when(&listener, Play::Answered, || {
        let mut seen = String::new();
        while !parts.iter().all(|part| seen.contains(part)) {
            let some = told.fill_buf().expect("a terminal");
            let count = some.len();
            seen.push_str(&String::from_utf8_lossy(some));
            told.consume(count);
        }
    });
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"e-x\ne-x\ne-x\n"[..]));
    // Once nobody holds the other end, reading a terminal is an error.
    let rest: String = told.lines().map_while(Result::ok).collect();
    assert!(rest.contains("tidings: 3 events published in "), "{rest:?}");
}

#[test]
fn progress_is_told_on_a_terminal() {
    check_progress(
        file("a\nb\nc\n", 0).into(),
        |_| {},
        &["100% ", " 3 events, ", "/s, 6 B of 6 B, 0s left"],
    );
    check_progress(
        Stdio::piped(),
        |child| {
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(b"a\nb\nc\n").expect("somebody who reads");
        },
        &[" 3 events, ", "/s, "],
    );
}

/// The most memory that a process has had resident.
#[cfg(target_os = "linux")]
fn peak_bytes(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

#[cfg(target_os = "linux")]
#[test]
fn an_input_of_any_length_takes_little_memory() {
    const LINES: u64 = 120_000;
    let (listener, url) = listen();
    let mut child = publish(&url)
        .args(["--key-prefix", "p"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("tidings starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writing = thread::spawn(move || {
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..LINES {
            stdin.write_all(line.as_bytes()).expect("somebody who reads");
        }
        stdin
    });
    let mut count = 0;
    while count < LINES {
        count += serve(&listener, Play::Answered).count;
    }
    let peak = peak_bytes(&child);
    drop(writing.join().expect("all is written"));
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert!(peak < 40 << 20, "{peak} bytes for {LINES} lines of 1000 bytes");
}
