//! Chance.

use tidings_core::Epoch;

/// What salts and epochs are made of.
pub(crate) fn random_bits() -> std::io::Result<u64> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bits))
}

/// The epoch of a log that begins.
pub(crate) fn random_epoch() -> std::io::Result<Epoch> {
    random_bits().map(Epoch::from_random)
}
