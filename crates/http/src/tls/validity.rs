//! From when until when a certificate is valid, which rustls does not tell.

/// The times of a certificate, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Validity {
    /// Reads as much of a certificate in DER as comes before its end of validity (RFC 5280, section
    /// 4.1); `None` if it is not made like that.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut rest = Der(certificate).value(SEQUENCE)?.value(SEQUENCE)?;
        if rest.0.first() == Some(&VERSION) {
            rest.value(VERSION)?;
        }
        rest.value(INTEGER)?;
        rest.value(SEQUENCE)?;
        rest.value(SEQUENCE)?;
        let mut validity = rest.value(SEQUENCE)?;
        Some(Self { from: validity.time()?, until: validity.time()? })
    }
}

/// Values after one another, each with a tag and its length (X.690, section 8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value, which has this tag.
    fn value(&mut self, tag: u8) -> Option<Der<'a>> {
        let (&found, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(Der(value))
    }

    /// Takes a time in one of the two forms that certificates may have.
    fn time(&mut self) -> Option<u64> {
        let is_short = *self.0.first()? == SHORT_TIME;
        let digits = self.value(if is_short { SHORT_TIME } else { TIME })?.0.strip_suffix(b"Z")?;
        let (year, rest) = digits.split_at_checked(if is_short { 2 } else { 4 })?;
        let year = match (is_short, number(year)?) {
            (true, year @ 0..50) => 2000 + year,
            (true, year) => 1900 + year,
            (false, year) => year,
        };
        let (parts, &[]) = rest.as_chunks::<2>() else { return None };
        let parts: Option<Vec<u64>> = parts.iter().map(|part| number(part)).collect();
        let [month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] =
            parts?[..]
        else {
            return None;
        };
        let days = days_until(year, month)? + day - 1;
        Some(((days * 24 + hour) * 60 + minute) * 60 + second)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// Days from 1970 to the first of a month. Years that end with February have their leap day last.
fn days_until(year: u64, month: u64) -> Option<u64> {
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5;
    days.checked_sub(DAYS_FROM_MARCH_0_TO_1970)
}

const DAYS_FROM_MARCH_0_TO_1970: u64 = 719_468;
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
/// UTCTime, with two digits for a year from 1950 to 2049.
const SHORT_TIME: u8 = 0x17;
/// GeneralizedTime.
const TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_times_of_certificates_are_read() {
        let key = KeyPair::generate().unwrap();
        for (from, until) in [
            ((1970, 1, 1), (1970, 1, 2)),
            ((1999, 12, 31), (2000, 2, 29)),
            ((2026, 11, 21), (2049, 12, 31)),
            ((2050, 1, 1), (2100, 3, 1)),
            ((2024, 3, 1), (9999, 12, 31)),
        ] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(until.0, until.1, until.2);
            let expected = Validity {
                from: params.not_before.unix_timestamp() as u64,
                until: params.not_after.unix_timestamp() as u64,
            };
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(Validity::of(certificate.der()), Some(expected));
        }
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        let whole = certificate.der().to_vec();
        for length in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..length]), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                Validity::of(&changed);
            }
        }
    }
}
