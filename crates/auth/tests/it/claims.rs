//! What claims give, when they hold, and which are refused.

use tidings_auth::{Authority, Claims, Grant, Key, SignError, SigningKey, TokenError, verify};
use tidings_core::{Rights, Selector};

use crate::forge::{NOW, SECRET, forge};

const HS256: &str = r#"{"alg":"HS256"}"#;

fn read(claims: &str, authority: &Authority, now: u64) -> Result<Grant, TokenError> {
    let keys = Key::parse(SECRET.as_bytes(), None).unwrap();
    verify(&forge(HS256, claims), &[(authority, &keys)], now)
}

fn rights(selectors: &[&str]) -> Rights {
    Rights::of(selectors.iter().map(|text| Selector::parse(text).unwrap()).collect())
}

/// The claims give these rights.
fn check(claims: &str, publish: Option<&[&str]>, subscribe: &[&str], operate: bool) {
    let grant = read(claims, &Authority::default(), NOW).expect(claims);
    assert_eq!(grant.publish, publish.map(rights), "{claims}");
    // Who operates the hub may know who is present.
    let presence: &[Selector] = if operate { &[Selector::All] } else { &[] };
    assert_eq!(grant.subscribe, rights(subscribe).with_presence(presence), "{claims}");
    assert_eq!(grant.presence, Rights::of(presence.to_vec()), "{claims}");
    assert_eq!(grant.operate, operate, "{claims}");
}

