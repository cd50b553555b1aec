//! Bit sets over the places in a topic.
//!
//! Place `n` is the gap before byte `n`; a topic of `n` bytes has `n + 1` places. Bit `n` of a mask
//! is about byte `n`, so a set of places meets a mask where the next byte is of the masked kind.

use std::cell::OnceCell;

use crate::topic::Topic;

/// A topic and, once a template asks for them, its masks.
#[derive(Debug)]
pub(crate) struct TopicBits<'t> {
    topic: &'t Topic,
    masks: OnceCell<Masks>,
}

/// The characters in a run, besides `%` with two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Unreserved characters and `,`.
    Value,
    /// As [`Class::Value`], and `=`.
    Pair,
    /// Unreserved and reserved characters.
    Reserved,
}

/// Where the characters of each class, and each byte, are in a topic.
///
/// Both digits of a percent-encoded triplet are in every class, a `%` only before two digits. No
/// part of a template takes less than a whole triplet, so no place inside one is ever reached
/// for good.
#[derive(Debug)]
pub(super) struct Masks {
    /// The number of words of a mask.
    words: usize,
    /// The row of each byte value, 0 if the topic does not contain it.
    row_of: [u8; 256],
    /// Row after row of `words` words: none, the three classes, the insides of triplets, then one
    /// row for each different byte.
    rows: Vec<u64>,
}

/// A set of places, with the number of words its operations went over.
#[derive(Debug)]
pub(super) struct Places {
    bits: [u64; WORDS_MAX],
    words: usize,
    steps: usize,
}

impl<'t> TopicBits<'t> {
    /// Costs nothing until a template needs more than the text.
    pub(crate) fn new(topic: &'t Topic) -> Self {
        Self { topic, masks: OnceCell::new() }
    }

    pub(crate) fn topic(&self) -> &'t Topic {
        self.topic
    }

    pub(super) fn masks(&self) -> &Masks {
        self.masks.get_or_init(|| Masks::of(self.topic.as_str().as_bytes()))
    }
}

impl Masks {
    fn of(bytes: &[u8]) -> Self {
        let words = bytes.len() / 64 + 1;
        let mut masks = Self { words, row_of: [0; 256], rows: vec![0; words * FIRST_BYTE_ROW] };
        let mut digits_due = 0;
        for (place, &byte) in bytes.iter().enumerate() {
            masks.set_byte(byte, place);
            if digits_due > 0 {
                digits_due -= 1;
                masks.set(INSIDE_ROW, place);
                masks.set_classes(Class::Value, place);
            } else if begins_triplet(&bytes[place..]) {
                digits_due = 2;
                masks.set_classes(Class::Value, place);
            } else if let Some(class) = narrowest_class(byte) {
                masks.set_classes(class, place);
            }
        }
        masks
    }

    fn set_byte(&mut self, byte: u8, place: usize) {
        let row = &mut self.row_of[usize::from(byte)];
        if *row == NO_ROW {
            *row = (self.rows.len() / self.words) as u8;
            self.rows.resize(self.rows.len() + self.words, 0);
        }
        let row = usize::from(*row);
        self.set(row, place);
    }

    /// Adds the place to the class and all that contain it.
    fn set_classes(&mut self, narrowest: Class, place: usize) {
        for row in narrowest.row()..=Class::Reserved.row() {
            self.set(row, place);
        }
    }

    fn set(&mut self, row: usize, place: usize) {
        self.rows[row * self.words + place / 64] |= 1 << (place % 64);
    }

    fn row(&self, row: usize) -> &[u64] {
        &self.rows[row * self.words..][..self.words]
    }

    fn byte_row(&self, byte: u8) -> &[u64] {
        self.row(usize::from(self.row_of[usize::from(byte)]))
    }
}

impl Class {
    fn row(self) -> usize {
        match self {
            Self::Value => 1,
            Self::Pair => 2,
            Self::Reserved => 3,
        }
    }
}

impl Places {
    pub(super) fn one(masks: &Masks, place: usize) -> Self {
        let mut bits = [0; WORDS_MAX];
        bits[place / 64] = 1 << (place % 64);
        Self { bits, words: masks.words, steps: 0 }
    }

    /// Copies the set; the copy counts its own steps.
    pub(super) fn fork(&self) -> Self {
        Self { steps: 0, ..*self }
    }

    /// Keeps the places before `byte` and moves them behind it.
    pub(super) fn step_over_byte(&mut self, masks: &Masks, byte: u8) {
        let mut carry = 0;
        for (bits, mask) in self.bits.iter_mut().zip(masks.byte_row(byte)) {
            let met = *bits & mask;
            *bits = met << 1 | carry;
            carry = met >> 63;
        }
        self.steps += self.words;
    }

    /// Adds every place that a run of the class, and of `separator` if given, leads to.
    ///
    /// Adding the met places to the mask as numbers makes each ripple to the end of its run; what
    /// changed, and the place behind it, has been reached.
    pub(super) fn extend_over_run(&mut self, masks: &Masks, class: Class, separator: Option<u8>) {
        let class = masks.row(class.row());
        let separator = separator.map_or(masks.row(NO_ROW.into()), |byte| masks.byte_row(byte));
        let inside = masks.row(INSIDE_ROW);
        let mut carry = false;
        for word in 0..self.words {
            let mask = class[word] | separator[word];
            let bits = self.bits[word];
            let (sum, over) = mask.overflowing_add(bits & mask);
            let (sum, over_again) = sum.overflowing_add(carry.into());
            carry = over | over_again;
            self.bits[word] = ((sum ^ mask) | bits) & !inside[word];
        }
        self.steps += self.words;
    }

    pub(super) fn insert(&mut self, others: &Self) {
        for (bits, other) in self.bits[..self.words].iter_mut().zip(&others.bits) {
            *bits |= other;
        }
    }

    pub(super) fn remove(&mut self, others: &Self) {
        for (bits, other) in self.bits[..self.words].iter_mut().zip(&others.bits) {
            *bits &= !other;
        }
    }

    pub(super) fn add_steps_of(&mut self, other: &Self) {
        self.steps += other.steps;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits[..self.words].iter().all(|&bits| bits == 0)
    }

    pub(super) fn contains(&self, place: usize) -> bool {
        self.bits[place / 64] >> (place % 64) & 1 == 1
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }
}

fn begins_triplet(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn narrowest_class(byte: u8) -> Option<Class> {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
            Some(Class::Value)
        }
        b'=' => Some(Class::Pair),
        b'!' | b'#' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b'/' | b':' | b';'
        | b'?' | b'@' | b'[' | b']' => Some(Class::Reserved),
        _ => None,
    }
}

/// One bit more than bytes: the place behind the last one.
const WORDS_MAX: usize = Topic::BYTES_MAX / 64 + 1;
const NO_ROW: u8 = 0;
const INSIDE_ROW: usize = 4;
const FIRST_BYTE_ROW: usize = 5;
