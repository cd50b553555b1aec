//! The connection webhook: told at least once, in order for each user, over failures and crashes.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_access::{
    Access, AccessError, AccessOptions, Backoff, ConnectionAbout, ConnectionNews,
    ConnectionWebhook, WebhookSecret,
};
use tidings_core::Identity;

use crate::authorization::{SECRET, check_signature};
use crate::stand::{Reply, Seen, Stand};

const HOUR: Duration = Duration::from_secs(3600);

fn webhook(stand: &Stand, debounce: Duration) -> ConnectionWebhook {
    let mut webhook = ConnectionWebhook::new(&stand.url("/news")).unwrap();
    webhook.debounce = debounce;
    webhook.backoff =
        Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(5) };
    webhook
}

async fn start(webhook: ConnectionWebhook, folder: Option<&Path>) -> Access {
    let mut options = AccessOptions::default();
    options.connection_webhook = Some(webhook);
    options.webhook_secret = Some(WebhookSecret::parse(SECRET).unwrap());
    options.folder = folder.map(Into::into);
    Access::start(options).await.unwrap()
}

fn connect(access: &Access, user: &str) -> ConnectionNews {
    let user = Some(user.into());
    let identity =
        Arc::new(Identity { issuer: Some("https://id".into()), user, ..Identity::default() });
    let about = ConnectionAbout { identity, ip: Some([192, 0, 2, 7].into()) };
    access.connected(&about).unwrap()
}

fn no_content() -> Reply {
    Reply::Full(204, vec![], vec![])
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// `+ada` or `-ada`.
fn shown(seen: &Seen) -> String {
    let body = body(seen);
    let sign = if body["type"] == "tidings.connected" { '+' } else { '-' };
    format!("{sign}{}", body["user"].as_str().unwrap())
}

fn id(seen: &Seen) -> String {
    seen.headers["webhook-id"].to_str().unwrap().to_owned()
}

async fn all_delivered(access: &Access) {
    while access.figures().news.undelivered > 0 {
        tokio::task::yield_now().await;
    }
}

/// The next news that was not told before.
async fn next_new(stand: &mut Stand, ids: &mut HashSet<String>) -> Seen {
    loop {
        let seen = stand.next().await;
        if ids.insert(id(&seen)) {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_user_is_told_of_once_for_all_streams() {
    let mut stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, Duration::ZERO), None).await;
    let (first, second) = (connect(&access, "ada"), connect(&access, "ada"));
    let seen = stand.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/news"));
    check_signature(&seen, SECRET.as_bytes());
    let connected = body(&seen);
    let at = connected["at"].as_str().unwrap();
    assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    let expected = serde_json::json!({
        "type": "tidings.connected", "user": "ada", "issuer": "https://id", "ip": "192.0.2.7",
        "at": at,
    });
    assert_eq!(connected, expected);

    drop(first);
    second.ended("expired");
    let seen = stand.next().await;
    assert_eq!(shown(&seen), "-ada");
    assert_eq!(body(&seen)["reason"], "expired");
    assert_eq!(stand.unseen_count(), 0);
}

#[tokio::test]
async fn to_come_back_within_the_debounce_is_no_news() {
    let mut stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, HOUR), None).await;
    for _ in 0..10 {
        drop(connect(&access, "ada"));
    }
    assert_eq!(shown(&stand.next().await), "+ada");
    // Whatever would have been told of ada stands before this.
    let _eve = connect(&access, "eve");
    assert_eq!(shown(&stand.next().await), "+eve");
    assert_eq!(access.figures().news.users, 2);
}

#[tokio::test]
async fn streams_of_nobody_are_no_news() {
    let stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, HOUR), None).await;
    let about = ConnectionAbout { identity: Arc::new(Identity::default()), ip: None };
    assert!(access.connected(&about).is_none());
    assert!(access.is_open());
    let about = ConnectionAbout {
        identity: Arc::new(Identity { user: Some("ada".into()), ..Identity::default() }),
        ip: None,
    };
    assert!(Access::open().connected(&about).is_none());
}

