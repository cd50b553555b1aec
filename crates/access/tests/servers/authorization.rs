//! The authorisation webhook: asked once, believed to the letter, and nobody is let in without it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use tidings_access::{
    Access, AccessOptions, AuthorizationWebhook, AuthorizeError, Question, WebhookSecret,
};
use tidings_auth::Grant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::issuer::unix_now;
use crate::stand::{Reply, Seen, Stand};

const ADA: &str = r#"{"user":"ada","subscribe":["a"]}"#;

fn webhook(stand: &Stand) -> AuthorizationWebhook {
    let mut webhook = AuthorizationWebhook::new(&stand.url("/may")).unwrap();
    webhook.timeout = Duration::from_secs(30);
    webhook.cache = Duration::from_secs(3600);
    webhook
}

async fn start(webhook: AuthorizationWebhook) -> Access {
    let mut options = AccessOptions::default();
    options.authorization_webhook = Some(webhook);
    options.webhook_secret = Some(WebhookSecret::parse(SECRET).unwrap());
    Access::start(options).await.unwrap()
}

fn question(cookie: &str) -> Question {
    let mut headers = HeaderMap::new();
    headers.insert("cookie", cookie.parse().unwrap());
    Question {
        topics: vec!["a".to_owned()],
        events: vec![],
        ip: Some([192, 0, 2, 7].into()),
        method: "GET".to_owned(),
        url: "/events?topic=a".to_owned(),
        headers,
    }
}

async fn authorize(access: &Access, cookie: &str) -> Result<Arc<Grant>, AuthorizeError> {
    access.authorize(&question(cookie)).await
}

fn json(text: &str) -> Reply {
    Reply::Json(text.to_owned())
}

/// What a receiver does to know that a request is the hub's.
pub(crate) fn check_signature(seen: &Seen, secret: &[u8]) {
    let header = |name: &str| seen.headers.get(name).unwrap().to_str().unwrap();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    assert!(id.starts_with("msg_") && id.len() == 26, "{id}");
    assert!(at.parse::<u64>().unwrap().abs_diff(unix_now()) < 300, "{at}");
    let signed = [format!("{id}.{at}.").as_bytes(), &seen.body].concat();
    let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed, &signature).unwrap();
}

pub(crate) const SECRET: &str = "a-secret-that-is-long-enough";

#[tokio::test]
async fn the_server_is_asked_once_for_each_question() {
    let mut stand = Stand::start(|_| json(ADA)).await;
    let access = start(webhook(&stand)).await;
    assert!(!access.is_open() && access.has_authorization_webhook());
    let grant = authorize(&access, "s=1").await.unwrap();
    assert_eq!(grant.identity.user.as_deref(), Some("ada"));
    let seen = stand.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/may"));
    assert_eq!(seen.headers["content-type"], "application/json");
    check_signature(&seen, SECRET.as_bytes());
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["headers"]["cookie"], "s=1");

    for _ in 0..3 {
        assert!(Arc::ptr_eq(&authorize(&access, "s=1").await.unwrap(), &grant));
    }
    assert_eq!(stand.unseen_count(), 0);
    authorize(&access, "s=2").await.unwrap();
    assert_eq!(stand.unseen_count(), 1);
    let figures = access.figures().authorization;
    assert_eq!((figures.allowed, figures.cached), (2, 3));
    assert!(figures.latency_sum > Duration::ZERO);
}

#[tokio::test]
async fn who_is_denied_is_asked_for_again() {
    let stand = Stand::start(|_| Reply::Full(403, vec![], vec![])).await;
    let access = start(webhook(&stand)).await;
    assert_eq!(authorize(&access, "s=1").await, Err(AuthorizeError::Denied));
    stand.answer(|_| Reply::Full(401, vec![], ADA.into()));
    assert_eq!(authorize(&access, "s=1").await, Err(AuthorizeError::Denied));
    stand.answer(|_| json(ADA));
    assert!(authorize(&access, "s=1").await.is_ok());
    assert_eq!(access.figures().authorization.denied, 2);
}

