//! Runs other programs, in sight.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::root;

/// Runs a program in a folder of the workspace and fails if it does.
pub(crate) fn program(folder: &str, name: &str, arguments: &[&str]) -> Result<()> {
    command(folder, Path::new(name), arguments, &[])
}

/// As [`program`], with a path of its own and variables.
pub(crate) fn command(
    folder: &str,
    path: &Path,
    arguments: &[&str],
    variables: &[(&str, &Path)],
) -> Result<()> {
    let shown = format!("{} {}", path.display(), arguments.join(" "));
    eprintln!("\n\x1b[1m{}$ {shown}\x1b[0m", if folder.is_empty() { "" } else { folder });
    let status = Command::new(path)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root()?.join(folder))
        .status()
        .with_context(|| format!("`{shown}` cannot be run"))?;
    ensure!(status.success(), "`{shown}` failed");
    Ok(())
}

/// Runs the cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_in("", arguments)
}

/// As [`cargo`], in a folder that is a workspace of its own.
pub(crate) fn cargo_in(folder: &str, arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    program(folder, &cargo, arguments)
}

/// Whether a program is found on the path and says its version.
pub(crate) fn is_there(name: &str, version_argument: &str) -> bool {
    Command::new(name).arg(version_argument).output().is_ok_and(|output| output.status.success())
}
