//! Certificates from an authority, by ACME (RFC 8555) with TLS-ALPN-01 (RFC 8737): the authority connects
//! to each name, and is shown a certificate that only who has the account can make.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use crate::tls::certificates::Certificates;
use crate::tls::self_signed::certify;
use crate::tls::validity::Validity;
use crate::tls::{TlsError, kept};

/// For what, from whom, and where it is kept.
#[derive(Debug, Clone)]
pub struct AcmeOptions {
    /// The names that the certificate is for, at least one. Each leads to the hub.
    pub domains: Vec<String>,
    /// Whom the authority writes to when something is wrong; `None` for nobody.
    pub email: Option<String>,
    /// Where the authority says how it is spoken to, such as [`LETS_ENCRYPT`].
    pub directory: String,
    /// A PEM file with the certificate that the authority's own one comes from; `None` if the machine
    /// trusts it.
    pub ca_file: Option<PathBuf>,
    /// Where account, certificate and keys are kept, for their owner alone, and by authority. Authorities
    /// limit how many certificates they issue: it has to outlive the process.
    pub folder: PathBuf,
}

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What gets certificates; cheap to clone.
#[derive(Clone)]
pub(super) struct Acme(Arc<Inner>);

struct Inner {
    options: AcmeOptions,
    server_names: Vec<ServerName<'static>>,
    account_file: PathBuf,
    certificate_file: PathBuf,
}

/// Why there is no certificate, in words for whoever runs the hub.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error(transparent)]
    Authority(#[from] instant_acme::Error),
    #[error("the authority did not find {domain} to be here: {reason}")]
    Unproven { domain: String, reason: String },
    #[error("the authority does not offer to prove {domain} by TLS-ALPN-01")]
    NotOffered { domain: String },
    #[error("the authority took longer than {} s", ATTEMPT_TIMEOUT.as_secs())]
    Timeout,
    #[error("{}: {error}", path.display())]
    Account { path: PathBuf, error: io::Error },
    #[error("a certificate cannot be made: {0}")]
    Unmade(#[from] rcgen::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Acme {
    pub(super) fn new(mut options: AcmeOptions) -> Result<Self, TlsError> {
        for domain in &mut options.domains {
            domain.make_ascii_lowercase();
        }
        if options.domains.is_empty() {
            return Err(TlsError::NoNames);
        }
        let server_names = kept::parse_names(&options.domains)?;
        if let Some(at) =
            server_names.iter().position(|name| !matches!(name, ServerName::DnsName(_)))
        {
            return Err(TlsError::InvalidName { name: options.domains.swap_remove(at) });
        }
        let authority = authority(&options.directory)
            .ok_or_else(|| TlsError::InvalidDirectory { directory: options.directory.clone() })?;
        if let Some(path) = &options.ca_file
            && let Err(error) = fs::metadata(path)
        {
            return Err(TlsError::Unreadable { path: path.clone(), error });
        }
        let folder = options.folder.join(authority);
        let (account_file, certificate_file) =
            (folder.join("account.json"), folder.join("certificate.pem"));
        Ok(Self(Arc::new(Inner { options, server_names, account_file, certificate_file })))
    }

    /// Shows what was issued before, if it is for these names. Blocks.
    pub(super) fn load(&self, certificates: &Certificates) {
        match kept::read(&self.0.certificate_file) {
            Ok(Some(certified)) if kept::covers(&certified, &self.0.server_names) => {
                certificates.set(certified);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the certificate that was kept cannot be used"),
        }
    }

    /// Gets a certificate whenever one is due, until it is dropped.
    pub(super) async fn keep(&self, certificates: &Arc<Certificates>) {
        let mut failures = 0;
        loop {
            if !is_due(certificates) {
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.obtain(certificates));
            let obtained = attempt.await.unwrap_or(Err(AcmeError::Timeout));
            certificates.set_proofs(HashMap::new());
            let domains = self.0.options.domains.join(", ");
            match obtained {
                Ok(()) => {
                    failures = 0;
                    let expires_at = certificates.validity().map(|validity| validity.until);
                    tracing::info!(%domains, expires_at, "there is a new certificate");
                }
                Err(error) => {
                    let pause = pause_after(failures, fastrand::f64());
                    failures += 1;
                    let directory = &self.0.options.directory;
                    let again_s = pause.as_secs();
                    tracing::warn!(%error, %domains, %directory, again_s, "there is no new certificate");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn obtain(&self, certificates: &Arc<Certificates>) -> Result<(), AcmeError> {
        let account = self.account().await?;
        let names: Vec<Identifier> =
            self.0.options.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = match account.new_order(&NewOrder::new(&names)).await {
            Err(instant_acme::Error::Api(problem)) if is_unknown_account(&problem) => {
                // It was an account of an authority that has forgotten it.
                let _ = fs::remove_file(&self.0.account_file);
                return Err(instant_acme::Error::Api(problem).into());
            }
            order => order?,
        };
        prove(&mut order, certificates).await?;
        if order.poll_ready(&POLLING).await.is_ok_and(|status| status == OrderStatus::Ready) {
            let pem = self.issue(&mut order).await?;
            return self.take_up(pem, certificates).await;
        }
        Err(why_unproven(&mut order).await)
    }

    /// The account that is kept, or else a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let path = &self.0.account_file;
        let failed = |error: io::Error| AcmeError::Account { path: path.clone(), error };
        match fs::read(path) {
            Ok(json) => {
                let credentials: AccountCredentials =
                    serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
                return Ok(self.client()?.from_credentials(credentials).await?);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let contact = self.0.options.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.0.options.directory.clone();
        let (account, credentials) = self.client()?.create(&new, directory, None).await?;
        let json = serde_json::to_vec(&credentials).map_err(|error| failed(error.into()))?;
        self.write(path, json).await?;
        Ok(account)
    }

    fn client(&self) -> Result<AccountBuilder, AcmeError> {
        Ok(match &self.0.options.ca_file {
            Some(path) => Account::builder_with_root(path)?,
            None => Account::builder()?,
        })
    }

    /// Has the certificate issued; it and its key as PEM.
    async fn issue(&self, order: &mut Order) -> Result<String, AcmeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.0.options.domains.clone())?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&POLLING).await?;
        Ok(chain + "\n" + &key.serialize_pem())
    }

    async fn take_up(&self, pem: String, certificates: &Certificates) -> Result<(), AcmeError> {
        let path = &self.0.certificate_file;
        self.write(path, pem.into_bytes()).await?;
        if let Some(certified) = kept::read(path)? {
            certificates.set(certified);
        }
        Ok(())
    }

    async fn write(&self, path: &Path, content: Vec<u8>) -> Result<(), TlsError> {
        let path = path.to_owned();
        let written = tokio::task::spawn_blocking(move || kept::write(&path, &content));
        written.await.unwrap_or(Ok(()))
    }
}

/// Gets ready for the authority, and asks it to come.
async fn prove(order: &mut Order, certificates: &Certificates) -> Result<(), AcmeError> {
    let mut proofs = HashMap::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let domain = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(AcmeError::NotOffered { domain });
        };
        let digest = challenge.key_authorization().digest();
        proofs.insert(domain.clone(), Arc::new(proof(&domain, digest.as_ref())?));
        certificates.set_proofs(proofs.clone());
        challenge.set_ready().await?;
    }
    Ok(())
}

/// The certificate that proves who answers for a name (RFC 8737, section 3).
fn proof(domain: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    Ok(certify(params.self_signed(&key)?.der().clone(), &key)?)
}

/// What the authority says of an order that it did not find to be proven.
async fn why_unproven(order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return AcmeError::Unproven { domain, reason: in_words(problem) };
        }
    }
    AcmeError::Timeout
}