#[tokio::test]
async fn nobody_is_let_in_for_want_of_an_answer() {
    let stand = Stand::start(|_| json(ADA)).await;
    let mut options = webhook(&stand);
    options.timeout = Duration::from_secs(2);
    let access = start(options).await;
    let full = |status: u16| Reply::Full(status, vec![], ADA.into());
    let redirect = vec![("location", stand.url("/other"))];
    let answers = [
        Reply::Close,
        Reply::Hang,
        Reply::Endless,
        json("it works"),
        json("{}"),
        json(r#"{"user":"ada","subscribe":["a"],"admin":true}"#),
        full(201),
        full(204),
        Reply::Full(302, redirect.clone(), ADA.into()),
        Reply::Full(307, redirect, ADA.into()),
        full(400),
        full(404),
        full(429),
        full(500),
        full(503),
        Reply::Full(200, vec![], vec![b' '; (1 << 20) + 1]),
    ];
    for (failed, answer) in (1..).zip(answers) {
        let shown = format!("{answer:?}").chars().take(80).collect::<String>();
        stand.answer(move |_| answer.clone());
        assert_eq!(authorize(&access, "s=1").await, Err(AuthorizeError::Unavailable), "{shown}");
        assert_eq!(access.figures().authorization.failed, failed, "{shown}");
    }
    stand.answer(|_| json(ADA));
    assert!(authorize(&access, "s=1").await.is_ok());
}

#[tokio::test]
async fn equal_questions_wait_for_one_answer() {
    let permits = Arc::new(Semaphore::new(0));
    let held = permits.clone();
    let mut stand = Stand::start(move |_| Reply::Held(held.clone(), ADA.to_owned())).await;
    let access = start(webhook(&stand)).await;
    let mut asked = JoinSet::new();
    for _ in 0..100 {
        let access = access.clone();
        asked.spawn(async move { authorize(&access, "s=1").await.unwrap() });
    }
    stand.next().await;
    permits.add_permits(100);
    asked.join_all().await;
    assert_eq!((stand.unseen_count(), access.figures().authorization.allowed), (0, 1));
}

#[tokio::test]
async fn who_asked_first_may_go_away() {
    let permits = Arc::new(Semaphore::new(0));
    let held = permits.clone();
    let mut stand = Stand::start(move |_| Reply::Held(held.clone(), ADA.to_owned())).await;
    let access = start(webhook(&stand)).await;
    tokio::select! {
        biased;
        _ = authorize(&access, "s=1") => panic!("there is no answer yet"),
        _ = stand.next() => {}
    }
    permits.add_permits(1);
    authorize(&access, "s=1").await.unwrap();
    assert_eq!(access.figures().authorization.allowed, 1);
}

#[tokio::test]
async fn too_many_questions_are_turned_away_and_the_rest_is_answered_in_time() {
    let stand = Stand::start(|_| Reply::Hang).await;
    let mut options = webhook(&stand);
    options.timeout = Duration::from_millis(500);
    options.calls_max = 2;
    options.waiting_max = 5;
    let access = start(options).await;
    let mut asked = JoinSet::new();
    for number in 0..20 {
        let access = access.clone();
        asked.spawn(async move { authorize(&access, &format!("s={number}")).await });
    }
    for outcome in asked.join_all().await {
        assert_eq!(outcome, Err(AuthorizeError::Unavailable));
    }
    let figures = access.figures().authorization;
    assert_eq!((figures.turned_away, figures.failed), (15, 5));
    // All places are free again.
    stand.answer(|_| json(ADA));
    assert!(authorize(&access, "s=1").await.is_ok());
}

#[tokio::test]
async fn answers_are_remembered_for_as_long_as_they_hold() {
    let stand = Stand::start(|_| json(r#"{"subscribe":[],"expiresIn":100000}"#)).await;
    let mut options = webhook(&stand);
    options.cache = Duration::ZERO;
    let access = start(options).await;
    for _ in 0..3 {
        authorize(&access, "s=1").await.unwrap();
    }
    assert_eq!(access.figures().authorization.allowed, 3);

    stand.answer(|_| json(r#"{"subscribe":[],"expiresIn":1}"#));
    let access = start(webhook(&stand)).await;
    let expires_at = authorize(&access, "s=1").await.unwrap().expires_at.unwrap();
    // Whoever is let in has rights that are not over.
    while unix_now() <= expires_at {
        let before = unix_now();
        assert!(authorize(&access, "s=1").await.unwrap().expires_at.unwrap() > before);
    }
    assert!(access.figures().authorization.allowed >= 2);
}

#[tokio::test]
async fn without_a_webhook_nobody_is_authorized() {
    let access = Access::open();
    assert!(access.is_open() && !access.has_authorization_webhook());
    assert_eq!(authorize(&access, "s=1").await, Err(AuthorizeError::Unavailable));
}
