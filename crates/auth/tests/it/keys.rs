//! What becomes a key, for which algorithm, and what is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tidings_auth::{Algorithm, Key, KeyError, SigningKey, parse_jwk_set};

use crate::forge::SECRET;

/// A file of `keys/`.
macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("keys/", $name))
    };
}

const SET: &str = file!("set.json");

/// One key for `expected`, and it can sign if and only if it is not public.
fn check(text: &str, wanted: Option<Algorithm>, expected: Algorithm, is_private: bool) {
    let keys = Key::parse(text.as_bytes(), wanted).expect(text);
    assert_eq!(keys.iter().map(Key::algorithm).collect::<Vec<_>>(), [expected], "{text}");
    match SigningKey::parse(text.as_bytes(), wanted) {
        Ok(key) => assert!(is_private && key.verifying_key().algorithm() == expected, "{text}"),
        Err(e) => assert!(!is_private && e == KeyError::Public, "{text}: {e}"),
    }
}

fn refusal(text: &str, wanted: Option<Algorithm>) -> KeyError {
    Key::parse(text.as_bytes(), wanted).expect_err(text)
}

#[test]
fn keys_are_read_in_every_form_that_openssl_writes() {
    for (private, public, algorithm) in [
        (file!("rsa.pem"), file!("rsa-public.pem"), Algorithm::Rs256),
        (file!("rsa-pkcs1.pem"), file!("rsa-public-pkcs1.pem"), Algorithm::Rs256),
        (file!("rsa.pem"), file!("rsa-certificate.pem"), Algorithm::Rs256),
        (file!("rsa.pem"), file!("rsa-certificate-v1.pem"), Algorithm::Rs256),
        (file!("p256.pem"), file!("p256-public.pem"), Algorithm::Es256),
        (file!("p256-sec1.pem"), file!("p256-certificate.pem"), Algorithm::Es256),
        (file!("p384.pem"), file!("p384-public.pem"), Algorithm::Es384),
        (file!("ed25519.pem"), file!("ed25519-public.pem"), Algorithm::EdDsa),
        (file!("ed25519.pem"), file!("ed25519-certificate.pem"), Algorithm::EdDsa),
    ] {
        check(private, None, algorithm, true);
        check(public, None, algorithm, false);
        check(&private.replace('\n', "\r\n"), None, algorithm, true);
        check(&format!("subject=CN = tidings\n{public}"), Some(algorithm), algorithm, false);
    }
    check(SECRET, None, Algorithm::Hs256, true);
}

#[test]
fn the_algorithm_may_be_chosen_where_the_key_leaves_a_choice() {
    for algorithm in [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256] {
        check(file!("rsa.pem"), Some(algorithm), algorithm, true);
        check(file!("rsa-public.pem"), Some(algorithm), algorithm, false);
    }
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        check(SECRET, Some(algorithm), algorithm, true);
    }
}

#[test]
fn a_key_is_not_for_the_algorithms_of_others() {
    for (text, own, kind) in [
        (SECRET, &[Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512][..], "a secret"),
        (
            file!("rsa-public.pem"),
            &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256],
            "an RSA key",
        ),
        (file!("p256-public.pem"), &[Algorithm::Es256], "a P-256 key"),
        (file!("p384.pem"), &[Algorithm::Es384], "a P-384 key"),
        (file!("ed25519-certificate.pem"), &[Algorithm::EdDsa], "an Ed25519 key"),
    ] {
        for algorithm in Algorithm::ALL.into_iter().filter(|other| !own.contains(other)) {
            let expected = KeyError::WrongAlgorithm { algorithm, kind };
            assert_eq!(refusal(text, Some(algorithm)), expected);
        }
    }
}

#[test]
fn secrets_are_as_long_as_their_hashes() {
    for (algorithm, bytes_min) in
        [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)]
    {
        let long = &SECRET[..bytes_min];
        check(long, Some(algorithm), algorithm, true);
        check(&format!("{long}\n"), Some(algorithm), algorithm, true);
        let bytes = bytes_min - 1;
        let expected = KeyError::TooShort { algorithm, bytes, bytes_min };
        // A line end does not make it longer.
        assert_eq!(refusal(&format!("{}\r\n", &long[1..]), Some(algorithm)), expected);
    }
}

