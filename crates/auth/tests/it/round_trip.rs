//! Every algorithm: tokens of OpenSSL are read, and another implementation reads ours.

use std::sync::Arc;

use jsonwebtoken::{DecodingKey, EncodingKey, Validation, decode};
use serde_json::Value;
use tidings_auth::{Algorithm, Authority, Claims, Grant, Key, SigningKey, TokenError, verify};
use tidings_core::{Identity, Rights, Selector};

use crate::forge::{NOW, P256, RSA, RSA_PUBLIC, SECRET};

/// Each algorithm with what signs and what verifies it.
const PAIRS: [(Algorithm, &str, &str); 10] = [
    (Algorithm::Hs256, SECRET, SECRET),
    (Algorithm::Hs384, SECRET, SECRET),
    (Algorithm::Hs512, SECRET, SECRET),
    (Algorithm::Rs256, RSA, RSA_PUBLIC),
    (Algorithm::Rs384, RSA, RSA_PUBLIC),
    (Algorithm::Rs512, RSA, RSA_PUBLIC),
    (Algorithm::Ps256, RSA, RSA_PUBLIC),
    (Algorithm::Es256, P256, include_str!("keys/p256-public.pem")),
    (Algorithm::Es384, include_str!("keys/p384.pem"), include_str!("keys/p384-public.pem")),
    (Algorithm::EdDsa, include_str!("keys/ed25519.pem"), include_str!("keys/ed25519-public.pem")),
];

const OF_OPENSSL: &str = include_str!("keys/tokens.txt");

fn rights(selector: &str) -> Rights {
    Rights::of(vec![Selector::parse(selector).unwrap()])
}

/// What the tokens of this file say.
fn anns() -> (Claims, Grant) {
    let claims = Claims {
        issuer: Some("https://issuer.example".to_owned()),
        user: Some("ann".to_owned()),
        token_id: Some("t-1".to_owned()),
        publish: Some(vec!["orders/{id}".to_owned()]),
        subscribe: Some(vec!["users/ann".to_owned()]),
        expires_at: Some(2_000_000_000),
        payload: Some(r#"{"name":"Ann"}"#.to_owned()),
        ..Claims::default()
    };
    let grant = Grant {
        identity: Arc::new(Identity {
            issuer: Some("https://issuer.example".into()),
            user: Some("ann".into()),
            token_id: Some("t-1".into()),
            ..Identity::default()
        }),
        publish: Some(rights("orders/{id}")),
        subscribe: rights("users/ann"),
        presence: Rights::public_only(),
        operate: false,
        expires_at: Some(2_000_000_000),
        payload: Some(r#"{"name":"Ann"}"#.into()),
    };
    (claims, grant)
}

/// What the token gives, and by which key.
fn vouched_for(mut grant: Grant, key: &Key) -> Grant {
    Arc::make_mut(&mut grant.identity).vouched_by = Some(key.mark(None));
    grant
}

/// The token is good with the key of its algorithm, and with no other.
fn check(algorithm: Algorithm, token: &str) {
    let (_, grant) = anns();
    for (other, _, key) in PAIRS {
        let keys = Key::parse(key.as_bytes(), Some(other)).unwrap();
        let expected = if other == algorithm {
            Ok(vouched_for(grant.clone(), &keys[0]))
        } else {
            Err(TokenError::WrongAlgorithm { name: algorithm.as_str().into() })
        };
        let answer = verify(token, &[(&Authority::default(), &keys)], NOW);
        assert_eq!(answer, expected, "{algorithm} with a key for {other}");
    }
}

#[test]
fn tokens_of_openssl_are_good_with_their_key_alone() {
    for line in OF_OPENSSL.lines() {
        let (algorithm, token) = line.split_once(' ').unwrap();
        check(algorithm.parse().unwrap(), token);
    }
    assert_eq!(OF_OPENSSL.lines().count(), Algorithm::ALL.len());
}

#[test]
fn minted_tokens_are_good_with_their_key_alone() {
    for (algorithm, key, _) in PAIRS {
        let key = SigningKey::parse(key.as_bytes(), Some(algorithm)).unwrap();
        check(algorithm, &key.sign(&anns().0).unwrap());
        assert_eq!(key.verifying_key().algorithm(), algorithm);
    }
}

#[test]
fn another_implementation_reads_what_is_minted() {
    for (algorithm, private, public) in PAIRS {
        let token = SigningKey::parse(private.as_bytes(), Some(algorithm)).unwrap();
        let token = token.sign(&anns().0).unwrap();
        let key = match algorithm.as_str().as_bytes()[0] {
            b'H' => DecodingKey::from_secret(public.trim_end().as_bytes()),
            b'R' | b'P' => DecodingKey::from_rsa_pem(public.as_bytes()).unwrap(),
            _ if algorithm == Algorithm::EdDsa => {
                DecodingKey::from_ed_pem(public.as_bytes()).unwrap()
            }
            _ => DecodingKey::from_ec_pem(public.as_bytes()).unwrap(),
        };
        let mut validation = Validation::new(algorithm.as_str().parse().unwrap());
        validation.validate_exp = false;
        let read = decode::<Value>(&token, &key, &validation).unwrap();
        assert_eq!(read.claims["sub"], "ann", "{algorithm}");
        assert_eq!(read.claims["mercure"]["publish"][0], "orders/{id}", "{algorithm}");
    }
}

#[test]
fn what_another_implementation_mints_is_read() {
    for (algorithm, private, _) in PAIRS {
        let key = match algorithm.as_str().as_bytes()[0] {
            b'H' => EncodingKey::from_secret(private.trim_end().as_bytes()),
            b'R' | b'P' => EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
            _ if algorithm == Algorithm::EdDsa => {
                EncodingKey::from_ed_pem(private.as_bytes()).unwrap()
            }
            _ => EncodingKey::from_ec_pem(private.as_bytes()).unwrap(),
        };
        let header = jsonwebtoken::Header::new(algorithm.as_str().parse().unwrap());
        let claims = serde_json::json!({
            "iss": "https://issuer.example",
            "sub": "ann",
            "jti": "t-1",
            "exp": 2_000_000_000,
            "mercure": {
                "publish": ["orders/{id}"],
                "subscribe": ["users/ann"],
                "payload": { "name": "Ann" },
            },
        });
        check(algorithm, &jsonwebtoken::encode(&header, &claims, &key).unwrap());
    }
}

#[test]
fn a_minted_token_names_its_key() {
    let set = include_bytes!("keys/set.json");
    let keys = Key::parse(set, None).unwrap();
    let key = SigningKey::parse(set, None).unwrap();
    assert_eq!(
        (key.verifying_key().id(), key.verifying_key().algorithm()),
        (Some("rsa"), Algorithm::Ps256)
    );
    let token = key.sign(&anns().0).unwrap();
    assert_eq!(
        verify(&token, &[(&Authority::default(), &keys)], NOW),
        Ok(vouched_for(anns().1, &keys[0]))
    );
    let others = &keys[1..];
    assert_eq!(
        verify(&token, &[(&Authority::default(), others)], NOW),
        Err(TokenError::UnknownKey { id: Some("rsa".to_owned()) })
    );
}
