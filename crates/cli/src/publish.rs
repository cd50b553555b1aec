//! `tidings publish`: one event from the command line, or one for each line of standard input.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::runtime;

use crate::failure::Failure;
use crate::hub_address::{HubAddress, Refusal};
use crate::options::{OptionRow, hub_options};
use crate::publish::answer::{IdPrinter, print_ids};
use crate::publish::event::EventKind;
use crate::publish::input::Input;
use crate::publish::key::{parse_key, parse_key_prefix};
use crate::publish::progress::Progress;
use crate::publish::upload::Upload;
use crate::value::parse_duration;

mod answer;
mod event;
mod feed;
mod input;
mod key;
mod lines;
mod progress;
mod upload;

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
            Arg::new("private")
                .long("private")
                .action(ArgAction::SetTrue)
                .help("Only for subscribers with a right to the topic"),
        )
        .arg(
            Arg::new("key")
                .long("key")
                .value_name("KEY")
                .value_parser(parse_key)
                .help("Publish this once: with a key that was used before, print the id of then"),
        )
        .arg(
            Arg::new("key-prefix")
                .long("key-prefix")
                .value_name("PREFIX")
                .value_parser(parse_key_prefix)
                .conflicts_with_all(["key", "data"])
                .help("Give line N the key PREFIX:N, so that no line is published twice"),
        )
        .arg(
            Arg::new("retry-for")
                .long("retry-for")
                .value_name("TIME")
                .default_value("3m")
                .value_parser(parse_duration)
                .help("After a cut, try for this long to go on; with --key-prefix, and a file as input"),
        )
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
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let kind = EventKind {
        topic: text("topic").unwrap_or_default(),
        event: text("event"),
        is_private: matches.get_flag("private"),
        key_prefix: text("key-prefix"),
    };
    let json = matches.get_flag("json");
    let key = text("key");
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    match text("data") {
        Some(data) => runtime.block_on(publish_one(&hub, &kind, &data, key.as_deref(), json)),
        None if key.is_some() => Err(Failure::Usage(
            "--key is for one event, and no DATA is given\n  for lines of standard input there is \
             --key-prefix"
                .into(),
        )),
        None => {
            let retry_for = matches.get_one("retry-for").copied().unwrap_or(Duration::ZERO);
            runtime.block_on(publish_lines(hub, kind, json, retry_for))
        }
    }
}

async fn publish_one(
    hub: &HubAddress,
    kind: &EventKind,
    data: &str,
    key: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let mut body = Vec::new();
    kind.write(data, key, &mut body);
    let request = hub.request(&hub.client()?, Method::POST, hub.events_url.clone())?;
    let request = request.header(CONTENT_TYPE, "application/json").body(body);
    let response =
        request.send().await.map_err(|error| Failure::Failed(hub.unreachable(&error)))?;
    if !response.status().is_success() {
        return Err(Failure::Failed(Refusal::read(response).await.text));
    }
    let ids = IdPrinter::new(Arc::new(Progress::none()), json);
    let answer = print_ids(response, ids.clone()).await;
    answer.map_err(|broken| {
        Failure::Failed(match key {
            Some(_) => format!("{broken}; the same command with the same --key finds out"),
            None => format!("{broken}; the event may be published"),
        })
    })?;
    ids.finish()
}

async fn publish_lines(
    hub: HubAddress,
    kind: EventKind,
    json: bool,
    retry_for: Duration,
) -> Result<(), Failure> {
    let input = Input::open()
        .map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
    let progress = if io::stdin().is_terminal() {
        eprintln!("tidings: each line you type is published; Ctrl-D ends");
        Progress::none()
    } else {
        Progress::new(input.size())
    };
    let upload = Upload::new(hub, kind, json, Arc::new(progress), retry_for)?;
    upload.run(input).await
}

const EXAMPLES: &str = "\
Examples:
  tidings publish orders/42 shipped
  tidings publish orders/42 '{\"status\":\"shipped\"}' --event order-update
  tidings publish orders/42 shipped --key order-42-shipped
  seq 1000 | tidings publish numbers
  tail -F app.log | tidings publish logs/app --url https://hub.example.com
  tidings publish readings --key-prefix import-7 < readings.ndjson

Each line is published when it is read. The ids are printed when the hub has answered: when the
input pauses for a second, and every 200,000 lines.

A hub remembers keys for a while, see its options key_window and keys_max. In that time the same
command with the same input and --key-prefix can be run again: what was published is not
published twice, and its ids are printed again.";