fn in_words(problem: &instant_acme::Problem) -> String {
    let mut words = problem.detail.clone().unwrap_or_else(|| "it does not say why".to_owned());
    for part in &problem.subproblems {
        if let Some(detail) = &part.detail {
            let _ = write!(words, "; {detail}");
        }
    }
    words
}

fn is_unknown_account(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// Whether two thirds of its life are over, or there is none.
fn is_due(certificates: &Certificates) -> bool {
    let is_over = |Validity { from, until }| kept::now() >= until - until.saturating_sub(from) / 3;
    certificates.validity().is_none_or(is_over)
}

/// How an authority is called among files: the host and port of its directory.
fn authority(directory: &str) -> Option<String> {
    let uri: axum::http::Uri = directory.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"))?;
    let name = authority.as_str();
    (!name.contains('@')).then(|| name.replace(['[', ']'], "").replace(':', "_"))
}

/// Longer each time, so that an authority that limits failures is not made angry.
fn pause_after(failures: u32, chance: f64) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    longest.mul_f64(1.0 - chance / 4.0)
}

/// How often is looked whether it is time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);
const POLLING: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(2));
const PAUSE_MIN: Duration = Duration::from_mins(1);
const PAUSE_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_have_folders_of_their_own() {
        for (directory, expected) in [
            (LETS_ENCRYPT, Some("acme-v02.api.letsencrypt.org")),
            ("https://localhost:14000/dir", Some("localhost_14000")),
            ("https://[::1]:14000/dir", Some("__1_14000")),
            ("http://localhost/dir", None),
            ("https://user@localhost/dir", None),
            ("/dir", None),
            ("", None),
        ] {
            assert_eq!(authority(directory).as_deref(), expected, "{directory}");
        }
    }

    #[test]
    fn pauses_grow_to_an_hour() {
        assert_eq!(pause_after(0, 0.0), Duration::from_secs(60));
        assert_eq!(pause_after(1, 1.0), Duration::from_secs(90));
        for failures in 6..100 {
            assert_eq!(pause_after(failures, 0.0), Duration::from_hours(1));
        }
    }
}
