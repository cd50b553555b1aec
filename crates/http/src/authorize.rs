//! Who may do what: from what a request brings along to what it may do.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::request::Parts;
use tidings::{Identity, Record, Rights, Topic};
use tidings_access::{AuthorizeError, Question, VerifyError};
use tidings_auth::{Grant, TokenError, UnixSeconds};

use crate::app::App;
use crate::credentials::{self, Place};
use crate::problem::{Kind, Problem};
use crate::wanted::Wanted;

/// Whom a request is from.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Somebody who reaches a hub that trusts everyone who does.
    Trusted,
    /// Somebody whose rights are known.
    Known(Arc<Grant>),
    /// Somebody who brought nothing along.
    Anonymous,
}

impl Caller {
    /// Finds out whom a request is from.
    ///
    /// # Errors
    ///
    /// What it brings along does not hold.
    pub(crate) async fn of(app: &App, head: &Parts) -> Result<Self, Problem> {
        Ok(Self::with_token(app, head).await?.0)
    }

    /// Finds out whom a request is from, and by what token.
    ///
    /// # Errors
    ///
    /// What it brings along does not hold.
    pub(crate) async fn with_token(
        app: &App,
        head: &Parts,
    ) -> Result<(Self, Option<String>), Problem> {
        if app.access().is_open() {
            return Ok((Self::Trusted, None));
        }
        let Some(credential) = credentials::find(head, app.options())? else {
            return Ok((Self::Anonymous, None));
        };
        if credential.place == Place::Cookie && !head.method.is_safe() {
            credentials::refuse_forged(&head.headers, &app.options().cors_origins)?;
        }
        let caller = Self::of_token(app, &credential.token).await?;
        Ok((caller, Some(credential.token)))
    }

    /// Finds out whose a token is.
    ///
    /// # Errors
    ///
    /// It does not hold.
    pub(crate) async fn of_token(app: &App, token: &str) -> Result<Self, Problem> {
        let grant = app.access().verify(token).await;
        Ok(Self::Known(grant.map_err(|error| invalid_token(&error))?))
    }

    /// Who a stream is opened for, where the authorisation webhook is asked about those who bring
    /// nothing along.
    ///
    /// # Errors
    ///
    /// Nobody vouches for the client, and the hub admits none without.
    pub(crate) async fn admitted(
        self,
        app: &App,
        head: &Parts,
        wanted: &Wanted,
    ) -> Result<Self, Problem> {
        match self {
            Self::Anonymous if app.access().has_authorization_webhook() => {
                Ok(Self::Known(ask(app, head, wanted).await?))
            }
            Self::Anonymous if !app.options().anonymous => Err(missing_token()),
            caller => Ok(caller),
        }
    }

    /// Refuses at once whom [`admitted`](Self::admitted) is going to refuse.
    pub(crate) fn check_known(&self, app: &App) -> Result<(), Problem> {
        match self {
            Self::Anonymous
                if !app.options().anonymous && !app.access().has_authorization_webhook() =>
            {
                Err(missing_token())
            }
            _ => Ok(()),
        }
    }

    /// Which private events it may receive.
    pub(crate) fn subscribe_rights(&self) -> Rights {
        match self {
            Self::Trusted => Rights::everything(),
            Self::Known(grant) => grant.subscribe.clone(),
            Self::Anonymous => Rights::public_only(),
        }
    }

    /// Refuses who may not receive the private events of a topic.
    pub(crate) fn check_subscriber(&self, topic: &Topic) -> Result<(), Problem> {
        if self.subscribe_rights().covers(std::slice::from_ref(topic)) {
            return Ok(());
        }
        match self {
            Self::Trusted | Self::Known(_) => {
                Err(missing_right(&format!("subscribe to {topic}")).field("topic"))
            }
            Self::Anonymous => Err(missing_token()),
        }
    }

