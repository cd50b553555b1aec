//! Programs of Go modules, built from the module proxy outside the project.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::starting::output_of;

/// A program as a module has it.
pub(crate) struct Module {
    /// What the program is called here.
    pub(crate) name: &'static str,
    pub(crate) module: &'static str,
    pub(crate) version: &'static str,
    pub(crate) package: &'static str,
    pub(crate) tags: &'static str,
}

impl Module {
    /// Where the program is, built into `cache` unless it is there already.
    ///
    /// # Errors
    ///
    /// If there is no Go, or the build fails.
    pub(crate) fn build(&self, cache: &Path) -> Result<PathBuf> {
        let Self { name, module, version, package, tags } = self;
        fs::create_dir_all(cache)?;
        let program = cache.canonicalize()?.join(format!("{name}-{version}"));
        if program.exists() {
            return Ok(program);
        }
        let folder = cache.join(format!("{name}-build"));
        fs::create_dir_all(&folder)?;
        let file = format!("module peer\n\ngo 1.25\n\nrequire {module} {version}\n");
        fs::write(folder.join("go.mod"), file)?;
        eprintln!("building {name} {version}");
        let mut command = Command::new("go");
        command
            .args(["build", "-mod=mod", "-buildvcs=false", "-trimpath"])
            .arg(format!("-tags={tags}"))
            .arg("-o")
            .args([&program, Path::new(package)])
            .current_dir(&folder);
        output_of(&mut command).context("it is built by Go")?;
        Ok(program)
    }

    /// Its version and that of the Go that built it.
    pub(crate) fn describe(&self) -> Result<String> {
        let go = output_of(Command::new("go").args(["env", "GOVERSION"]))?;
        Ok(format!("{} {}, {go}", self.name, self.version.trim_start_matches('v')))
    }
}
