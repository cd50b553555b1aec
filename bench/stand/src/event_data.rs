//! The data of event number n: 200 bytes that follow from n alone, so that what comes back can be
//! checked without having been kept.
//!
//! ASCII that neither JSON nor a form has to escape: n in 16 digits, 84 bytes that are the same in
//! each event, and 100 bytes with six random bits each.

/// How long the data of each event is.
pub const DATA_BYTES: usize = 200;

/// Makes the data of an event.
pub fn data_of(number: u64) -> [u8; DATA_BYTES] {
    let mut data = [0; DATA_BYTES];
    let mut rest = number;
    for digit in data[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    data[DIGITS..RANDOM_AT].copy_from_slice(TEXT);
    let mut state = number;
    for ten in data[RANDOM_AT..].chunks_mut(10) {
        let mut bits = next_random(&mut state);
        for byte in ten {
            *byte = ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
    }
    data
}

/// The number of the event whose data this claims to be.
pub fn number_of(data: &str) -> Option<u64> {
    data.get(..DIGITS)?.parse().ok()
}

/// Whether this is the data of an event, to the last byte.
pub fn is_data(number: u64, data: &str) -> bool {
    data.as_bytes() == data_of(number)
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const DIGITS: usize = 16;
const TEXT: &[u8; 84] =
    b".order-shipped.customer-0042.warehouse-north.carrier-fast.status-on-its-way.priority";
const RANDOM_AT: usize = DIGITS + TEXT.len();
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
