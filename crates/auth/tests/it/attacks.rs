//! Tokens made to deceive. Each is refused, and for the reason that is documented.

use jsonwebtoken::{Algorithm as By, EncodingKey};
use tidings_auth::{Authority, Key, TOKEN_BYTES_MAX, verify};

use crate::forge::{CLAIMS, NOW, P256, RSA, RSA_PUBLIC, SECRET, base64url, forge, hmac, sign};

const MALFORMED: &str = "not a token that can be read: ";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The keys of a hub that trusts a secret, an RSA key with an id, and a P-256 key.
fn keys() -> Vec<Key> {
    let rsa = include_str!("keys/set.json").replace("PS256", "RS256");
    let mut keys = Key::parse(SECRET.as_bytes(), None).unwrap();
    let rsa = Key::parse(rsa.as_bytes(), None).unwrap();
    keys.extend(rsa.into_iter().filter(|key| key.id() == Some("rsa")));
    keys.extend(Key::parse(P256.as_bytes(), None).unwrap());
    keys
}

/// The token is refused with a reason that begins like this.
fn check(name: &str, token: &str, reason: &str) {
    let authority = Authority { requires_expiry: true, ..Authority::default() };
    let error = verify(token, &[(&authority, &keys())], NOW).expect_err(name).to_string();
    assert!(error.starts_with(reason), "{name}: {error}");
}

/// As [`check`], for a header signed with the secret by HS256.
fn check_header(header: &str, reason: &str) {
    check(header, &forge(header, CLAIMS), reason);
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap()
}

