//! One connection to the server, with what has to hold before it is used.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::poll_fn;
use tidings_log::shared::EngineError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Row, Statement};

use crate::fault::{Fault, Place};
use crate::tls;
use crate::url::{Server, Target};

/// What is told of notifications.
pub(crate) type Heard = Arc<dyn Fn(&Notification) + Send + Sync>;

/// A connection to a server that can be written to, as far as it is known.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Names the run of the server, as [`tidings_log::shared::Life::server`].
    pub(crate) server: String,
    pub(crate) process_id: i32,
    pub(crate) is_synced: bool,
    statements: Mutex<HashMap<&'static str, Statement>>,
    driver: Option<JoinHandle<()>>,
    runtime: Handle,
}

impl Session {
    /// Connects to the first server of the list that is no standby.
    pub(crate) async fn connect(
        target: &Target,
        place: &Place,
        heard: Option<&Heard>,
    ) -> Result<Self, Fault> {
        let mut first_fault = None;
        for server in &target.servers {
            let attempt = Self::connect_to(server, target, place, heard);
            let fault = match tokio::time::timeout(target.connect_timeout, attempt).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Timeout,
            };
            // Of several servers, what one says that answers tells more than that another does not.
            let tells_more = matches!(first_fault, Some(Fault::Timeout) | None)
                || matches!(&first_fault, Some(Fault::Library(it)) if it.as_db_error().is_none());
            if tells_more {
                first_fault = Some(fault);
            }
        }
        Err(first_fault.unwrap_or(Fault::Timeout))
    }

    async fn connect_to(
        server: &Server,
        target: &Target,
        place: &Place,
        heard: Option<&Heard>,
    ) -> Result<Self, Fault> {
        let refused = |words| Fault::Engine(EngineError::Refused(words));
        let tls = tls::connector(&target.tls).map_err(refused)?;
        let (client, connection) = server.config.connect(tls).await?;
        let driver = tokio::spawn(drive(connection, heard.cloned()));
        let mut session = Self {
            client,
            server: String::new(),
            process_id: 0,
            is_synced: true,
            statements: Mutex::default(),
            driver: Some(driver),
            runtime: Handle::current(),
        };
        session.prepare_for(server, target, place).await?;
        Ok(session)
    }

    /// Checks the server and sets what calls rely on.
    async fn prepare_for(
        &mut self,
        server: &Server,
        target: &Target,
        place: &Place,
    ) -> Result<(), Fault> {
        let row = self.client.query_one(ABOUT_SERVER, &[]).await?;
        let version: i32 = row.try_get("version")?;
        if version < VERSION_MIN {
            return Err(Fault::Engine(EngineError::Refused(format!(
                "{} is Postgres {}: the log needs version 13 or later",
                place.server,
                version / 10_000
            ))));
        }
        let encoding: &str = row.try_get("encoding")?;
        if encoding != "UTF8" {
            return Err(Fault::Engine(EngineError::Refused(format!(
                "the database {} on {} has the encoding {encoding}: the log needs one made with \
                 `create database .. encoding 'UTF8' template template0`",
                place.database, place.server
            ))));
        }
        if row.try_get("is_standby")? {
            return Err(Fault::Engine(EngineError::Unwritable(format!(
                "{} is a standby: the log needs the primary, name it in the URL, or all servers",
                server.name
            ))));
        }
        self.process_id = row.try_get("process_id")?;
        self.is_synced = row.try_get("is_synced")?;
        self.server = self.name_of_run(&row).await?;
        self.client.batch_execute(&settings(&row, target.call_timeout)?).await?;
        Ok(())
    }

    /// The system and its timeline, which changes when a standby takes over. A server that does not sync may have lost
    /// something whenever it was started.
    async fn name_of_run(&self, about: &Row) -> Result<String, Fault> {
        let started: &str = about.try_get("started")?;
        let timeline: &str = about.try_get("timeline")?;
        let is_told: bool = about.try_get("system_is_told")?;
        let system = match is_told {
            true => self.client.query_one(SYSTEM, &[]).await?.try_get(0)?,
            false => format!("started {started}"),
        };
        if self.is_synced {
            return Ok(format!("{system}/{timeline}"));
        }
        Ok(format!("{system}/{timeline}/{started}"))
    }

    /// A statement that is prepared on this connection once.
    pub(crate) async fn prepared(
        &self,
        sql: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.lock().expect(UNPOISONED).get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().expect(UNPOISONED).insert(sql, statement.clone());
        Ok(statement)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut driver) = self.driver.take() else { return };
        // It takes leave when the client is gone, which a server that is frozen does not notice.
        self.runtime.spawn(async move {
            if tokio::time::timeout(LEAVE_MAX, &mut driver).await.is_err() {
                driver.abort();
            }
        });
    }
}

/// Reads and writes the connection until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, heard: Option<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(told)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(notification), Some(heard)) = (&told, &heard) {
            heard(notification);
        }
    }
}

/// Does something on a connection, for as long as a call may take.
pub(crate) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(timeout, call).await.unwrap_or(Err(Fault::Timeout))
}

fn settings(about: &Row, call_timeout: Duration) -> Result<String, Fault> {
    let millis = call_timeout.as_millis();
    let mut settings = format!(
        // What the client has given up, the server gives up a little earlier, so that nothing has an effect late.
        "set statement_timeout = {}; set lock_timeout = {}; \
         set idle_in_transaction_session_timeout = {}; \
         set search_path = pg_catalog, pg_temp; set jit = off; set enable_seqscan = off; \
         set default_transaction_isolation = 'read committed'; set client_min_messages = warning",
        millis * 9 / 10,
        millis * 8 / 10,
        millis * 3,
    );
    let commit: &str = about.try_get("synchronous_commit")?;
    if !["on", "remote_apply"].contains(&commit) {
        settings += "; set synchronous_commit = on";
    }
    Ok(settings)
}

const ABOUT_SERVER: &str = "
    select
        current_setting('server_version_num')::int as version,
        current_setting('server_encoding') as encoding,
        pg_is_in_recovery() as is_standby,
        current_setting('fsync')::bool and current_setting('full_page_writes')::bool as is_synced,
        current_setting('synchronous_commit') as synchronous_commit,
        extract(epoch from pg_postmaster_start_time())::text as started,
        case when pg_is_in_recovery() then '' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end
            as timeline,
        has_function_privilege('pg_control_system()', 'execute') as system_is_told,
        pg_backend_pid() as process_id";
const SYSTEM: &str = "select system_identifier::text from pg_control_system()";
const LEAVE_MAX: Duration = Duration::from_secs(1);
const VERSION_MIN: i32 = 130_000;
pub(crate) const UNPOISONED: &str = "no thread panics while it holds this";
