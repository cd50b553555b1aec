//! Token ids that are blocked until their tokens have expired.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidings::{ConnectionFilter, ExpiryReason};
use tidings_access::{RevokeError, Revoked};
use tidings_auth::{Revocation, UnixSeconds};

use crate::app::App;
use crate::authorize::{Caller, now};
use crate::connections::Closed;
use crate::json_body::{self, answer};
use crate::problem::{Kind, Problem};

/// A blocked token id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    token_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    expires_at: UnixSeconds,
}

/// All of them.
#[derive(Serialize)]
struct List {
    revocations: Vec<Item>,
}

pub(crate) async fn list(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let listed = async {
        Caller::of(&app, &head).await?.check_operator(&app)?;
        let revocations = app.access().revocations().into_iter();
        let items: Vec<Item> = revocations
            .map(|Revoked { token_id, issuer, until }| Item {
                token_id: token_id.into(),
                issuer: issuer.map(Into::into),
                expires_at: until,
            })
            .collect();
        Ok(List { revocations: items })
    };
    answer(listed.await)
}

pub(crate) async fn revoke(State(app): State<App>, request: Request) -> Response {
    answer(revoke_for(&app, request).await)
}

async fn revoke_for(app: &App, request: Request) -> Result<Closed, Problem> {
    let (head, body) = request.into_parts();
    let caller = Caller::of(app, &head).await.map_err(Problem::closing)?;
    caller.check_operator(app).map_err(Problem::closing)?;
    let Item { token_id, issuer, expires_at } = json_body::read(app, &head, body).await?;
    // The body may have taken its time, in which the operator was shut out.
    Caller::of(app, &head).await?.check_operator(app)?;
    check_name(&token_id, "tokenId", "the claim jti of the token")?;
    if let Some(issuer) = &issuer {
        check_name(issuer, "issuer", "the claim iss of the token, or leave it out")?;
    }
    let revocation =
        Revocation { token_id: &token_id, issuer: issuer.as_deref(), until: expires_at };
    let can_be = |name: &str| name.len() <= NAME_BYTES_MAX;
    let exists = can_be(&token_id) && issuer.as_deref().is_none_or(can_be) && expires_at > now();
    // What is over needs no block, and neither does what no token can say.
    let revoked = if exists { app.access().revoke(revocation).await } else { Ok(()) };
    app.tickets().retain(|caller| {
        !caller.identity().is_some_and(|identity| {
            identity.token_id.as_deref() == Some(&token_id)
                && (issuer.is_none() || identity.issuer.as_deref() == issuer.as_deref())
        })
    });
    let filter = ConnectionFilter::Token { issuer, token_id };
    let closed = app.hub().close_connections(&filter, ExpiryReason::Revoked).await;
    revoked.map_err(|error| not_revoked(&error))?;
    Ok(Closed { closed })
}

fn check_name(name: &str, field: &str, expected: &str) -> Result<(), Problem> {
    if (1..=NAME_BYTES_MAX).contains(&name.chars().count()) {
        return Ok(());
    }
    let detail = format!("Give {expected}: 1 to {NAME_BYTES_MAX} characters.");
    Err(Problem::new(Kind::InvalidField, detail).field(field))
}

fn not_revoked(error: &RevokeError) -> Problem {
    let detail = format!("Try again, and look at the hub's log: {error}.");
    Problem::new(Kind::RevocationFailed, detail).retry_after(5)
}

/// The longest name that a token can have in it.
const NAME_BYTES_MAX: usize = tidings_auth::NAME_BYTES_MAX;
