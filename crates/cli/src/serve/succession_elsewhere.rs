//! Systems on which one process cannot take over from another.

use std::convert::Infallible;
use std::net::TcpListener;
use std::path::Path;

use crate::failure::Failure;

/// There is none.
pub(super) struct Succession(Infallible);

/// There is none.
pub(super) struct Successor {
    pub(super) waits: bool,
    never: Infallible,
}

/// There is none.
pub(super) struct Predecessor {
    pub(super) listeners: Vec<TcpListener>,
    never: Infallible,
}

impl Succession {
    /// Refuses.
    pub(super) fn begin(_: &Path) -> Result<Self, Failure> {
        Err(refused())
    }

    /// Never ends.
    pub(super) async fn next(&self, _: &[TcpListener]) -> Successor {
        match self.0 {}
    }
}

impl Successor {
    /// Never called.
    pub(super) async fn release(self) -> bool {
        match self.never {}
    }
}

impl Predecessor {
    /// Refuses.
    pub(super) async fn find(_: &Path) -> Result<Option<Self>, Failure> {
        Err(refused())
    }

    /// Never called.
    pub(super) async fn take(&mut self, _: bool) -> Result<(), Failure> {
        match self.never {}
    }

    /// Never called.
    pub(super) async fn dismiss(self) {
        match self.never {}
    }
}

fn refused() -> Failure {
    Failure::Usage("--takeover: this system cannot pass sockets from process to process".to_owned())
}
