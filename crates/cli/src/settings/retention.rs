//! Rules for topics of which less is kept than of the others.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{RetentionRule, Selector};

use crate::options::GivenTable;
use crate::settings::nearest::{nearest, unknown_key};
use crate::value::{parse_count, parse_duration, show_duration, within};

/// Reads rules such as `jobs/{id};events=100;age=1h`; empty ones are left out.
pub(crate) fn parse_rules<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<RetentionRule>, String> {
    let rules = texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).map(|text| {
        let rule = parse_rule(text).and_then(Draft::finish);
        rule.map_err(|wrong| format!("`{text}`: {wrong}"))
    });
    check_together(rules.collect::<Result<_, _>>()?)
}

/// Reads the tables `[[retention]]` of a file.
pub(crate) fn rules_from_tables(tables: &[GivenTable]) -> Result<Vec<RetentionRule>, String> {
    let rules = tables.iter().map(|table| {
        let mut draft = Draft::default();
        for (key, value) in &table.values {
            let set = match key.as_str() {
                "topics" => draft.set_topics(value),
                "events_max" => draft.set_events_max(value),
                "age_max" => draft.set_age_max(value),
                _ => Err(unknown_key(key, &["topics", "events_max", "age_max"].map(str::to_owned))),
            };
            set.map_err(|wrong| format!("line {}: {wrong}", table.line))?;
        }
        draft.finish().map_err(|wrong| format!("line {}: {wrong}", table.line))
    });
    check_together(rules.collect::<Result<_, _>>()?)
}

/// The rules as the configuration file would hold them, on one line.
pub(crate) fn rules_toml(rules: &[RetentionRule]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| {
            let topics = json!(rule.topics.as_str());
            let events = rule.events_max.map(|events| format!(", events_max = {events}"));
            let age = rule
                .age_max_ms
                .map(|ms| format!(", age_max = \"{}\"", show_duration(Duration::from_millis(ms))));
            let (events, age) = (events.unwrap_or_default(), age.unwrap_or_default());
            format!("{{ topics = {topics}{events}{age} }}")
        })
        .collect();
    format!("[{}]", rules.join(", "))
}

/// The rules for machines, times in milliseconds.
pub(crate) fn rules_json(rules: &[RetentionRule]) -> Value {
    rules
        .iter()
        .map(|rule| {
            json!({
                "topics": rule.topics.as_str(),
                "events_max": rule.events_max,
                "age_max_ms": rule.age_max_ms,
            })
        })
        .collect()
}

/// A rule of which some parts have been read.
#[derive(Default)]
struct Draft {
    topics: Option<Selector>,
    events_max: Option<u64>,
    age_max_ms: Option<u64>,
}

impl Draft {
    fn set_topics(&mut self, text: &str) -> Result<(), String> {
        let topics = Selector::parse(text).map_err(|error| error.to_string())?;
        once(&mut self.topics, topics, "the selector")
    }

    fn set_events_max(&mut self, text: &str) -> Result<(), String> {
        let events = parse_count(text).and_then(|events| within(events, 1, EVENTS_MAX));
        let events = events.map_err(|wrong| {
            format!("{text}: {wrong}; the events to keep are a whole number from 1 on")
        })?;
        once(&mut self.events_max, events, "the number of events")
    }

    fn set_age_max(&mut self, text: &str) -> Result<(), String> {
        let age = parse_duration(text).and_then(|age| within(age, AGE_MIN, AGE_MAX));
        let age = age.map_err(|wrong| {
            format!("{text}: {wrong}; the age is a duration from 1s on, such as 90s, 12h or 7d")
        })?;
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        once(&mut self.age_max_ms, age_ms, "the age")
    }

    fn finish(self) -> Result<RetentionRule, String> {
        let Self { topics, events_max, age_max_ms } = self;
        let topics = topics.ok_or("it does not say for which topics; `*` is all of them")?;
        if events_max.is_none() && age_max_ms.is_none() {
            return Err(
                "it does not say how much is kept: give a number of events, an age, or both".into(),
            );
        }
        Ok(RetentionRule { topics, events_max, age_max_ms })
    }
}