#[tokio::test]
async fn news_is_told_again_until_it_is_taken() {
    let mut stand = Stand::start(|_| Reply::Close).await;
    let access = start(webhook(&stand, HOUR), None).await;
    let _ada = connect(&access, "ada");
    let first = stand.next().await;
    let redirect = vec![("location", stand.url("/other"))];
    let answers = [
        Reply::Full(500, vec![], vec![]),
        Reply::Full(404, vec![], vec![]),
        Reply::Full(429, vec![], vec![]),
        Reply::Full(400, vec![], vec![]),
        Reply::Full(302, redirect, vec![]),
    ];
    for answer in answers {
        stand.answer(move |_| answer.clone());
        while stand.unseen_count() > 0 {
            stand.next().await;
        }
        let (again, once_more) = (stand.next().await, stand.next().await);
        assert_eq!((id(&again), &again.body), (id(&first), &first.body));
        assert_eq!(id(&once_more), id(&first));
        assert_eq!(again.path, "/news");
    }
    stand.answer(|_| Reply::Json("thank you".to_owned()));
    all_delivered(&access).await;
    let figures = access.figures().news;
    assert_eq!((figures.delivered, figures.dropped), (1, 0));
    assert!(figures.failed_attempts >= 11);
}

#[tokio::test]
async fn news_that_is_refused_for_too_long_is_dropped() {
    let mut stand = Stand::start(|_| Reply::Full(422, vec![], vec![])).await;
    let mut options = webhook(&stand, Duration::ZERO);
    options.refused_for_max = Duration::ZERO;
    let access = start(options, None).await;
    drop(connect(&access, "ada"));
    assert_eq!(shown(&stand.next().await), "+ada");
    assert_eq!(shown(&stand.next().await), "-ada");
    access.finish(Duration::from_secs(60)).await;
    let figures = access.figures().news;
    assert_eq!((figures.dropped, figures.undelivered), (2, 0));
}

/// The receiver fails at random; users come and go at random. What it takes, each id once, goes there
/// and back for each user, and ends with what is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_at_random_learns_everything_in_order() {
    let seed = std::env::var("TIDINGS_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("TIDINGS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let answers = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
    let mut stand = Stand::start(move |_| {
        let mut random = answers.lock().unwrap();
        // Some failures are of the answer alone: the news was taken.
        let taken = if random.bool() { "yes" } else { "no" };
        let header = || vec![("x-taken", taken.to_owned())];
        match random.u8(0..4) {
            0 => Reply::Full(503, header(), vec![]),
            1 => Reply::Full(400, header(), vec![]),
            2 => Reply::Close,
            _ => no_content(),
        }
    })
    .await;
    let access = start(webhook(&stand, Duration::ZERO), None).await;
    let mut streams: HashMap<String, Vec<ConnectionNews>> = HashMap::new();
    for _ in 0..400 {
        let user = format!("user {}", random.u8(0..20));
        let streams = streams.entry(user.clone()).or_default();
        if random.bool() {
            streams.push(connect(&access, &user));
        } else {
            streams.pop();
        }
        if random.u8(0..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
    let there = streams.iter().filter(|(_, streams)| !streams.is_empty());
    let there: HashSet<_> = there.map(|(user, _)| user.clone()).collect();

    stand.answer(|_| no_content());
    let mut seen_ids = HashSet::new();
    let mut told: HashMap<String, bool> = HashMap::new();
    loop {
        let is_all_told = access.figures().news.undelivered == 0;
        if is_all_told && stand.unseen_count() == 0 {
            let present = told.iter().filter(|(_, is_there)| **is_there);
            let present: HashSet<_> = present.map(|(user, _)| user.clone()).collect();
            // Who just left may not be news yet.
            if present == there {
                break;
            }
        }
        if stand.unseen_count() == 0 {
            tokio::task::yield_now().await;
            continue;
        }
        let seen = stand.next().await;
        if seen_ids.insert(id(&seen)) {
            let shown = shown(&seen);
            let (sign, user) = shown.split_at(1);
            let was_there = told.insert(user.to_owned(), sign == "+").unwrap_or(false);
            assert_eq!(was_there, sign == "-", "seed {seed}: {shown}");
        }
    }
}

#[tokio::test]
async fn who_does_not_come_back_after_a_crash_is_told_to_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = HashSet::new();
    let mut stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, HOUR), Some(folder.path())).await;
    let streams = [connect(&access, "ada"), connect(&access, "eve")];
    let mut came = [
        shown(&next_new(&mut stand, &mut ids).await),
        shown(&next_new(&mut stand, &mut ids).await),
    ];
    came.sort_unstable();
    assert_eq!(came, ["+ada", "+eve"]);
    // Nothing is written at the end, so to end without a word is to crash.
    drop(access);
    std::mem::forget(streams);

    let access = start(webhook(&stand, Duration::from_millis(200)), Some(folder.path())).await;
    let ada = connect(&access, "ada");
    let gone = next_new(&mut stand, &mut ids).await;
    assert_eq!((shown(&gone), &body(&gone)["reason"]), ("-eve".to_owned(), &"restart".into()));
    ada.ended("closed");
    let gone = next_new(&mut stand, &mut ids).await;
    assert_eq!((shown(&gone), &body(&gone)["reason"]), ("-ada".to_owned(), &"closed".into()));
    all_delivered(&access).await;
    drop(access);

    let access = start(webhook(&stand, Duration::ZERO), Some(folder.path())).await;
    assert_eq!(access.figures().news.users, 0);
    // What is told now was told before.
    all_delivered(&access).await;
    while stand.unseen_count() > 0 {
        assert!(ids.contains(&id(&stand.next().await)));
    }
}

