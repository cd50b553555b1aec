//! Positions in the log, and the one place where they are written and read as event ids.
//!
//! Every position has exactly one spelling, and every other string is an error, so an id can be
//! compared, stored and passed on as text without ever meaning two things.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use thiserror::Error;

/// Identifies one life of a log; a log that was lost and began again has another one.
///
/// Holds 50 bits. It is written as ten characters of lowercase base 32 (digits and letters without
/// `i`, `l`, `o` and `u`), most significant first. Epochs have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// A place in a log: after the entry with this offset, in this life of the log.
///
/// Offsets of entries start at 1 and are dense; offset 0 stands before every entry. Written as
/// `<epoch>-<offset>`, for example `7k2m00000a-41`: at most 31 bytes of `[a-z0-9-]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log in which the offset counts.
    pub epoch: Epoch,
    /// The number of the entry, 0 for the place before the first one.
    pub offset: u64,
}

/// Why a string is not a position or an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PositionError {
    /// The part before the hyphen is not an epoch.
    #[error("an epoch is ten characters of lowercase base 32")]
    Epoch,
    /// There is no hyphen between epoch and offset.
    #[error("a position is an epoch and an offset joined by a hyphen")]
    Separator,
    /// The part after the hyphen is not an offset.
    #[error("an offset is a decimal number below 2^64 without leading zeros")]
    Offset,
}

impl Epoch {
    /// Makes an epoch of the low 50 of `bits`, which the caller draws at random.
    #[must_use]
    pub const fn from_random(bits: u64) -> Self {
        Self(bits & ((1 << EPOCH_BITS) - 1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..EPOCH_CHARS).rev() {
            let digit = (self.0 >> (DIGIT_BITS * place)) & DIGIT_MASK;
            f.write_char(char::from(ALPHABET[digit as usize]))?;
        }
        Ok(())
    }
}

impl FromStr for Epoch {
    type Err = PositionError;

    /// Reads the one spelling of an epoch.
    ///
    /// # Errors
    ///
    /// [`PositionError::Epoch`] for anything that `Display` does not write.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        if text.len() != EPOCH_CHARS as usize {
            return Err(PositionError::Epoch);
        }
        let mut bits = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&known| known == byte);
            bits = bits << DIGIT_BITS | digit.ok_or(PositionError::Epoch)? as u64;
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    /// Reads the one spelling of a position.
    ///
    /// # Errors
    ///
    /// A [`PositionError`] that names the wrong part, for anything that `Display` does not write.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once('-').ok_or(PositionError::Separator)?;
        Ok(Self { epoch: epoch.parse()?, offset: parse_offset(offset)? })
    }
}

fn parse_offset(text: &str) -> Result<u64, PositionError> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical {
        text.parse().map_err(|_| PositionError::Offset)
    } else {
        Err(PositionError::Offset)
    }
}

/// Enough that two lives of a log never share an epoch by chance.
const EPOCH_BITS: u32 = 50;
const EPOCH_CHARS: u32 = EPOCH_BITS / DIGIT_BITS;
const DIGIT_BITS: u32 = 5;
const DIGIT_MASK: u64 = (1 << DIGIT_BITS) - 1;
/// Without `i`, `l`, `o` and `u`, which are easily misread.
const ALPHABET: &[u8; 1 << DIGIT_BITS] = b"0123456789abcdefghjkmnpqrstvwxyz";

#[cfg(test)]
mod tests;
