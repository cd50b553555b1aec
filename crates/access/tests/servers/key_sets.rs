//! Key sets: rotated, removed, gone, nonsense.

use std::time::Duration;

use serde_json::json;
use tidings_access::{
    Access, AccessError, AccessOptions, AuthorityOptions, Backoff, JwksOptions, VerifyError,
};
use tidings_auth::{Authority, Key, TokenError};

use crate::issuer::{Signer, key_set};
use crate::stand::{Reply, Stand};

/// Nothing happens by itself, and nothing is remembered of keys that are not there.
fn patient(url: &str) -> JwksOptions {
    let mut options = JwksOptions::new(url).unwrap();
    options.cooldown = Duration::ZERO;
    options.unknown_for = Duration::ZERO;
    options.timeout = Duration::from_secs(30);
    let hour = Duration::from_secs(3600);
    (options.age_min, options.age_max) = (hour, hour);
    options.backoff = Backoff { first: hour, longest: hour };
    options
}

async fn start(keys: Vec<Key>, jwks: JwksOptions) -> Result<Access, AccessError> {
    let mut options = AccessOptions::default();
    let authority = Authority::default();
    options.authorities = vec![AuthorityOptions { authority, keys, jwks: vec![jwks] }];
    Access::start(options).await
}

async fn refusal(access: &Access, token: &str) -> VerifyError {
    access.verify(token).await.unwrap_err()
}

async fn check_is_unknown(access: &Access, token: &str) {
    let refusal = refusal(access, token).await;
    let is_unknown = matches!(refusal, VerifyError::Token(TokenError::UnknownKey { .. }));
    assert!(is_unknown, "{refusal}");
}

#[tokio::test]
async fn a_new_key_is_fetched_for_the_first_token_that_it_signed() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let first = key_set(&[&old]);
    let mut stand = Stand::start(move |_| first.clone()).await;
    let access = start(vec![], patient(&stand.url("/keys"))).await.unwrap();
    let seen = stand.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/keys"));

    let grant = access.verify(&old.token("ada")).await.unwrap();
    assert_eq!(grant.identity.user.as_deref(), Some("ada"));
    assert_eq!(stand.unseen_count(), 0);
    check_is_unknown(&access, &new.token("ada")).await;
    assert_eq!(stand.unseen_count(), 1);

    let second = key_set(&[&old, &new]);
    stand.answer(move |_| second.clone());
    access.verify(&new.token("ada")).await.unwrap();
    access.verify(&old.token("ada")).await.unwrap();
    assert_eq!(stand.unseen_count(), 2);
}

#[tokio::test]
async fn tokens_of_a_removed_key_are_refused_though_they_were_known() {
    let (stolen, new) = (Signer::new("stolen"), Signer::new("new"));
    let first = key_set(&[&stolen]);
    let stand = Stand::start(move |_| first.clone()).await;
    let access = start(vec![], patient(&stand.url("/"))).await.unwrap();
    let token = stolen.token("eve");
    access.verify(&token).await.unwrap();
    access.verify(&token).await.unwrap();
    assert_eq!(access.figures().tokens_cached, 1);

    let second = key_set(&[&new]);
    stand.answer(move |_| second.clone());
    access.verify(&new.token("ada")).await.unwrap();
    check_is_unknown(&access, &token).await;
}

