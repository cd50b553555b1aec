//! Telling other nodes that there are new events.
//!
//! Never inside the transaction of an append: each that notifies takes a lock of the whole server to commit. So this is
//! done afterwards, once for all appends of a while, in a transaction that does not wait for the disk.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Inner;
use crate::fault::Fault;
use crate::session::{Session, within};

/// Runs for as long as the engine.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut session = None;
    loop {
        inner.signals.appended.notified().await;
        let pause = match notify(&inner, &mut session).await {
            Ok(()) => PAUSE,
            Err(_) => {
                inner.signals.note_not_sent();
                session = None;
                PAUSE_AFTER_FAULT
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn notify(inner: &Inner, slot: &mut Option<Session>) -> Result<(), Fault> {
    let session = match slot {
        Some(session) if !session.is_closed() => session,
        _ => slot.insert(inner.connect().await?),
    };
    inner.signals.note_sending(session.process_id);
    within(inner.target.call_timeout, async {
        let statement = session.prepared(NOTIFY).await?;
        session.client.execute(&statement, &[&inner.signals.events()]).await?;
        Ok(())
    })
    .await
}

const NOTIFY: &str = "select set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
/// What is appended meanwhile is told of together: a busy node takes the lock 500 times a second at most.
const PAUSE: Duration = Duration::from_millis(2);
/// Others read once a second without being told.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
