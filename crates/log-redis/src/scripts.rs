//! The scripts that run in the server, each in one step that nothing interrupts.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A script and the name that the server gives it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

pub(crate) static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/append.lua")));
pub(crate) static TRIM: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/trim.lua")));
pub(crate) static BEGIN: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/begin.lua")));
pub(crate) static RIGHTS: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/rights.lua")));
pub(crate) static NOTE: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/note.lua")));
pub(crate) static NOTES: LazyLock<Script> =
    LazyLock::new(|| Script::of(include_str!("scripts/notes.lua")));

impl Script {
    fn of(text: &'static str) -> Self {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, hash }
    }
}
