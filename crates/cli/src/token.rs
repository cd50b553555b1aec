//! `tidings token`: mints a token, for development and scripts.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use tidings::Selector;
use tidings_auth::{Algorithm, Claims, SigningKey, UnixSeconds};

use crate::failure::Failure;
use crate::options::option_named;
use crate::selectors::{is_misleading, told_misleading};
use crate::settings::contradictions::MAKE_KEY;
use crate::settings::load::variable;
use crate::trust::{cannot_read, cannot_use, read_key_file};
use crate::value::{parse_algorithm, parse_duration, parse_texts, show_duration, within};

/// The command and its arguments.
pub(crate) fn command() -> Command {
    let text = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).help(help)
    };
    Command::new("token")
        .about("Print a token that says who may publish and subscribe to what")
        .after_help(EXAMPLES)
        .arg(
            text("publish", "SELECTOR", "Topics that may be published to")
                .num_args(1..)
                .action(ArgAction::Append),
        )
        .arg(
            text("subscribe", "SELECTOR", "Topics whose private events may be read")
                .num_args(1..)
                .action(ArgAction::Append),
        )
        .arg(
            text("presence", "SELECTOR", "Topics of which may be known who is there")
                .num_args(1..)
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("operate")
                .long("operate")
                .action(ArgAction::SetTrue)
                .help("Let its bearer see figures, and list and close connections"),
        )
        .arg(text("ttl", "TIME", "How long it holds").default_value("1h").value_parser(parse_ttl))
        .arg(text("user", "USER", "Whose token it is (`sub`)"))
        .arg(text("id", "ID", "Its own name (`jti`), to revoke it by; random if not given"))
        .arg(text("issuer", "ISSUER", "Who vouches for it (`iss`) [env: TIDINGS_ISSUER]"))
        .arg(
            text("audience", "NAMES", "Whom it is meant for (`aud`) [env: TIDINGS_AUDIENCE]")
                .num_args(1..)
                .action(ArgAction::Append),
        )
        .arg(
            text("key-file", "FILE", "The key to sign with, else the secret in TIDINGS_KEY")
                .value_hint(clap::ValueHint::FilePath),
        )
        .arg(text("key-id", "ID", "Name of the key (`kid`), if verifiers ask for it"))
        .arg(
            text("algorithm", "NAME", "Signature; decided by the key if not given")
                .value_parser(parse_algorithm),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print a JSON object with the token, its id and when it expires"),
        )
}

/// Mints a token and prints it.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let claims = claims(matches, unix_now())?;
    let key = signing_key(matches)?;
    let token = key.sign(&claims).map_err(|error| Failure::Usage(error.to_string()))?;
    let line = if matches.get_flag("json") {
        json!({"token": token, "id": claims.token_id, "expiresAt": claims.expires_at}).to_string()
    } else {
        token
    };
    writeln!(io::stdout(), "{line}").map_err(|error| Failure::from_output(&error))
}

/// What the token is to say.
fn claims(matches: &ArgMatches, now: UnixSeconds) -> Result<Claims, Failure> {
    let publish = selectors(matches, "publish")?;
    let subscribe = selectors(matches, "subscribe")?;
    let presence = selectors(matches, "presence")?;
    let operate = matches.get_flag("operate");
    if publish.is_none() && subscribe.is_none() && presence.is_none() && !operate {
        return Err(Failure::Usage(
            "this token would give no right\n  say what it is for with --publish, --subscribe, \
             --presence or --operate; `*` is every topic"
                .into(),
        ));
    }
    let ttl = matches.get_one::<Duration>("ttl").map_or(0, Duration::as_secs);
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let token_id = match text("id") {
        Some(id) => id,
        None => random_id()?,
    };
    Ok(Claims {
        issuer: text("issuer").or_else(|| from_environment("issuer")),
        user: text("user"),
        audience: audience(matches),
        token_id: Some(token_id),
        publish,
        subscribe,
        presence,
        operate,
        issued_at: Some(now),
        not_before: None,
        expires_at: Some(now + ttl),
        payload: None,
    })
}