#[test]
fn what_is_no_secret_does_not_become_one() {
    let body = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let is = |kind| KeyError::NotASecret { kind };
    let frame = is("a public key without its PEM frame");
    for (text, expected) in [
        ("", KeyError::Empty),
        (" \n\t", KeyError::Empty),
        ("!ChangeThisMercureHubJWTSecretKey!", KeyError::Guessable),
        ("a-string-secret-at-least-256-bits-long", KeyError::Guessable),
        ("00000000000000000000000000000000", KeyError::Guessable),
        ("abcabcabcabcabcabcabcabcabcabcabcabcabc", KeyError::Guessable),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ5 ann@example", is("an SSH key")),
        ("https://issuer.example/.well-known/jwks.json", is("a URL")),
        (&body(file!("rsa-public.pem")), frame.clone()),
        (&body(file!("p256-public.pem")), frame.clone()),
        (&body(file!("rsa-certificate.pem")), frame.clone()),
        (&body(file!("ed25519-public.pem")), frame),
        (file!("rsa-encrypted.pem"), KeyError::Encrypted),
        (file!("rsa-encrypted-pkcs8.pem"), KeyError::Encrypted),
        (file!("rsa-1024.pem"), KeyError::RsaLength),
        (file!("rsa-1024-public.pem"), KeyError::RsaLength),
    ] {
        assert_eq!(refusal(text, None), expected, "{text}");
    }
    for text in
        [file!("p521.pem"), file!("p521-public.pem"), file!("ed448.pem"), file!("ed448-public.pem")]
    {
        assert!(matches!(refusal(text, None), KeyError::Unsupported { .. }), "{text}");
    }
    let pem = file!("rsa-public.pem");
    for text in [
        &pem[..200],
        &pem.replace("MII", "MIJ"),
        &pem.replace('M', "!"),
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        "-----BEGIN ",
        "{",
        "{}",
        r#"{"keys":7}"#,
        r#"{"kty":"oct"}"#,
        r#"{"password":"this is what somebody thought of"}"#,
    ] {
        let error = refusal(text, None);
        let is_told = matches!(error, KeyError::Malformed { .. } | KeyError::Unsupported { .. });
        assert!(is_told, "{text}: {error}");
    }
    assert!(matches!(Key::parse(&[0x30, 0x82, 1, 0x22], None), Err(KeyError::Malformed { .. })));
}

#[test]
fn several_keys_may_stand_in_one_file() {
    let both = [file!("rsa-public.pem"), file!("ed25519.pem")].concat();
    let keys = Key::parse(both.as_bytes(), None).unwrap();
    let algorithms: Vec<_> = keys.iter().map(Key::algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Rs256, Algorithm::EdDsa]);
    // Of a chain only the first signs tokens.
    let chain = [file!("p256-certificate.pem"), file!("rsa-certificate.pem")].concat();
    check(&chain, None, Algorithm::Es256, false);
    let served = [file!("p256-certificate.pem"), file!("p256-sec1.pem")].concat();
    let key = SigningKey::parse(served.as_bytes(), None).unwrap();
    assert_eq!(key.verifying_key().algorithm(), Algorithm::Es256);
    let many = file!("p256-public.pem").repeat(101);
    assert_eq!(refusal(&many, None), KeyError::TooMany);
    // A bad one is not passed over.
    let bad = [file!("rsa-public.pem"), file!("rsa-1024.pem")].concat();
    assert_eq!(refusal(&bad, None), KeyError::RsaLength);
}

fn listed(keys: &[Key]) -> Vec<(&str, Algorithm)> {
    keys.iter().map(|key| (key.id().unwrap_or_default(), key.algorithm())).collect()
}

#[test]
fn a_set_in_a_file_may_hold_secrets_and_a_fetched_one_may_not() {
    let public = [
        ("rsa", Algorithm::Ps256),
        ("p256", Algorithm::Es256),
        ("p384", Algorithm::Es384),
        ("ed25519", Algorithm::EdDsa),
    ];
    assert_eq!(listed(&parse_jwk_set(SET.as_bytes(), None).unwrap()), public);
    let all: Vec<_> = public.into_iter().chain([("secret", Algorithm::Hs512)]).collect();
    assert_eq!(listed(&Key::parse(SET.as_bytes(), None).unwrap()), all);
    for key in SET.lines().filter(|line| line.contains("kid")) {
        SigningKey::parse(key.trim_end_matches(',').as_bytes(), None).unwrap();
    }
}

