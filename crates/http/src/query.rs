//! Names and values as HTML forms encode them, in a query or in a body.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A name or a value is not UTF-8 once it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotUtf8;

/// Decodes `a=1&b=2` as `application/x-www-form-urlencoded`, in order, repeated names included.
/// Values stay bytes until [`text`] is asked for.
pub(crate) fn pairs(encoded: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    encoded.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let mut next = || decode(halves.next().unwrap_or_default());
        (next(), next())
    })
}

/// A decoded value as text.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    String::from_utf8(bytes).map_err(|_| NotUtf8)
}

fn decode(encoded: &[u8]) -> Vec<u8> {
    let spaced: Cow<'_, [u8]> = if encoded.contains(&b'+') {
        encoded.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect()
    } else {
        encoded.into()
    };
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoded: &str, expected: &[(&str, &[u8])]) {
        let decoded: Vec<_> = pairs(encoded.as_bytes()).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect();
        assert_eq!(decoded, expected, "{encoded}");
    }

    #[test]
    fn pairs_are_decoded_in_order() {
        check("", &[]);
        check("a=1&b=2&a=3", &[("a", b"1"), ("b", b"2"), ("a", b"3")]);
        check("a&b=&=c&&d==", &[("a", b""), ("b", b""), ("", b"c"), ("d", b"=")]);
        check("a=x+y%2Bz%20", &[("a", b"x y+z ")]);
        check("a=%zz%4", &[("a", b"%zz%4")]);
        check("a=%ff", &[("a", b"\xff")]);
    }

    #[test]
    fn text_is_utf8_or_nothing() {
        assert_eq!(text(b"\xff".to_vec()), Err(NotUtf8));
        assert_eq!(text("ü".as_bytes().to_vec()), Ok("ü".to_owned()));
    }
}
