//! Idempotency keys, as far as the command line can tell whether they are any.

use tidings::{Key, KeyError};

/// Reads a key.
pub(super) fn parse_key(text: &str) -> Result<String, KeyError> {
    Key::parse(text).map(|key| key.to_string())
}

/// Reads what stands before the number of a line.
pub(super) fn parse_key_prefix(text: &str) -> Result<String, String> {
    parse_key(text).map_err(|error| error.to_string())?;
    let longest = numbered_key(text, u64::MAX);
    parse_key(&longest).map_err(|error| format!("with the number of a line: {error}"))?;
    Ok(text.to_owned())
}

/// The key of the line `number`.
pub(super) fn numbered_key(prefix: &str, number: u64) -> String {
    format!("{prefix}:{number}")
}

#[cfg(test)]
mod tests {
    use super::{parse_key, parse_key_prefix};

    #[track_caller]
    fn check(text: &str, key: Result<(), &str>, prefix: Result<(), &str>) {
        let read = |wrong: Result<(), &str>| wrong.map(|()| text.to_owned()).map_err(str::to_owned);
        assert_eq!(parse_key(text).map_err(|error| error.to_string()), read(key));
        assert_eq!(parse_key_prefix(text), read(prefix));
    }

    #[test]
    fn what_no_key_can_be_is_refused_before_anything_is_sent() {
        let empty = "a key has at least one character; leave it out for none";
        let control = "a key has no control characters";
        let long = "a key has at most 256 bytes, this one has 257";
        let with_number =
            "with the number of a line: a key has at most 256 bytes, this one has 257";
        check("order 42: späť", Ok(()), Ok(()));
        check("", Err(empty), Err(empty));
        check("a\tb", Err(control), Err(control));
        check(&"k".repeat(235), Ok(()), Ok(()));
        check(&"k".repeat(236), Ok(()), Err(with_number));
        check(&"k".repeat(257), Err(long), Err(long));
    }
}
