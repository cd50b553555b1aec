//! `tidings tail`: prints events as they come, and comes back by itself when the stream breaks.
//!
//! It asks for what follows the last event it saw, so nothing is printed twice and nothing is left
//! out that the hub still keeps. What the hub no longer keeps is told.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tidings_sse::{Decoder, DecoderLimits, Item};
use tokio::time::{sleep, timeout};

use crate::backoff::{clamp_retry, jitter, next_delay};
use crate::failure::Failure;
use crate::hub_address::{HubAddress, Refusal, header, reason};
use crate::options::{OptionRow, hub_options};
use crate::selectors::{is_misleading, told_misleading};
use crate::tail::print::{is_control, told, write_event};
use crate::value::{parse_duration, show_duration};

mod output;
mod print;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    Command::new("tail")
        .about("Print events as they come, one a line, and reconnect when the stream breaks")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .required(true)
                .num_args(1..)
                .help("Topics, or selectors such as `*` and `orders/{id}`"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("ID|earliest")
                .value_parser(parse_start)
                .help("Begin after the event with this id, or with the earliest that is kept"),
        )
        .arg(
            Arg::new("last")
                .long("last")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .conflicts_with("from")
                .help("Begin with the last N events"),
        )
        .arg(
            Arg::new("event")
                .long("event")
                .value_name("TYPE")
                .action(ArgAction::Append)
                .help("Only events of this type; may be repeated"),
        )
        .arg(
            Arg::new("conflate")
                .long("conflate")
                .action(ArgAction::SetTrue)
                .help("While behind, print only the newest event of each topic"),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after N events"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print each event as a JSON object on a line, the hub's own events too"),
        )
        .arg(
            Arg::new("silence")
                .long("silence")
                .value_name("TIME")
                .default_value("45s")
                .value_parser(parse_duration)
                .help("Reconnect after this much silence; at least three of the hub's heartbeats"),
        )
        .args(hub_options().map(OptionRow::arg))
}

/// Prints events until there is a reason to end.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut follower = Follower::load(matches)?;
    for topic in follower.topics.iter().filter(|topic| is_misleading(topic)) {
        eprintln!("tidings: {}", told_misleading(topic));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    runtime.block_on(async {
        tokio::select! {
            done = follower.follow() => done,
            () = output::closed() => Err(Failure::OutputClosed),
        }
    })
}

/// Where the first stream begins.
#[derive(Clone, Debug)]
enum Start {
    /// With what is published from now on.
    Now,
    /// With the last events; the hub's parameter `last`.
    Last(String),
    /// After this event.
    After(HeaderValue),
}

/// A subscription that outlives its connections.
struct Follower {
    hub: HubAddress,
    client: Client,
    topics: Vec<String>,
    events: Vec<String>,
    start: Start,
    conflate: bool,
    json: bool,
    printable: bool,
    silence: Duration,
    /// How many events are still to be printed, when that is limited.
    left: Option<u64>,
    decoder: Decoder,
    retry: Duration,
    /// How many attempts have failed since the last stream.
    failures: u32,
    /// There was a stream, so that the token held once.
    has_streamed: bool,
    /// The current stream has brought a sign of life.
    alive: bool,
    /// The user knows that there is no stream.
    outage_told: bool,
}

/// How a stream ended.
enum Ended {
    /// There is nothing more to print.
    Done,
    /// It may go on in a new stream after a pause.
    Again(Duration),
}

impl Follower {
    fn load(matches: &ArgMatches) -> Result<Self, Failure> {
        let hub = HubAddress::load(matches)?;
        let texts = |name: &str| -> Vec<String> {
            matches.get_many(name).map(|values| values.cloned().collect()).unwrap_or_default()
        };
        let last = matches.get_one::<u64>("last").map(|count| Start::Last(count.to_string()));
        let start = last.or_else(|| matches.get_one::<Start>("from").cloned());
        Ok(Self {
            client: hub.client()?,
            hub,
            topics: texts("topic"),
            events: texts("event"),
            start: start.unwrap_or(Start::Now),
            conflate: matches.get_flag("conflate"),
            json: matches.get_flag("json"),
            printable: io::stdout().is_terminal(),
            silence: matches.get_one("silence").copied().unwrap_or(Duration::from_secs(45)),
            left: matches.get_one("count").copied(),
            decoder: Decoder::new(LIMITS).with_comments(),
            retry: Duration::from_secs(2),
            failures: 0,
            has_streamed: false,
            alive: false,
            outage_told: false,
        })
    }

    async fn follow(&mut self) -> Result<(), Failure> {
        loop {
            match self.read_stream().await? {
                Ended::Done => return Ok(()),
                Ended::Again(pause) => sleep(pause).await,
            }
        }
    }

    /// Opens a stream and prints what it brings, to its end.
    ///
    /// # Errors
    ///
    /// What no new attempt can mend.
    async fn read_stream(&mut self) -> Result<Ended, Failure> {
        let response = match timeout(self.silence, self.request()?.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.handle_failed(&self.hub.unreachable(&error), None),
            Err(_) => {
                let reason = format!("no answer from {}", self.hub.shown());
                return self.handle_failed(&reason, None);
            }
        };
        match response.status() {
            StatusCode::OK => self.read_events(response).await,
            StatusCode::NO_CONTENT => Ok(Ended::Done),
            status => {
                let refusal = Refusal::read(response).await;
                // Whoever renews the token in its file may be a moment late.
                let may_be_renewed = status == StatusCode::UNAUTHORIZED
                    && self.has_streamed
                    && self.hub.is_token_renewable();
                if refusal.is_passing || may_be_renewed {
                    return self.handle_failed(&refusal.text, refusal.retry_after);
                }
                Err(Failure::Failed(refusal.text))
            }
        }
    }

