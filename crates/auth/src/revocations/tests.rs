use super::*;

fn revocation<'a>(issuer: Option<&'a str>, token_id: &'a str, until: u64) -> Revocation<'a> {
    Revocation { issuer, token_id, until }
}

fn identity(issuer: Option<&str>, token_id: Option<&str>) -> Identity {
    Identity {
        issuer: issuer.map(Into::into),
        token_id: token_id.map(Into::into),
        ..Identity::default()
    }
}

/// With these blocked at 0, whether a token is blocked at 50.
fn check(blocked: &[Revocation<'_>], issuer: Option<&str>, token_id: Option<&str>, expected: bool) {
    let mut revocations = Revocations::new(10);
    for one in blocked {
        revocations.revoke(*one, 0).unwrap();
    }
    let identity = identity(issuer, token_id);
    assert_eq!(revocations.is_revoked(&identity, 50), expected, "{blocked:?} {identity:?}");
}

#[test]
fn a_token_is_blocked_by_its_id_and_issuer() {
    let of_a = [revocation(Some("a"), "t", 100)];
    check(&of_a, Some("a"), Some("t"), true);
    check(&of_a, Some("b"), Some("t"), false);
    check(&of_a, None, Some("t"), false);
    check(&of_a, Some("a"), Some("tt"), false);
    check(&of_a, Some("a"), Some(""), false);
    check(&of_a, Some("a"), None, false);
    check(&[], Some("a"), Some("t"), false);
}

#[test]
fn without_an_issuer_it_is_blocked_for_all_of_them() {
    let of_all = [revocation(None, "t", 100)];
    check(&of_all, Some("a"), Some("t"), true);
    check(&of_all, None, Some("t"), true);
    check(&of_all, None, None, false);
}

#[test]
fn a_token_stays_blocked_for_as_long_as_was_ever_said() {
    for (untils, expected) in
        [(&[50][..], false), (&[51], true), (&[100, 10], true), (&[10, 100], true)]
    {
        let all: Vec<_> = untils.iter().map(|until| revocation(Some("a"), "t", *until)).collect();
        check(&all, Some("a"), Some("t"), expected);
        let mut revocations = Revocations::new(1);
        all.iter().for_each(|one| revocations.revoke(*one, 0).unwrap());
        assert_eq!(revocations.len(), 1);
    }
}

#[test]
fn what_blocks_nothing_is_told() {
    let long = "x".repeat(1025);
    for (one, expected) in [
        (revocation(None, "", 100), RevocationError::NotAName),
        (revocation(None, &long, 100), RevocationError::NotAName),
        (revocation(Some(""), "t", 100), RevocationError::NotAName),
        (revocation(Some(&long), "t", 100), RevocationError::NotAName),
        (revocation(None, "t", 50), RevocationError::Over),
        (revocation(None, "t", 0), RevocationError::Over),
    ] {
        let mut revocations = Revocations::new(10);
        assert_eq!(revocations.revoke(one, 50), Err(expected), "{one:?}");
        assert!(revocations.is_empty());
    }
}

#[test]
fn as_many_are_blocked_as_may_be_and_those_that_are_over_make_room() {
    let mut revocations = Revocations::new(2);
    revocations.revoke(revocation(None, "a", 10), 0).unwrap();
    revocations.revoke(revocation(Some("i"), "a", 20), 0).unwrap();
    assert_eq!(revocations.revoke(revocation(None, "b", 30), 9), Err(RevocationError::Full));
    // What is blocked already needs no room.
    revocations.revoke(revocation(Some("i"), "a", 40), 9).unwrap();
    revocations.revoke(revocation(None, "b", 30), 10).unwrap();
    let listed: Vec<_> = revocations.iter().collect();
    assert_eq!(listed, [revocation(Some("i"), "a", 40), revocation(None, "b", 30)]);
    revocations.forget_over(30);
    assert_eq!(revocations.iter().count(), revocations.len());
    revocations.forget_over(40);
    assert!(revocations.is_empty() && revocations.by_token_id.is_empty());
}

#[test]
fn the_list_blocks_what_it_was_made_of() {
    let mut revocations = Revocations::new(10);
    for (issuer, token_id, until) in [(None, "b", 5), (Some("i"), "a", 6), (Some("j"), "a", 7)] {
        revocations.revoke(revocation(issuer, token_id, until), 0).unwrap();
    }
    let mut read = Revocations::new(10);
    revocations.iter().for_each(|one| read.revoke(one, 0).unwrap());
    assert!(read.iter().eq(revocations.iter()));
}
