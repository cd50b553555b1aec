//! The hub that `publish` and `tail` speak to: where it is, the token, and what its answers mean.

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::failure::Failure;
use crate::options::{OptionRow, hub_options};
use crate::settings::load::{flag, variable};
use crate::value::is_this_machine;

/// Where a hub is, and what to show there.
pub(crate) struct HubAddress {
    /// The URL of its events.
    pub(crate) events_url: Url,
    token: Token,
}

/// What is shown to a hub.
enum Token {
    None,
    /// Always this.
    Fixed(HeaderValue),
    /// What stands in this file at the time.
    File(PathBuf),
}

impl HubAddress {
    /// Reads the options `url`, `token` and `token-file`.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when one of them cannot be what it is meant to be.
    pub(crate) fn load(matches: &ArgMatches) -> Result<Self, Failure> {
        let mut events_url = None;
        let mut tokens = Vec::new();
        for row in hub_options() {
            let Some((given, place)) = given(matches, row) else { continue };
            let told = |wrong: String| place.bad(&wrong);
            match row.name {
                "url" => events_url = Some(parse_url(&given).map_err(told)?),
                "token" => tokens.push((Token::Fixed(parse_token(&given).map_err(told)?), place)),
                _ => tokens.push((Token::File(given.into()), place)),
            }
        }
        let events_url = events_url.ok_or_else(|| Failure::Usage("no --url is given".into()))?;
        let hub = Self { events_url, token: chosen(tokens)? };
        // What cannot be read at all is told before anything is asked.
        hub.authorization()?;
        Ok(hub)
    }

    /// A `GET` or `POST` for the hub's events, with the token.
    ///
    /// # Errors
    ///
    /// [`Failure::Failed`] when the file with the token cannot be read any more.
    pub(crate) fn request(
        &self,
        client: &Client,
        method: Method,
        url: Url,
    ) -> Result<RequestBuilder, Failure> {
        let request = client.request(method, url);
        Ok(match self.authorization()? {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        })
    }

    /// Says whether the token may be another one the next time.
    pub(crate) fn is_token_renewable(&self) -> bool {
        matches!(self.token, Token::File(_))
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        match &self.token {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone())),
            Token::File(path) => {
                let told = |wrong: String| {
                    Failure::Usage(format!("the token in {}: {wrong}", path.display()))
                };
                let text = fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
                if text.trim().is_empty() {
                    return Err(told("the file is empty".into()));
                }
                parse_token(&text).map(Some).map_err(told)
            }
        }
    }

    /// A client for this hub.
    ///
    /// # Errors
    ///
    /// [`Failure::Failed`] when TLS cannot be set up.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A connection that rests may be gone when it is used again.
            .pool_max_idle_per_host(0)
            .redirect(Policy::none());
        if is_this_machine(&self.events_url) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| Failure::Failed(reason(&error)))
    }

    /// Says that the hub cannot be reached, and why.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> String {
        format!("cannot reach the hub at {}: {}", self.shown(), reason(error))
    }

    /// The URL without a password.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.events_url.clone();
        url.set_query(None);
        if url.password().is_some() {
            let _ = url.set_password(Some("…"));
        }
        url.to_string()
    }
}

/// What went wrong, in the words of the innermost cause that has any.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if let Some(error) = innermost.downcast_ref::<io::Error>() {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return "nothing listens there".into(),
            io::ErrorKind::ConnectionReset => return "the connection was cut".into(),
            _ => {}
        }
    }
    if error.is_timeout() {
        return "no answer in time".into();
    }
    innermost.to_string()
}

/// An answer that is not a success.
pub(crate) struct Refusal {
    /// For people: `title: detail` of the problem, or the status.
    pub(crate) text: String,
    /// A later attempt may succeed.
    pub(crate) is_passing: bool,
    /// How long to wait before it at least.
    pub(crate) retry_after: Option<Duration>,
    /// The line of the request that is wrong, from 1.
    pub(crate) line: Option<u64>,
    /// How many events of the request are published all the same, if the hub itself answered.
    pub(crate) published: Option<u64>,
}

impl Refusal {
    /// Reads the problem that `response` tells.
    pub(crate) async fn read(mut response: Response) -> Self {
        let status = response.status();
        let retry_after = header(&response, RETRY_AFTER.as_str());
        let mut refusal = Self {
            text: format!("the answer was {status}, and not from a tidings hub; is the URL right?"),
            is_passing: is_passing(status),
            retry_after: retry_after.and_then(|it| it.parse().ok()).map(Duration::from_secs),
            line: None,
            published: None,
        };
        let to = header(&response, LOCATION.as_str());
        if let Some(to) = to.filter(|_| status.is_redirection()) {
            refusal.text =
                format!("the hub is at another place: use --url {}", without_events(&to));
            return refusal;
        }
        let kind = header(&response, CONTENT_TYPE.as_str()).unwrap_or_default();
        if kind.starts_with("application/problem+json")
            && let Ok(problem) = serde_json::from_slice(&read_start(&mut response).await)
        {
            refusal.take_problem(&problem);
        }
        refusal
    }

