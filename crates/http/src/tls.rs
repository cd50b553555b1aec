//! With what connections are encrypted: a certificate, its key, and what rustls is told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};

/// A certificate and its key, for TLS 1.2 and 1.3; cheap to clone.
///
/// Clients choose between HTTP/2 and HTTP/1.1 by ALPN (RFC 7301). Sessions are resumed by tickets
/// that the clients keep, so that they take no memory here.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

/// Why a certificate and a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read; correct its path or its permissions.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file is not PEM; convert it.
    #[error("{} is not valid PEM: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no certificate in the file; give the one that has it.
    #[error("there is no certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in the file; give the one that has it.
    #[error("there is no private key in {}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key can be used with a passphrase only; store it without one.
    #[error("the private key in {} is encrypted", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate; give the two that were issued together.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    KeyDoesNotFit {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The certificate or the key is of a kind that is not supported; get one with an ECDSA, Ed25519 or
    /// RSA key.
    #[error("{} and {} cannot be used: {reason}", cert.display(), key.display())]
    Unusable {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Tls {
    /// Reads the certificate, followed by those that lead to a well-known one, and its key from PEM
    /// files, which may be one and the same.
    ///
    /// # Errors
    ///
    /// [`TlsError`]
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unusable = |reason: rustls::Error| TlsError::Unusable {
            cert: cert.to_owned(),
            key: key.to_owned(),
            reason: reason.to_string(),
        };
        let certified = certified(cert, key, &provider, unusable)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.send_tls13_tickets = TICKETS;
        Ok(Self { config: Arc::new(config) })
    }

    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn certified(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
    unusable: impl Fn(rustls::Error) -> TlsError,
) -> Result<CertifiedKey, TlsError> {
    let pem = read(cert)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| malformed(cert, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: cert.to_owned() });
    }
    let pem = read(key)?;
    let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&pem) => {
            TlsError::EncryptedKey { path: key.to_owned() }
        }
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.to_owned() },
        error => malformed(key, &error),
    })?;
    CertifiedKey::from_der(chain, private_key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyDoesNotFit { cert: cert.to_owned(), key: key.to_owned() }
        }
        error => unusable(error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), reason: error.to_string() }
}

/// Whether there is a key behind a passphrase (RFC 5958, section 3).
fn is_encrypted(pem: &[u8]) -> bool {
    memchr::memmem::find(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").is_some()
}

/// How HTTP/2 is called in ALPN.
pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// A client that comes back needs one, and gets the next one then.
const TICKETS: usize = 1;
