//! What is open to whom, told from the settings: for those who are about to start a hub, or to leave
//! one running.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tidings_auth::Authority;

use crate::options::{Kind, OptionRow, serve_options};
use crate::settings::{ServeSettings, Settings};
use crate::trust::{Trust, TrustedAuthority};
use crate::value::show_network;

/// What is open to whom, one row for each question.
pub(super) struct Exposure {
    rows: Vec<Row>,
}

/// One question and its answer, for people and for machines.
struct Row {
    question: &'static str,
    answers: Vec<String>,
    name: &'static str,
    value: Value,
}

/// Who may do something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Everybody who can connect.
    Everyone,
    /// Who shows a token.
    Token,
    /// Who shows a token that gives this right.
    Right(&'static str),
    /// Whom the webhook admits.
    Webhook,
}

impl Exposure {
    /// Tells it of a hub with `settings` that trusts `trust`.
    pub(super) fn of(settings: &Settings, trust: &Trust) -> Self {
        let serve = &settings.serve;
        let mut rows = vec![
            Row::of_who("subscribe to public events", "publicEvents", &public_events(serve), serve),
            Row::of_who("receive private events", "privateEvents", &private_events(serve), serve),
            Row::of_who("publish", "publish", &with_right(serve, "publish"), serve),
            Row::of_who("list and close connections", "operate", &operation(serve), serve),
            Row::of_who("see /metrics and /stats", "figures", &figures(serve), serve),
        ];
        rows.push(places(serve));
        rows.push(trusted(trust));
        rows.push(news(serve));
        rows.push(pages(serve));
        rows.push(proxies(serve));
        rows.push(encryption(serve));
        rows.push(without_limit(serve));
        Self { rows }
    }

    /// As a table for people.
    pub(super) fn lines(&self) -> String {
        let width = self.rows.iter().map(|row| row.question.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let mut question = row.question;
            for answer in &row.answers {
                let _ = writeln!(text, "{question:width$}  {answer}");
                question = "";
            }
        }
        text
    }

    /// As the members of an object for machines.
    pub(super) fn members(&self) -> Map<String, Value> {
        self.rows.iter().map(|row| (row.name.to_owned(), row.value.clone())).collect()
    }
}

impl Row {
    fn of_who(
        question: &'static str,
        name: &'static str,
        who: &[Who],
        serve: &ServeSettings,
    ) -> Self {
        let answers = if who.is_empty() {
            vec!["nobody".to_owned()]
        } else {
            who.iter().map(|who| who.shown(serve)).collect()
        };
        let value = who.iter().map(|who| who.name()).collect();
        Self { question, answers, name, value }
    }
}

impl Who {
    fn shown(self, serve: &ServeSettings) -> String {
        match self {
            Self::Everyone if serve.is_exposed() => {
                format!("everyone who can reach {}", serve.listen)
            }
            Self::Everyone => "everyone on this machine".to_owned(),
            Self::Token => "who shows a token".to_owned(),
            Self::Right("operate") => "who shows a token with the right to operate".to_owned(),
            Self::Right("publish") => {
                "who shows a token with the right to publish to all topics of the event".to_owned()
            }
            Self::Right(right) => {
                format!("who shows a token with the right to {right} to one of their topics")
            }
            Self::Webhook => format!(
                "whom {} admits, as it says",
                serve.authorization_webhook.as_deref().unwrap_or("the webhook")
            ),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Everyone => "everyone".into(),
            Self::Token => "token".into(),
            Self::Right(right) => format!("token:{right}"),
            Self::Webhook => "webhook".into(),
        }
    }
}

/// Nobody is asked for anything.
fn is_open(serve: &ServeSettings) -> bool {
    !serve.has_keys()
}

fn public_events(serve: &ServeSettings) -> Vec<Who> {
    if is_open(serve) || (serve.anonymous && serve.authorization_webhook.is_none()) {
        return vec![Who::Everyone];
    }
    let webhook = serve.authorization_webhook.as_ref().map(|_| Who::Webhook);
    [Who::Token].into_iter().chain(webhook).collect()
}

fn private_events(serve: &ServeSettings) -> Vec<Who> {
    if is_open(serve) {
        return vec![Who::Everyone];
    }
    let webhook = serve.authorization_webhook.as_ref().map(|_| Who::Webhook);
    [Who::Right("subscribe")].into_iter().chain(webhook).collect()
}

fn with_right(serve: &ServeSettings, right: &'static str) -> Vec<Who> {
    vec![if is_open(serve) { Who::Everyone } else { Who::Right(right) }]
}

fn operation(serve: &ServeSettings) -> Vec<Who> {
    if is_open(serve) && serve.is_exposed() { Vec::new() } else { with_right(serve, "operate") }
}

fn figures(serve: &ServeSettings) -> Vec<Who> {
    if serve.public_figures { vec![Who::Everyone] } else { operation(serve) }
}

fn places(serve: &ServeSettings) -> Row {
    let mut answers = Vec::new();
    let mut value = Map::new();
    if is_open(serve) {
        answers.push("nowhere: no token is asked for, and none is looked at".to_owned());
    } else {
        answers.push("in the header Authorization".to_owned());
        answers.extend(serve.token_cookie.as_ref().map(|name| format!("in the cookie {name}")));
        if serve.query_token {
            answers.push("in the query parameter access_token".to_owned());
        }
        answers.push("behind a ticket, by POST /tickets".to_owned());
        value.insert("header".into(), json!(true));
        value.insert("cookie".into(), json!(serve.token_cookie));
        value.insert("query".into(), json!(serve.query_token));
        value.insert("tickets".into(), json!(true));
    }
    Row { question: "tokens may stand", answers, name: "tokenPlaces", value: Value::Object(value) }
}