#[tokio::test]
async fn keys_stay_while_their_server_hands_out_none() {
    let (known, other) = (Signer::new("known"), Signer::new("other"));
    let set = key_set(&[&known]);
    let stand = Stand::start(move |_| set.clone()).await;
    let mut options = patient(&stand.url("/"));
    options.timeout = Duration::from_secs(2);
    let access = start(vec![], options).await.unwrap();
    let json = |value: serde_json::Value| Reply::Json(value.to_string());
    let redirect = |to: &str| Reply::Full(302, vec![("location", to.to_owned())], vec![]);
    let secret = json!({"kty": "oct", "kid": "other", "alg": "HS256", "k": "c2VjcmV0".repeat(8)});
    let mut rsa = other.jwk();
    rsa["use"] = "enc".into();
    let answers = [
        Reply::Close,
        Reply::Hang,
        Reply::Endless,
        Reply::Json(String::new()),
        Reply::Json("<html>it works</html>".to_owned()),
        json(json!({})),
        json(json!([])),
        json(json!({"keys": []})),
        json(json!({"keys": [secret]})),
        json(json!({"keys": [rsa]})),
        json(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "short"}]})),
        Reply::Full(500, vec![], b"{\"keys\": []}".to_vec()),
        Reply::Full(404, vec![], vec![]),
        Reply::Full(204, vec![], vec![]),
        Reply::Full(200, vec![], vec![b' '; (1 << 20) + 1]),
        redirect("http://192.0.2.1/keys"),
        redirect("ftp://127.0.0.1/keys"),
        redirect("https://127.0.0.1:1/keys"),
        redirect("/"),
    ];
    for (failed, answer) in (1..).zip(answers) {
        let shown = format!("{answer:?}").chars().take(80).collect::<String>();
        stand.answer(move |_| answer.clone());
        check_is_unknown(&access, &other.token("ada")).await;
        access.verify(&known.token("ada")).await.unwrap();
        let figures = &access.figures().key_sets[0];
        assert_eq!((figures.fetches, figures.failed_fetches), (1, failed), "{shown}");
        assert_eq!(figures.keys, 1);
    }
    let set = key_set(&[&other]);
    stand.answer(move |_| set.clone());
    access.verify(&other.token("ada")).await.unwrap();
}

#[tokio::test]
async fn a_redirect_within_this_machine_is_followed() {
    let signer = Signer::new("a");
    let set = key_set(&[&signer]);
    let stand = Stand::start(move |seen| match seen.path.as_str() {
        "/keys" => set.clone(),
        _ => Reply::Full(307, vec![("location", "/keys".to_owned())], vec![]),
    })
    .await;
    let access = start(vec![], patient(&stand.url("/"))).await.unwrap();
    access.verify(&signer.token("ada")).await.unwrap();
}

#[tokio::test]
async fn nobody_starts_without_a_usable_key() {
    let signer = Signer::new("a");
    let mut stand = Stand::start(|_| Reply::Json(r#"{"keys":[]}"#.to_owned())).await;
    let mut options = patient(&stand.url("/"));
    options.backoff =
        Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) };
    let error = start(vec![], options.clone()).await.unwrap_err();
    assert!(matches!(error, AccessError::NoUsableKey { .. }), "{error}");
    assert!(error.to_string().contains(&stand.url("/")), "{error}");
    for _ in 0..3 {
        stand.next().await;
    }

    let access = start(vec![signer.key()], options.clone()).await.unwrap();
    access.verify(&signer.token("ada")).await.unwrap();
    assert_eq!(access.figures().key_sets[0].failed_fetches, 1);

    drop(stand);
    assert!(start(vec![], options).await.is_err());
    let mut none = AccessOptions::default();
    let authority = Authority::default();
    none.authorities = vec![AuthorityOptions { authority, keys: vec![], jwks: vec![] }];
    assert!(Access::start(none).await.is_err());
}

