//! Certificates that nobody vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::time::interval;

use crate::tls::certificates::Certificates;
use crate::tls::validity::Validity;
use crate::tls::{TlsError, kept};

/// What they are made for, and where they are kept; cheap to clone.
#[derive(Clone)]
pub(super) struct SelfSigned(Arc<Inner>);

struct Inner {
    names: Vec<String>,
    server_names: Vec<ServerName<'static>>,
    file: Option<PathBuf>,
}

impl SelfSigned {
    pub(super) fn new(names: &[String], folder: Option<&Path>) -> Result<Self, TlsError> {
        let more = names.iter().filter(|name| !HERE.contains(&name.as_str())).cloned();
        let names: Vec<String> = HERE.map(str::to_owned).into_iter().chain(more).collect();
        let server_names = kept::parse_names(&names)?;
        let file = folder.map(|folder| folder.join(FILE));
        Ok(Self(Arc::new(Inner { names, server_names, file })))
    }

    /// Shows the certificate that is kept if it can still be used, or else a new one. Blocks.
    ///
    /// # Errors
    ///
    /// If it cannot be read or kept.
    pub(super) fn load(&self, certificates: &Certificates) -> Result<(), TlsError> {
        if let Some(file) = &self.0.file
            && let Some(certified) = kept::read(file)?
            && kept::covers(&certified, &self.0.server_names)
        {
            certificates.set(certified);
            if !is_due(certificates) {
                return Ok(());
            }
        }
        let (certified, pem) = self.make()?;
        if let Some(file) = &self.0.file {
            kept::write(file, pem.as_bytes())?;
        }
        certificates.set(certified);
        Ok(())
    }

    /// Makes a new certificate whenever the old one is about to expire, until it is dropped.
    pub(super) async fn keep(&self, certificates: &Arc<Certificates>) {
        let mut ticks = interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            if !is_due(certificates) {
                continue;
            }
            let (this, certificates) = (self.clone(), Arc::clone(certificates));
            let loaded = tokio::task::spawn_blocking(move || this.load(&certificates));
            if let Ok(Err(error)) = loaded.await {
                tracing::warn!(%error, "there is no new certificate, and the old one expires soon");
            }
        }
    }

    /// A certificate, and what is kept of it: it and its key as PEM.
    fn make(&self) -> Result<(CertifiedKey, String), TlsError> {
        let failed = |error: rcgen::Error| TlsError::Setup { reason: error.to_string() };
        let mut params = CertificateParams::new(self.0.names.clone()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "tidings, for development");
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_LEEWAY).into();
        params.not_after = (now + LIFETIME - CLOCK_LEEWAY).into();
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let pem = certificate.pem() + &key.serialize_pem();
        let certified = certify(certificate.der().clone(), &key)?;
        Ok((certified, pem))
    }
}

/// Puts a certificate and the key that it was made with together. They fit, and nobody looks whether
/// they do: proofs have extensions that only authorities understand.
pub(super) fn certify(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| TlsError::Setup { reason: reason.to_owned() })?;
    let key = sign::any_supported_type(&key)
        .map_err(|error| TlsError::Setup { reason: error.to_string() })?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

fn is_due(certificates: &Certificates) -> bool {
    let renewed_from = |Validity { until, .. }| kept::now() + RENEWED_BEFORE.as_secs() >= until;
    certificates.validity().is_none_or(renewed_from)
}

/// What a certificate is for in any case.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const FILE: &str = "self-signed.pem";
/// Not longer than browsers take.
const LIFETIME: Duration = Duration::from_hours(365 * 24);
const RENEWED_BEFORE: Duration = Duration::from_hours(30 * 24);
/// Clients whose clock is behind take it too.
const CLOCK_LEEWAY: Duration = Duration::from_hours(24);
const LOOK_INTERVAL: Duration = Duration::from_hours(1);
