//! Who may do what, as the settings say it.

use tidings_access::{
    Access, AccessError, AccessOptions, AuthorityOptions, AuthorizationWebhook, ConnectionWebhook,
    JwksOptions, PreparedAuthorities, WebUrlError, WebhookSecret,
};

use crate::failure::Failure;
use crate::settings::{Settings, shown_place};
use crate::trust::{Trust, TrustedAuthority};

/// What [`start`] is told.
///
/// # Errors
///
/// [`Failure::Usage`] with what is wrong and what to do.
pub(super) fn options(settings: &Settings, trust: &Trust) -> Result<AccessOptions, Failure> {
    let serve = &settings.serve;
    let mut options = AccessOptions::default();
    for trusted in &trust.authorities {
        options.authorities.push(authority(trusted)?);
    }
    if let Some(url) = &serve.authorization_webhook {
        let mut webhook = AuthorizationWebhook::new(url)
            .map_err(|error| bad(settings, "authorization-webhook", &error))?;
        webhook.timeout = serve.authorization_webhook_timeout;
        webhook.cache = serve.authorization_webhook_cache;
        options.authorization_webhook = Some(webhook);
    }
    if let Some(url) = &serve.connection_webhook {
        let mut webhook = ConnectionWebhook::new(url)
            .map_err(|error| bad(settings, "connection-webhook", &error))?;
        webhook.debounce = serve.connection_webhook_debounce;
        options.connection_webhook = Some(webhook);
    }
    if let Some(secret) = &serve.webhook_secret {
        let secret = WebhookSecret::parse(secret.expose()).map_err(|error| {
            let place = shown_place(settings, "webhook-secret");
            Failure::Usage(format!("{place}: {error}\n  `openssl rand -hex 32` makes a good one"))
        })?;
        options.webhook_secret = Some(secret);
    }
    options.folder = settings.data_folder().map(|data| data.join("access"));
    Ok(options)
}

/// Gets the keys of authorities that are to take the place of those that are believed.
///
/// # Errors
///
/// [`Failure::Failed`] when they cannot be fetched.
pub(super) async fn prepare(
    access: &Access,
    authorities: Vec<AuthorityOptions>,
) -> Result<PreparedAuthorities, Failure> {
    access.prepare(authorities).await.map_err(|error| cannot_tell(&error))
}

/// Begins to tell who may do what, by keys that are there already.
///
/// # Errors
///
/// [`Failure::Failed`] when what is kept cannot be read.
pub(super) async fn start(
    options: AccessOptions,
    authorities: Option<PreparedAuthorities>,
) -> Result<Access, Failure> {
    if authorities.is_none()
        && options.authorization_webhook.is_none()
        && options.connection_webhook.is_none()
    {
        return Ok(Access::open());
    }
    let access = Access::start(options).await.map_err(|error| cannot_tell(&error))?;
    if let Some(authorities) = authorities {
        // Nobody has been let in yet.
        let _ = access.adopt(authorities);
    }
    Ok(access)
}

fn cannot_tell(error: &AccessError) -> Failure {
    let advice = match error {
        AccessError::NoUsableKey { .. } => {
            "start the server of the key set first, or give the key with --key-file"
        }
        AccessError::File { .. } => "give a folder that the hub may write to, with --data",
        _ => return Failure::Failed(format!("cannot tell who may do what: {error}")),
    };
    Failure::Failed(format!("cannot tell who may do what: {error}\n  {advice}"))
}

fn authority(trusted: &TrustedAuthority) -> Result<AuthorityOptions, Failure> {
    let mut jwks = Vec::new();
    for url in &trusted.jwks_urls {
        let set = JwksOptions::new(url);
        let mut set = set.map_err(|error| Failure::Usage(format!("--jwks-url {url}: {error}")))?;
        set.algorithm = trusted.algorithm;
        jwks.push(set);
    }
    let keys = trusted.keys.iter().map(|(key, _)| key.clone()).collect();
    Ok(AuthorityOptions { authority: trusted.authority.clone(), keys, jwks })
}

fn bad(settings: &Settings, name: &str, error: &WebUrlError) -> Failure {
    Failure::Usage(format!("{}: {error}", shown_place(settings, name)))
}
