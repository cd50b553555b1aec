//! A certificate for 127.0.0.1, made anew for each run.

use std::fs;
use std::path::Path;

use anyhow::Result;
use bench_stand::TlsFiles;
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Makes certificate and key in a folder.
pub fn make(folder: &Path) -> Result<TlsFiles> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    fs::write(&files.certificate, cert.pem())?;
    fs::write(&files.key, signing_key.serialize_pem())?;
    Ok(files)
}