#[tokio::test]
async fn what_was_not_delivered_before_a_crash_is_delivered_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut stand = Stand::start(|_| Reply::Full(503, vec![], vec![])).await;
    let access = start(webhook(&stand, Duration::ZERO), Some(folder.path())).await;
    drop(connect(&access, "ada"));
    let first = stand.next().await;
    while access.figures().news.undelivered < 2 {
        tokio::task::yield_now().await;
    }
    // The second is news, and on its way to the disk, once the first was tried again.
    while stand.unseen_count() > 0 {
        stand.next().await;
    }
    stand.next().await;
    stand.next().await;
    drop(access);
    while stand.unseen_count() > 0 {
        stand.next().await;
    }

    stand.answer(|_| no_content());
    let access = start(webhook(&stand, Duration::ZERO), Some(folder.path())).await;
    let again = loop {
        let seen = stand.next().await;
        if shown(&seen) == "-ada" {
            break seen;
        }
        assert_eq!((shown(&seen).as_str(), id(&seen)), ("+ada", id(&first)));
    };
    assert_eq!(body(&again)["user"], "ada");
    all_delivered(&access).await;
}

#[tokio::test]
async fn the_file_is_compacted_and_a_damaged_one_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, Duration::ZERO), Some(folder.path())).await;
    let _there = connect(&access, "there");
    stand.next().await;
    for _ in 0..700 {
        drop(connect(&access, "ada"));
        assert_eq!(shown(&stand.next().await), "+ada");
        assert_eq!(shown(&stand.next().await), "-ada");
    }
    let path = folder.path().join("connections.jsonl");
    let lines = std::fs::read_to_string(&path).unwrap().lines().count();
    assert!(lines < 1200, "{lines}");
    drop(access);
    let access = start(webhook(&stand, HOUR), Some(folder.path())).await;
    assert_eq!(access.figures().news.users, 1);
    drop(access);

    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("garbage\n{text}")).unwrap();
    let mut options = AccessOptions::default();
    options.connection_webhook = Some(webhook(&stand, HOUR));
    options.folder = Some(folder.path().into());
    let error = Access::start(options).await.unwrap_err();
    assert!(matches!(error, AccessError::Damaged { line: 1, .. }), "{error}");
}

#[tokio::test]
async fn without_a_folder_a_goodbye_tells_that_all_are_gone() {
    let mut stand = Stand::start(|_| no_content()).await;
    let access = start(webhook(&stand, HOUR), None).await;
    let _ada = connect(&access, "ada");
    drop(connect(&access, "eve"));
    access.finish(Duration::from_secs(60)).await;
    assert_eq!(access.figures().news.delivered, 4);
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(shown(&stand.next().await));
    }
    told.sort_unstable();
    assert_eq!(told, ["+ada", "+eve", "-ada", "-eve"]);
}
