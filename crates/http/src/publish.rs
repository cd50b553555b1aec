//! `POST /events`.

use std::convert::Infallible;
use std::fmt::Write;
use std::iter::Peekable;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tidings::{Position, Published, Record};

use crate::app::App;
use crate::body_budget::Share;
use crate::cors::is_listed;
use crate::idempotency_key::RequestKey;
use crate::ndjson;
use crate::problem::{Kind, Problem, broken_body};
use crate::publisher::Publisher;
use crate::record_input::{Events, event_from_form, from_json};

pub(crate) async fn publish(State(app): State<App>, request: Request) -> Response {
    respond(&app, request).await
}

pub(crate) async fn respond(app: &App, request: Request) -> Response {
    match answer(app, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(app: &App, request: Request) -> Result<Response, Problem> {
    let media_type = media_type(request.headers());
    let key = refuse_cross_site(request.headers(), &media_type, &app.options().cors_origins)
        .and_then(|()| refuse_encoded(request.headers()))
        .and_then(|()| RequestKey::of(request.headers()))
        .map_err(Problem::closing)?;
    let (head, body) = request.into_parts();
    let publisher = Publisher::of(app, &head).await.map_err(Problem::closing)?;
    let mut share = app.body_budget().share();
    let body_bytes_max = app.body_bytes_max();
    match media_type.as_str() {
        "application/json" => {
            let body = whole(body, body_bytes_max, &mut share);
            let body = body.await.map_err(Problem::closing)?;
            match from_json(&body, app.record_limits())? {
                Events::One(record) => publish_one(app, &publisher, record, key).await,
                Events::Several(mut records) => {
                    if let Some(mut keys) = key.map(RequestKey::numbered).transpose()? {
                        records.iter_mut().for_each(|record| keys.give_to(record));
                    }
                    publisher.check_again(app).await?;
                    app.client_limits().publish(publisher.source(), records.len())?;
                    for (place, record) in records.iter_mut().enumerate() {
                        publisher
                            .admit(record)
                            .map_err(|it| it.at(&format!("Event {} of the array", place + 1)))?;
                    }
                    Ok(ids(app.hub().publish(records).await?))
                }
            }
        }
        "application/x-www-form-urlencoded" => {
            let body = whole(body, body_bytes_max, &mut share);
            let body = body.await.map_err(Problem::closing)?;
            let record = event_from_form(&body, app.record_limits())?;
            publish_one(app, &publisher, record, key).await
        }
        "application/x-ndjson" => {
            let published = async {
                let keys = key.map(RequestKey::numbered).transpose()?;
                // In a box of its own: it is far larger than what a single event needs.
                Box::pin(ndjson::publish(app, publisher, body, keys)).await
            };
            Ok(ids(published.await.map_err(Problem::closing)?))
        }
        _ => Err(Problem::new(
            Kind::UnsupportedMediaType,
            "Send application/json, application/x-ndjson or application/x-www-form-urlencoded, \
             and say so in Content-Type.",
        )
        .closing()),
    }
}

async fn publish_one(
    app: &App,
    publisher: &Publisher,
    mut record: Record,
    key: Option<RequestKey>,
) -> Result<Response, Problem> {
    if let Some(key) = key {
        key.give_to(&mut record)?;
    }
    publisher.check_again(app).await?;
    publisher.admit(&mut record)?;
    app.client_limits().publish(publisher.source(), 1)?;
    Ok(id(&app.hub().publish(vec![record]).await?))
}

/// The media type without parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses what a page of another site makes a browser send without asking first.
///
/// Browsers say where a request comes from in `Sec-Fetch-Site`; where they do not, only a form can
/// come without a CORS preflight, and its `Origin` is held against `Host`.
fn refuse_cross_site(
    headers: &HeaderMap,
    media_type: &str,
    cors_origins: &[String],
) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = header(ORIGIN.as_str());
    let is_foreign = match header("sec-fetch-site") {
        Some(site) => matches!(site, "cross-site" | "same-site"),
        None => {
            let authority = origin.and_then(|origin| origin.split_once("://")).map(|(_, it)| it);
            media_type == "application/x-www-form-urlencoded"
                && origin.is_some()
                && authority != header(HOST.as_str())
        }
    };
    if is_foreign && !origin.is_some_and(|origin| is_listed(cors_origins, origin)) {
        let detail = "Add the page's origin to cors_origins, or publish from a backend.";
        return Err(Problem::new(Kind::CrossSite, detail));
    }
    Ok(())
}

/// Refuses a body that would have to be decompressed.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "Send the body as it is, without Content-Encoding.";
            Err(Problem::new(Kind::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

/// Reads a body to its end; `share` is what it may hold until it is published, and how long it has.
pub(crate) async fn whole(
    body: Body,
    body_bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Problem> {
    let mut body = Limited::new(body, body_bytes_max);
    // Most bodies arrive in one piece and are not copied.
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        match share.in_time(body.frame()).await? {
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                share.received(data.len());
                share.resize(first.len() + whole.len() + data.len())?;
                if first.is_empty() && whole.is_empty() {
                    first = data;
                } else {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                    whole.extend_from_slice(&data);
                }
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(body_too_large(body_bytes_max));
            }
            Some(Err(_)) => return Err(broken_body()),
        }
    }
}

fn body_too_large(body_bytes_max: usize) -> Problem {
    let detail = format!(
        "At most {body_bytes_max} bytes are taken at once: send several requests, or \
         application/x-ndjson, which is streamed."
    );
    Problem::new(Kind::BodyTooLarge, detail)
}

fn id(published: &Published) -> Response {
    let id = published.ids().next().expect("a publish of one event has an id");
    json(format!(r#"{{"id":"{id}"}}"#).into())
}

/// Writes the ids out as the client reads them: there may be millions.
fn ids(published: Published) -> Response {
    let ids = published.into_ids().peekable();
    json(Body::new(IdsBody { ids, state: IdsState::Head }))
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

struct IdsBody<I: Iterator<Item = Position>> {
    ids: Peekable<I>,
    state: IdsState,
}

enum IdsState {
    Head,
    Items,
    Done,
}

impl<I: Iterator<Item = Position> + Unpin> http_body::Body for IdsBody<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut piece = BytesMut::with_capacity(IDS_PIECE_BYTES + ID_BYTES);
        match self.state {
            IdsState::Head => piece.extend_from_slice(br#"{"ids":["#),
            IdsState::Items => {}
            IdsState::Done => return Poll::Ready(None),
        }
        self.state = IdsState::Items;
        while piece.remaining() < IDS_PIECE_BYTES {
            let Some(id) = self.ids.next() else {
                self.state = IdsState::Done;
                break;
            };
            let comma = if self.ids.peek().is_some() { "," } else { "" };
            write!(piece, "\"{id}\"{comma}").expect("a buffer takes everything");
        }
        if matches!(self.state, IdsState::Done) {
            piece.extend_from_slice(b"]}");
        }
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }
}

/// How much of a long list of ids is written at once.
const IDS_PIECE_BYTES: usize = 16 << 10;
/// More than one id takes, with what stands around it.
const ID_BYTES: usize = 64;
