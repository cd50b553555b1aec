//! URI templates (RFC 6570) as selectors: could this topic be an expansion of that template?
//!
//! Follows section 1.2 of the Mercure protocol as its hubs understand it. Names of variables and
//! prefix lengths do not matter; an expression matches nothing at all, or its first character, a
//! run of the characters its operator may produce, and further runs behind separators. So `{id}`
//! matches the empty string, and never a `/`.
//!
//! The matcher keeps the set of places in the topic that the template so far may end at, as a bit
//! set, and moves the whole set over one part of the template after the other. It never goes back:
//! a match costs at most a few operations on 64-bit words for each byte of the template and each 64
//! bytes of the topic. A template takes at most about 8 bytes of memory for each byte of its text.

use std::{
    hash::{Hash, Hasher},
    ops::Range,
};

use crate::topic::Topic;

mod topic_bits;

use topic_bits::{Class, Masks, Places};

pub(crate) use topic_bits::TopicBits;

/// A valid URI template with at least one expression.
///
/// Made by [`Selector::parse`](crate::Selector::parse) only, so it keeps the bounds of a topic.
/// Templates are equal when their texts are.
#[derive(Debug)]
pub struct Template {
    text: Topic,
    /// Literals and expressions between the literal prefix and the literal suffix; begins and ends
    /// with an expression.
    parts: Box<[Part]>,
    prefix_bytes: usize,
    suffix_bytes: usize,
}

#[derive(Clone, Debug)]
enum Part {
    /// Stands for itself; a range of the template's text.
    Literal(Range<u16>),
    Expression(Expression),
}

/// The form `(FIRST (C (SEP C){0,seps_max}))?`, where C is a run of class characters.
#[derive(Clone, Debug)]
struct Expression {
    first: Option<u8>,
    class: Class,
    separator: u8,
    /// How many separators there may be beyond those in the class.
    separators: Separators,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separators {
    AtMost(u16),
    Unlimited,
}

impl Template {
    /// Reads a template; none if `text` has no expression or is not valid.
    pub(crate) fn parse(text: &Topic) -> Option<Self> {
        let bytes = text.as_str();
        let prefix_bytes = bytes.find('{')?;
        let suffix_bytes = bytes.len() - (bytes.rfind('}')? + 1);
        let mut parts = Vec::new();
        let mut place = 0;
        while place < bytes.len() {
            let rest = &bytes[place..];
            let part_bytes = if let Some(inside) = rest.strip_prefix('{') {
                let inside = &inside[..inside.find('}')?];
                parts.push(Part::Expression(Expression::parse(inside)?));
                inside.len() + 2
            } else {
                let literal = &rest[..rest.find('{').unwrap_or(rest.len())];
                if !is_literal(literal) {
                    return None;
                }
                let end = place + literal.len();
                if place > 0 && end < bytes.len() {
                    parts.push(Part::Literal(place as u16..end as u16));
                }
                literal.len()
            };
            place += part_bytes;
        }
        Some(Self { text: text.clone(), parts: parts.into(), prefix_bytes, suffix_bytes })
    }

    /// Tells whether `topic` could be an expansion of the template, or is its own text.
    ///
    /// Never backtracks; the cost is at most proportional to the product of the two lengths
    /// divided by 64.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_bits(&TopicBits::new(topic))
    }

