//! Whether the life of a log goes on when its store was restarted, took over from another, or was emptied.

use tidings_core::Epoch;

use super::engine::{Life, Seen};

/// What a store remembers of a log's life.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LifeRecord {
    /// The epoch, as it stands in ids.
    pub epoch: String,
    /// The servers that the life was on, oldest first, at most [`TERMS_MAX`], the last one last.
    pub terms: Vec<Term>,
    /// The epochs of earlier lives that are known of, oldest first, at most [`PAST_MAX`]: a node that comes
    /// from a life which is not among them has seen a later one, which the store has lost.
    #[serde(default)]
    pub past: Vec<String>,
}

/// The time of a log on one run of a server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Term {
    /// As in [`Life::server`].
    pub server: String,
    /// The next offset when it was taken up.
    pub from: u64,
}

/// What [`judge`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the store is to remember; `None` if what it remembers is right.
    pub record: Option<LifeRecord>,
    /// The life from now on.
    pub life: Life,
}

/// Decides whether the life that `stored` tells of goes on at `server`, where the next offset is `next`.
///
/// It goes on if nothing that was acknowledged is known to be missing and somebody vouches for that: because the
/// server is the one it was, because a node that was on the last server has `seen` nothing that is not there,
/// or because the server `is_durable` and cannot have lost anything. Else another life begins with
/// the epoch `fresh`: what is kept stays readable, and who comes with an old id is told.
///
/// A node that has seen more than is left notices in any case, also when the log has grown again since. The caller
/// sees to it that no other node decides between what is read and what is remembered.
pub fn judge(
    stored: Option<&LifeRecord>,
    server: &str,
    next: u64,
    seen: Option<&Seen>,
    is_durable: bool,
    fresh: Epoch,
) -> Verdict {
    let begin = || Verdict {
        record: Some(LifeRecord {
            epoch: fresh.to_string(),
            terms: vec![Term { server: server.to_owned(), from: next }],
            past: past_of(stored, seen),
        }),
        life: Life { epoch: fresh, server: server.to_owned() },
    };
    let Some((stored, epoch, term)) = stored.and_then(current) else { return begin() };
    let testimony = seen.map_or(Testimony::None, |seen| testify(stored, epoch, next, seen));
    let is_same = term.server == server;
    match testimony {
        Testimony::Lost => return begin(),
        Testimony::None if !is_same && !is_durable => return begin(),
        Testimony::None | Testimony::Whole => {}
    }
    let life = Life { epoch, server: server.to_owned() };
    if is_same {
        return Verdict { record: None, life };
    }
    let mut record = stored.clone();
    record.terms.push(Term { server: server.to_owned(), from: next });
    keep_last(&mut record.terms, TERMS_MAX);
    Verdict { record: Some(record), life }
}

/// What a node that has seen the log before can say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Testimony {
    /// What it has seen is there, and it was on the last server.
    Whole,
    /// It knows nothing of the last server.
    None,
    /// Something that it has seen is gone.
    Lost,
}

fn testify(stored: &LifeRecord, epoch: Epoch, next: u64, seen: &Seen) -> Testimony {
    if seen.life.epoch != epoch {
        let old = seen.life.epoch.to_string();
        return if stored.past.contains(&old) { Testimony::None } else { Testimony::Lost };
    }
    if seen.next > next {
        return Testimony::Lost;
    }
    // If it was on a server that is not known, the store has forgotten that the log was there.
    let Some(place) = stored.terms.iter().position(|term| term.server == seen.life.server) else {
        return Testimony::Lost;
    };
    let later = &stored.terms[place + 1..];
    match later.iter().map(|term| term.from).min() {
        Some(from) if from < seen.next => Testimony::Lost,
        Some(_) => Testimony::None,
        None => Testimony::Whole,
    }
}

/// The record, its epoch and its last term; `None` if they are not as a hub writes them.
fn current(stored: &LifeRecord) -> Option<(&LifeRecord, Epoch, &Term)> {
    Some((stored, stored.epoch.parse().ok()?, stored.terms.last()?))
}

fn past_of(stored: Option<&LifeRecord>, seen: Option<&Seen>) -> Vec<String> {
    let mut past = stored.map(|stored| stored.past.clone()).unwrap_or_default();
    let epochs = [stored.map(|it| it.epoch.clone()), seen.map(|it| it.life.epoch.to_string())];
    for epoch in epochs.into_iter().flatten() {
        past.retain(|known| *known != epoch);
        past.push(epoch);
    }
    keep_last(&mut past, PAST_MAX);
    past
}

fn keep_last<T>(items: &mut Vec<T>, count: usize) {
    items.drain(..items.len().saturating_sub(count));
}

/// Servers to remember at most: a node that was away for more restarts than these has another life begun.
pub const TERMS_MAX: usize = 64;
/// Earlier lives to remember at most; likewise.
pub const PAST_MAX: usize = 64;

#[cfg(test)]
mod tests;