#[test]
fn rights_are_those_of_one_claim() {
    check("{}", None, &[], false);
    check(r#"{"mercure":{}}"#, None, &[], false);
    check(r#"{"mercure":{"publish":[]}}"#, Some(&[]), &[], false);
    check(r#"{"mercure":{"publish":null,"subscribe":null}}"#, None, &[], false);
    check(
        r#"{"mercure":{"publish":["a"],"subscribe":["b","c/{d}"]}}"#,
        Some(&["a"]),
        &["b", "c/{d}"],
        false,
    );
    check(r#"{"mercure":{"publish":["*"],"subscribe":["*"]}}"#, Some(&["*"]), &["*"], false);
    check(r#"{"https://mercure.rocks/":{"subscribe":["a"]}}"#, None, &["a"], false);
    check(
        r#"{"https://mercure.rocks/":{"subscribe":["a"]},"mercure":{"publish":["*"]}}"#,
        None,
        &["a"],
        false,
    );
    check(r#"{"tidings":{"subscribe":["a"]}}"#, None, &["a"], false);
    check(r#"{"tidings":{},"mercure":{"publish":["*"],"subscribe":["*"]}}"#, None, &[], false);
    check(r#"{"tidings":{"operate":true}}"#, None, &[], true);
    check(r#"{"tidings":{"operate":false,"publish":["a"]}}"#, Some(&["a"]), &[], false);
    // Only the hub's own claim makes an operator.
    check(r#"{"mercure":{"operate":true},"operate":true}"#, None, &[], false);
}

#[test]
fn who_is_present_is_for_those_whose_own_claim_says_so() {
    for (claims, presence) in [
        (
            r#"{"tidings":{"subscribe":["a"],"presence":["chat/{id}","b"]}}"#,
            &["chat/{id}", "b"][..],
        ),
        (r#"{"tidings":{"subscribe":["a"],"presence":["*"]}}"#, &["*"]),
        (r#"{"tidings":{"subscribe":["a"],"presence":null}}"#, &[]),
        (r#"{"mercure":{"subscribe":["a"],"presence":["b"]},"presence":["b"]}"#, &[]),
    ] {
        let grant = read(claims, &Authority::default(), NOW).expect(claims);
        let selectors = presence.iter().map(|text| Selector::parse(text).unwrap());
        let selectors: Vec<Selector> = selectors.collect();
        assert_eq!(grant.presence, rights(presence), "{claims}");
        assert_eq!(grant.subscribe, rights(&["a"]).with_presence(&selectors), "{claims}");
    }
    check_refused(r#"{"tidings":{"presence":"a"}}"#, "expected");
    check_refused(r#"{"tidings":{"presence":[""]}}"#, "presence: ");
}

#[test]
fn payloads_pass_as_they_are() {
    for (claims, payload) in [
        ("{}", None),
        (r#"{"mercure":{"payload":null}}"#, None),
        (r#"{"mercure":{"payload":{"a": [1, 2.50]}}}"#, Some(r#"{"a": [1, 2.50]}"#)),
        (r#"{"tidings":{"payload":"x"},"mercure":{"payload":"y"}}"#, Some(r#""x""#)),
    ] {
        let grant = read(claims, &Authority::default(), NOW).unwrap();
        assert_eq!(grant.payload.as_deref(), payload, "{claims}");
    }
}

/// The claims cannot be read, for a reason with these words.
fn check_refused(claims: &str, words: &str) {
    let error = read(claims, &Authority::default(), NOW).expect_err(claims);
    assert!(matches!(error, TokenError::BadClaims { .. }), "{claims}: {error:?}");
    assert!(error.to_string().contains(words), "{claims}: {error}");
}

#[test]
fn claims_of_another_type_are_errors() {
    for claims in [r#"["ann"]"#, "null", "7", "", "{", r#"{"sub":"a"}{}"#, r#"{"sub":"a",}"#] {
        check_refused(claims, "");
    }
    for moment in ["exp", "nbf", "iat"] {
        for (value, words) in [
            (r#""2000000000""#, "invalid type: string"),
            ("null", "invalid type: null"),
            ("true", "invalid type: boolean"),
            ("[2000000000]", "invalid type: sequence"),
            (r#"{"s":1}"#, "invalid type: map"),
            ("-1", "integer `-1`"),
            ("-0.5", "floating point `-0.5`"),
            ("NaN", "expected value"),
            ("Infinity", "expected value"),
            ("1e400", "number out of range"),
            ("1e300", "seconds since 1970"),
            ("2000000000000", "seconds since 1970"),
            ("18446744073709551615", "seconds since 1970"),
            ("99999999999999999999999999", "seconds since 1970"),
            ("0x7f", "expected"),
        ] {
            check_refused(&format!(r#"{{"{moment}":{value}}}"#), words);
        }
    }
    for name in ["iss", "sub", "jti"] {
        for (value, words) in [
            ("null", "invalid type: null"),
            ("7", "invalid type: integer"),
            (r#"["ann"]"#, "invalid type: sequence"),
            (r#""""#, "is empty"),
            (r#""a\r\nb""#, "control characters"),
            (r#""a\u0000""#, "control characters"),
            (r#""\ud800""#, "hex escape"),
            (&format!(r#""{}""#, "n".repeat(1025)), "more than 1024 bytes"),
        ] {
            check_refused(&format!(r#"{{"{name}":{value}}}"#), words);
        }
    }
    for aud in ["null", "7", "{}", "[7]", "[null]"] {
        check_refused(&format!(r#"{{"aud":{aud}}}"#), "invalid type");
    }
}

#[test]
fn rights_that_cannot_be_read_are_errors_rather_than_less() {
    for claim in ["mercure", "https://mercure.rocks/", "tidings"] {
        for (value, words) in [
            ("null", "expected an object"),
            ("true", "expected an object"),
            (r#"[["*"],["*"]]"#, "expected an object"),
            (r#"{"publish":"*"}"#, "a list of at most 1000 strings"),
            (r#"{"publish":[1]}"#, "expected a string"),
            (r#"{"publish":{"0":"*"}}"#, "a list of at most 1000 strings"),
            (r#"{"publish":[""]}"#, "publish: a selector has at least one character"),
            (r#"{"subscribe":["a\nb"]}"#, "subscribe: a selector has no control characters"),
            (r#"{"publish":["a"],"publish":["*"]}"#, "duplicate field `publish`"),
        ] {
            check_refused(&format!(r#"{{"{claim}":{value}}}"#), words);
        }
    }
    check_refused(r#"{"tidings":{"subcribe":["a"]}}"#, "unknown field `subcribe`");
    check_refused(r#"{"tidings":{"operate":"true"}}"#, "expected a boolean");
    check_refused(r#"{"tidings":{"operate":1}}"#, "expected a boolean");
    check_refused(r#"{"tidings":{"operate":null}}"#, "expected a boolean");
    // Also those that do not count.
    check_refused(r#"{"tidings":{},"mercure":{"publish":"*"}}"#, "a list of at most 1000 strings");
}

#[test]
fn members_that_mean_something_stand_once() {
    for claims in [
        r#"{"sub":"ann","sub":"root"}"#,
        r#"{"exp":2000000000,"exp":3000000000}"#,
        r#"{"exp":2000000000,"e\u0078p":3000000000}"#,
        r#"{"mercure":{},"mercure":{"publish":["*"]}}"#,
        r#"{"tidings":{"operate":false,"operate":true}}"#,
    ] {
        check_refused(claims, "duplicate field");
    }
}

#[test]
fn selectors_and_nesting_have_a_bound() {
    let selectors = |count: usize| {
        format!(r#"{{"mercure":{{"publish":[{}]}}}}"#, vec![r#""a""#; count].join(","))
    };
    check(&selectors(1000), Some(&["a"]), &[], false);
    check_refused(&selectors(1001), "a list of at most 1000 strings");
    let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    check(&nested(31), None, &[], false);
    check_refused(&nested(32), "nested deeper than 32");
    check_refused(&format!(r#"{{"x":{}"#, "[".repeat(4000)), "nested deeper than 32");
    check(&format!(r#"{{"x":"{}"}}"#, "[\\\"".repeat(100)), None, &[], false);
}

#[test]
fn complaints_are_short_and_on_one_line() {
    for claims in [
        format!(r#"{{"exp":"{}"}}"#, "x".repeat(4000)),
        format!(r#"{{"tidings":{{"a\r\nb{}":1}}}}"#, "x".repeat(4000)),
    ] {
        let text = read(&claims, &Authority::default(), NOW).unwrap_err().to_string();
        assert!(text.len() < 400 && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn a_token_holds_from_its_first_second_to_before_its_last() {
    let expired = |at| Err(TokenError::Expired { at });
    let early = |from| Err(TokenError::NotYetValid { from });
    for (claims, now, expected) in [
        (r#"{"exp":1000}"#, 999, Ok(())),
        (r#"{"exp":1000}"#, 1000, expired(1000)),
        (r#"{"exp":1000}"#, 1001, expired(1000)),
        (r#"{"exp":1000}"#, u64::MAX, expired(1000)),
        (r#"{"exp":0}"#, 0, expired(0)),
        (r#"{"exp":1000.5}"#, 999, Ok(())),
        (r#"{"exp":1000.5}"#, 1000, expired(1000)),
        (r#"{"exp":1e3}"#, 999, Ok(())),
        (r#"{"exp":253402300799}"#, 1000, Ok(())),
        ("{}", u64::MAX, Ok(())),
        (r#"{"nbf":1000}"#, 994, early(1000)),
        (r#"{"nbf":1000}"#, 995, Ok(())),
        (r#"{"nbf":1000.5}"#, 995, early(1001)),
        (r#"{"iat":1000}"#, 994, early(1000)),
        (r#"{"iat":1000}"#, 995, Ok(())),
        (r#"{"iat":1000,"nbf":2000}"#, 1500, early(2000)),
        (r#"{"nbf":2000,"exp":1000}"#, 1500, expired(1000)),
    ] {
        let answer = read(claims, &Authority::default(), now).map(|_| ());
        assert_eq!(answer, expected, "{claims} at {now}");
    }
}

#[test]
fn authorities_say_whose_tokens_they_trust() {
    let authority = Authority {
        issuer: Some("https://issuer.example".to_owned()),
        audiences: vec!["tidings".to_owned(), "https://hub.example".to_owned()],
        requires_expiry: true,
    };
    let whole = r#"{"iss":"https://issuer.example","aud":"tidings","exp":2000000000}"#;
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from));
        whole.replace(from, to)
    };
    let issuer = r#""iss":"https://issuer.example","#;
    let audience = r#""aud":"tidings","#;
    for (claims, expected) in [
        (whole.to_owned(), Ok(())),
        (with(r#""tidings""#, r#"["other","https://hub.example"]"#), Ok(())),
        (with(issuer, ""), Err(TokenError::WrongIssuer)),
        (with("issuer.example", "issuer.example/"), Err(TokenError::WrongIssuer)),
        (with("https", "HTTPS"), Err(TokenError::WrongIssuer)),
        (with(audience, ""), Err(TokenError::WrongAudience)),
        (with("tidings", "tiding"), Err(TokenError::WrongAudience)),
        (with("tidings", "Tidings"), Err(TokenError::WrongAudience)),
        (with(r#""tidings""#, "[]"), Err(TokenError::WrongAudience)),
        (with(r#""tidings""#, r#"["other"]"#), Err(TokenError::WrongAudience)),
        (with(r#","exp":2000000000"#, ""), Err(TokenError::MissingExpiry)),
        (with("2000000000", "1"), Err(TokenError::Expired { at: 1 })),
    ] {
        assert_eq!(read(&claims, &authority, NOW).map(|_| ()), expected, "{claims}");
    }
}

#[test]
fn a_key_vouches_for_its_own_authority_only() {
    let authority =
        |issuer: &str| Authority { issuer: Some(issuer.to_owned()), ..Authority::default() };
    let (a, b) = (authority("a"), authority("b"));
    let of_a = Key::parse(SECRET.as_bytes(), None).unwrap();
    let of_b = Key::parse(b"the secret of b, which is another", None).unwrap();
    let read = |issuer: &str, trusted: &[(&Authority, &[Key])]| {
        let claims = format!(r#"{{"iss":"{issuer}"}}"#);
        verify(&forge(HS256, &claims), trusted, NOW).map(|grant| grant.identity.issuer.clone())
    };
    let trusted = [(&b, &of_b[..]), (&a, &of_a[..])];
    assert_eq!(read("a", &trusted), Ok(Some("a".into())));
    assert_eq!(read("b", &trusted), Err(TokenError::WrongIssuer));
    // One key may be that of several.
    assert_eq!(read("b", &[(&a, &of_a), (&b, &of_a)]), Ok(Some("b".into())));
    assert_eq!(read("c", &[(&a, &of_a), (&b, &of_a)]), Err(TokenError::WrongIssuer));
    assert_eq!(read("a", &[(&b, &of_b)]), Err(TokenError::BadSignature));
    assert_eq!(read("a", &[(&a, &[])]), Err(TokenError::UnknownKey { id: None }));
    assert_eq!(read("a", &[]), Err(TokenError::UnknownKey { id: None }));
}

#[test]
fn only_what_a_hub_accepts_is_minted() {
    let key = SigningKey::parse(SECRET.as_bytes(), None).unwrap();
    let refused = |claims: Claims| match key.sign(&claims) {
        Err(SignError::BadClaims { reason }) => reason,
        other => panic!("{claims:?}: {other:?}"),
    };
    let publish = |selectors: Vec<String>| Claims { publish: Some(selectors), ..Claims::default() };
    assert!(refused(publish(vec![String::new()])).starts_with("publish: "));
    assert!(refused(publish(vec!["a".to_owned(); 1001])).contains("at most 1000"));
    let payload = Some("{".to_owned());
    assert!(refused(Claims { payload, ..Claims::default() }).starts_with("payload: "));
    let user = Some("a\n".to_owned());
    assert!(refused(Claims { user, ..Claims::default() }).starts_with("sub "));
    let milliseconds = Some(2_000_000_000_000);
    assert!(refused(Claims { expires_at: milliseconds, ..Claims::default() }).contains("1970"));
    let long = publish((0..1000).map(|n| format!("orders/{n}")).collect());
    assert!(matches!(key.sign(&long), Err(SignError::TooLong { bytes: 8193.. })));
}

#[test]
fn an_operators_token_says_all_of_its_rights() {
    let key = SigningKey::parse(SECRET.as_bytes(), None).unwrap();
    let claims = Claims {
        operate: true,
        presence: Some(vec!["b".to_owned()]),
        publish: Some(vec!["a".to_owned()]),
        audience: vec!["tidings".to_owned()],
        issued_at: Some(NOW),
        not_before: Some(NOW),
        ..Claims::default()
    };
    let keys = [key.verifying_key().clone()];
    let authority = Authority { audiences: claims.audience.clone(), ..Authority::default() };
    let grant = verify(&key.sign(&claims).unwrap(), &[(&authority, &keys)], NOW).unwrap();
    assert!(grant.operate);
    assert_eq!(grant.publish, Some(rights(&["a"])));
    assert_eq!(grant.subscribe, Rights::public_only().with_presence(&[Selector::All]));
    assert_eq!(grant.presence, rights(&["*"]));
}

#[test]
fn a_token_that_tells_who_is_present_says_so() {
    let key = SigningKey::parse(SECRET.as_bytes(), None).unwrap();
    let claims = Claims { presence: Some(vec!["a".to_owned()]), ..Claims::default() };
    let keys = [key.verifying_key().clone()];
    let token = key.sign(&claims).unwrap();
    let grant = verify(&token, &[(&Authority::default(), &keys)], NOW).unwrap();
    assert_eq!((grant.presence, grant.operate), (rights(&["a"]), false));
}
