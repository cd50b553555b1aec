//! The token ids that are blocked, also beyond the end of the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};
use tidings_auth::{Revocation, Revocations, UnixSeconds};
use tidings_core::Identity;

use crate::calendar::unix_seconds;
use crate::journal::Journal;
use crate::{AccessError, RevokeError, Revoked};

/// Blocked token ids, and the file that they are written to.
#[derive(Debug)]
pub(crate) struct RevocationBook {
    blocked: Arc<RwLock<Revocations>>,
    journal: Option<Arc<Mutex<Journal>>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    token_id: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<Box<str>>,
    until: UnixSeconds,
}

impl RevocationBook {
    /// Nothing is blocked, and nothing outlives the process.
    pub(crate) fn in_memory(revocations_max: usize) -> Self {
        Self { blocked: Arc::new(RwLock::new(Revocations::new(revocations_max))), journal: None }
    }

    /// Blocks what was blocked when a process before this one used the same folder. That is
    /// blocked even where it is more than `revocations_max`.
    pub(crate) fn open(folder: Option<&Path>, revocations_max: usize) -> Result<Self, AccessError> {
        let Some(folder) = folder else {
            return Ok(Self::in_memory(revocations_max));
        };
        let (mut journal, lines) = Journal::open::<Line>(folder, FILE_NAME)?;
        let now = unix_seconds();
        let mut blocked = Revocations::new(revocations_max.max(lines.len()));
        for (number, line) in (1..).zip(&lines) {
            if line.until > now {
                blocked.revoke(line.revocation(), now).map_err(|error| AccessError::Damaged {
                    path: journal.path().to_owned(),
                    line: number,
                    reason: error.to_string(),
                })?;
            }
        }
        if journal.line_count() > blocked.len() {
            journal
                .rewrite(&lines_of(&blocked, now))
                .map_err(|error| AccessError::File { path: journal.path().to_owned(), error })?;
        }
        let journal = Some(Arc::new(Mutex::new(journal)));
        Ok(Self { blocked: Arc::new(RwLock::new(blocked)), journal })
    }

    pub(crate) fn is_revoked(&self, identity: &Identity, now: UnixSeconds) -> bool {
        self.blocked().is_revoked(identity, now)
    }

    /// Blocks a token id at once, and returns when that is written down.
    pub(crate) async fn revoke(&self, revocation: Revocation<'_>) -> Result<(), RevokeError> {
        self.blocked
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .revoke(revocation, unix_seconds())?;
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        let line = Line {
            token_id: revocation.token_id.into(),
            issuer: revocation.issuer.map(Into::into),
            until: revocation.until,
        };
        let blocked = self.blocked.clone();
        let written = tokio::task::spawn_blocking(move || write(&journal, &blocked, line)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err((path, error))) => Err(RevokeError::NotKept { path, error }),
            Err(error) => Err(RevokeError::NotKept { path: PathBuf::new(), error: error.into() }),
        }
    }

    pub(crate) fn list(&self) -> Vec<Revoked> {
        let now = unix_seconds();
        let blocked = self.blocked();
        let still = blocked.iter().filter(|revocation| revocation.until > now);
        still
            .map(|revocation| Revoked {
                issuer: revocation.issuer.map(Into::into),
                token_id: revocation.token_id.into(),
                until: revocation.until,
            })
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.blocked().len()
    }

    fn blocked(&self) -> RwLockReadGuard<'_, Revocations> {
        self.blocked.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn revocation(&self) -> Revocation<'_> {
        Revocation { issuer: self.issuer.as_deref(), token_id: &self.token_id, until: self.until }
    }
}

fn write(
    journal: &Mutex<Journal>,
    blocked: &RwLock<Revocations>,
    line: Line,
) -> Result<(), (PathBuf, std::io::Error)> {
    let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
    let live = {
        let mut blocked = blocked.write().unwrap_or_else(PoisonError::into_inner);
        let now = unix_seconds();
        let is_long = journal.line_count() > 2 * blocked.len() + SPARE_LINES;
        if is_long {
            blocked.forget_over(now);
        }
        is_long.then(|| lines_of(&blocked, now))
    };
    // What is blocked in memory has the new line as well.
    let written = match live {
        Some(live) => journal.rewrite(&live),
        None => journal.append(&[line]),
    };
    written.map_err(|error| (journal.path().to_owned(), error))
}

fn lines_of(blocked: &Revocations, now: UnixSeconds) -> Vec<Line> {
    let still = blocked.iter().filter(|revocation| revocation.until > now);
    still
        .map(|revocation| Line {
            token_id: revocation.token_id.into(),
            issuer: revocation.issuer.map(Into::into),
            until: revocation.until,
        })
        .collect()
}

const FILE_NAME: &str = "revocations.jsonl";

/// Lines that are left in the file though they are over, before it is written anew.
const SPARE_LINES: usize = 100;

#[cfg(test)]
mod tests;
