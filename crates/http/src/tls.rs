//! With what connections are encrypted: a certificate, its key, and what rustls is told. Where both
//! come from, and how newer ones take their place while the hub runs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use tokio::sync::Mutex;

use crate::tls::certificates::Certificates;
use crate::tls::files::Files;

mod certificates;
mod files;
mod validity;

/// A certificate and its key, for TLS 1.2 and 1.3; cheap to clone.
///
/// Clients choose between HTTP/2 and HTTP/1.1 by ALPN (RFC 7301). Sessions are resumed by tickets
/// that the clients keep, so that they take no memory here.
///
/// While it is [served](crate::serve), it looks for a newer certificate by itself. Connections that
/// are open keep the one that they began with.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    source: Files,
    /// Held by whoever looks for newer certificates: one of those that serve it is enough.
    keeping: Mutex<()>,
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
    /// rustls refuses what it was told; nothing that a caller gave can be the reason.
    #[error("TLS cannot be set up: {reason}")]
    Setup {
        /// What rustls says.
        reason: String,
    },
}

impl Tls {
    /// Reads the certificate, followed by those that lead to a well-known one, and its key from PEM
    /// files, which may be one and the same.
    ///
    /// While it is served, the files are looked at every second. Once they have changed, and not again
    /// within a second, they are read. A pair that cannot be used is warned about, once, and the one
    /// before it stays.
    ///
    /// # Errors
    ///
    /// [`TlsError`]
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::default());
        let files = Files::new(cert, key);
        files.load(&certificates)?;
        Self::new(certificates, files)
    }

    fn new(certificates: Arc<Certificates>, source: Files) -> Result<Self, TlsError> {
        let refused = |error: rustls::Error| TlsError::Setup { reason: error.to_string() };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(refused)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
        config.send_tls13_tickets = TICKETS;
        let config = Arc::new(config);
        Ok(Self(Arc::new(Inner { config, certificates, source, keeping: Mutex::new(()) })))
    }

    /// Reads the files again, whether they have changed or not. Connections from now on have what is
    /// in them. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.source.load(&self.0.certificates)
    }

    /// When the certificate in use expires, in seconds since 1970; `None` if there is none, or it does
    /// not say so in a way that is understood.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.certificates.expires_at()
    }

    /// Looks for newer certificates until it is dropped.
    pub(crate) async fn keep(self) {
        let _keeping = self.0.keeping.lock().await;
        self.0.source.keep(&self.0.certificates).await;
    }

    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.0.config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// How HTTP/2 is called in ALPN.
pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// A client that comes back needs one, and gets the next one then.
const TICKETS: usize = 1;