/// Each line of the set, changed so, is left out of a fetched set.
#[test]
fn keys_that_cannot_be_used_are_left_out_of_a_set() {
    let line =
        |kid: &str| SET.lines().find(|line| line.contains(kid)).unwrap().trim_end_matches(',');
    let ec = line(r#""p256""#);
    let rsa = line(r#""rsa""#);
    let ed = line(r#""ed25519""#);
    for (key, from, to) in [
        (ec, r#""EC""#, r#""XX""#),
        (ec, r#""EC""#, "7"),
        (ec, r#""EC""#, r#""OKP""#),
        (ec, "P-256", "P-384"),
        (ec, "P-256", "secp256k1"),
        (ec, r#""x":""#, r#""x":"A"#),
        (ec, r#""x":""#, r#""x":"AAAA"#),
        (ec, r#""x""#, r#""z""#),
        (ec, r#""y""#, r#""x""#),
        (ec, r#""kid""#, r#""use":"enc","kid""#),
        (ec, r#""kid""#, r#""key_ops":["sign"],"kid""#),
        (ec, r#""kid""#, r#""alg":"ES384","kid""#),
        (ec, r#""kid""#, r#""alg":"ECDH-ES","kid""#),
        (ec, r#""kid""#, r#""alg":"none","kid""#),
        (rsa, r#""PS256""#, r#""HS256""#),
        (rsa, r#""PS256""#, r#""RSA-OAEP""#),
        (rsa, r#""AQAB""#, r#""AQ""#),
        (rsa, r#""AQAB""#, r#""Ag""#),
        (rsa, r#""AQAB""#, r#""""#),
        (rsa, r#""n":""#, r#""n":"","m":""#),
        (rsa, r#""use":"sig""#, r#""use":"SIG""#),
        (ed, "Ed25519", "X25519"),
        (ed, r#""x":""#, r#""x":"AAAA"#),
    ] {
        assert!(key.contains(from), "{key} {from}");
        let set = format!(r#"{{"keys":[{},{ec}]}}"#, key.replacen(from, to, 1));
        let keys = parse_jwk_set(set.as_bytes(), None).unwrap();
        assert_eq!(listed(&keys), [("p256", Algorithm::Es256)], "{to}");
    }
    let small = r#"{"kty":"RSA","e":"AQAB","n":"vV4L5SYHbVRyFDu7tVFcYFlJCzZMQFLJtOCAHTSFF4wBDMlGPeqMv5bl8RyS2Cz9s_8tgKXH1eEfaWWRM_Lb5w"}"#;
    let set = format!(r#"{{"keys":[{small},7,null,[],"x",{{}}]}}"#);
    assert_eq!(listed(&parse_jwk_set(set.as_bytes(), None).unwrap()), []);
}

/// The same 64 bytes, cut elsewhere, are no other spelling of a key.
#[test]
fn coordinates_have_the_length_of_their_curve() {
    let line = SET.lines().find(|line| line.contains(r#""p256""#)).unwrap();
    let key: serde_json::Value = serde_json::from_str(line.trim_end_matches(',')).unwrap();
    let decode = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [decode("x"), decode("y")].concat();
    let point = &point;
    for (cut, is_key) in [(32, true), (30, false), (34, false), (64, false)] {
        let [x, y] = [&point[..cut], &point[cut..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let key = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#);
        assert_eq!(Key::parse(key.as_bytes(), None).is_ok(), is_key, "{cut}");
    }
}

#[test]
fn what_a_key_does_not_say_is_taken_from_the_options() {
    let unsaid = SET.replace(r#""alg":"PS256","#, "");
    let rsa = |wanted| {
        let keys = parse_jwk_set(unsaid.as_bytes(), wanted).unwrap();
        listed(&keys).into_iter().map(|(_, algorithm)| algorithm).collect::<Vec<_>>()
    };
    assert_eq!(rsa(None)[0], Algorithm::Rs256);
    assert_eq!(rsa(Some(Algorithm::Rs512)), [Algorithm::Rs512]);
    assert_eq!(rsa(Some(Algorithm::Hs256)), []);
    // What it says counts, and another wish leaves it out.
    assert_eq!(listed(&parse_jwk_set(SET.as_bytes(), Some(Algorithm::Rs256)).unwrap()), []);
}

#[test]
fn sets_are_sets() {
    assert_eq!(listed(&parse_jwk_set(br#"{"keys":[]}"#, None).unwrap()), []);
    assert_eq!(refusal(r#"{"keys":[]}"#, None), KeyError::Empty);
    for text in [
        "",
        "[]",
        "null",
        "<html>",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"[[]]"#,
        "{}",
        r#"{"keys":[],"keys":[]}"#,
    ] {
        let answer = parse_jwk_set(text.as_bytes(), None);
        assert!(matches!(answer, Err(KeyError::Malformed { .. })), "{text}: {answer:?}");
    }
    let many = format!(r#"{{"keys":[{}]}}"#, ["{}"; 101].join(","));
    assert_eq!(parse_jwk_set(many.as_bytes(), None).unwrap_err(), KeyError::TooMany);
}

#[test]
fn keys_do_not_show_their_secrets() {
    let shown = format!(
        "{:?} {:?}",
        Key::parse(SECRET.as_bytes(), None),
        SigningKey::parse(SECRET.as_bytes(), None)
    );
    assert!(!shown.contains(&SECRET[..8]), "{shown}");
}
