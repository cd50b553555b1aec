//! Which certificate a client is shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::ACME;
use crate::tls::validity::Validity;

/// The certificate in use, or none yet: handshakes fail then.
#[derive(Default)]
pub(super) struct Certificates {
    current: ArcSwapOption<CertifiedKey>,
    /// What proves to an authority that a name, in lower case, leads here.
    proofs: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Shows this one to whoever comes from now on.
    pub(super) fn set(&self, certified: CertifiedKey) {
        self.current.store(Some(Arc::new(certified)));
    }

    /// Shows these to an authority that asks for them.
    pub(super) fn set_proofs(&self, proofs: HashMap<String, Arc<CertifiedKey>>) {
        self.proofs.store(Arc::new(proofs));
    }

    /// From when until when the certificate in use is valid.
    pub(super) fn validity(&self) -> Option<Validity> {
        Validity::of(self.current.load().as_ref()?.cert.first()?)
    }

    pub(super) fn fingerprint(&self) -> Option<String> {
        let current = self.current.load_full()?;
        let digest = digest::digest(&digest::SHA256, current.cert.first()?);
        let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Some(pairs.join(":"))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_authority = hello.alpn().is_some_and(|mut offered| offered.all(|name| name == ACME));
        if is_authority {
            return self.proofs.load().get(hello.server_name()?).cloned();
        }
        self.current.load_full()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
