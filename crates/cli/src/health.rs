//! `tidings health`: asks a hub how it is, for those who watch over it without another tool at hand.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::failure::Failure;
use crate::hub_address::HubAddress;
use crate::options::{OptionRow, option_named};
use crate::value::{is_this_machine, parse_duration, show_duration};

/// The command and its arguments.
pub(crate) fn command() -> Command {
    Command::new("health")
        .about("Ask whether a hub is ready to serve; status 0 or 1")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("Ask only whether the process answers"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("TIME")
                .default_value("2s")
                .value_parser(value_parser!(String))
                .help("How long the answer may take"),
        )
        .args(option_named("url").map(OptionRow::arg))
}

/// Asks once.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let hub = HubAddress::load(matches)?;
    let patience = matches.get_one::<String>("timeout").map_or("2s", String::as_str);
    let patience = parse_duration(patience)
        .map_err(|wrong| Failure::Usage(format!("--timeout {patience}: {wrong}")))?;
    let is_live = matches.get_flag("live");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let said = runtime.block_on(ask(&hub, is_live, patience))?;
    writeln!(io::stdout(), "{said}").map_err(|error| Failure::from_output(&error))
}

async fn ask(hub: &HubAddress, is_live: bool, patience: Duration) -> Result<String, Failure> {
    let mut url = hub.events_url.clone();
    let base = url.path().trim_end_matches("events").to_owned();
    url.set_path(&format!("{base}health/{}", if is_live { "live" } else { "ready" }));
    let mut builder = Client::builder().timeout(patience);
    if is_this_machine(&url) {
        // The certificate is for the name that others know, and this is about the hub alone.
        builder = builder.no_proxy().danger_accept_invalid_certs(true);
    }
    let client = builder.build().map_err(|error| Failure::Failed(error.to_string()))?;
    let response = client.get(url).send().await.map_err(|error| {
        let told = hub.unreachable(&error);
        let late = format!("{told} within {}", show_duration(patience));
        Failure::Failed(if error.is_timeout() { late } else { told })
    })?;
    let status = response.status();
    let answer: Value = match response.text().await {
        Ok(text) if text.len() <= ANSWER_BYTES_MAX => {
            serde_json::from_str(&text).unwrap_or_default()
        }
        _ => Value::Null,
    };
    let word = |name: &str| answer[name].as_str();
    match (status, word("status")) {
        (StatusCode::OK, Some("ok")) => Ok(if is_live { "live" } else { "ready" }.to_owned()),
        (StatusCode::SERVICE_UNAVAILABLE, Some(_)) => {
            let reason = word("reason").unwrap_or("it does not say why");
            let detail = word("detail").map(|detail| format!(": {detail}")).unwrap_or_default();
            Err(Failure::Failed(format!("not ready: {reason}{detail}")))
        }
        _ => Err(Failure::Failed(format!(
            "the answer was {status}, and not from a tidings hub; is the URL right?"
        ))),
    }
}

/// More than a hub ever answers.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const EXAMPLES: &str = "\
Examples:
  tidings health
  tidings health --live --timeout 500ms
  TIDINGS_URL=https://hub.example.com tidings health

Prints `ready`, or why it is not. A hub on this machine may show any certificate.";
