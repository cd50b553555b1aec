//! What the fuzz target `token` checks. The stable tests replay its corpus through the same
//! function.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use tidings_auth::{Authority, Grant, Key, parse_jwk_set, verify};
use tidings_core::{Rights, Selector};

/// Checks that nothing which is read makes the reader fail, and that what a token gives is what a
/// lenient reader finds in it.
///
/// The first byte says what the rest is: a header and claims, cut at the first line end, which are
/// signed with a trusted key; a whole token; or a file of keys.
pub(crate) fn check_token(input: &[u8]) {
    let Some((&way, rest)) = input.split_first() else { return };
    match way % 4 {
        0 | 1 => check_signed(rest, way % 4 == 1),
        2 => {
            let keys = Key::parse(SECRET, None).unwrap();
            let text = String::from_utf8_lossy(rest);
            assert!(verify(&text, &[(&Authority::default(), &keys)], NOW).is_err());
        }
        _ => check_keys(rest),
    }
}

const SECRET: &[u8] = b"the secret of the fuzzed tokens, known to all";
const NOW: u64 = 1_900_000_000;

fn check_signed(input: &[u8], is_strict: bool) {
    let (header, claims) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&br#"{"alg":"HS256"}"#[..], input),
    };
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));

    let keys = Key::parse(SECRET, None).unwrap();
    let authority = Authority {
        issuer: is_strict.then(|| "i".to_owned()),
        audiences: is_strict.then(|| "a".to_owned()).into_iter().collect(),
        requires_expiry: is_strict,
    };
    let Ok(grant) = verify(&token, &[(&authority, &keys)], NOW) else { return };
    let header: Value = serde_json::from_slice(header).unwrap_or_default();
    assert!(header.is_null() || header["alg"] == "HS256", "{header}");
    assert!(header["crit"].is_null() && header["b64"].is_null(), "{header}");
    // A lenient reader reads all of it, and so may fail where nothing matters.
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else { return };
    check_grant(&grant, &claims);
    if is_strict {
        let audience = claims["aud"].as_array().cloned().unwrap_or(vec![claims["aud"].clone()]);
        assert!(claims["iss"] == "i" && audience.contains(&"a".into()), "{claims}");
        assert!(grant.expires_at.is_some(), "{claims}");
    }
}

fn check_grant(grant: &Grant, claims: &Value) {
    let names = [&grant.identity.issuer, &grant.identity.user, &grant.identity.token_id];
    for (name, value) in ["iss", "sub", "jti"].into_iter().zip(names) {
        assert_eq!(claims.get(name).map(|text| text.as_str().unwrap()), value.as_deref());
    }
    let moment = |name: &str| claims.get(name).map(|number| number.as_f64().unwrap());
    assert_eq!(moment("exp").map(|at| at as u64), grant.expires_at);
    assert!(moment("exp").is_none_or(|at| at > NOW as f64), "{claims}");
    assert!(moment("nbf").is_none_or(|at| at <= (NOW + 5) as f64), "{claims}");

    let own = claims.get("tidings");
    let rights = own.or(claims.get("https://mercure.rocks/")).or(claims.get("mercure"));
    let list = |name: &str| {
        let texts = rights?.get(name)?.as_array()?.iter();
        Some(Rights::of(texts.map(|text| selector(text.as_str().unwrap())).collect()))
    };
    assert_eq!(grant.publish, list("publish"), "{claims}");
    let operate = own.is_some_and(|own| own["operate"] == true);
    assert_eq!(grant.operate, operate, "{claims}");
    let texts = own.and_then(|own| own.get("presence")?.as_array());
    let texts = texts.into_iter().flatten().map(|text| selector(text.as_str().unwrap()));
    let presence: Vec<_> = if operate { vec![Selector::All] } else { texts.collect() };
    let subscribe = list("subscribe").unwrap_or(Rights::public_only());
    assert_eq!(grant.subscribe, subscribe.with_presence(&presence), "{claims}");
    assert_eq!(grant.presence, Rights::of(presence), "{claims}");
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn check_keys(bytes: &[u8]) {
    if let Ok(keys) = Key::parse(bytes, None) {
        assert!(!keys.is_empty() && keys.len() <= Key::COUNT_MAX);
    }
    if let Ok(keys) = parse_jwk_set(bytes, None) {
        assert!(keys.iter().all(|key| !key.algorithm().as_str().starts_with('H')));
        assert!(keys.len() <= Key::COUNT_MAX);
    }
}
