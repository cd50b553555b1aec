//! The data of an event: which it is, when it was sent, and filling that follows from nothing.
//!
//! `tb1.<lane>.<number>.<sent>.<filling>`, in hexadecimal digits of fixed width, so that it is
//! found again in whatever a server wraps it in, and checked to the last byte. A lane is a
//! sequence of events of one publisher to one topic: within it, order can be told.

use std::ops::Range;

use memchr::memmem;
use rustix::time::{ClockId, clock_gettime};

/// What the data of an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub lane: u32,
    /// Within its lane, from 0.
    pub number: u32,
    /// See [`now_ns`].
    pub sent_ns: u64,
}

impl Event {
    /// Writes it over all of `data`, whose length says how much is filled up.
    pub fn write(self, data: &mut [u8]) {
        data[..MARK.len()].copy_from_slice(MARK);
        write_hex(&mut data[LANE], self.lane.into());
        write_hex(&mut data[NUMBER], self.number.into());
        write_hex(&mut data[SENT], self.sent_ns);
        for dot in [LANE.end, NUMBER.end, SENT.end] {
            data[dot] = b'.';
        }
        for (at, byte) in data[DATA_BYTES_MIN..].iter_mut().enumerate() {
            *byte = FILLING[at % FILLING.len()];
        }
    }

    /// Reads all of `data`; `None` if any byte is not as it was written.
    pub fn read(data: &[u8]) -> Option<Self> {
        if data.len() < DATA_BYTES_MIN || !data.starts_with(MARK) {
            return None;
        }
        let are_dots = [LANE.end, NUMBER.end, SENT.end].iter().all(|dot| data[*dot] == b'.');
        let filling = data[DATA_BYTES_MIN..].chunks(FILLING.len());
        let is_filling = filling.into_iter().all(|part| FILLING.starts_with(part));
        (are_dots && is_filling).then_some(())?;
        Some(Self {
            lane: read_hex(&data[LANE])? as u32,
            number: read_hex(&data[NUMBER])? as u32,
            sent_ns: read_hex(&data[SENT])?,
        })
    }
}

/// Finds events of one length in the lines and messages of one server, which wraps them all in
/// the same way.
#[derive(Debug)]
pub struct Finder {
    data_bytes: usize,
    /// Where the last one was found.
    at: usize,
}

impl Finder {
    /// For events whose data is this long.
    pub fn new(data_bytes: usize) -> Self {
        Self { data_bytes, at: 0 }
    }

    /// The event in a line; `None` if it holds none, or one that was changed.
    pub fn find(&mut self, line: &[u8]) -> Option<Event> {
        let is_at = |at: usize| line.get(at..).is_some_and(|rest| rest.starts_with(MARK));
        if !is_at(self.at) {
            self.at = memmem::find(line, MARK)?;
        }
        Event::read(line.get(self.at..self.at + self.data_bytes)?)
    }
}

/// The time of the clock that all processes of a machine share (`CLOCK_MONOTONIC`).
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = HEX[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    })
}

const MARK: &[u8] = b"tb1.";
const LANE: Range<usize> = 4..12;
const NUMBER: Range<usize> = 13..21;
const SENT: Range<usize> = 22..38;
const HEX: &[u8; 16] = b"0123456789abcdef";
const FILLING: &[u8; 64] = b"order42shippedfromthenorthernwarehouse.carrier7.arrivestomorrow.";

/// The shortest data there is.
pub const DATA_BYTES_MIN: usize = 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_unless_a_byte_changes() {
        let event = Event { lane: 0x1234, number: 7, sent_ns: 1 << 50 };
        for length in [DATA_BYTES_MIN, 60, 150, 400] {
            let mut data = vec![0; length];
            event.write(&mut data);
            assert_eq!(Event::read(&data), Some(event));
            for at in 0..length {
                let kept = std::mem::replace(&mut data[at], b'!');
                assert_eq!(Event::read(&data), None, "byte {at} of {length}");
                data[at] = kept;
            }
        }
    }

    #[test]
    fn an_event_is_found_wherever_it_stands() {
        let event = Event { lane: 1, number: 2, sent_ns: 3 };
        let mut data = vec![0; 100];
        event.write(&mut data);
        let text = String::from_utf8(data).unwrap();
        let mut finder = Finder::new(100);
        for line in [format!("data: {text}"), format!("data: {{\"data\":\"{text}\"}}"), text] {
            assert_eq!(finder.find(line.as_bytes()), Some(event), "{line}");
        }
        assert_eq!(finder.find(b"data: {}"), None);
    }
}
