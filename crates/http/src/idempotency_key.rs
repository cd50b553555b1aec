//! The `Idempotency-Key` header: makes repeating a request harmless without touching its body.

use std::fmt::Write;

use aws_lc_rs::digest;
use axum::http::{HeaderMap, HeaderValue};
use tidings::{Identity, Key, Record};

use crate::header_names::IDEMPOTENCY_KEY;
use crate::problem::{Kind, Problem};
use crate::record_input::{check_key, sentence};

/// The header's key, which stands for the request as a whole.
#[derive(Debug)]
pub(crate) struct RequestKey(String);

/// Keys for the events of a request, counted from 1: `<key>:1`, `<key>:2` and so on.
#[derive(Debug)]
pub(crate) struct NumberedKeys {
    text: String,
    prefix_bytes: usize,
    given: u64,
}

impl RequestKey {
    /// Reads the header: the key as it is, or as a string in quotes as structured fields have it
    /// (RFC 9651, section 3.3.3).
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(invalid("Give the header once."));
        }
        let text = unquoted(value).ok_or_else(|| {
            invalid("Give it in UTF-8, as it is or between quotation marks that it does not hold.")
        })?;
        let key = Key::parse(&text).map_err(|error| invalid(sentence(&error)))?;
        check_key(&key).map_err(|problem| problem.field("Idempotency-Key"))?;
        Ok(Some(Self(text)))
    }

    /// Gives the key to the only event of the request.
    pub(crate) fn give_to(self, record: &mut Record) -> Result<(), Problem> {
        let key = Key::parse(&self.0).map_err(|error| invalid(sentence(&error)))?;
        if record.key.as_ref().is_some_and(|own| *own != key) {
            return Err(invalid("Give one key: the event has another one than the header."));
        }
        record.key = Some(key);
        Ok(())
    }

    pub(crate) fn numbered(self) -> Result<NumberedKeys, Problem> {
        let Self(mut text) = self;
        text.push(':');
        let prefix_bytes = text.len();
        if prefix_bytes + NUMBER_BYTES_MAX > Key::BYTES_MAX {
            let most = Key::BYTES_MAX - NUMBER_BYTES_MAX - 1;
            let detail = format!("Give at most {most} bytes: each event gets a number behind it.");
            return Err(invalid(detail));
        }
        Ok(NumberedKeys { text, prefix_bytes, given: 0 })
    }
}

impl NumberedKeys {
    /// Counts an event, and gives it the key with its number unless it has one of its own.
    pub(crate) fn give_to(&mut self, record: &mut Record) {
        self.given += 1;
        if record.key.is_none() {
            self.text.truncate(self.prefix_bytes);
            write!(self.text, "{}", self.given).expect("a string takes everything");
            record.key = Key::parse(&self.text).ok();
        }
    }
}

fn unquoted(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut characters = quoted.strip_suffix('"')?.chars();
    let mut key = String::with_capacity(quoted.len());
    while let Some(character) = characters.next() {
        key.push(match character {
            '\\' => characters.next().filter(|it| matches!(it, '"' | '\\'))?,
            '"' => return None,
            character => character,
        });
    }
    Some(key)
}

/// Makes a key one of the user's own: otherwise any publisher could keep the event of another from
/// being published, by using its key first. Tokens without a user, as backends have them, share their
/// keys.
pub(crate) fn make_own(record: &mut Record, identity: &Identity) {
    let (Some(key), Some(user)) = (&record.key, &identity.user) else { return };
    let mut owner = digest::Context::new(&digest::SHA256);
    for part in [identity.issuer.as_deref().unwrap_or_default(), user] {
        // So that no two pairs read the same.
        owner.update(&(part.len() as u64).to_le_bytes());
        owner.update(part.as_bytes());
    }
    let owner = hex(&owner.finish().as_ref()[..OWNER_BYTES]);
    let own = Key::parse(&format!("{owner}~{}", key.as_str()));
    // One that is too long with its owner is known by its digest.
    let own = own.or_else(|_| {
        let key = digest::digest(&digest::SHA256, key.as_str().as_bytes());
        Key::parse(&format!("{owner}~~{}", hex(key.as_ref())))
    });
    record.key = own.ok();
}

/// Enough that no two users are taken for one.
const OWNER_BYTES: usize = 12;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::InvalidKey, detail).field("Idempotency-Key")
}

/// Digits of the largest number.
const NUMBER_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use tidings::Topic;

    use super::*;

    fn key_of(values: &[&[u8]]) -> Result<Option<RequestKey>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        RequestKey::of(&headers)
    }

    fn record(key: Option<&str>) -> Record {
        let record = Record::new([Topic::parse("a").unwrap()], "");
        Record { key: key.map(|key| Key::parse(key).unwrap()), ..record }
    }

    fn check(value: &[u8], expected: Option<&str>) {
        let key = key_of(&[value]).ok().map(|key| key.unwrap().0);
        assert_eq!(key.as_deref(), expected, "{}", value.escape_ascii());
    }

    #[test]
    fn a_key_stands_as_it_is_or_in_quotes() {
        check(b"order-42", Some("order-42"));
        check(b"\"order-42\"", Some("order-42"));
        check(br#""a\"b\\c""#, Some(r#"a"b\c"#));
        check("ü".as_bytes(), Some("ü"));
        check(b"a\"b", Some("a\"b"));
        for wrong in [
            &b""[..],
            b"tidings.presence:joined",
            b"\"\"",
            b"\"",
            b"\"a",
            b"\"a\"b\"",
            br#""a\b""#,
            b"\xff",
            b"a\tb",
        ] {
            check(wrong, None);
        }
        check(&[b'x'; 256], Some(&"x".repeat(256)));
        check(&[b'x'; 257], None);
        assert!(key_of(&[]).unwrap().is_none());
        assert!(key_of(&[b"a", b"a"]).is_err());
    }

    #[test]
    fn one_event_has_the_key_and_no_other() {
        for (own, expected) in [(None, true), (Some("k"), true), (Some("other"), false)] {
            let mut record = record(own);
            let given = key_of(&[b"k"]).unwrap().unwrap().give_to(&mut record);
            assert_eq!(given.is_ok(), expected, "{own:?}");
            assert_eq!(record.key.unwrap().as_str(), if expected { "k" } else { "other" });
        }
    }

    #[test]
    fn several_events_have_numbered_keys_unless_they_have_their_own() {
        let mut keys = key_of(&[b"import"]).unwrap().unwrap().numbered().unwrap();
        let mut records = [None, None, Some("own"), None].map(record);
        records.iter_mut().for_each(|record| keys.give_to(record));
        let given = records.map(|record| record.key.unwrap().to_string());
        assert_eq!(given, ["import:1", "import:2", "own", "import:4"]);
        assert!(key_of(&[&[b'x'; 235]]).unwrap().unwrap().numbered().is_ok());
        assert!(key_of(&[&[b'x'; 236]]).unwrap().unwrap().numbered().is_err());
    }
}