    fn request(&self) -> Result<RequestBuilder, Failure> {
        let mut url = self.hub.events_url.clone();
        let position = self.decoder.last_event_id();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.topics.iter().map(|topic| ("topic", topic)));
            query.extend_pairs(self.events.iter().map(|event| ("event", event)));
            if let (Start::Last(last), true) = (&self.start, position.is_empty()) {
                query.append_pair("last", last);
            }
            if self.conflate {
                query.append_pair("conflate", "1");
            }
        }
        let request = self.hub.request(&self.client, Method::GET, url)?;
        let request = request.header(ACCEPT, EVENT_STREAM).header(CACHE_CONTROL, "no-cache");
        Ok(match &self.start {
            _ if !position.is_empty() => request.header(LAST_EVENT_ID, position),
            Start::After(id) => request.header(LAST_EVENT_ID, id),
            _ => request,
        })
    }

    async fn read_events(&mut self, mut response: Response) -> Result<Ended, Failure> {
        let kind = header(&response, CONTENT_TYPE.as_str()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some(EVENT_STREAM) {
            return Err(Failure::Failed(format!(
                "{} answers with `{kind}`, not with an event stream; is the URL right?",
                self.hub.shown()
            )));
        }
        self.failures = 0;
        self.has_streamed = true;
        self.alive = false;
        if let Some(position) = header(&response, LAST_EVENT_ID) {
            self.decoder = Decoder::new(LIMITS).with_comments().with_last_event_id(position);
        }
        let reason = loop {
            match timeout(self.silence, response.chunk()).await {
                Ok(Ok(Some(mut chunk))) => {
                    if self.handle_bytes(&mut chunk)? {
                        return Ok(Ended::Done);
                    }
                }
                Ok(Ok(None)) if self.alive => break "the hub ended the stream".to_owned(),
                Ok(Ok(None)) => break "the hub has no room for another stream now".to_owned(),
                Ok(Err(error)) => break format!("the stream broke: {}", reason(&error)),
                Err(_) => break format!("nothing came for {}", show_duration(self.silence)),
            }
        };
        self.decoder.finish();
        self.tell_outage(&reason);
        Ok(Ended::Again(self.retry))
    }

    /// Prints the events in `bytes`, and says whether that was the last of them.
    fn handle_bytes(&mut self, bytes: &mut bytes::Bytes) -> Result<bool, Failure> {
        let mut out = Vec::new();
        let mut done = false;
        while !done {
            let decoded = self.decoder.decode(bytes);
            match decoded.map_err(|error| Failure::Failed(error.to_string()))? {
                None => break,
                Some(Item::Retry(ms)) => self.retry = clamp_retry(Duration::from_millis(ms)),
                Some(Item::Comment(_)) => self.handle_life(),
                Some(Item::Event(event)) => {
                    self.handle_life();
                    if is_control(&event) && !self.json {
                        eprintln!("tidings: {}", told(&event));
                        continue;
                    }
                    write_event(&event, self.json, self.printable, &mut out);
                    done = !is_control(&event) && self.count_down();
                }
            }
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&out)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::from_output(&error))?;
        Ok(done)
    }

    /// Counts an event that was printed, and says whether it was the last one wanted.
    fn count_down(&mut self) -> bool {
        let Some(left) = &mut self.left else { return false };
        *left -= 1;
        *left == 0
    }

    fn handle_failed(&mut self, reason: &str, pause: Option<Duration>) -> Result<Ended, Failure> {
        self.tell_outage(reason);
        self.failures = self.failures.saturating_add(1);
        let delay = next_delay(self.failures, self.retry, jitter()?);
        Ok(Ended::Again(delay.max(pause.map_or(Duration::ZERO, clamp_retry))))
    }

    fn tell_outage(&mut self, reason: &str) {
        if !self.outage_told {
            self.outage_told = true;
            eprintln!("tidings: {reason}; trying again");
        }
    }

    fn handle_life(&mut self) {
        self.alive = true;
        if self.outage_told {
            self.outage_told = false;
            eprintln!("tidings: connected again");
        }
    }
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "" => Err("this is empty; give an id, or `earliest`".into()),
        "earliest" => Ok(Start::Last(text.into())),
        id => HeaderValue::from_str(id)
            .map(Start::After)
            .map_err(|_| "this holds characters that no id has".into()),
    }
}

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";

/// The largest event taken: no hub gives a larger one whatever its options say.
const LIMITS: DecoderLimits =
    DecoderLimits { line_bytes_max: 64 * 1024 * 1024, event_bytes_max: 64 * 1024 * 1024 };

const EXAMPLES: &str = "\
Examples:
  tidings tail orders/42
  tidings tail 'orders/{id}' news --event order-update
  tidings tail '*' --last 10 --json | jq -r .data
  tidings tail jobs/7 --from earliest --count 1
  tidings tail orders/42 --from \"$LAST_ID\"

A line is the id, the event type and the data, with a tab between them. Further lines of the
data follow, each after two tabs. What the hub says of itself goes to standard error.";
