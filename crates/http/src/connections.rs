//! What an operator sees of the connections, and does about them.

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use tidings::{ConnectionFigures, ConnectionFilter, ConnectionId, ExpiryReason};

use crate::app::App;
use crate::authorize::Caller;
use crate::json_body::answer;
use crate::problem::{Kind, Problem};
use crate::query::{pairs, text};

/// One connection.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    user: Option<String>,
    issuer: Option<String>,
    token_id: Option<String>,
    ip: Option<String>,
    topics: Vec<String>,
    position: String,
    lag: u64,
    age_ms: u64,
    bytes: u64,
}

/// A page of them.
#[derive(Serialize)]
struct Page {
    connections: Vec<Item>,
    next: Option<String>,
}

/// How many were told to end.
#[derive(Serialize)]
pub(crate) struct Closed {
    pub(crate) closed: u64,
}

/// What a query asks for.
#[derive(Default)]
struct Asked {
    user: Option<String>,
    issuer: Option<String>,
    token_id: Option<String>,
    after: Option<ConnectionId>,
    limit: Option<usize>,
}

pub(crate) async fn list(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    answer(list_for(&app, &head).await)
}

pub(crate) async fn close(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    answer(close_for(&app, &head, None).await)
}

pub(crate) async fn close_one(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    answer(close_for(&app, &head, Some(&id)).await)
}

async fn list_for(app: &App, head: &Parts) -> Result<Page, Problem> {
    Caller::of(app, head).await?.check_operator(app)?;
    let asked = Asked::parse(head.uri.query().unwrap_or_default())?;
    let (after, limit) = (asked.after, asked.limit.unwrap_or(LIMIT_DEFAULT));
    let filter = asked.filter()?.unwrap_or(ConnectionFilter::All);
    let page = app.hub().connections(&filter, after, limit).await;
    let connections = page.connections.into_iter().map(Item::from).collect();
    let next = page.next.map(|id| id.to_string());
    Ok(Page { connections, next })
}

async fn close_for(app: &App, head: &Parts, id: Option<&str>) -> Result<Closed, Problem> {
    Caller::of(app, head).await?.check_operator(app)?;
    let filter = match id {
        Some(id) => {
            let id = id.parse().map_err(|_| not_found())?;
            ConnectionFilter::Id(id)
        }
        None => {
            let asked = Asked::parse(head.uri.query().unwrap_or_default())?;
            asked.filter()?.ok_or_else(|| {
                let detail = "Say whose connections to close: ?user=NAME or ?tokenId=ID.";
                Problem::new(Kind::InvalidParameter, detail)
            })?
        }
    };
    let closed = app.hub().close_connections(&filter, ExpiryReason::Closed).await;
    if closed == 0 && id.is_some() {
        return Err(not_found());
    }
    Ok(Closed { closed })
}

fn not_found() -> Problem {
    Problem::new(Kind::NotFound, "Look at GET /connections: there is no connection of this id.")
}

impl Asked {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in pairs(query.as_bytes()) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let invalid = |expected: &str| {
                Problem::new(Kind::InvalidParameter, format!("Give {expected}.")).field(&name)
            };
            let value = text(value).map_err(|_| invalid("UTF-8"))?;
            match name.as_str() {
                "user" => asked.user = Some(value),
                "issuer" => asked.issuer = Some(value),
                "tokenId" => asked.token_id = Some(value),
                "after" => {
                    asked.after =
                        Some(value.parse().map_err(|_| invalid("the id of a page's end"))?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    let expected = format!("a number from 1 to {LIMIT_MAX}");
                    asked.limit = Some(limit.ok_or_else(|| invalid(&expected))?);
                }
                "access_token" => {}
                // What is overlooked here would close the wrong ones.
                _ => return Err(invalid("user, issuer, tokenId, after or limit")),
            }
        }
        Ok(asked)
    }

    fn filter(self) -> Result<Option<ConnectionFilter>, Problem> {
        let Self { user, issuer, token_id, .. } = self;
        match (user, token_id) {
            (Some(_), Some(_)) => {
                let detail = "Give user or tokenId, not both.";
                Err(Problem::new(Kind::InvalidParameter, detail).field("tokenId"))
            }
            (Some(user), None) => Ok(Some(ConnectionFilter::User { issuer, user })),
            (None, Some(token_id)) => Ok(Some(ConnectionFilter::Token { issuer, token_id })),
            (None, None) if issuer.is_some() => {
                let detail = "Give user or tokenId with it.";
                Err(Problem::new(Kind::InvalidParameter, detail).field("issuer"))
            }
            (None, None) => Ok(None),
        }
    }
}

impl From<ConnectionFigures> for Item {
    fn from(figures: ConnectionFigures) -> Self {
        let identity = figures.identity.as_deref();
        let text = |it: Option<&Box<str>>| it.map(ToString::to_string);
        Self {
            id: figures.id.to_string(),
            user: text(identity.and_then(|it| it.user.as_ref())),
            issuer: text(identity.and_then(|it| it.issuer.as_ref())),
            token_id: text(identity.and_then(|it| it.token_id.as_ref())),
            ip: figures.address.map(|address| address.to_string()),
            topics: figures.topics,
            position: figures.position.to_string(),
            lag: figures.lag,
            age_ms: figures.age.as_millis() as u64,
            bytes: figures.bytes,
        }
    }
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
