//! A certificate and its key in PEM files, which others replace.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};

use crate::tls::TlsError;
use crate::tls::certificates::Certificates;

/// Where both are; cheap to clone.
#[derive(Clone)]
pub(super) struct Files(Arc<Inner>);

struct Inner {
    cert: PathBuf,
    key: PathBuf,
    /// What the files looked like before they were read.
    read: Mutex<[Look; 2]>,
}

/// What tells one state of a file from another; nothing if it cannot be looked at.
type Look = Option<(u64, Option<SystemTime>, u64)>;

impl Files {
    pub(super) fn new(cert: &Path, key: &Path) -> Self {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Self(Arc::new(Inner { cert, key, read: Mutex::new([None; 2]) }))
    }

    /// Reads the files, and shows what is in them from now on. Blocks.
    ///
    /// # Errors
    ///
    /// If they cannot be used together.
    pub(super) fn load(&self, certificates: &Certificates) -> Result<(), TlsError> {
        // What changes from here on is noticed later.
        *self.0.read.lock().expect(UNPOISONED) = self.look();
        certificates.set(read_pair(&self.0.cert, &self.0.key)?);
        Ok(())
    }

    /// Reads the files whenever they have changed, until it is dropped.
    pub(super) async fn keep(&self, certificates: &Arc<Certificates>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = *self.0.read.lock().expect(UNPOISONED);
        loop {
            ticks.tick().await;
            let files = self.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || files.look()).await else { return };
            let is_changed = now != *self.0.read.lock().expect(UNPOISONED);
            // Who writes one of the files may not be done with the other.
            let is_settled = std::mem::replace(&mut before, now) == now;
            if is_changed && is_settled {
                let (files, certificates) = (self.clone(), Arc::clone(certificates));
                let _ =
                    tokio::task::spawn_blocking(move || files.load_and_tell(&certificates)).await;
            }
        }
    }

    fn load_and_tell(&self, certificates: &Certificates) {
        let cert = self.0.cert.display();
        match self.load(certificates) {
            Ok(()) => {
                let expires_at = certificates.validity().map(|validity| validity.until);
                tracing::info!(%cert, expires_at, "there is a new certificate");
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificate cannot be used; the old one stays");
            }
        }
    }

    fn look(&self) -> [Look; 2] {
        [look(&self.0.cert), look(&self.0.key)]
    }
}

/// Reads a certificate and its key.
pub(super) fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
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
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, private_key, &provider).map_err(|error| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::KeyDoesNotFit { cert, key }
            }
            error => TlsError::Unusable { cert, key, reason: error.to_string() },
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error: io::Error| TlsError::Unreadable { path: path.to_owned(), error })
}

fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), reason: error.to_string() }
}

/// Whether there is a key behind a passphrase (RFC 5958, section 3).
fn is_encrypted(pem: &[u8]) -> bool {
    memchr::memmem::find(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").is_some()
}

/// Looks at what a path leads to: where links are exchanged, that is another file.
fn look(path: &Path) -> Look {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((inode, metadata.modified().ok(), metadata.len()))
}

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const UNPOISONED: &str = "no thread panics while it holds what a file looks like";
