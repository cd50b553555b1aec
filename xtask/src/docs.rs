//! Writes the generated parts of `docs/` anew, from the binary that they describe.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{root, run};

pub(crate) fn run() -> Result<()> {
    run::cargo(&["build", "--package", "tidings-cli"])?;
    for page in ["options", "command-line"] {
        write_reference(page)?;
    }
    run::program("e2e/browser", "node", &["picture.mjs"])
}

fn write_reference(page: &str) -> Result<()> {
    let root = root()?;
    let output =
        Command::new(root.join("target/debug/tidings")).args(["reference", page]).output()?;
    ensure!(output.status.success(), "`tidings reference {page}` failed");
    fs::write(root.join(format!("docs/reference/{page}.md")), output.stdout)?;
    Ok(())
}
