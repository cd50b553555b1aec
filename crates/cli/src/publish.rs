//! `tidings publish`: one event from the command line, or one for each line of standard input.
//!
//! Lines are sent as they come, in one request, and at most a few of them are held at a time. The
//! ids are printed in the order of the lines.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, mem, thread};

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use futures_core::Stream;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Response};
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task;

use crate::failure::Failure;
use crate::hub_address::{HubAddress, problem_of, reason};
use crate::options::{OptionRow, hub_options};

/// The command and its arguments.
pub(crate) fn command() -> Command {
    Command::new("publish")
        .about("Publish an event, or one for each line of standard input, and print the ids")
        .after_help(EXAMPLES)
        .arg(Arg::new("topic").value_name("TOPIC").required(true).help("The topic"))
        .arg(
            Arg::new("data").value_name("DATA").allow_hyphen_values(true).help(
                "The data, sent as it is; without it, each line of standard input is one event",
            ),
        )
        .arg(Arg::new("event").long("event").value_name("TYPE").help("The event type"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print each id as a JSON object on a line"),
        )
        .args(hub_options().map(OptionRow::arg))
}

/// Publishes.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let hub = HubAddress::load(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let kind = EventKind {
        topic: text("topic").unwrap_or_default().to_owned(),
        event: text("event").map(str::to_owned),
    };
    let ids = IdPrinter { json: matches.get_flag("json") };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    match text("data") {
        Some(data) => runtime.block_on(publish_one(&hub, &kind, data, ids)),
        None => runtime.block_on(publish_lines(&hub, kind, ids)),
    }
}

/// What the events of one call share.
struct EventKind {
    topic: String,
    event: Option<String>,
}

/// An event as the hub takes it.
#[derive(Serialize)]
struct EventBody<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    data: &'a str,
}

impl EventKind {
    /// Writes one event as one line of JSON.
    fn write(&self, data: &str, out: &mut Vec<u8>) {
        let body = EventBody { topic: &self.topic, event: self.event.as_deref(), data };
        if serde_json::to_writer(&mut *out, &body).is_ok() {
            out.push(b'\n');
        }
    }
}

async fn publish_one(
    hub: &HubAddress,
    kind: &EventKind,
    data: &str,
    ids: IdPrinter,
) -> Result<(), Failure> {
    let mut body = Vec::new();
    kind.write(data, &mut body);
    let response = post(hub, "application/json", Body::from(body)).await?;
    print_ids(response, ids).await
}

async fn publish_lines(hub: &HubAddress, kind: EventKind, ids: IdPrinter) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        eprintln!("tidings: each line you type is published; Ctrl-D ends");
    }
    let (chunks, mut body) = mpsc::channel(CHUNKS_MAX);
    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let read = read_lines(BufReader::new(io::stdin()), &kind, |chunk| {
            chunks.blocking_send(chunk).is_ok()
        });
        drop(chunks);
        end.send(read)
    });
    // Without a first line there is nothing to connect for.
    if let Some(first) = body.recv().await {
        let chunks = Chunks { first: Some(first), rest: body };
        let response = post(hub, "application/x-ndjson", Body::wrap_stream(chunks)).await?;
        print_ids(response, ids).await?;
    }
    ended.await.unwrap_or(Ok(()))
}

