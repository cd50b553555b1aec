//! What compilers do not check: which crate may know which, how files are laid out, and that links
//! in documents lead somewhere.

use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context, Result, bail};

use crate::root;

/// Each crate and the crates of this workspace it may depend on. Whoever is not named here knows
/// nothing of the others.
const MAY_KNOW: [(&str, &[&str]); 12] = [
    ("crates/sse", &[]),
    ("crates/core", &[]),
    ("crates/log", &["tidings-core"]),
    ("crates/log-postgres", &["tidings-core", "tidings-log"]),
    ("crates/log-redis", &["tidings-core", "tidings-log"]),
    ("crates/auth", &["tidings-core"]),
    ("crates/access", &["tidings-auth", "tidings-core"]),
    ("crates/hub", &["tidings-core", "tidings-log", "tidings-sse"]),
    ("crates/http", &["tidings", "tidings-access", "tidings-auth", "tidings-sse"]),
    (
        "crates/cli",
        &[
            "tidings",
            "tidings-access",
            "tidings-auth",
            "tidings-http",
            "tidings-log-postgres",
            "tidings-log-redis",
            "tidings-sse",
        ],
    ),
    ("examples/embed", &["tidings", "tidings-http"]),
    ("xtask", &[]),
];

/// Words that say nothing, as names of files.
const VAGUE: [&str; 8] =
    ["channel", "message", "manager", "util", "utils", "helper", "common", "context"];

/// What the core must not know, and why it is not enough to look at its dependencies.
const NOT_IN_CORE: [&str; 5] =
    ["Instant::now", "SystemTime", "thread_rng", "std::net", "std::thread"];

/// Left-overs that must not be committed.
const NOT_IN_RUST: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    "#[ign\u{6f}re",
    "FIX\u{4d}E",
    "thread::sl\u{65}ep(",
];

const ARCHITECTURE_LINES_MAX: usize = 250;

pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut faults = Vec::new();
    check_dependencies(&root, &mut faults)?;
    for file in tracked_files(&root)? {
        let path = root.join(&file);
        // A file that is deleted but not yet committed is still listed.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        check_name(&file, &mut faults);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => check_rust(&file, &text, &mut faults),
            Some("md") => check_links(&root, &file, &text, &mut faults),
            _ => {}
        }
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md"))?.lines().count();
    if architecture > ARCHITECTURE_LINES_MAX {
        faults.push(format!("ARCHITECTURE.md has {architecture} lines; keep it under 250"));
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("not tidy:\n  {}", faults.join("\n  "))
}

fn check_dependencies(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for folder in members(root)? {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(crate_, _)| *crate_ == folder) else {
            faults.push(format!("{folder} is a crate that xtask/src/tidy.rs does not know"));
            continue;
        };
        let manifest: toml::Table =
            fs::read_to_string(root.join(&folder).join("Cargo.toml"))?.parse()?;
        for table in ["dependencies", "build-dependencies"] {
            let known = manifest.get(table).and_then(toml::Value::as_table);
            for name in known.into_iter().flat_map(toml::Table::keys) {
                if name.starts_with("tidings") && !allowed.contains(&name.as_str()) {
                    faults.push(format!("{folder} must not know {name}"));
                }
            }
        }
        if manifest.get("lints").is_none_or(|lints| lints.get("workspace").is_none()) {
            faults.push(format!("{folder}/Cargo.toml does not take the lints of the workspace"));
        }
    }
    Ok(())
}

/// The folders of the crates of this workspace.
fn members(root: &Path) -> Result<Vec<String>> {
    let mut folders = vec!["xtask".to_owned()];
    for parent in ["crates", "examples"] {
        for entry in fs::read_dir(root.join(parent))? {
            let path = entry?.path();
            if path.join("Cargo.toml").is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                folders.push(format!("{parent}/{name}"));
            }
        }
    }
    Ok(folders)
}

fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = process::Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git lists the files of the project")?;
    let list = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn check_name(file: &str, faults: &mut Vec<String>) {
    let path = PathBuf::from(file);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if stem == "mod" && file.ends_with(".rs") {
        faults.push(format!("{file}: name it after its folder, beside it"));
    }
    if VAGUE.contains(&&*stem) {
        faults.push(format!("{file}: the name does not say what is in it"));
    }
}

fn check_rust(file: &str, text: &str, faults: &mut Vec<String>) {
    let is_inner_test = file.ends_with("/tests.rs");
    if !is_inner_test && !text.starts_with("//!") && !text.starts_with("#!") {
        faults.push(format!("{file}: begin with what is guaranteed here (//!)"));
    }
    let mut forbid = |words: &[&str]| {
        for word in words.iter().filter(|word| text.contains(**word)) {
            faults.push(format!("{file}: holds {word}"));
        }
    };
    forbid(&NOT_IN_RUST);
    if file.starts_with("crates/core/src/") && !is_inner_test {
        forbid(&NOT_IN_CORE);
    }
}

/// Every link to a file of the project leads to one.
fn check_links(root: &Path, file: &str, text: &str, faults: &mut Vec<String>) {
    let folder = root.join(file);
    let folder = folder.parent().unwrap_or(root);
    for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
        let target = link.split('#').next().unwrap_or_default();
        let is_outside = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !is_outside && !folder.join(target).exists() {
            faults.push(format!("{file}: the link to {link} leads nowhere"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(check: impl Fn(&mut Vec<String>)) -> usize {
        let mut faults = Vec::new();
        check(&mut faults);
        faults.len()
    }

    #[test]
    fn the_project_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn what_is_not_tidy_is_found() {
        assert_eq!(faults_of(|faults| check_name("crates/a/src/mod.rs", faults)), 1);
        assert_eq!(faults_of(|faults| check_name("crates/a/src/utils.rs", faults)), 1);
        assert_eq!(faults_of(|faults| check_rust("a.rs", "fn a() {}", faults)), 1);
        let clock = "//! Doc.\nfn a() { Instant::now(); }";
        assert_eq!(faults_of(|faults| check_rust("crates/core/src/a.rs", clock, faults)), 1);
        assert_eq!(faults_of(|faults| check_rust("crates/hub/src/a.rs", clock, faults)), 0);
        let root = root().unwrap();
        let link = "[a](README.md) [b](missing.md) [c](https://example.org)";
        assert_eq!(faults_of(|faults| check_links(&root, "x.md", link, faults)), 1);
    }
}