fn selectors(matches: &ArgMatches, name: &str) -> Result<Option<Vec<String>>, Failure> {
    let Some(given) = matches.get_many::<String>(name) else { return Ok(None) };
    let mut selectors = Vec::new();
    for text in given {
        if let Err(error) = Selector::parse(text) {
            return Err(Failure::Usage(format!("--{name} `{text}`: {error}")));
        }
        if is_misleading(text) {
            eprintln!("tidings: {}", told_misleading(text));
        }
        selectors.push(text.clone());
    }
    Ok(Some(selectors))
}

fn audience(matches: &ArgMatches) -> Vec<String> {
    match matches.get_many::<String>("audience") {
        Some(given) => given.cloned().collect(),
        None => {
            let listed = from_environment("audience").unwrap_or_default();
            // A hub takes a token that is meant for one of those that it answers to.
            parse_texts(listed.split(',')).into_iter().take(1).collect()
        }
    }
}

/// The key: of the flag, or else of the variables with which a hub would be started.
fn signing_key(matches: &ArgMatches) -> Result<SigningKey, Failure> {
    let given = matches.get_one::<Option<Algorithm>>("algorithm").copied();
    let algorithm = match given {
        Some(algorithm) => algorithm,
        None => match from_environment("algorithm") {
            Some(text) => parse_algorithm(&text)
                .map_err(|wrong| Failure::Usage(format!("TIDINGS_ALGORITHM={text}: {wrong}")))?,
            None => None,
        },
    };
    let (bytes, place) = key_bytes(matches)?;
    let key = SigningKey::parse(&bytes, algorithm)
        .map_err(|error| Failure::Usage(cannot_use(&place, &error)))?;
    Ok(match matches.get_one::<String>("key-id") {
        Some(id) => key.with_id(Some(id)),
        None => key,
    })
}

/// The key as it stands somewhere, and where.
fn key_bytes(matches: &ArgMatches) -> Result<(Vec<u8>, String), Failure> {
    let flag = matches.get_one::<String>("key-file").map(|path| (path.clone(), "--key-file"));
    if flag.is_none()
        && let Some(secret) = from_environment("key")
    {
        return Ok((secret.into_bytes(), "TIDINGS_KEY".into()));
    }
    let from_variable = || {
        let listed = from_environment("key-file")?;
        Some((parse_texts(listed.split(',')).into_iter().next()?, "TIDINGS_KEY_FILE"))
    };
    let Some((path, place)) = flag.or_else(from_variable) else {
        return Err(Failure::Usage(format!(
            "there is no key to sign with\n  make one with `{MAKE_KEY}`, and give it to both: \
             `tidings serve --key-file hub.key` and `tidings token --key-file hub.key`"
        )));
    };
    let path = Path::new(&path);
    let bytes =
        read_key_file(path).map_err(|error| Failure::Usage(cannot_read(path, place, &error)))?;
    Ok((bytes, path.display().to_string()))
}

/// The value of the variable of the option `name` of a hub, if it is set to something.
fn from_environment(name: &str) -> Option<String> {
    let text = variable(&option_named(name)?.variable())?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).and_then(|ttl| within(ttl, TTL_MIN, TTL_MAX));
    ttl.map_err(|wrong| {
        format!(
            "{wrong}; give a duration from {} to {}, such as 15m, 12h or 30d",
            show_duration(TTL_MIN),
            show_duration(TTL_MAX)
        )
    })
}

/// 128 random bits.
fn random_id() -> Result<String, Failure> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

fn unix_now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const TTL_MIN: Duration = Duration::from_secs(1);
/// Ten years: who wants a longer one wants a key.
const TTL_MAX: Duration = Duration::from_secs(3_650 * 86_400);

const EXAMPLES: &str = "\
Examples:
  openssl rand -hex 32 > hub.key; chmod 600 hub.key
  tidings token --key-file hub.key --publish '*'
  tidings token --key-file hub.key --subscribe 'users/ann/{+any}' --user ann --ttl 15m
  export TIDINGS_TOKEN=$(tidings token --key-file hub.key --publish orders/{id} news)
  tidings token --key-file hub.key --operate --json | jq -r .token

A hub that is started with the same --key-file takes it. A public event needs no right to be read,
but for the token itself where a hub admits nobody without one.";
