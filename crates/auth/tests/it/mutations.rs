//! No token that was changed is accepted, and nothing that is read makes the reader fail.

use proptest::prelude::*;
use tidings_auth::{Algorithm, Authority, Key, TokenError, parse_jwk_set, verify};

use crate::forge::{NOW, SECRET};

const TOKENS: &str = include_str!("keys/tokens.txt");

/// Every key of the tests, each for what its tokens are signed by.
fn keys() -> Vec<Key> {
    let secret = |algorithm| Key::parse(SECRET.as_bytes(), Some(algorithm)).unwrap();
    let rsa = |algorithm| Key::parse(crate::forge::RSA_PUBLIC.as_bytes(), Some(algorithm)).unwrap();
    let others = Key::parse(include_bytes!("keys/set.json"), None).unwrap();
    [Algorithm::Hs256, Algorithm::Hs384]
        .map(secret)
        .into_iter()
        .chain([Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512].map(rsa))
        .flatten()
        .chain(others)
        .collect()
}

fn read(token: &str, keys: &[Key]) -> Result<(), TokenError> {
    verify(token, &[(&Authority::default(), keys)], NOW).map(|_| ())
}

proptest! {
    #[test]
    fn a_token_with_other_characters_is_refused(
        line in 0..10_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[A-Za-z0-9_.=+/-]"), 1..4),
    ) {
        let keys = keys();
        let good = TOKENS.lines().nth(line).unwrap().split_once(' ').unwrap().1;
        let mut token = good.to_owned();
        for (at, with) in changes {
            let at = at.index(token.len());
            token.replace_range(at..=at, &with);
        }
        prop_assert_eq!(read(good, &keys), Ok(()));
        prop_assert_eq!(read(&token, &keys).is_ok(), token == good);
    }

    #[test]
    fn a_token_that_is_cut_or_joined_is_refused(
        lines in (0..10_usize, 0..10_usize),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let token = |line| TOKENS.lines().nth(line).unwrap().split_once(' ').unwrap().1;
        let (first, second) = (token(lines.0), token(lines.1));
        let (head, tail) = (&first[..cuts.0.index(first.len())], &second[cuts.1.index(second.len())..]);
        let joined = format!("{head}{tail}");
        let is_whole = joined == first || joined == second;
        prop_assert_eq!(read(&joined, &keys()).is_ok(), is_whole);
    }

    #[test]
    fn any_text_is_refused(token in ".{0,200}", parts in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){2}") {
        prop_assert!(read(&token, &keys()).is_err());
        prop_assert!(read(&parts, &keys()).is_err());
    }

    #[test]
    fn any_bytes_are_a_key_or_an_error(
        file in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let files = [
            include_str!("keys/rsa-certificate.pem"),
            include_str!("keys/p256-sec1.pem"),
            include_str!("keys/set.json"),
            SECRET,
        ];
        let mut bytes = files[file].as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(keys) = Key::parse(&bytes, None) {
            prop_assert!(!keys.is_empty());
        }
        if let Ok(keys) = parse_jwk_set(&bytes, None) {
            prop_assert!(keys.iter().all(|key| !key.algorithm().as_str().starts_with('H')));
        }
    }
}
