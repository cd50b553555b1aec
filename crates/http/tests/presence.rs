//! Who is told who is there.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidings::{
    Client, Hub, HubOptions, Identity, Interest, MemoryLog, PresenceOptions, Rights, Selector,
    SubscribeOptions, Subscription, random_epoch,
};
use tidings_access::{Access, AccessOptions, AuthorityOptions};
use tidings_auth::{Authority, Claims, Key, SigningKey};
use tidings_http::{HttpOptions, router};
use tower::ServiceExt;

const SECRET: &str = "a secret of more than 32 bytes, for tests";

struct Guarded {
    hub: Hub,
    router: Router,
}

impl Guarded {
    async fn start(anonymous: bool) -> Self {
        let selectors = |text| vec![Selector::parse(text).unwrap()];
        let presence = PresenceOptions {
            topics: selectors("chat/{room}"),
            public_topics: selectors("live/{id}"),
            ..Default::default()
        };
        let log = Arc::new(MemoryLog::new(random_epoch().unwrap(), Default::default()));
        let hub = Hub::start(HubOptions { presence, ..Default::default() }, log).unwrap();
        let authority = AuthorityOptions {
            authority: Authority::default(),
            keys: Key::parse(SECRET.as_bytes(), None).unwrap(),
            jwks: Vec::new(),
        };
        let mut options = AccessOptions::default();
        options.authorities.push(authority);
        let access = Access::start(options).await.unwrap();
        let options = HttpOptions { access, anonymous, ..Default::default() };
        Self { router: router(hub.clone(), options), hub }
    }

    /// Opens a stream of a user, who may read everything.
    fn open(&self, user: &str, topic: &str) -> Subscription {
        let identity = Identity {
            issuer: Some("https://issuer.example".into()),
            user: Some(user.into()),
            ..Default::default()
        };
        let selectors = vec![Selector::parse(topic).unwrap()];
        let interest = Interest::new(selectors, vec![], Rights::everything());
        let client = Client { identity: Some(Arc::new(identity)), ..Default::default() };
        let options = SubscribeOptions { client: Some(Box::new(client)), ..Default::default() };
        self.hub.subscribe(interest, options).unwrap()
    }

