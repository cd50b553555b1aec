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
/// It goes on if nothing that was acknowledged can be missing: because the server is the one it was, because
/// a node that has `seen` the log up to its end finds it whole, or because the server
/// `is_durable` and cannot have lost anything. Else another life begins with the epoch `fresh`: what is kept stays readable, and who
/// comes with an old id is told.
pub fn judge(
    stored: Option<&LifeRecord>,
    server: &str,
    next: u64,
    seen: Option<&Seen>,
    is_durable: bool,
    fresh: Epoch,
) -> Verdict {
    let begin = || {
        let life = Life { epoch: fresh, server: server.to_owned() };
        let terms = vec![Term { server: server.to_owned(), from: next }];
        Verdict { record: Some(LifeRecord { epoch: fresh.to_string(), terms }), life }
    };
    let Some(stored) = stored else { return begin() };
    let Ok(epoch) = stored.epoch.parse::<Epoch>() else { return begin() };
    let Some(current) = stored.terms.last() else { return begin() };
    let seen = seen.filter(|seen| seen.life.epoch == epoch);
    let life = Life { epoch, server: server.to_owned() };
    let is_same = current.server == server;
    // Up to where the log is known to be whole, for somebody who has seen it on an earlier server.
    let witnessed = match seen {
        Some(seen) if seen.next > next => return begin(),
        Some(seen) => match stored.terms.iter().position(|it| it.server == seen.life.server) {
            Some(place) => match stored.terms.get(place + 1) {
                Some(after) if after.from < seen.next => return begin(),
                _ => true,
            },
            None => return begin(),
        },
        None => false,
    };
    if is_same {
        return Verdict { record: None, life };
    }
    if !witnessed && !is_durable {
        return begin();
    }
    let mut record = stored.clone();
    record.terms.push(Term { server: server.to_owned(), from: next });
    let surplus = record.terms.len().saturating_sub(TERMS_MAX);
    record.terms.drain(..surplus);
    Verdict { record: Some(record), life }
}

/// Servers to remember at most.
pub const TERMS_MAX: usize = 64;
