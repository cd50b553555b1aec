//! Certificates and keys that the hub itself keeps: files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::tls::TlsError;
use crate::tls::files::read_pair;

/// Reads a certificate and its key from one file; `None` if there is no such file.
///
/// # Errors
///
/// If what is there cannot be used.
pub(super) fn read(path: &Path) -> Result<Option<CertifiedKey>, TlsError> {
    match read_pair(path, path) {
        Ok(certified) => Ok(Some(certified)),
        Err(TlsError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Replaces a file as a whole, or makes it, and the folder it is in.
///
/// # Errors
///
/// If the system refuses; what was there stays.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    let written = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWNER_ONLY);
        let mut file = options.open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|error| TlsError::Unwritable { path: path.to_owned(), error })
}

/// Whether a certificate is for all these names, besides others perhaps.
pub(super) fn covers(certified: &CertifiedKey, names: &[ServerName<'_>]) -> bool {
    let certificate = certified.cert.first().map(ParsedCertificate::try_from);
    let Some(Ok(certificate)) = certificate else { return false };
    names.iter().all(|name| verify_server_name(&certificate, name).is_ok())
}

/// The names, each of which a certificate can be for.
///
/// # Errors
///
/// For the first that is none.
pub(super) fn parse_names(names: &[String]) -> Result<Vec<ServerName<'static>>, TlsError> {
    let parse = |name: &String| {
        ServerName::try_from(name.clone()).map_err(|_| TlsError::InvalidName { name: name.clone() })
    };
    names.iter().map(parse).collect()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(unix)]
const OWNER_ONLY: u32 = 0o600;
