//! What an error of the server means for the hub, in words for whoever runs it.

use std::error::Error as _;

use tidings_log::shared::EngineError;
use tokio_postgres::error::{DbError, SqlState};

/// Where and as whom, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Such as `Postgres at db.internal`.
    pub(crate) server: String,
    pub(crate) user: String,
    pub(crate) database: String,
}

/// Why a call had no result.
#[derive(Debug)]
pub(crate) enum Fault {
    Library(tokio_postgres::Error),
    Engine(EngineError),
    /// The server did not answer in time.
    Timeout,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Library(error)
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Fault {
    /// Whether to do the same once more at once, because the transaction met another one.
    pub(crate) fn is_collision(&self) -> bool {
        let Self::Library(error) = self else { return false };
        let code = error.code();
        code == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
            || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// Whether the connection may still be used.
    pub(crate) fn leaves_connection(&self) -> bool {
        match self {
            // A plan that does not fit any more is prepared anew on another connection.
            Self::Library(error) => error
                .as_db_error()
                .is_some_and(|it| it.severity() == "ERROR" && *it.code() != STALE_PLAN),
            Self::Engine(_) => true,
            Self::Timeout => false,
        }
    }

    pub(crate) fn into_engine_error(self, place: &Place) -> EngineError {
        match self {
            Self::Engine(error) => error,
            Self::Timeout => {
                EngineError::Unavailable(format!("{} does not answer in time", place.server))
            }
            Self::Library(error) => match error.as_db_error() {
                Some(said) => said_by_server(said, place),
                None => unreached(&error, place),
            },
        }
    }
}

fn said_by_server(said: &DbError, place: &Place) -> EngineError {
    use EngineError::{Damaged, OtherLife, Refused, Unavailable, Unwritable};
    let Place { server, user, database } = place;
    let words = format!("{}, SQLSTATE {}", said.message(), said.code().code());
    let class = said.code().code().get(..2).unwrap_or_default();
    match said.code().clone() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Refused(format!(
                "{server} refuses the role {user}: {words}; check user, password and sslmode in the URL \
                 of the log, and pg_hba.conf"
            ))
        }
        SqlState::INVALID_CATALOG_NAME => Refused(format!(
            "{server} has no database {database}: run `create database \"{database}\"`, or correct the URL of \
             the log ({words})"
        )),
        SqlState::INSUFFICIENT_PRIVILEGE => Refused(format!(
            "{server} denies a right to the role {user}: {words}; run as a superuser or the owner of the \
             database: {}",
            rights_sql(user, database)
        )),
        SqlState::DISK_FULL => Unwritable(format!(
            "the disk of {server} is full: {words}; free space on it, or keep less in the log"
        )),
        SqlState::READ_ONLY_SQL_TRANSACTION => Unwritable(format!(
            "{server} is read-only: {words}; name the primary, or set default_transaction_read_only = off"
        )),
        SqlState::TOO_MANY_CONNECTIONS => Unavailable(format!(
            "{server} has no connection left: {words}; raise max_connections or the role's limit, a node needs up \
             to {CONNECTIONS_MAX}"
        )),
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            Unavailable(format!("{server} is shutting down or starting: {words}"))
        }
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Unavailable(format!(
            "{server} does not get done in time: {words}; see pg_stat_activity for what holds it up"
        )),
        // What a hub makes when it opens the log is gone: somebody has dropped it.
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => OtherLife,
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
            Damaged(format!("what is stored on {server} is damaged: {words}"))
        }
        // An authorization that failed in another way.
        _ if class == "28" => Refused(format!("{server} refuses the role {user}: {words}")),
        _ => Unavailable(format!("{server} reports: {words}")),
    }
}

fn unreached(error: &tokio_postgres::Error, place: &Place) -> EngineError {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
        source = error.source();
    }
    let Place { server, user, .. } = place;
    // It asks for a password and the URL has none, or for a way of asking that is not known.
    if words.contains("password missing") || words.contains("authentication error") {
        return EngineError::Refused(format!(
            "{server} asks the role {user} for something that the URL of the log does not give: {words}"
        ));
    }
    if ["invalid peer certificate", "TLS upgrade", "does not support TLS"]
        .iter()
        .any(|text| words.contains(text))
    {
        return EngineError::Refused(format!(
            "{server} cannot be reached over TLS as the URL of the log asks: {words}"
        ));
    }
    EngineError::Unavailable(format!("{server} is not reached: {words}"))
}

/// What gives a role the rights it needs and no others.
pub(crate) fn rights_sql(user: &str, database: &str) -> String {
    format!(
        "`create schema tidings authorization \"{user}\"` in the database {database} (or `grant create on database \
         \"{database}\" to \"{user}\"`)"
    )
}

/// Append, reads, housekeeping, outbox, notes, LISTEN and NOTIFY, each one at a time.
pub(crate) const CONNECTIONS_MAX: usize = 8;
const STALE_PLAN: SqlState = SqlState::FEATURE_NOT_SUPPORTED;