    async fn ask(&self, query: &str, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::get(format!("/presence?{query}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn check_refused(&self, query: &str, token: Option<&str>, status: u16, slug: &str) {
        let (answered, problem) = self.ask(query, token).await;
        let slug = format!("urn:tidings:problem:{slug}");
        assert_eq!((answered.as_u16(), &problem["type"]), (status, &json!(slug)), "{query}");
        assert!(problem.get("topics").is_none());
    }
}

fn token(subscribe: &[&str], presence: &[&str], operate: bool) -> String {
    let list = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let claims = Claims {
        subscribe: list(subscribe),
        presence: list(presence),
        operate,
        ..Claims::default()
    };
    SigningKey::parse(SECRET.as_bytes(), None).unwrap().sign(&claims).unwrap()
}

#[tokio::test]
async fn numbers_need_the_right_to_the_topic_and_names_the_right_to_know() {
    let guarded = Guarded::start(false).await;
    let _open = [guarded.open("bob", "chat/1"), guarded.open("ann", "chat/1")];
    let reader = token(&["chat/{room}"], &[], false);
    let (status, answer) =
        guarded.ask("topic=chat/1&topic=chat/2&topic=chat/1", Some(&reader)).await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!([
        {"topic": "chat/1", "subscribers": 2, "users": 2},
        {"topic": "chat/2", "subscribers": 0, "users": 0},
    ]);
    assert_eq!(answer["topics"], expected);
    assert!(answer["lastEventId"].is_string());

    for token in [
        token(&["chat/{room}"], &["chat/1"], false),
        token(&["chat/1"], &["*"], false),
        token(&["*"], &[], true),
    ] {
        let (status, answer) = guarded.ask("topic=chat/1", Some(&token)).await;
        assert_eq!(status, StatusCode::OK);
        let topic = &answer["topics"][0];
        assert_eq!((&topic["subscribers"], &topic["users"]), (&json!(2), &json!(2)));
        let members = topic["members"].as_array().unwrap();
        let users: Vec<_> = members.iter().map(|it| it["user"].as_str().unwrap()).collect();
        assert_eq!(users, ["ann", "bob"]);
        let ann = members[0].as_object().unwrap();
        assert_eq!(ann["issuer"], "https://issuer.example");
        assert_eq!(ann["connections"], 1);
        assert!(ann["since"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(ann.len(), 4);
    }
}

#[tokio::test]
async fn who_may_not_read_learns_nothing() {
    let guarded = Guarded::start(true).await;
    let _open = guarded.open("ann", "chat/1");
    let stranger = token(&["chat/2"], &["chat/2"], false);
    // Whether anybody is there, and whether it is known: the answer is the same.
    for topic in ["chat/1", "chat/3", "other"] {
        let query = format!("topic={topic}");
        guarded.check_refused(&query, Some(&stranger), 403, "missing-right").await;
        guarded.check_refused(&query, None, 401, "missing-token").await;
        let both = format!("topic=chat/2&topic={topic}");
        guarded.check_refused(&both, Some(&stranger), 403, "missing-right").await;
    }
    // To know who joined there is not to read the topic.
    let knowing = token(&["chat/2"], &["*"], false);
    guarded.check_refused("topic=chat/1", Some(&knowing), 403, "missing-right").await;
    let reader = token(&["*"], &[], false);
    guarded.check_refused("topic=other", Some(&reader), 404, "presence-off").await;
}

#[tokio::test]
async fn numbers_of_public_topics_are_for_whoever_is_admitted() {
    let open = Guarded::start(true).await;
    let _open = open.open("ann", "live/1");
    let (status, answer) = open.ask("topic=live/1", None).await;
    let expected = json!([{"topic": "live/1", "subscribers": 1, "users": 1}]);
    assert_eq!((status, &answer["topics"]), (StatusCode::OK, &expected));
    let closed = Guarded::start(false).await;
    closed.check_refused("topic=live/1", None, 401, "missing-token").await;
    let nobody = token(&[], &[], false);
    let (status, _) = closed.ask("topic=live/1", Some(&nobody)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn members_come_in_pages() {
    let guarded = Guarded::start(false).await;
    let _open: Vec<_> = ["ann", "b b", "ç"].map(|user| guarded.open(user, "chat/1")).into();
    let token = token(&["*"], &["*"], false);
    let (mut users, mut after) = (Vec::new(), String::new());
    loop {
        let query = format!("topic=chat/1&limit=1{after}");
        let (status, answer) = guarded.ask(&query, Some(&token)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let topic = &answer["topics"][0];
        assert_eq!(topic["members"].as_array().unwrap().len(), 1);
        users.push(topic["members"][0]["user"].as_str().unwrap().to_owned());
        let Some(next) = topic.get("next") else { break };
        after = format!("&after={}", next.as_str().unwrap().replace('%', "%25"));
    }
    assert_eq!(users, ["ann", "b b", "ç"]);
    let (_, answer) = guarded.ask("topic=chat/1&limit=0", Some(&token)).await;
    assert_eq!(answer["topics"][0]["members"], json!([]));
    let (_, answer) = guarded.ask(&format!("topic=chat/1&topic=chat/2{after}"), Some(&token)).await;
    let members = |place: usize| answer["topics"][place]["members"].as_array().unwrap().len();
    assert_eq!((members(0), members(1)), (1, 0), "after the last but one of the first topic");
    for (query, slug) in [
        ("", "missing-topic"),
        ("topic=*", "invalid-topic"),
        ("topic=chat/1&limit=1001", "invalid-parameter"),
        ("topic=chat/1&after=ann", "invalid-parameter"),
    ] {
        guarded.check_refused(query, Some(&token), 400, slug).await;
    }
}