async fn post(hub: &HubAddress, kind: &str, body: Body) -> Result<Response, Failure> {
    let request = hub.client()?.post(hub.events_url.clone()).header(CONTENT_TYPE, kind).body(body);
    let response =
        request.send().await.map_err(|error| Failure::Failed(hub.unreachable(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Failure::Failed(problem_of(response).await))
}

/// Reads lines and gives them to `send` as NDJSON, several at once when they are there already. Ends
/// early when `send` says that nobody takes them any more.
///
/// # Errors
///
/// When the input cannot be read, or a line is no text or too long. What stands before is sent.
fn read_lines(
    mut input: BufReader<impl Read>,
    kind: &EventKind,
    mut send: impl FnMut(Bytes) -> bool,
) -> Result<(), Failure> {
    let mut chunk = Vec::new();
    let mut line = Vec::new();
    let mut outcome = Ok(());
    for number in 1_u64.. {
        line.clear();
        match read_line(&mut input, &mut line) {
            Ok(Some(text)) => kind.write(text, &mut chunk),
            Ok(None) => break,
            Err(wrong) => {
                outcome = Err(Failure::Failed(format!(
                    "line {number} of standard input: {wrong}; the lines before it are published"
                )));
                break;
            }
        }
        let more_is_here = input.buffer().contains(&b'\n');
        if (chunk.len() >= CHUNK_BYTES || !more_is_here) && !send(mem::take(&mut chunk).into()) {
            return outcome;
        }
    }
    if !chunk.is_empty() {
        send(chunk.into());
    }
    outcome
}

/// Reads one line into `line` and gives it without its end, or `None` at the end of the input.
fn read_line<'a>(
    input: &mut impl BufRead,
    line: &'a mut Vec<u8>,
) -> Result<Option<&'a str>, String> {
    let taken = input
        .take(LINE_BYTES_MAX + 1)
        .read_until(b'\n', line)
        .map_err(|error| format!("cannot read: {error}"))?;
    if taken == 0 {
        return Ok(None);
    }
    if taken as u64 > LINE_BYTES_MAX {
        return Err(format!("this is longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    str::from_utf8(text).map(Some).map_err(|_| "this is not text (UTF-8)".into())
}

/// The body of the request: the first lines, then the others as they come.
struct Chunks {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
}

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.rest.poll_recv(cx).map(|chunk| chunk.map(Ok))
    }
}

/// How ids are printed.
#[derive(Clone, Copy)]
struct IdPrinter {
    json: bool,
}

impl IdPrinter {
    fn print(self, id: &str, out: &mut impl Write) -> io::Result<()> {
        if self.json { writeln!(out, "{}", json!({"id": id})) } else { writeln!(out, "{id}") }
    }
}

/// Prints the ids of an answer as they come, so that an answer of any length takes little memory.
async fn print_ids(mut response: Response, ids: IdPrinter) -> Result<(), Failure> {
    let (chunks, rest) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    let printing = task::spawn_blocking(move || {
        let input = BufReader::new(ChunkReader { now: Bytes::new(), rest });
        print_answer(input, ids, BufWriter::new(io::stdout()))
    });
    let mut broken = None;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                broken = Some(reason(&error));
                break;
            }
        }
    }
    drop(chunks);
    let printed = printing.await.map_err(|error| Failure::Failed(error.to_string()))?;
    match broken {
        Some(reason) => Err(Failure::Failed(format!(
            "the events may be published, but the answer did not come: {reason}"
        ))),
        None => printed,
    }
}

/// Prints the ids in `{"id":..}` or `{"ids":[..]}`.
fn print_answer(input: impl Read, ids: IdPrinter, mut out: impl Write) -> Result<(), Failure> {
    let mut failed = None;
    let mut count = 0;
    let answer = Answer {
        print: &mut |id: &str| {
            count += 1;
            ids.print(id, &mut out).map_err(|error| failed = Some(error)).is_ok()
        },
    };
    let read = answer.deserialize(&mut serde_json::Deserializer::from_reader(input));
    let flushed = out.flush();
    if let Some(error) = failed.or(flushed.err()) {
        return Err(Failure::from_output(&error));
    }
    if read.is_err() || count == 0 {
        return Err(Failure::Failed("the answer is not that of a tidings hub".into()));
    }
    Ok(())
}

/// Reads what arrives from another thread.
struct ChunkReader {
    now: Bytes,
    rest: mpsc::Receiver<Bytes>,
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.rest.blocking_recv() {
                Some(chunk) => self.now = chunk,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.now.len());
        out[..count].copy_from_slice(&self.now.split_to(count));
        Ok(count)
    }
}

/// Goes through an answer and prints each id where it stands; `print` says whether to go on.
struct Answer<'a> {
    print: &'a mut dyn FnMut(&str) -> bool,
}

impl<'de> DeserializeSeed<'de> for Answer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Answer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the ids of the events")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "id" | "ids" => map.next_value_seed(Ids { print: self.print })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// One id, or an array of them.
struct Ids<'a> {
    print: &'a mut dyn FnMut(&str) -> bool,
}

impl<'de> DeserializeSeed<'de> for Ids<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ids<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id or an array of ids")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<(), E> {
        if (self.print)(id) { Ok(()) } else { Err(E::custom("nobody reads the ids")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<(), A::Error> {
        while ids.next_element_seed(Ids { print: self.print })?.is_some() {}
        Ok(())
    }
}

/// How much is sent at once, in bytes, when more lines are there than that.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many chunks wait between standard input and the connection.
const CHUNKS_MAX: usize = 4;

/// The longest line: a hub takes no larger event whatever its options say.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  tidings publish orders/42 shipped
  tidings publish orders/42 '{\"status\":\"shipped\"}' --event order-update
  seq 1000 | tidings publish numbers
  tail -F app.log | tidings publish logs/app --url https://hub.example.com

Each line is published when it is read; the ids are printed when standard input has ended.";

#[cfg(test)]
mod tests;