#[tokio::test]
async fn one_of_several_sets_is_enough_to_start() {
    let (there, later) = (Signer::new("there"), Signer::new("later"));
    let set = key_set(&[&there]);
    let up = Stand::start(move |_| set.clone()).await;
    let down = Stand::start(|_| Reply::Close).await;
    let mut options = AccessOptions::default();
    let jwks = vec![patient(&down.url("/")), patient(&up.url("/"))];
    options.authorities =
        vec![AuthorityOptions { authority: Authority::default(), keys: vec![], jwks }];
    let access = Access::start(options).await.unwrap();
    access.verify(&there.token("ada")).await.unwrap();
    let set = key_set(&[&later]);
    down.answer(move |_| set.clone());
    access.verify(&later.token("ada")).await.unwrap();
    access.verify(&there.token("ada")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_up_together_with_the_hub_is_waited_for() {
    let signer = Signer::new("a");
    let set = key_set(&[&signer]);
    let asked = std::sync::atomic::AtomicU32::new(0);
    let stand = Stand::start(move |_| {
        let is_up = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2;
        if is_up { set.clone() } else { Reply::Full(503, vec![], vec![]) }
    })
    .await;
    let mut options = patient(&stand.url("/"));
    options.backoff.first = Duration::from_millis(1);
    let access = start(vec![], options).await.unwrap();
    access.verify(&signer.token("ada")).await.unwrap();
}

#[tokio::test]
async fn sets_are_fetched_before_they_are_stale_and_nobody_waits_for_it() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let set = key_set(&[&old]);
    let mut stand = Stand::start(move |_| set.clone()).await;
    let mut options = patient(&stand.url("/"));
    options.age_max = Duration::from_millis(50);
    options.age_min = Duration::ZERO;
    options.backoff =
        Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(5) };
    let access = start(vec![], options).await.unwrap();
    for _ in 0..3 {
        stand.next().await;
    }
    // A fetch that hangs is in nobody's way.
    stand.answer(|_| Reply::Hang);
    while stand.unseen_count() > 0 {
        stand.next().await;
    }
    stand.next().await;
    access.verify(&old.token("ada")).await.unwrap();
    drop(access);

    let set = key_set(&[&new]);
    stand.answer(move |_| set.clone());
    let mut options = patient(&stand.url("/"));
    options.age_max = Duration::from_millis(50);
    options.age_min = Duration::ZERO;
    options.cooldown = Duration::from_secs(3600);
    let access = start(vec![], options).await.unwrap();
    check_is_unknown(&access, &old.token("ada")).await;
    // From here on no token can bring about a fetch.
    let set = key_set(&[&old]);
    stand.answer(move |_| set.clone());
    while access.verify(&old.token("ada")).await.is_err() {
        stand.next().await;
    }
}

#[tokio::test]
async fn unknown_keys_bring_about_one_fetch_within_the_cooldown() {
    let known = Signer::new("known");
    let set = key_set(&[&known]);
    let mut stand = Stand::start(move |_| set.clone()).await;
    let mut options = patient(&stand.url("/"));
    options.cooldown = Duration::from_secs(3600);
    let access = start(vec![], options).await.unwrap();
    stand.next().await;
    let stranger = Signer::new("stranger").token("eve");
    let tokens: Vec<_> =
        (0..20).map(|n| Signer::new(&format!("made up {n}")).token("eve")).collect();
    let mut asked = tokio::task::JoinSet::new();
    for token in std::iter::once(stranger).chain(tokens) {
        let access = access.clone();
        asked.spawn(async move { check_is_unknown(&access, &token).await });
    }
    asked.join_all().await;
    assert_eq!(stand.unseen_count(), 1);
    access.verify(&known.token("ada")).await.unwrap();
}