/// Reads the bounds from the end on: what stands before them is the selector, whatever it holds.
fn parse_rule(text: &str) -> Result<Draft, String> {
    let mut draft = Draft::default();
    let mut rest = text;
    while let Some((before, bound)) = rest.rsplit_once(';') {
        let Some((name, value)) = bound.split_once('=') else { break };
        match name.trim() {
            "events" => draft.set_events_max(value.trim())?,
            "age" => draft.set_age_max(value.trim())?,
            other if nearest(other, &["events", "age"].map(str::to_owned)).is_some() => {
                return Err(unknown_key(other, &["events", "age"].map(str::to_owned)));
            }
            _ => break,
        }
        rest = before;
    }
    draft.set_topics(rest.trim())?;
    Ok(draft)
}

/// Puts `value` into a place that must be empty; `what` names it.
pub(crate) fn once<T>(place: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match place.replace(value) {
        Some(_) => Err(format!("{what} is given twice")),
        None => Ok(()),
    }
}

/// Checks that each rule can hold for some topic.
fn check_together(rules: Vec<RetentionRule>) -> Result<Vec<RetentionRule>, String> {
    if rules.len() > RULES_MAX {
        return Err(format!("there are more than {RULES_MAX} rules"));
    }
    for (place, rule) in rules.iter().enumerate() {
        let before = &rules[..place];
        if let Some(first) =
            before.iter().find(|it| it.topics == Selector::All || it.topics == rule.topics)
        {
            return Err(format!(
                "the rule for `{}` never holds, as the one for `{}` stands before it and the first \
                 that matches counts; change their order or leave one out",
                rule.topics, first.topics
            ));
        }
    }
    Ok(rules)
}

/// The most rules: each topic is held against all of them once.
const RULES_MAX: usize = 100;

const EVENTS_MAX: u64 = 1_000_000_000_000;
const AGE_MIN: Duration = Duration::from_secs(1);
const AGE_MAX: Duration = Duration::from_secs(36_500 * 86_400);

#[cfg(test)]
mod tests {
    use super::{parse_rules, rules_toml};

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let read = parse_rules(text.split('\n')).map(|rules| rules_toml(&rules));
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_rule_is_a_selector_and_bounds_in_any_order() {
        check("", Ok("[]"));
        check(
            "jobs/{id};events=100;age=1h",
            Ok(r#"[{ topics = "jobs/{id}", events_max = 100, age_max = "1h" }]"#),
        );
        check(" a ; age=90s ", Ok(r#"[{ topics = "a", age_max = "90s" }]"#));
        check(
            "a;age=1h;events=1\n\n*;events=2\n",
            Ok(
                r#"[{ topics = "a", events_max = 1, age_max = "1h" }, { topics = "*", events_max = 2 }]"#,
            ),
        );
    }

    #[test]
    fn a_selector_may_hold_what_separates() {
        check("a;b=1;events=2", Ok(r#"[{ topics = "a;b=1", events_max = 2 }]"#));
        check("{;x},\"{y};events=2", Ok(r#"[{ topics = "{;x},\"{y}", events_max = 2 }]"#));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        for (text, wrong) in [
            (
                "a",
                "`a`: it does not say how much is kept: give a number of events, an age, or both",
            ),
            ("a;event=1", "`a;event=1`: there is no `event`; did you mean `events`?"),
            (
                "a;events=0",
                "`a;events=0`: 0: this is too small; the events to keep are a whole number from 1 on",
            ),
            (
                "a;age=5",
                "`a;age=5`: 5: the unit is missing; the age is a duration from 1s on, such as 90s, \
                 12h or 7d",
            ),
            ("a;age=1s;age=2s", "`a;age=1s;age=2s`: the age is given twice"),
            (";events=1", "`;events=1`: a selector has at least one character"),
            (
                "*;events=1\na;events=2",
                "the rule for `a` never holds, as the one for `*` stands before it and the first that \
                 matches counts; change their order or leave one out",
            ),
        ] {
            check(text, Err(wrong));
        }
    }
}
