//! An append as the columns that the function `tidings.append` takes, and its answer.

use std::fmt::Write as _;

use tidings_core::{Entry, EventType, Topic};
use tidings_log::shared::{Append, EngineError, Outcome, Placed};
use tidings_log::{Key, Record, entry_bytes};
use tokio_postgres::Row;

use crate::fault::Fault;

/// The records of an append, one behind the other. A column that would hold nothing is left out.
#[derive(Debug, Default)]
pub(crate) struct Columns<'a> {
    pub(crate) publishes: Option<Vec<i32>>,
    pub(crate) sizes: Vec<i32>,
    pub(crate) flags: Option<Vec<i16>>,
    pub(crate) retry: Option<Vec<Option<i64>>>,
    pub(crate) types: Option<Vec<Option<&'a str>>>,
    pub(crate) topics: Vec<&'a str>,
    pub(crate) more: Option<Vec<Option<String>>>,
    pub(crate) keys: Option<Vec<Option<&'a str>>>,
    pub(crate) data: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(append: &Append<'a>) -> Self {
        let publishes = append.publishes;
        let records: Vec<&Record> = publishes.iter().flatten().collect();
        let is_plain = publishes.iter().all(|publish| publish.len() == 1);
        let has = |wanted: fn(&Record) -> bool| records.iter().any(|record| wanted(record));
        let column = |is_there: bool| is_there.then_some(&records);
        Self {
            publishes: (!is_plain)
                .then(|| publishes.iter().map(|publish| publish.len() as i32).collect()),
            sizes: records.iter().map(|record| size(record)).collect(),
            flags: column(has(|it| it.private || it.is_final))
                .map(|records| records.iter().map(|record| flags(record)).collect()),
            // A number of 64 bits goes into a signed column and out again.
            retry: column(has(|it| it.retry_ms.is_some()))
                .map(|records| records.iter().map(|it| it.retry_ms.map(|ms| ms as i64)).collect()),
            types: column(has(|it| it.event_type.is_some())).map(|records| {
                records.iter().map(|it| it.event_type.as_ref().map(EventType::as_str)).collect()
            }),
            topics: records.iter().map(|record| record.topics[0].as_str()).collect(),
            more: column(has(|it| it.topics.len() > 1))
                .map(|records| records.iter().map(|it| array_text(&it.topics[1..])).collect()),
            keys: column(has(|it| it.key.is_some()))
                .map(|records| records.iter().map(|it| it.key.as_ref().map(Key::as_str)).collect()),
            data: records.iter().map(|record| record.data.as_bytes().as_ref()).collect(),
        }
    }
}

/// As [`entry_bytes`] counts it.
fn size(record: &Record) -> i32 {
    let entry = Entry {
        offset: 0,
        topics: record.topics.clone(),
        event_type: record.event_type.clone(),
        private: false,
        is_final: false,
        payload: (),
    };
    i32::try_from(entry_bytes(&entry, record.data.len())).unwrap_or(i32::MAX)
}

fn flags(record: &Record) -> i16 {
    let private = if record.private { FLAG_PRIVATE } else { 0 };
    let is_final = if record.is_final { FLAG_FINAL } else { 0 };
    private | is_final
}

/// An array as Postgres reads it from text; `None` if it is empty.
fn array_text(topics: &[Topic]) -> Option<String> {
    if topics.is_empty() {
        return None;
    }
    let mut text = String::from("{");
    for (place, topic) in topics.iter().enumerate() {
        text.push_str(if place == 0 { "\"" } else { ",\"" });
        for character in topic.as_str().chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            let _ = text.write_char(character);
        }
        text.push('"');
    }
    text.push('}');
    Some(text)
}

/// What `tidings.append` answers for some publishes.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The offset after the last that it gave out, or the one that was to be given out.
    pub(crate) next: u64,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Answer {
    pub(crate) fn of(row: &Row, publishes: &[Vec<Record>]) -> Result<Self, Fault> {
        match row.try_get::<_, i16>("status")? {
            0 => {}
            1 => return Err(Fault::Engine(EngineError::OtherLife)),
            _ => {
                let words = "this append was given up before: a later one has been done".to_owned();
                return Err(Fault::Engine(EngineError::Unavailable(words)));
            }
        }
        let first = row.try_get::<_, i64>("first")? as u64;
        let count = publishes.iter().map(Vec::len).sum::<usize>();
        let Some(offsets) = row.try_get::<_, Option<Vec<i64>>>("offsets")? else {
            return Ok(Self::dense(first, publishes));
        };
        let refused: Option<Vec<i32>> = row.try_get("refused")?;
        let topics: Option<Vec<&str>> = row.try_get("refused_topics")?;
        let at: Option<Vec<i64>> = row.try_get("refused_offsets")?;
        if offsets.len() != count {
            let words = format!("an append of {count} records was answered for {}", offsets.len());
            return Err(Fault::Engine(EngineError::Damaged(words)));
        }
        let refused = refused.unwrap_or_default().into_iter();
        let refusals = refused.zip(topics.unwrap_or_default()).zip(at.unwrap_or_default());
        let mut refusals = refusals.peekable();
        let mut offsets = offsets.into_iter();
        let mut next = first;
        let mut outcomes = Vec::with_capacity(publishes.len());
        for (number, publish) in (1..).zip(publishes) {
            let placed = offsets
                .by_ref()
                .take(publish.len())
                .map(|offset| Placed { offset: offset.unsigned_abs(), is_repeated: offset < 0 });
            let placed: Vec<Placed> = placed.collect();
            if let Some(((_, topic), offset)) = refusals.next_if(|((it, _), _)| *it == number) {
                outcomes.push(Outcome::Finished { topic: parsed(topic)?, offset: offset as u64 });
                continue;
            }
            let new = placed.iter().filter(|it| !it.is_repeated).map(|it| it.offset + 1);
            next = new.max().unwrap_or(next).max(next);
            outcomes.push(Outcome::Appended(placed));
        }
        Ok(Self { next, outcomes })
    }

    fn dense(first: u64, publishes: &[Vec<Record>]) -> Self {
        let mut next = first;
        let mut outcome = |publish: &Vec<Record>| {
            let offsets = next..next + publish.len() as u64;
            next = offsets.end;
            let placed = |offset| Placed { offset, is_repeated: false };
            Outcome::Appended(offsets.map(placed).collect())
        };
        let outcomes = publishes.iter().map(&mut outcome).collect();
        Self { next, outcomes }
    }
}

/// A topic as it is stored.
pub(crate) fn parsed(text: &str) -> Result<Topic, Fault> {
    Topic::parse(text).map_err(|error| {
        Fault::Engine(EngineError::Damaged(format!(
            "there is {text:?} where a topic belongs: {error}"
        )))
    })
}

/// As `version_1.sql` says of the column.
pub(crate) const FLAG_PRIVATE: i16 = 1;
pub(crate) const FLAG_FINAL: i16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_written_as_postgres_reads_it() {
        let topics =
            [r#"a"b"#, r"c\d", "e,f", "{g}", "null"].map(|text| Topic::parse(text).unwrap());
        let text = array_text(&topics).unwrap();
        assert_eq!(text, r#"{"a\"b","c\\d","e,f","{g}","null"}"#);
        assert_eq!(array_text(&[]), None);
    }
}