fn trusted(trust: &Trust) -> Row {
    let mut answers: Vec<String> = trust.authorities.iter().flat_map(told_authority).collect();
    if answers.is_empty() {
        answers.push("nobody's".to_owned());
    }
    let value = trust.authorities.iter().map(authority_json).collect();
    Row { question: "tokens are trusted of", answers, name: "authorities", value }
}

fn told_authority(trusted: &TrustedAuthority) -> Vec<String> {
    let Authority { issuer, audiences, requires_expiry } = &trusted.authority;
    let mut who =
        issuer.as_ref().map_or("any issuer".to_owned(), |issuer| format!("issuer {issuer}"));
    if !audiences.is_empty() {
        let _ = write!(who, ", meant for {}", audiences.join(" or "));
    }
    if *requires_expiry {
        who.push_str(", that expire");
    }
    let keys = trusted.keys.iter().map(|(key, place)| {
        let id = key.id().map(|id| format!(" {id}")).unwrap_or_default();
        format!("  by the {} key{id} in {place}", key.algorithm())
    });
    let sets =
        trusted.jwks_urls.iter().map(|url| format!("  by the keys at {url}, not fetched here"));
    [format!("{who}:")].into_iter().chain(keys).chain(sets).collect()
}

fn authority_json(trusted: &TrustedAuthority) -> Value {
    let keys: Value = trusted
        .keys
        .iter()
        .map(|(key, place)| {
            json!({"id": key.id(), "algorithm": key.algorithm().as_str(), "from": place})
        })
        .collect();
    json!({
        "issuer": trusted.authority.issuer,
        "audiences": trusted.authority.audiences,
        "requiresExpiry": trusted.authority.requires_expiry,
        "keys": keys,
        "jwksUrls": trusted.jwks_urls,
    })
}

fn news(serve: &ServeSettings) -> Row {
    let answer = match &serve.connection_webhook {
        None => "nobody".to_owned(),
        Some(url) if serve.webhook_secret.is_some() => format!("{url}, signed"),
        Some(url) => format!("{url}, not signed: it cannot know that it is the hub who tells"),
    };
    let value = json!({"url": serve.connection_webhook, "signed": serve.webhook_secret.is_some()});
    Row { question: "who comes and goes is told to", answers: vec![answer], name: "news", value }
}

fn pages(serve: &ServeSettings) -> Row {
    let mut answers = vec!["of the hub's own origin".to_owned()];
    match &*serve.cors_origins {
        [all] if all == "*" => answers.push("of every origin, without cookies".to_owned()),
        origins => answers.extend(origins.iter().map(|origin| format!("of {origin}"))),
    }
    Row {
        question: "pages of browsers may use it",
        answers,
        name: "origins",
        value: json!(serve.cors_origins),
    }
}

fn proxies(serve: &ServeSettings) -> Row {
    let networks =
        |networks: &[ipnet::IpNet]| -> Vec<String> { networks.iter().map(show_network).collect() };
    let headers = networks(&serve.trusted_proxies);
    let protocol = networks(&serve.proxy_protocol);
    let mut answers = Vec::new();
    if !headers.is_empty() {
        answers.push(format!("{} (X-Forwarded-For)", headers.join(", ")));
    }
    if !protocol.is_empty() {
        answers.push(format!("{} (PROXY protocol)", protocol.join(", ")));
    }
    if answers.is_empty() {
        answers.push("none: a client is who connects".to_owned());
    }
    Row {
        question: "proxies are believed",
        answers,
        name: "proxies",
        value: json!({"forwardedFor": headers, "proxyProtocol": protocol}),
    }
}

fn encryption(serve: &ServeSettings) -> Row {
    let (way, answer) = if serve.tls_cert.is_some() {
        ("files", "by the certificate in tls_cert".to_owned())
    } else if serve.tls_self_signed {
        ("self-signed", "by a certificate of its own, which nobody else vouches for".to_owned())
    } else if !serve.acme_domain.is_empty() {
        ("acme", format!("by a certificate for {}", serve.acme_domain.join(", ")))
    } else if serve.is_exposed() {
        (
            "none",
            "not at all: put a proxy with TLS in front, or tokens can be read on the way".into(),
        )
    } else {
        ("none", "not at all".to_owned())
    };
    Row {
        question: "connections are encrypted",
        answers: vec![answer],
        name: "encryption",
        value: json!(way),
    }
}

fn without_limit(serve: &ServeSettings) -> Row {
    let unlimited: Vec<String> = serve_options()
        .filter(|row| match row.kind {
            Kind::Limit { field, .. } => *field(&mut serve.clone()) == u64::MAX,
            _ => false,
        })
        .filter_map(OptionRow::key)
        .collect();
    let answers =
        vec![if unlimited.is_empty() { "nothing".to_owned() } else { unlimited.join(", ") }];
    Row { question: "there is no limit on", answers, name: "unlimited", value: json!(unlimited) }
}