#[test]
fn the_honest_tokens_among_them_are_accepted() {
    let header = |alg: &str| format!(r#"{{"alg":"{alg}"}}"#);
    let ec = EncodingKey::from_ec_pem(P256.as_bytes()).unwrap();
    for token in [
        forge(HS256, CLAIMS),
        sign(header("RS256").as_bytes(), CLAIMS.as_bytes(), &rsa(), By::RS256),
        sign(header("ES256").as_bytes(), CLAIMS.as_bytes(), &ec, By::ES256),
    ] {
        verify(&token, &[(&Authority::default(), &keys())], NOW).unwrap();
    }
}

#[test]
fn a_public_key_is_not_a_secret() {
    let public = RSA_PUBLIC;
    for secret in
        [public, public.trim_end(), &public.replace('\n', ""), &public.replace('\n', "\r\n")]
    {
        let token = sign(HS256.as_bytes(), CLAIMS.as_bytes(), &hmac(secret), By::HS256);
        check("RSA public key as the secret of HS256", &token, "the signature is not");
        let named = r#"{"alg":"HS256","kid":"rsa"}"#;
        let token = sign(named.as_bytes(), CLAIMS.as_bytes(), &hmac(secret), By::HS256);
        check("the same, and named", &token, r#"no key is for the algorithm "HS256""#);
    }
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let by_rsa = |alg: &str, by| {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        sign(header.as_bytes(), CLAIMS.as_bytes(), &rsa(), by)
    };
    let no_key = "no key is for the algorithm";
    check("another size", &by_rsa("RS512", By::RS512), no_key);
    check("another padding", &by_rsa("PS256", By::PS256), no_key);
    check("one in the header, another in truth", &by_rsa("RS256", By::PS256), "the signature is");
    check("RSA called EC", &by_rsa("ES256", By::RS256), "the signature is");
    check("RSA called HMAC", &by_rsa("HS256", By::RS256), "the signature is");
    let longer =
        sign(br#"{"alg":"HS512"}"#, CLAIMS.as_bytes(), &hmac(SECRET.trim_end()), By::HS512);
    check("the secret with a longer hash", &longer, no_key);
    let quiet = sign(br#"{"alg":"HS256"}"#, CLAIMS.as_bytes(), &hmac(SECRET.trim_end()), By::HS512);
    check("the same, and kept quiet", &quiet, "the signature is");
}

#[test]
fn none_is_no_algorithm_however_it_is_spelt() {
    for name in ["none", "None", "NONE", "nOnE", "", " none", "none\\u0000", "n\\u006fne", "null"] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let reason = "no key is for the algorithm";
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(CLAIMS.as_bytes()));
        check(&header, &format!("{message}."), reason);
        check(&header, &format!("{message}.{}", base64url(b"x")), reason);
        check(&header, &forge(&header, CLAIMS), reason);
    }
    for header in
        [r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":0}"#, "{}", r#"{"ALG":"HS256"}"#]
    {
        check_header(header, MALFORMED);
    }
    for name in ["hs256", "HS256 ", "HS-256", "HMAC", "SHA256", "EdDSA448", "dir", "ES256K"] {
        check_header(&format!(r#"{{"alg":"{name}"}}"#), "no key is for the algorithm");
    }
}

#[test]
fn a_key_id_is_only_looked_up() {
    let long = "k".repeat(257);
    for (id, reason) in [
        ("", "no key has the id"),
        ("../../../dev/null", "no key has the id"),
        ("/proc/self/environ", "no key has the id"),
        ("file:///etc/passwd", "no key has the id"),
        ("https://attacker.example/key", "no key has the id"),
        ("' OR '1'='1", "no key has the id"),
        ("x' UNION SELECT 'key", "no key has the id"),
        ("| openssl rand", "no key has the id"),
        ("rsa\\u0000", "no key has the id"),
        ("\\u0000", "no key has the id"),
        ("\\r\\nx-injected: 1", r#"no key has the id "\r\nx-injected: 1""#),
        (&"k".repeat(256), "no key has the id"),
        (&long, "not a token that can be read: the key id is longer"),
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"{id}"}}"#);
        let token = sign(
            header.as_bytes(),
            CLAIMS.as_bytes(),
            &hmac("an attacker's own secret"),
            By::HS256,
        );
        check(&header, &token, reason);
    }
    for id in ["null", "1", r#"["rsa"]"#, r#"{"a":1}"#] {
        check_header(&format!(r#"{{"alg":"HS256","kid":{id}}}"#), MALFORMED);
    }
    // The id of a key of another algorithm does not lead to that of one without an id.
    check_header(r#"{"alg":"HS256","kid":"rsa"}"#, "no key is for the algorithm");
}

#[test]
fn keys_that_a_token_brings_are_not_looked_at() {
    let mine = include_str!("keys/ed25519.pem");
    let key = EncodingKey::from_ed_pem(mine.as_bytes()).unwrap();
    let x = include_str!("keys/set.json").split(r#""crv":"Ed25519","x":""#).nth(1).unwrap();
    let x = x.split('"').next().unwrap();
    for brought in [
        format!(r#""jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        r#""jku":"https://attacker.example/keys.json""#.to_owned(),
        r#""x5u":"https://attacker.example/chain.pem""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
        r#""x5t":"AAAA""#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"EdDSA",{brought}}}"#);
        let token = sign(header.as_bytes(), CLAIMS.as_bytes(), &key, By::EdDSA);
        check(&header, &token, "no key is for the algorithm");
        let header = format!(r#"{{"alg":"HS256",{brought}}}"#);
        let token = sign(header.as_bytes(), CLAIMS.as_bytes(), &hmac(x), By::HS256);
        check(&header, &token, "the signature is not");
    }
}

#[test]
fn headers_are_read_strictly() {
    let header = |more: &str| format!(r#"{{"alg":"HS256",{more}}}"#);
    let needs = "not a token that can be read: it needs an extension";
    for (more, reason) in [
        (r#""crit":["exp"],"exp":1"#, needs),
        (r#""crit":["b64"],"b64":false"#, needs),
        (r#""crit":[]"#, needs),
        (r#""crit":null"#, needs),
        (r#""b64":true"#, needs),
        (r#""enc":"A256GCM""#, "not a token that can be read: it is encrypted"),
        (r#""zip":"DEF""#, "not a token that can be read: it is encrypted"),
        (r#""typ":"logout+jwt""#, "not a token that can be read: it is of another type"),
        (r#""typ":"dpop+jwt""#, "not a token that can be read: it is of another type"),
        (r#""typ":7"#, "not a token that can be read: header"),
        (r#""alg":"none""#, "not a token that can be read: header: duplicate"),
        (r#""kid":"a","kid":"b""#, "not a token that can be read: header: duplicate"),
    ] {
        check_header(&header(more), reason);
    }
    let nested = header(&format!(r#""x":{}{}"#, "[".repeat(40), "]".repeat(40)));
    check_header(&nested, "not a token that can be read: header: nested deeper");
    for header in [
        "",
        "x",
        "null",
        "[]",
        r#"["HS256"]"#,
        r#""HS256""#,
        r#"{"alg":"HS256"}x"#,
        "{\"alg\":\"HS256\"}\0",
        "\u{feff}{\"alg\":\"HS256\"}",
        r#"{"alg":"HS256",}"#,
    ] {
        check_header(header, "not a token that can be read: header");
    }
    let garbage = sign(
        b"{\"alg\":\"HS256\",\"x\":\"\xff\"}",
        CLAIMS.as_bytes(),
        &hmac(SECRET.trim_end()),
        By::HS256,
    );
    check("not UTF-8, where it means nothing", &garbage, MALFORMED);
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        let token = forge(&header(&format!(r#""typ":"{typ}""#)), CLAIMS);
        verify(&token, &[(&Authority::default(), &keys())], NOW).unwrap();
    }
}

#[test]
fn the_compact_form_has_one_spelling() {
    let good = forge(HS256, CLAIMS);
    let parts: Vec<&str> = good.split('.').collect();
    let (message, signature) = good.rsplit_once('.').unwrap();
    // 43 characters hold 258 bits, of which the last two mean nothing.
    let same_bytes = ["A", "B", "C", "D"].map(|last| format!("{}{last}", &signature[..42]));
    for token in same_bytes.iter().map(|other| format!("{message}.{other}")).filter(|t| *t != good)
    {
        assert!(verify(&token, &[(&Authority::default(), &keys())], NOW).is_err(), "{token}");
    }
    let three = "not a token that can be read: not three parts";
    let not_base64 = "not a token that can be read: the signature is not base64url";
    for (name, token, reason) in [
        ("nothing", String::new(), three),
        ("dots", "..".to_owned(), MALFORMED),
        ("more dots", "....".to_owned(), three),
        ("no signature", message.to_owned(), three),
        ("an empty signature", format!("{message}."), "the signature is not that"),
        ("a signature of nothing else", format!("..{signature}"), MALFORMED),
        ("another part", format!("{good}.{signature}"), three),
        ("a dot at the end", format!("{good}."), three),
        ("an encrypted token", format!("{good}.{signature}.{signature}"), three),
        (
            "half a signature",
            format!("{message}.{}", &signature[..20]),
            "the signature is not that",
        ),
        ("padding", format!("{good}="), not_base64),
        ("a line end", format!("{good}\n"), not_base64),
        ("a space", format!("{good} "), not_base64),
        ("a space before", format!(" {good}"), MALFORMED),
        ("NUL", format!("{good}\0"), not_base64),
        ("another alphabet", format!("{message}.+{}", &signature[1..]), not_base64),
        ("not ASCII", format!("{message}.\u{131}{}", &signature[2..]), not_base64),
        ("padded header", format!("{}=.{}.{signature}", parts[0], parts[1]), MALFORMED),
        (
            "claims of another",
            format!("{}.{}.{signature}", parts[0], base64url(b"{}")),
            "the signature is not that",
        ),
        ("the wrong way round", format!("{}.{}.{signature}", parts[1], parts[0]), MALFORMED),
        ("JSON", r#"{"payload":"","signatures":[]}"#.to_owned(), three),
        ("with its scheme", format!("Bearer {good}"), MALFORMED),
    ] {
        check(name, &token, reason);
    }
}

#[test]
fn a_token_has_a_bound() {
    let claims = |bytes: usize| format!(r#"{{"exp":2000000000,"x":"{}"}}"#, "x".repeat(bytes));
    for (bytes, is_accepted) in [(0, true), (5900, true), (6100, false), (100_000, false)] {
        let token = forge(HS256, &claims(bytes));
        assert_eq!(token.len() <= TOKEN_BYTES_MAX, is_accepted);
        match verify(&token, &[(&Authority::default(), &keys())], NOW) {
            Ok(_) => assert!(is_accepted, "{bytes}"),
            Err(e) => assert_eq!(e.to_string(), "the token is longer than 8192 bytes", "{bytes}"),
        }
    }
    check("dots without end", &".".repeat(8192), "not a token that can be read: not three parts");
}

#[test]
fn somebody_elses_key_opens_nothing() {
    let other = "another secret that is long enough";
    check(
        "another secret",
        &sign(HS256.as_bytes(), CLAIMS.as_bytes(), &hmac(other), By::HS256),
        "the signature is not",
    );
    check(
        "an empty secret",
        &sign(HS256.as_bytes(), CLAIMS.as_bytes(), &hmac(""), By::HS256),
        "the signature is not",
    );
    let with_line_end = sign(HS256.as_bytes(), CLAIMS.as_bytes(), &hmac(SECRET), By::HS256);
    check("the line end of the file", &with_line_end, "the signature is not");
}

/// What an ECDSA signature of zeros once opened elsewhere (CVE-2022-21449).
#[test]
fn signatures_of_zeros_open_nothing() {
    for (alg, bytes) in [("ES256", 64), ("RS256", 256), ("HS256", 32)] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(CLAIMS.as_bytes()));
        for byte in [0, 1, 255] {
            let signature = base64url(&vec![byte; bytes]);
            check(alg, &format!("{message}.{signature}"), "the signature is not");
        }
        check(alg, &format!("{message}."), "the signature is not");
    }
}

#[test]
fn a_der_signature_is_not_a_fixed_one() {
    // JWS has r and s as they are (RFC 7518 section 3.4); TLS has them in DER.
    let ec = EncodingKey::from_ec_pem(P256.as_bytes()).unwrap();
    let good = sign(br#"{"alg":"ES256"}"#, CLAIMS.as_bytes(), &ec, By::ES256);
    let (message, _) = good.rsplit_once('.').unwrap();
    let der = [&[0x30, 6, 2, 1, 1, 2, 1, 1][..], &[0; 56]].concat();
    check("DER", &format!("{message}.{}", base64url(&der)), "the signature is not");
}
