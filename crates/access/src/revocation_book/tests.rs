use std::fs;

use super::*;

const FAR: UnixSeconds = 200_000_000_000;

fn open(folder: &Path) -> RevocationBook {
    RevocationBook::open(Some(folder), 10).unwrap()
}

fn identity(issuer: Option<&str>, token_id: &str) -> Identity {
    Identity {
        issuer: issuer.map(Into::into),
        token_id: Some(token_id.into()),
        ..Identity::default()
    }
}

async fn revoke(
    book: &RevocationBook,
    issuer: Option<&str>,
    token_id: &str,
    until: UnixSeconds,
) -> Result<(), RevokeError> {
    book.revoke(Revocation { issuer, token_id, until }).await
}

#[tokio::test]
async fn what_is_blocked_is_blocked_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    revoke(&book, None, "one", FAR).await.unwrap();
    revoke(&book, Some("a\n\"b\""), "two", FAR).await.unwrap();
    // Nothing is written at the end, so to forget the book is to crash.
    std::mem::forget(book);
    let book = open(folder.path());
    let check = |issuer, token_id, is_revoked| {
        let now = unix_seconds();
        assert_eq!(book.is_revoked(&identity(issuer, token_id), now), is_revoked, "{token_id}");
    };
    check(None, "one", true);
    check(Some("any"), "one", true);
    check(Some("a\n\"b\""), "two", true);
    check(Some("any"), "two", false);
    check(None, "three", false);
    assert_eq!((book.len(), book.list().len()), (2, 2));
}

#[tokio::test]
async fn what_is_over_leaves_memory_and_disk() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"tokenId\":\"over\",\"until\":1}\n".repeat(3);
    let still = format!("{{\"tokenId\":\"still\",\"until\":{FAR}}}\n");
    let path = folder.path().join(FILE_NAME);
    fs::write(&path, lines + &still).unwrap();
    let book = open(folder.path());
    assert_eq!(book.list().len(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), still);
}

#[tokio::test]
async fn a_lowered_bound_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    for number in 0..10 {
        revoke(&book, None, &number.to_string(), FAR).await.unwrap();
    }
    let refusal = revoke(&book, None, "one more", FAR).await.unwrap_err();
    assert!(matches!(refusal, RevokeError::Refused(_)), "{refusal}");
    drop(book);
    let book = RevocationBook::open(Some(folder.path()), 1).unwrap();
    assert_eq!(book.len(), 10);
}

#[tokio::test]
async fn a_damaged_file_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, is_good: bool| {
        fs::write(folder.path().join(FILE_NAME), text).unwrap();
        let opened = RevocationBook::open(Some(folder.path()), 10);
        assert_eq!(opened.is_ok(), is_good, "{text}: {opened:?}");
    };
    let good = format!("{{\"tokenId\":\"a\",\"until\":{FAR}}}\n");
    check(&good, true);
    check(&good[..good.len() - 1], true);
    check("{\"tokenId\":\"a\"}\n", false);
    check(&format!("{{\"tokenId\":\"\",\"until\":{FAR}}}\n"), false);
    check(&format!("{{\"tokenId\":\"a\",\"until\":{FAR},\"more\":1}}\n"), false);
    check(&format!("garbage\n{good}"), false);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_blocks_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let journal = book.journal.clone().unwrap();
    let full = fs::OpenOptions::new().append(true).open("/dev/full");
    let Ok(full) = full else { return };
    journal.lock().unwrap().replace_file(full);
    let refusal = revoke(&book, None, "a", FAR).await.unwrap_err();
    assert!(matches!(refusal, RevokeError::NotKept { .. }), "{refusal}");
    assert!(book.is_revoked(&identity(None, "a"), unix_seconds()));
}

#[tokio::test]
async fn the_file_does_not_grow_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    for until in 0..150 {
        revoke(&book, None, "again and again", FAR + until).await.unwrap();
    }
    let lines = book.journal.as_ref().unwrap().lock().unwrap().line_count();
    assert!(lines <= 103, "{lines}");
    drop(book);
    let book = open(folder.path());
    assert_eq!(book.list()[0].until, FAR + 149);
}
