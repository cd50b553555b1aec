//! Who publishes, for as long as a request lasts.

use std::net::IpAddr;

use axum::http::request::Parts;
use tidings::Record;

use crate::account::Source;
use crate::app::App;
use crate::authorize::Caller;
use crate::idempotency_key::make_own;
use crate::problem::Problem;

/// Somebody who may publish something.
pub(crate) struct Publisher {
    caller: Caller,
    address: Option<IpAddr>,
    /// What it showed, to be looked at again once the body is there.
    token: Option<String>,
}

impl Publisher {
    /// Finds out who publishes.
    ///
    /// # Errors
    ///
    /// It may not publish anything.
    pub(crate) async fn of(app: &App, head: &Parts) -> Result<Self, Problem> {
        let (caller, token) = Caller::with_token(app, head).await?;
        caller.check_publisher()?;
        let address = app.client_address(&head.extensions, &head.headers);
        Ok(Self { caller, address, token })
    }

    /// Whom what is published counts for.
    pub(crate) fn source(&self) -> Source<'_> {
        Source { identity: self.caller.identity().map(|it| &**it), address: self.address }
    }

    /// Looks at an event before it is published: the rights must cover each of its topics, and its
    /// key is made the user's own.
    pub(crate) fn admit(&self, record: &mut Record) -> Result<(), Problem> {
        self.caller.check_record(record)?;
        if let Some(identity) = self.caller.identity() {
            make_own(record, identity);
        }
        Ok(())
    }

    /// Refuses whose token has expired or was revoked since.
    pub(crate) async fn check_again(&self, app: &App) -> Result<(), Problem> {
        match &self.token {
            Some(token) => Caller::of_token(app, token).await.map(drop),
            None => Ok(()),
        }
    }
}
