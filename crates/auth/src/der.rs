//! The little of DER that finds the public key of a certificate.

/// Returns the `SubjectPublicKeyInfo` of a certificate (RFC 5280 section 4.1), tag and length
/// included. Whether the certificate is valid, and who signed it, is not looked at.
pub(crate) fn public_key_of_certificate(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = Element::split(certificate)?;
    let (to_be_signed, _) = Element::split(certificate.of(SEQUENCE)?)?;
    let mut rest = to_be_signed.of(SEQUENCE)?;
    let (first, after_first) = Element::split(rest)?;
    if first.tag == VERSION {
        rest = after_first;
    }
    // Serial number, signature algorithm, issuer, validity and subject come before it.
    for _ in 0..5 {
        rest = Element::split(rest)?.1;
    }
    let (key, _) = Element::split(rest)?;
    key.of(SEQUENCE)?;
    Some(key.whole)
}

struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

pub(crate) const SEQUENCE: u8 = 0x30;

/// The explicit tag of the version, which is absent in version 1.
const VERSION: u8 = 0xa0;

impl<'a> Element<'a> {
    /// Takes the first element off `der`.
    fn split(der: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, after_tag) = der.split_first()?;
        let (&length, after_length) = after_tag.split_first()?;
        let (length, content) = if length < 0x80 {
            (usize::from(length), after_length)
        } else {
            let (digits, content) = after_length.split_at_checked(usize::from(length & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), content)
        };
        let (content, rest) = content.split_at_checked(length)?;
        let whole = &der[..der.len() - rest.len()];
        Some((Self { tag, whole, content }, rest))
    }

    fn of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of these parts, and the key that is found.
    fn check(parts: &[&[u8]], key: Option<&[u8]>) {
        let wrap = |content: &[u8]| [&[SEQUENCE, content.len() as u8][..], content].concat();
        let certificate = wrap(&wrap(&parts.concat()));
        assert_eq!(public_key_of_certificate(&certificate), key, "{parts:?}");
    }

    #[test]
    fn the_key_is_the_element_after_five() {
        let (version, one, key) = (&[VERSION, 1, 9][..], &[2, 1, 7][..], &[SEQUENCE, 1, 5][..]);
        check(&[one, one, one, one, one, key], Some(key));
        check(&[version, one, one, one, one, one, key, one], Some(key));
        check(&[one, one, one, one, key], None);
        check(&[one, version, one, one, one, one], None);
        check(&[version, one, one, one, one, one], None);
        check(&[], None);
        let long = &[2, 0x81, 1, 7][..];
        check(&[long, one, one, one, one, key], Some(key));
        check(
            &[one, one, one, one, one, &[SEQUENCE, 0x84, 0, 0, 0, 0]],
            Some(&[SEQUENCE, 0x84, 0, 0, 0, 0]),
        );
        check(&[one, one, one, one, one, &[SEQUENCE, 0x85, 0, 0, 0, 0, 0]], None);
        check(&[one, one, one, one, one, &[SEQUENCE, 0x80, 0, 0]], None);
        check(&[one, one, one, one, one, &[SEQUENCE, 2, 0]], None);
        check(&[one, one, one, one, one, &[SEQUENCE, 0x84, 255, 255, 255, 255]], None);
    }
}
