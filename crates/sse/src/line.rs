//! Lines, which end at CR, LF or CRLF. No other character ends a line.

use memchr::memchr2;

/// Finds the first CR or LF.
#[inline]
pub(crate) fn find_line_end(bytes: &[u8]) -> Option<usize> {
    memchr2(b'\r', b'\n', bytes)
}

/// The lines of a whole text, without their ends.
///
/// A text with n line ends has n + 1 lines, so the empty text has one. Line ends are searched for
/// once, at the speed of `memchr`.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: Some(text.as_bytes()) }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some(end) = find_line_end(rest) else { return Some(rest) };
        let end_bytes = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        self.rest = Some(&rest[end + end_bytes..]);
        Some(&rest[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    fn check(text: &str, expected: &[&str]) {
        let lines: Vec<&str> =
            Lines::new(text).map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, expected, "{text:?}");
    }

    #[test]
    fn text_splits_at_cr_lf_and_crlf_only() {
        check("", &[""]);
        check("a", &["a"]);
        check("a\nb\rc\r\nd", &["a", "b", "c", "d"]);
        check("\n", &["", ""]);
        check("\r\n", &["", ""]);
        check("\n\r", &["", "", ""]);
        check("\r\r\n\n", &["", "", "", ""]);
        check("a\u{2028}b\u{85}c\u{b}\u{c}", &["a\u{2028}b\u{85}c\u{b}\u{c}"]);
    }
}
