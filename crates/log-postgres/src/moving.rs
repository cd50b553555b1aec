//! Moving events that applications have published by `tidings_publish` from the outbox into the log.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_log::UnixMillis;
use tidings_log::shared::EngineError;

use crate::engine::{Inner, OpenLog};
use crate::fault::Fault;
use crate::rows::signed;
use crate::session::{Session, within};

/// Runs for as long as the engine. Every node does this; the one that is first locks the others out for the moment.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut session = None;
    let mut pause = PAUSE;
    loop {
        let _ = tokio::time::timeout(pause, inner.signals.published.notified()).await;
        // Whoever has to find out whether the server is there again, it is not this task.
        let Some(log) = inner.open_log().filter(|_| inner.is_reached()) else { continue };
        pause = match move_all(&inner, &log, &mut session).await {
            Ok(()) => PAUSE,
            Err(fault) => {
                session = None;
                if !matches!(fault, Fault::Engine(EngineError::OtherLife)) {
                    let error = fault.into_engine_error(&inner.place);
                    tracing::debug!(%error, "the outbox is not emptied");
                }
                (pause * 2).min(PAUSE_MAX)
            }
        };
    }
}

async fn move_all(inner: &Inner, log: &OpenLog, slot: &mut Option<Session>) -> Result<(), Fault> {
    let session = match slot {
        Some(session) if !session.is_closed() => session,
        _ => slot.insert(inner.connect().await?),
    };
    if session.server != log.life.server {
        return Err(Fault::Engine(EngineError::OtherLife));
    }
    let epoch = log.life.epoch.to_string();
    loop {
        let now = unix_millis();
        let since = signed(now.saturating_sub(log.keys.age_max_ms));
        let row = within(inner.target.call_timeout, async {
            let statement = session.prepared(MOVE).await?;
            let now = signed(now);
            let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                &[&log.id, &epoch, &now, &since, &EVENTS_MAX, &BYTES_MAX];
            Ok(session.client.query_one(&statement, parameters).await?)
        })
        .await?;
        let (status, moved): (i16, i32) = (row.try_get("status")?, row.try_get("moved")?);
        for topic in row.try_get::<_, Option<Vec<&str>>>("refused_topics")?.unwrap_or_default() {
            tracing::warn!(
                topic,
                "an event of the outbox is dropped: its topic had its last event"
            );
        }
        if moved > 0 {
            inner.signals.handle_news();
            inner.signals.appended.notify_one();
        }
        match status {
            1 => return Err(Fault::Engine(EngineError::OtherLife)),
            0 if moved > 0 => {}
            _ => return Ok(()),
        }
    }
}

fn unix_millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const MOVE: &str =
    "select status, moved, refused_topics from tidings.move_outbox($1, $2, $3, $4, $5, $6)";
const EVENTS_MAX: i32 = 1_000;
const BYTES_MAX: i64 = 8 << 20;
/// The time that an event waits in the outbox at most if nobody notifies.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