#[tokio::test]
async fn an_empty_set_does_not_turn_the_cooldown_off() {
    let known = Signer::new("known");
    let set = key_set(&[&known]);
    let mut stand = Stand::start(move |_| set.clone()).await;
    let mut options = patient(&stand.url("/"));
    options.cooldown = Duration::from_secs(3600);
    let access = start(vec![], options).await.unwrap();
    stand.next().await;
    stand.answer(|_| Reply::Json(r#"{"keys":[]}"#.to_owned()));
    for number in 0..20 {
        check_is_unknown(&access, &Signer::new(&format!("{number}")).token("eve")).await;
    }
    assert_eq!(stand.unseen_count(), 1);
}

#[tokio::test]
async fn a_key_that_was_looked_for_in_vain_is_not_looked_for_again_at_once() {
    let known = Signer::new("known");
    let gone = Signer::new("gone");
    let set = key_set(&[&known]);
    let mut stand = Stand::start(move |_| set.clone()).await;
    let mut options = patient(&stand.url("/"));
    options.unknown_for = Duration::from_secs(3600);
    let access = start(vec![], options).await.unwrap();
    stand.next().await;
    for _ in 0..10 {
        check_is_unknown(&access, &gone.token("ada")).await;
    }
    assert_eq!(stand.unseen_count(), 1);
    // Another one is, and a set that changed may have the first as well.
    let set = key_set(&[&gone]);
    stand.answer(move |_| set.clone());
    check_is_unknown(&access, &Signer::new("other").token("ada")).await;
    access.verify(&gone.token("ada")).await.unwrap();
}

#[tokio::test]
async fn bad_tokens_push_out_no_good_one() {
    let known = Signer::new("known");
    let mut options = AccessOptions::default();
    options.tokens_max = 100;
    let authority = Authority::default();
    options.authorities =
        vec![AuthorityOptions { authority, keys: vec![known.key()], jwks: vec![] }];
    let access = Access::start(options).await.unwrap();
    let good = known.token("ada");
    access.verify(&good).await.unwrap();
    let unsigned = &good[..=good.rfind('.').unwrap()];
    for number in 0..100_000 {
        let signature = format!("{number:086}");
        let refusal = refusal(&access, &format!("{unsigned}{signature}")).await;
        assert!(matches!(refusal, VerifyError::Token(_)), "{refusal}");
    }
    access.verify(&good).await.unwrap();
    let figures = access.figures();
    assert_eq!((figures.tokens_accepted, figures.tokens_cached), (2, 1));
    assert_eq!(figures.tokens_refused.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
}

#[tokio::test]
async fn other_authorities_take_their_place_as_a_whole_or_not_at_all() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let set = key_set(&[&old]);
    let stand = Stand::start(move |_| set.clone()).await;
    let other_set = key_set(&[&new]);
    let other = Stand::start(move |_| other_set.clone()).await;
    let sets = |stands: &[&Stand]| {
        let jwks = stands.iter().map(|stand| patient(&stand.url("/"))).collect();
        vec![AuthorityOptions { authority: Authority::default(), keys: vec![], jwks }]
    };
    let access = start(vec![], patient(&stand.url("/"))).await.unwrap();
    let token = old.token("ada");
    access.verify(&token).await.unwrap();

    // What is prepared and not adopted changes nothing.
    drop(access.prepare(sets(&[&other])).await.unwrap());
    access.verify(&token).await.unwrap();
    check_is_unknown(&access, &new.token("ada")).await;
    let mut unreachable = patient("http://127.0.0.1:1/keys");
    unreachable.backoff = Backoff { first: Duration::ZERO, longest: Duration::ZERO };
    let authority = Authority::default();
    let nobody = vec![AuthorityOptions { authority, keys: vec![], jwks: vec![unreachable] }];
    assert!(matches!(access.prepare(nobody).await, Err(AccessError::NoUsableKey { .. })));
    access.verify(&token).await.unwrap();

    assert!(access.adopt(access.prepare(sets(&[&stand, &other])).await.unwrap()).is_empty());
    let let_in = access.verify(&token).await.unwrap().identity.clone();
    access.verify(&new.token("ada")).await.unwrap();
    // A set that was known is, though its server is down meanwhile.
    stand.answer(|_| Reply::Close);
    access.adopt(access.prepare(sets(&[&stand])).await.unwrap());
    access.verify(&token).await.unwrap();
    check_is_unknown(&access, &new.token("ada")).await;
    assert!(access.still_vouches_for(&let_in));
    let withdrawn = access.adopt(access.prepare(sets(&[&other])).await.unwrap());
    assert_eq!(withdrawn, [let_in.vouched_by.unwrap()]);
    assert!(!access.still_vouches_for(&let_in));
    check_is_unknown(&access, &token).await;
    access.verify(&new.token("ada")).await.unwrap();

    let set = key_set(&[&old]);
    stand.answer(move |_| set.clone());
    let back = access.adopt(access.prepare(sets(&[&stand, &other])).await.unwrap());
    assert!(back.is_empty(), "what is believed again was taken back by mistake");
    assert!(access.still_vouches_for(&let_in));
}