    /// Returns the text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// Returns the text before the first expression, with which every matching topic begins.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        &self.text.as_str()[..self.prefix_bytes]
    }

    /// Returns the number of variables in all expressions.
    pub(crate) fn variable_count(&self) -> usize {
        let inside = |rest: &str| rest.find('}').map_or(0, |end| rest[..end].matches(',').count());
        self.as_str().split('{').skip(1).map(|rest| 1 + inside(rest)).sum()
    }

    /// Copies the text and what was read of it.
    pub(crate) fn compact(&self) -> Self {
        Self { text: self.text.compact(), parts: self.parts.clone(), ..*self }
    }

    /// As [`Template::matches`], for a topic that is held against several templates.
    pub(crate) fn matches_bits(&self, topic: &TopicBits<'_>) -> bool {
        self.matches_counted(topic).0
    }

    /// Also counts the steps over 64 bytes of the topic.
    fn matches_counted(&self, topic: &TopicBits<'_>) -> (bool, usize) {
        let name = topic.topic().as_str();
        if name == self.as_str() {
            return (true, 0);
        }
        if !name.starts_with(self.literal_prefix()) || !name.ends_with(self.literal_suffix()) {
            return (false, 0);
        }
        let masks = topic.masks();
        let mut places = Places::one(masks, self.prefix_bytes);
        for part in &self.parts {
            match part {
                Part::Literal(range) => self.step_literal(range, masks, &mut places),
                Part::Expression(expression) => expression.step(masks, &mut places),
            }
            if places.is_empty() {
                break;
            }
        }
        // If prefix and suffix overlap in the topic, the end lies before every place in the set.
        (places.contains(name.len() - self.suffix_bytes), places.steps())
    }

    fn step_literal(&self, range: &Range<u16>, masks: &Masks, places: &mut Places) {
        let range = usize::from(range.start)..usize::from(range.end);
        for &byte in &self.text.as_str().as_bytes()[range] {
            places.step_over_byte(masks, byte);
        }
    }

    fn literal_suffix(&self) -> &str {
        let text = self.text.as_str();
        &text[text.len() - self.suffix_bytes..]
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Expression {
    /// Reads what stands between the braces.
    fn parse(inside: &str) -> Option<Self> {
        let operator = inside.bytes().next()?;
        let (first, separator, class) = match operator {
            b'+' => (None, b',', Class::Reserved),
            b'#' => (Some(b'#'), b',', Class::Reserved),
            b'.' | b'/' => (Some(operator), operator, Class::Value),
            b';' => (Some(b';'), b';', Class::Pair),
            b'?' | b'&' => (Some(operator), b'&', Class::Pair),
            _ => (None, b',', Class::Value),
        };
        let is_simple = (first, class) == (None, Class::Value);
        let variables = if is_simple { inside } else { &inside[1..] };
        let mut count = 0;
        let mut first_explodes = false;
        let mut any_explodes = false;
        for variable in variables.split(',') {
            let explodes = parse_variable(variable)?;
            first_explodes |= explodes && count == 0;
            any_explodes |= explodes;
            count += 1;
        }
        let class = if first_explodes && class == Class::Value { Class::Pair } else { class };
        let separators =
            if any_explodes { Separators::Unlimited } else { Separators::AtMost(count - 1) };
        Some(Self { first, class, separator, separators })
    }

    /// Moves the places where the expression may begin to those where it may end.
    fn step(&self, masks: &Masks, places: &mut Places) {
        let mut run = places.fork();
        if let Some(first) = self.first {
            run.step_over_byte(masks, first);
        }
        match self.separators {
            Separators::Unlimited => run.extend_over_run(masks, self.class, Some(self.separator)),
            Separators::AtMost(count) => {
                run.extend_over_run(masks, self.class, None);
                let mut newest = run.fork();
                for _ in 0..count {
                    newest.step_over_byte(masks, self.separator);
                    newest.extend_over_run(masks, self.class, None);
                    newest.remove(&run);
                    if newest.is_empty() {
                        break;
                    }
                    run.insert(&newest);
                }
                run.add_steps_of(&newest);
            }
        }
        places.insert(&run);
        places.add_steps_of(&run);
    }
}

/// Checks a variable with its modifier; tells whether it explodes.
fn parse_variable(text: &str) -> Option<bool> {
    let (name, explodes) = match text.split_once(':') {
        Some((name, length)) if is_prefix_length(length) => (name, false),
        Some(_) => return None,
        None => text.strip_suffix('*').map_or((text, false), |name| (name, true)),
    };
    name.split('.').all(is_name_piece).then_some(explodes)
}

fn is_prefix_length(text: &str) -> bool {
    matches!(text.len(), 1..=4)
        && !text.starts_with('0')
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name_piece(text: &str) -> bool {
    !text.is_empty()
        && triplets_hold(text)
        && text.bytes().all(|byte| matches!(byte, b'_' | b'%') || byte.is_ascii_alphanumeric())
}

fn is_literal(text: &str) -> bool {
    triplets_hold(text) && text.chars().all(is_literal_char)
}

/// RFC 6570 section 2.1 and the `ucschar` and `iprivate` of RFC 3987, with `'` besides.
fn is_literal_char(c: char) -> bool {
    match c {
        ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
        '!'..='~' => true,
        '\u{A0}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFEF}' => true,
        '\u{E0000}'..='\u{E0FFF}' => false,
        '\u{10000}'.. => u32::from(c) & 0xFFFE != 0xFFFE,
        _ => false,
    }
}

/// Tells whether two hexadecimal digits follow every `%`.
fn triplets_hold(text: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    text.split('%').skip(1).all(|rest| {
        let rest = rest.as_bytes();
        digit(rest.first()) && digit(rest.get(1))
    })
}

#[cfg(test)]
mod tests;
