use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: Result<(u64, u64), PositionError>) {
    let expected = expected.map(|(epoch, offset)| Position { epoch: Epoch(epoch), offset });
    assert_eq!(text.parse(), expected, "{text:?}");
    if let Ok(position) = expected {
        assert_eq!(position.to_string(), text);
    }
}

#[test]
fn positions_have_one_spelling() {
    check("0000000000-0", Ok((0, 0)));
    check("0000000001-1", Ok((1, 1)));
    check("000000000z-41", Ok((31, 41)));
    check("0000000010-10", Ok((32, 10)));
    check("zzzzzzzzzz-18446744073709551615", Ok(((1 << 50) - 1, u64::MAX)));
}

#[test]
fn every_other_spelling_is_refused() {
    use PositionError::{Epoch, Offset, Separator};

    check("", Err(Separator));
    check("0000000000", Err(Separator));
    check("0000000000_1", Err(Separator));
    check("-", Err(Epoch));
    check("-1", Err(Epoch));
    check("000000000-1", Err(Epoch));
    check("00000000000-1", Err(Epoch));
    check("000000000A-1", Err(Epoch));
    check("000000000i-1", Err(Epoch));
    check("000000000l-1", Err(Epoch));
    check("000000000o-1", Err(Epoch));
    check("000000000u-1", Err(Epoch));
    check("00000000é-1", Err(Epoch));
    check(" 0000000000-1", Err(Epoch));
    check("0000000000-", Err(Offset));
    check("0000000000-01", Err(Offset));
    check("0000000000-00", Err(Offset));
    check("0000000000-+1", Err(Offset));
    check("0000000000--1", Err(Offset));
    check("0000000000-1 ", Err(Offset));
    check("0000000000-1-1", Err(Offset));
    check("0000000000-0x1", Err(Offset));
    check("0000000000-1e3", Err(Offset));
    check("0000000000-١", Err(Offset));
    check("0000000000-18446744073709551616", Err(Offset));
    check("0000000000-99999999999999999999999999999999", Err(Offset));
}

#[test]
fn epochs_keep_the_low_fifty_bits() {
    assert_eq!(Epoch::from_random(u64::MAX).to_string(), "zzzzzzzzzz");
    assert_eq!(Epoch::from_random(1 << 50), Epoch::from_random(0));
    assert_ne!(Epoch::from_random(1 << 49), Epoch::from_random(0));
}

#[test]
fn epochs_are_read_alone() {
    assert_eq!("00000000z0".parse(), Ok(Epoch(31 << 5)));
    assert_eq!("".parse::<Epoch>(), Err(PositionError::Epoch));
    assert_eq!("0000000000-".parse::<Epoch>(), Err(PositionError::Epoch));
}

proptest! {
    #[test]
    fn writing_and_reading_invert_each_other(bits: u64, offset: u64) {
        let position = Position { epoch: Epoch::from_random(bits), offset };
        let text = position.to_string();
        prop_assert_eq!(text.parse(), Ok(position));
        prop_assert!(text.len() <= 31);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)));
    }

    #[test]
    fn what_is_read_is_what_would_be_written(
        text in "[0-9a-zA-Z]{9,11}[-_]?[+-]?[0-9]{0,21}|.{0,40}",
    ) {
        if let Ok(position) = text.parse::<Position>() {
            prop_assert_eq!(position.to_string(), text);
        }
    }

    #[test]
    fn a_changed_byte_gives_another_position_or_an_error(
        bits: u64, offset: u64, place: prop::sample::Index, byte in 0u8..128,
    ) {
        let position = Position { epoch: Epoch::from_random(bits), offset };
        let text = position.to_string();
        let mut changed = text.clone().into_bytes();
        *place.get_mut(&mut changed[..]) = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(changed == text || changed.parse() != Ok(position));
    }
}