    fn take_problem(&mut self, problem: &Value) {
        let Some(title) = problem["title"].as_str() else { return };
        self.text = match problem["detail"].as_str() {
            Some(detail) => format!("{title}: {detail}"),
            None => title.to_owned(),
        };
        let kind = problem["type"].as_str().and_then(|it| it.strip_prefix(OWN_PROBLEM_TYPES));
        if let Some(advice) = kind.and_then(advice) {
            self.text.push_str("\n  ");
            self.text.push_str(advice);
        }
        self.line = problem["line"].as_u64();
        let is_ours =
            problem["type"].as_str().is_some_and(|kind| kind.starts_with(OWN_PROBLEM_TYPES));
        self.published = problem["published"].as_u64().or(is_ours.then_some(0));
    }
}

/// What to do about a problem with a token, beyond what the hub says itself.
fn advice(kind: &str) -> Option<&'static str> {
    match kind {
        "missing-token" => Some(
            "give one with TIDINGS_TOKEN, --token-file or --token; who has the hub's key makes one with \
             `tidings token`",
        ),
        "invalid-token" | "missing-right" => {
            Some("who has the hub's key makes one with `tidings token`")
        }
        _ => None,
    }
}

/// The statuses that a later attempt may turn into a success.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// The body, or as much of it as a problem may have.
async fn read_start(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBLEM_BYTES_MAX {
            break;
        }
    }
    body
}

/// The header `name` as text, if there is one.
pub(crate) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Where a value was given.
struct Place {
    shown: String,
    is_flag: bool,
}

impl Place {
    fn bad(&self, wrong: &str) -> Failure {
        Failure::Usage(format!("{}: {wrong}", self.shown))
    }
}

fn given(matches: &ArgMatches, row: &OptionRow) -> Option<(String, Place)> {
    let place = |shown, is_flag| Place { shown, is_flag };
    if let Some(text) = flag(matches, row.name) {
        return Some((text, place(row.flag(), true)));
    }
    if let Some(text) = variable(&row.variable()).filter(|text| !text.is_empty()) {
        return Some((text, place(row.variable(), false)));
    }
    Some((row.default_shown()?, place("default".into(), false)))
}

/// The one token that counts: of two, the one by flag.
fn chosen(mut tokens: Vec<(Token, Place)>) -> Result<Token, Failure> {
    if let [(_, first), (_, second)] = &*tokens {
        if first.is_flag == second.is_flag {
            let (first, second) = (&first.shown, &second.shown);
            return Err(Failure::Usage(format!("{first} and {second}: give one of them")));
        }
        tokens.retain(|(_, place)| place.is_flag);
    }
    Ok(tokens.pop().map_or(Token::None, |(token, _)| token))
}

fn parse_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text.trim())
        .map_err(|error| format!("`{text}` is not a URL ({error}); write http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{text}` is neither http:// nor https://"));
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(EVENTS_PATH) {
        let path = format!("{path}{EVENTS_PATH}");
        url.set_path(&path);
    }
    Ok(url)
}

fn parse_token(text: &str) -> Result<HeaderValue, String> {
    let mut token = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_| "this holds characters that no token has".to_owned())?;
    token.set_sensitive(true);
    Ok(token)
}

fn without_events(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.strip_suffix(EVENTS_PATH).unwrap_or(path)
}

/// Where a hub takes and gives events.
const EVENTS_PATH: &str = "/events";

/// What the types of the problems of a hub begin with.
const OWN_PROBLEM_TYPES: &str = "urn:tidings:problem:";

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is read to find the problem it tells.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{parse_url, without_events};
    use crate::value::is_this_machine;

    #[test]
    fn the_events_of_a_hub_are_found_from_any_spelling_of_its_url() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080/events")),
            ("http://127.0.0.1:8080/", Ok("http://127.0.0.1:8080/events")),
            ("http://hub.example/events", Ok("http://hub.example/events")),
            ("https://hub.example/a/b/", Ok("https://hub.example/a/b/events")),
            ("ftp://hub.example", Err("`ftp://hub.example` is neither http:// nor https://")),
            (
                "hub.example",
                Err(
                    "`hub.example` is not a URL (relative URL without a base); write http://host:port",
                ),
            ),
        ] {
            let read = parse_url(text).map(|url| url.to_string());
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn a_redirect_is_told_as_the_url_to_use() {
        assert_eq!(without_events("https://hub.example/events?topic=a"), "https://hub.example");
        assert_eq!(without_events("https://hub.example/x"), "https://hub.example/x");
    }

    #[test]
    fn loopback_addresses_are_this_machine() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://192.0.2.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(parse_url(url).map(|url| is_this_machine(&url)), Ok(expected), "{url}");
        }
    }
}
