//! Finds what somebody meant who misspelt a name.

/// The name closest to `typed`, when it is close enough to be what was meant: at most a third of its
/// letters differ.
pub(crate) fn nearest<'a>(typed: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (edits(typed, name), name))
        .filter(|(edits, name)| edits * 3 <= name.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name.as_str())
}

/// Says that there is no `name`, and what there is.
pub(crate) fn unknown_key(name: &str, known: &[String]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("there is no `{name}`; did you mean `{meant}`?"),
        None => format!("there is no `{name}`; there is {}", known.join(", ")),
    }
}

/// How many letters must be added, left out, changed or swapped with the next to turn `from` into
/// `to` (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let from = from.as_bytes();
    let to = to.as_bytes();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let changed = last[j] + usize::from(a != b);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && b == from[i - 1] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn check(typed: &str, expected: Option<&str>) {
        let known = ["heartbeat", "retry", "log_events_max", "log_bytes_max"].map(str::to_owned);
        assert_eq!(nearest(typed, &known), expected, "{typed}");
    }

    #[test]
    fn a_misspelt_name_finds_what_was_meant_and_a_strange_one_nothing() {
        check("hearbeat", Some("heartbeat"));
        check("haertbeat", Some("heartbeat"));
        check("retyr", Some("retry"));
        check("log_event_max", Some("log_events_max"));
        check("max_log_bytes", None);
        check("port", None);
        check("", None);
    }
}
