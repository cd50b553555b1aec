//! Which certificate a client is shown.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::validity::Validity;

/// The certificate in use, or none yet: handshakes fail then.
#[derive(Default)]
pub(super) struct Certificates {
    current: ArcSwapOption<CertifiedKey>,
    /// In seconds since 1970; 0 if that is not known.
    expires_at: AtomicU64,
}

impl Certificates {
    /// Shows this one to whoever comes from now on.
    pub(super) fn set(&self, certified: CertifiedKey) {
        let validity = certified.cert.first().and_then(|cert| Validity::of(cert));
        self.expires_at.store(validity.map_or(0, |validity| validity.until), Ordering::Relaxed);
        self.current.store(Some(Arc::new(certified)));
    }

    pub(super) fn expires_at(&self) -> Option<u64> {
        Some(self.expires_at.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
