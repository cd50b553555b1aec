//! The schema that a hub makes in the database, and its version.

use tidings_log::shared::EngineError;
use tokio_postgres::{Client, Transaction};

use crate::fault::{Fault, Place, rights_sql};

/// Whether the schema is there, and one that this hub knows.
pub(crate) async fn is_made(client: &Client, place: &Place) -> Result<bool, Fault> {
    is_current(version(client).await?, place)
}

/// Makes the schema. Nodes that start together do this one after the other.
pub(crate) async fn make(client: &mut Client, place: &Place) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    transaction.execute(LOCK, &[]).await?;
    let present: bool =
        transaction.query_one("select to_regnamespace('tidings') is not null", &[]).await?.get(0);
    if !present {
        may_create(&transaction, place).await?;
        transaction.batch_execute("create schema tidings").await?;
    }
    // Another node may have been faster.
    let known = transaction.query_one(HAS_VERSION, &[]).await?;
    if known.get(0) {
        let found = transaction.query_opt(VERSION, &[]).await?.map(|row| row.get(0));
        is_current(found, place)?;
        transaction.commit().await?;
        return Ok(());
    }
    transaction.batch_execute(VERSION_1).await?;
    transaction.execute("insert into tidings.about (version) values ($1)", &[&CURRENT]).await?;
    transaction.commit().await?;
    Ok(())
}

async fn version(client: &Client) -> Result<Option<i32>, Fault> {
    if !client.query_one(HAS_VERSION, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    Ok(client.query_opt(VERSION, &[]).await?.map(|row| row.get(0)))
}

fn is_current(version: Option<i32>, place: &Place) -> Result<bool, Fault> {
    match version {
        Some(version) if version > CURRENT => Err(Fault::Engine(EngineError::Refused(format!(
            "the schema tidings in the database {} on {} is of version {version}, this hub knows up to {CURRENT}: a \
             later hub has made it, run that one",
            place.database, place.server
        )))),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

async fn may_create(transaction: &Transaction<'_>, place: &Place) -> Result<(), Fault> {
    let row = transaction
        .query_one("select has_database_privilege(current_database(), 'create')", &[])
        .await?;
    if row.get(0) {
        return Ok(());
    }
    Err(Fault::Engine(EngineError::Refused(format!(
        "the role {} may not create the schema tidings on {}: run as a superuser or the owner of the database {}",
        place.user,
        place.server,
        rights_sql(&place.user, &place.database)
    ))))
}

const CURRENT: i32 = 1;
const VERSION_1: &str = include_str!("schema/version_1.sql");
const HAS_VERSION: &str = "select to_regclass('tidings.about') is not null";
const VERSION: &str = "select version from tidings.about";
/// Beside the locks that `version_1.sql` names.
const LOCK: &str = "select pg_advisory_xact_lock(1953064051, 0)";
