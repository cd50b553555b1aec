//! With which certificate a hub encrypts, and why it cannot.

use std::path::Path;

use tidings_http::{AcmeOptions, LETS_ENCRYPT, Tls, TlsError};

use crate::failure::Failure;
use crate::settings::{ServeSettings, Settings};

/// What the hub encrypts with, if it does.
///
/// # Errors
///
/// [`Failure::Usage`] with what is wrong and what to do.
pub(super) fn load(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let folder = settings.data_folder().map(|data| data.join("tls"));
    loaded(settings, folder.as_deref())
}

/// Checks that the hub could encrypt as it is told to; makes no files.
///
/// # Errors
///
/// As [`load`].
pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    loaded(settings, None).map(drop)
}

/// Reads the certificate again.
///
/// # Errors
///
/// [`Failure::Usage`] with what is wrong and what to do; the one in use stays.
pub(super) fn reload(tls: &Tls) -> Result<(), Failure> {
    tls.reload().map_err(|error| Failure::Usage(cannot_encrypt(&error)))
}

fn loaded(settings: &Settings, self_signed: Option<&Path>) -> Result<Option<Tls>, Failure> {
    let serve = &settings.serve;
    let tls = if let (Some(cert), Some(key)) = (&serve.tls_cert, &serve.tls_key) {
        Tls::load(cert, key)
    } else if serve.tls_self_signed {
        Tls::self_signed(&own_names(serve), self_signed)
    } else if let (false, Some(data)) = (serve.acme_domain.is_empty(), settings.data_folder()) {
        Tls::acme(AcmeOptions {
            domains: serve.acme_domain.clone(),
            email: serve.acme_email.clone(),
            directory: serve.acme_directory.clone().unwrap_or_else(|| LETS_ENCRYPT.to_owned()),
            ca_file: serve.acme_ca.clone(),
            folder: data.join("acme"),
        })
    } else {
        return Ok(None);
    };
    tls.map(Some).map_err(|error| Failure::Usage(cannot_encrypt(&error)))
}

/// The names by which clients know the hub, besides those of every machine for itself.
fn own_names(serve: &ServeSettings) -> Vec<String> {
    let address = serve.listen.ip();
    let address = (serve.is_exposed() && !address.is_unspecified()).then(|| address.to_string());
    serve.hosts.iter().cloned().chain(address).collect()
}

fn cannot_encrypt(error: &TlsError) -> String {
    let advice = match error {
        TlsError::Unreadable { .. } => "check its path and who may read it",
        TlsError::Malformed { .. } => {
            "give a PEM file; `openssl x509 -inform der` and `openssl pkey -inform der` write one"
        }
        TlsError::NoCertificate { .. } => {
            "give --tls-cert a file with -----BEGIN CERTIFICATE----- in it"
        }
        TlsError::NoKey { .. } => "give --tls-key a file with -----BEGIN PRIVATE KEY----- in it",
        TlsError::EncryptedKey { .. } => {
            "store it without a passphrase: `openssl pkey -in FILE -out FILE`"
        }
        TlsError::KeyDoesNotFit { .. } => {
            "give the two that were issued together; the server's certificate is to stand first"
        }
        TlsError::Unusable { .. } => "give a certificate with an ECDSA, Ed25519 or RSA key",
        TlsError::Unwritable { .. } => "give a folder that the hub may write to, with --data",
        TlsError::InvalidName { .. } => "give names as they stand in a URL, without a port",
        TlsError::NoNames => "give at least one --acme-domain",
        TlsError::InvalidDirectory { .. } => "give the URL of an ACME directory, with https://",
        TlsError::Setup { .. } => "this is a fault of tidings; please report it",
    };
    format!("cannot encrypt: {error}\n  {advice}")
}
