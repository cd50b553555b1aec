//! JSON read strictly: a member that means something stands there once, has its type, and an
//! object is an object.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};

/// The deepest nesting of objects and arrays that is read.
pub(crate) const DEPTH_MAX: usize = 32;

/// How much of a complaint is passed on; it may repeat what it complains about.
const REASON_CHARS_MAX: usize = 200;

/// Reads an object.
///
/// # Errors
///
/// Says what is wrong and where, on one short line.
pub(crate) fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    if is_deep(json) {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    // A parser of bytes does not look at strings that it skips.
    let json = str::from_utf8(json).map_err(|_| "not UTF-8")?;
    serde_json::from_str::<Object<T>>(json).map(|object| object.0).map_err(|e| {
        let text = e.to_string();
        let visible = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        visible.take(REASON_CHARS_MAX).collect()
    })
}

/// Tells whether brackets are nested deeper than [`DEPTH_MAX`]; strings are skipped.
fn is_deep(json: &[u8]) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// A member that may be absent, but not `null`.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A structure that is read from an object only; derived code takes an array of its members too.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A list of at most `MAX` strings.
pub(crate) struct Strings<const MAX: usize>(pub(crate) Vec<String>);

impl<'de, const MAX: usize> Deserialize<'de> for Strings<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for Elements<MAX> {
            type Value = Strings<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings<MAX>, A::Error> {
                let mut strings = Vec::new();
                while strings.len() < MAX {
                    match seq.next_element()? {
                        Some(string) => strings.push(string),
                        None => return Ok(Strings(strings)),
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::invalid_length(MAX + 1, &self)),
                    None => Ok(Strings(strings)),
                }
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}
