//! Idempotency keys, as far as the command line can tell whether they are any.

/// Reads a key.
pub(super) fn parse_key(text: &str) -> Result<String, String> {
    check(text, KEY_BYTES_MAX)
}

/// Reads what stands before the number of a line.
pub(super) fn parse_key_prefix(text: &str) -> Result<String, String> {
    check(text, KEY_BYTES_MAX - NUMBER_BYTES_MAX)
}

fn check(text: &str, bytes_max: usize) -> Result<String, String> {
    if text.is_empty() {
        return Err("this is empty".into());
    }
    if text.len() > bytes_max {
        return Err(format!("this is longer than {bytes_max} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("this has control characters".into());
    }
    Ok(text.to_owned())
}

/// The longest key a hub takes.
const KEY_BYTES_MAX: usize = 256;

/// The colon and the longest number of a line.
const NUMBER_BYTES_MAX: usize = 1 + 20;

#[cfg(test)]
mod tests {
    use super::{parse_key, parse_key_prefix};

    #[track_caller]
    fn check(parse: fn(&str) -> Result<String, String>, text: &str, expected: Result<(), &str>) {
        let expected = expected.map(|()| text.to_owned()).map_err(str::to_owned);
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_no_key_can_be_is_refused_before_anything_is_sent() {
        check(parse_key, "order 42: späť", Ok(()));
        check(parse_key, "", Err("this is empty"));
        check(parse_key, "a\tb", Err("this has control characters"));
        check(parse_key, &"k".repeat(257), Err("this is longer than 256 bytes"));
        check(parse_key_prefix, &"k".repeat(236), Err("this is longer than 235 bytes"));
        let longest = "k".repeat(235);
        check(parse_key_prefix, &longest, Ok(()));
        check(parse_key, &format!("{longest}:{}", u64::MAX), Ok(()));
    }
}