    /// Of which topics it may know who is there.
    pub(crate) fn presence_rights(&self) -> Rights {
        match self {
            Self::Trusted => Rights::everything(),
            Self::Known(grant) => grant.presence.clone(),
            Self::Anonymous => Rights::public_only(),
        }
    }

    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Known(grant) => Some(&grant.identity),
            Self::Trusted | Self::Anonymous => None,
        }
    }

    /// When its rights end.
    pub(crate) fn expires_at(&self) -> Option<UnixSeconds> {
        match self {
            Self::Known(grant) => grant.expires_at,
            Self::Trusted | Self::Anonymous => None,
        }
    }

    /// Refuses who may publish nothing at all.
    pub(crate) fn check_publisher(&self) -> Result<(), Problem> {
        match self {
            Self::Trusted => Ok(()),
            Self::Known(grant) if grant.publish.is_some() => Ok(()),
            Self::Known(_) => Err(missing_right("publish")),
            Self::Anonymous => Err(missing_token()),
        }
    }

    /// Refuses an event of which a topic is not covered.
    pub(crate) fn check_record(&self, record: &Record) -> Result<(), Problem> {
        let Self::Known(grant) = self else { return self.check_publisher() };
        let Some(rights) = &grant.publish else { return self.check_publisher() };
        match rights.first_uncovered(&record.topics) {
            None => Ok(()),
            Some(topic) => Err(missing_right(&format!("publish to {topic}")).field("topic")),
        }
    }

    /// Refuses who may not operate the hub.
    pub(crate) fn check_operator(&self, app: &App) -> Result<(), Problem> {
        match self {
            Self::Trusted if app.options().open_operation => Ok(()),
            Self::Trusted => {
                let detail = "Give the hub a key and send a token with the right to operate it: it \
                              trusts everyone who reaches it, but not with this.";
                Err(Problem::new(Kind::MissingRight, detail))
            }
            Self::Known(grant) if grant.operate => Ok(()),
            Self::Known(_) => Err(missing_right("operate")),
            Self::Anonymous => Err(missing_token()),
        }
    }
}

/// Somebody who may see the hub's figures.
pub(crate) struct FiguresReader {
    /// What it showed; `None` if nothing was needed.
    token: Option<String>,
}

impl FiguresReader {
    /// Finds out who it is.
    ///
    /// # Errors
    ///
    /// It may not see them.
    pub(crate) async fn of(app: &App, head: &Parts) -> Result<Self, Problem> {
        if app.options().public_figures {
            return Ok(Self { token: None });
        }
        let (caller, token) = Caller::with_token(app, head).await?;
        caller.check_operator(app)?;
        Ok(Self { token })
    }

    /// Refuses whose token has expired or was revoked since.
    pub(crate) async fn check_again(&self, app: &App) -> Result<(), Problem> {
        match &self.token {
            Some(token) => Caller::of_token(app, token).await?.check_operator(app),
            None => Ok(()),
        }
    }
}

/// How long rights last that end at a time; zero if they have ended.
pub(crate) fn time_until(expires_at: UnixSeconds) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(expires_at).saturating_sub(now)
}

/// The time, as tokens count it.
pub(crate) fn now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn ask(app: &App, head: &Parts, wanted: &Wanted) -> Result<Arc<Grant>, Problem> {
    let (topics, events) = wanted.texts();
    let question = Question {
        topics,
        events,
        ip: app.client_address(&head.extensions, &head.headers),
        method: head.method.to_string(),
        url: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: head.headers.clone(),
    };
    app.access().authorize(&question).await.map_err(|error| match error {
        AuthorizeError::Denied => Problem::new(
            Kind::Denied,
            "Sign in, and try again: the application does not admit you.",
        ),
        _ => {
            let detail = "Try again after a while: the application does not say who may subscribe.";
            Problem::new(Kind::AuthorizationUnavailable, detail).retry_after(1)
        }
    })
}

fn missing_token() -> Problem {
    Problem::new(Kind::MissingToken, "Send a token, such as Authorization: Bearer TOKEN.")
}

fn missing_right(right: &str) -> Problem {
    let detail = format!("Get a token with this right: {right}. The one that was sent lacks it.");
    Problem::new(Kind::MissingRight, detail)
}

fn invalid_token(error: &VerifyError) -> Problem {
    let advice = match error {
        VerifyError::Token(TokenError::Expired { .. }) => "Get a new token",
        VerifyError::Token(TokenError::NotYetValid { .. }) => {
            "Wait, or correct the clock of who issued the token"
        }
        _ => "Get a token that this hub accepts",
    };
    Problem::new(Kind::InvalidToken, format!("{advice}: {error}."))
}
