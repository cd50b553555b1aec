//! `GET /presence`: who is there on topics.

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use tidings::{Member, PresenceScope, PresentMember, Selector, Topic, TopicPresence};

use crate::app::App;
use crate::authorize::Caller;
use crate::json_body::answer;
use crate::problem::{Kind, Problem};
use crate::query::{pairs, text};
use crate::wanted::Wanted;

/// Who is there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    topics: Vec<Item>,
    /// After it the events follow that tell of changes.
    last_event_id: String,
}

/// Who is there on one topic.
#[derive(Serialize)]
struct Item {
    topic: String,
    subscribers: u64,
    users: u64,
    /// For those with the right to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberItem>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct MemberItem {
    user: String,
    issuer: Option<String>,
    connections: u64,
    since: u64,
}

/// What a query asks for.
struct Asked {
    topics: Vec<Topic>,
    after: Option<Member>,
    limit: usize,
}

pub(crate) async fn list(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    answer(list_for(&app, &head).await)
}

async fn list_for(app: &App, head: &Parts) -> Result<Answer, Problem> {
    let query = head.uri.query().unwrap_or_default();
    let Asked { topics, after, limit } = Asked::parse(query, app.limits().selectors_max)?;
    let selectors = topics.iter().cloned().map(Selector::Exact).collect();
    let wanted = Wanted { selectors, ..Wanted::default() };
    let caller = Caller::of(app, head).await?.admitted(app, head, &wanted).await?;
    for topic in &topics {
        let scope = app.hub().presence_scope(topic);
        // Before anything is said of the topic.
        if scope != Some(PresenceScope::Public) {
            caller.check_subscriber(topic)?;
        }
        scope.ok_or_else(presence_off)?;
    }
    let page = app.hub().presence(&topics, after.as_ref(), limit);
    let (position, found) = page.ok_or_else(presence_off)?;
    let rights = caller.presence_rights();
    let item = |presence: TopicPresence| {
        let may_know = rights.covers(std::slice::from_ref(&presence.topic));
        Item::new(presence, may_know)
    };
    let topics = found.into_iter().map(item).collect();
    Ok(Answer { topics, last_event_id: position.to_string() })
}

impl Asked {
    fn parse(query: &str, topics_max: usize) -> Result<Self, Problem> {
        let mut asked = Self { topics: Vec::new(), after: None, limit: LIMIT_DEFAULT };
        for (name, value) in pairs(query.as_bytes()) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let invalid = |expected: &str| {
                Problem::new(Kind::InvalidParameter, format!("Give {expected}.")).field(&name)
            };
            let value = text(value).map_err(|_| invalid("UTF-8"))?;
            match name.as_str() {
                "topic" if asked.topics.len() == topics_max => {
                    return Err(invalid(&format!("at most {topics_max} topics")));
                }
                "topic" => {
                    let topic = Topic::parse(&value).map_err(|error| {
                        let detail = format!("Correct the topic: {error}.");
                        Problem::new(Kind::InvalidTopic, detail).field("topic")
                    })?;
                    if !asked.topics.contains(&topic) {
                        asked.topics.push(topic);
                    }
                }
                "after" => {
                    let after = parse_cursor(&value);
                    asked.after = Some(after.ok_or_else(|| invalid("the `next` of a page"))?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit <= LIMIT_MAX);
                    let expected = format!("a number from 0 to {LIMIT_MAX}");
                    asked.limit = limit.ok_or_else(|| invalid(&expected))?;
                }
                // Browsers and caches add some.
                _ => {}
            }
        }
        if asked.topics.is_empty() {
            let detail = "Name the topic: ?topic=chat/7.";
            return Err(Problem::new(Kind::MissingTopic, detail).field("topic"));
        }
        Ok(asked)
    }
}

impl Item {
    fn new(presence: TopicPresence, may_know: bool) -> Self {
        let TopicPresence { topic, connections, users, members, is_more } = presence;
        let next = members.last().filter(|_| is_more && may_know);
        Self {
            topic: topic.to_string(),
            subscribers: connections,
            users,
            next: next.map(|last| write_cursor(&last.member)),
            members: may_know.then(|| members.into_iter().map(MemberItem::from).collect()),
        }
    }
}

impl From<PresentMember> for MemberItem {
    fn from(present: PresentMember) -> Self {
        let PresentMember { member: Member { issuer, user }, connections, since } = present;
        let issuer = issuer.map(String::from);
        Self { user: user.into(), issuer, connections, since }
    }
}

/// Names the end of a page.
fn write_cursor(member: &Member) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let issuer = member.issuer.as_deref().map(encode).unwrap_or_default();
    format!("{issuer}~{}", encode(&member.user))
}

fn parse_cursor(text: &str) -> Option<Member> {
    let (issuer, user) = text.split_once('~')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Box::<str>::from);
    let issuer = if issuer.is_empty() { None } else { Some(decode(issuer)?) };
    Some(Member { issuer, user: decode(user)? })
}

fn presence_off() -> Problem {
    let detail =
        "Have the topic added to the option `presence`: it is not known who is there on it.";
    Problem::new(Kind::PresenceOff, detail).field("topic")
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_a_member() {
        for (issuer, user) in [(None, "ann"), (Some("https://a.example/~x"), "a~b %é"), (None, "~")]
        {
            let member = Member { issuer: issuer.map(Into::into), user: user.into() };
            let cursor = write_cursor(&member);
            assert_eq!(parse_cursor(&cursor), Some(member), "{cursor}");
        }
        assert_eq!(parse_cursor("ann"), None);
        assert_eq!(parse_cursor("~%ff"), None);
    }
}
