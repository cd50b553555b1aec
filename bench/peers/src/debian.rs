//! Programs of Debian's packages, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::starting::output_of;

/// A package below the cache.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// What would be `/`.
    pub(crate) root: PathBuf,
    pub(crate) version: String,
}

/// Unpacks a package of the release that runs here, unless that has been done.
///
/// # Errors
///
/// If there is no such package, or no list of packages on this machine.
pub(crate) fn unpack(package: &str, cache: &Path) -> Result<Unpacked> {
    let folder = cache.join("debian").join(package);
    let root = folder.join("root");
    let version = folder.join("version");
    // Written last.
    if let Ok(version) = fs::read_to_string(&version) {
        return Ok(Unpacked { root: root.canonicalize()?, version });
    }
    fs::create_dir_all(&folder)?;
    // As root it would drop its rights, and then not get at folders such as this.
    let apt_get = ["--option", "APT::Sandbox::User=root", "download", package];
    output_of(Command::new("apt-get").args(apt_get).current_dir(&folder))?;
    let archive = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    output_of(Command::new("dpkg").arg("-x").args([&archive, &root]))?;
    let found = output_of(Command::new("dpkg-deb").arg("-f").arg(&archive).arg("Version"))?;
    fs::write(&version, &found)?;
    Ok(Unpacked { root: root.canonicalize()?, version: found })
}
