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

use crate::tls::acme::Acme;
use crate::tls::certificates::Certificates;
use crate::tls::files::Files;
use crate::tls::self_signed::SelfSigned;

pub use crate::tls::acme::{AcmeOptions, LETS_ENCRYPT};

mod acme;
mod certificates;
mod files;
mod kept;
mod self_signed;
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
    source: Source,
    /// Held by whoever looks for newer certificates: one of those that serve it is enough.
    keeping: Mutex<()>,
}

/// Where certificates come from.
enum Source {
    Files(Files),
    SelfSigned(SelfSigned),
    Acme(Acme),
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
    /// A file cannot be written; correct the permissions of its folder.
    #[error("{} cannot be written: {error}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// No certificate is made out to this name.
    #[error("{name:?} is no name that a certificate can be for")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// There is nothing to ask a certificate for.
    #[error("there is no name to get a certificate for")]
    NoNames,
    /// What is to issue the certificate cannot be reached like this.
    #[error("{directory:?} is no URL of an ACME directory")]
    InvalidDirectory {
        /// The URL that was given.
        directory: String,
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
        Self::new(certificates, Source::Files(files))
    }

    /// Makes a certificate that no client trusts unless it is told to, for development: for
    /// `localhost`, `127.0.0.1`, `::1` and `names`, for a year.
    ///
    /// It is kept in `folder`, with its key and for its owner alone, and used again until 30 days before
    /// it expires or a name is missing, so that the exception a browser was told to make lasts. Without
    /// a folder it is another one each time. Blocks while it reads and writes.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`], [`TlsError::Unreadable`] and [`TlsError::Unwritable`].
    pub fn self_signed(names: &[String], folder: Option<&Path>) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::default());
        let self_signed = SelfSigned::new(names, folder)?;
        self_signed.load(&certificates)?;
        Self::new(certificates, Source::SelfSigned(self_signed))
    }

    /// Gets certificates from an authority by ACME (RFC 8555), which has to reach the hub on port 443 of
    /// each name (TLS-ALPN-01, RFC 8737), and renews them after two thirds of their life.
    ///
    /// That happens while it is served. What was issued before is used at once; handshakes fail while
    /// there is nothing. When the authority refuses or cannot be reached, that is warned about and tried
    /// again: after a minute at first, and up to an hour later. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsError::NoNames`], [`TlsError::InvalidName`], [`TlsError::InvalidDirectory`], and
    /// [`TlsError::Unreadable`] for the authority's certificate.
    pub fn acme(options: AcmeOptions) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::default());
        let acme = Acme::new(options)?;
        acme.load(&certificates);
        Self::new(certificates, Source::Acme(acme))
    }

    fn new(certificates: Arc<Certificates>, source: Source) -> Result<Self, TlsError> {
        let refused = |error: rustls::Error| TlsError::Setup { reason: error.to_string() };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(refused)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        if let Source::Acme(_) = source {
            config.alpn_protocols.push(ACME.to_vec());
        }
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
        config.send_tls13_tickets = TICKETS;
        let config = Arc::new(config);
        Ok(Self(Arc::new(Inner { config, certificates, source, keeping: Mutex::new(()) })))
    }

    /// Reads the files of [`load`](Self::load) again, whether they have changed or not. Connections from
    /// now on have what is in them. Does nothing where certificates come from elsewhere. Blocks
    /// while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        match &self.0.source {
            Source::Files(files) => files.load(&self.0.certificates),
            Source::SelfSigned(_) | Source::Acme(_) => Ok(()),
        }
    }

    /// The SHA-256 of the certificate in use, as browsers and `openssl x509 -fingerprint -sha256` show
    /// it: pairs of hexadecimal digits with colons between them. `None` if there is no certificate yet.
    pub fn fingerprint(&self) -> Option<String> {
        self.0.certificates.fingerprint()
    }

    /// When the certificate in use expires, in seconds since 1970; `None` if there is none, or it does
    /// not say so in a way that is understood.
    pub fn expires_at(&self) -> Option<u64> {
        Some(self.0.certificates.validity()?.until)
    }

    /// Looks for newer certificates until it is dropped.
    pub(crate) async fn keep(self) {
        let _keeping = self.0.keeping.lock().await;
        match &self.0.source {
            Source::Files(files) => files.keep(&self.0.certificates).await,
            Source::SelfSigned(self_signed) => self_signed.keep(&self.0.certificates).await,
            Source::Acme(acme) => acme.keep(&self.0.certificates).await,
        }
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
/// How an authority that wants proof is told apart (RFC 8737, section 6.2).
pub(crate) const ACME: &[u8] = b"acme-tls/1";
/// A client that comes back needs one, and gets the next one then.
const TICKETS: usize = 1;
