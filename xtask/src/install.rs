//! Installs what the tests need besides Rust: the real things, from the usual package managers.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::{root, run};

/// Where Python packages go; ignored by git.
pub(crate) const PYTHON: &str = ".test-env/python/bin/python";

/// Programs and the Debian packages they come from.
const PROGRAMS: [(&str, &str, &str); 17] = [
    ("nginx", "-v", "nginx-light"),
    ("chromium", "--version", "chromium"),
    ("python3", "--version", "python3"),
    ("node", "--version", "nodejs"),
    ("npm", "--version", "npm"),
    ("curl", "--version", "curl"),
    ("openssl", "version", "openssl"),
    ("h2load", "--version", "nghttp2-client"),
    ("go", "version", "golang-go"),
    ("redis-server", "--version", "redis-server"),
    ("haproxy", "-v", "haproxy"),
    ("caddy", "version", "caddy"),
    ("promtool", "--version", "prometheus"),
    ("systemd-analyze", "--version", "systemd"),
    ("strace", "--version", "strace"),
    ("buildah", "--version", "buildah"),
    ("musl-gcc", "--version", "musl-tools"),
];

/// Where Debian keeps the programs of Postgres, by version.
const POSTGRES: &str = "/usr/lib/postgresql";

/// An authority for certificates, cases for servers of HTTP/2, and what renders charts for Kubernetes.
const GO_PROGRAMS: [&str; 3] = [
    "github.com/letsencrypt/pebble/v2/cmd/pebble",
    "github.com/summerwind/h2spec/cmd/h2spec",
    "helm.sh/helm/v3/cmd/helm",
];

pub(crate) fn run() -> Result<()> {
    install_packages()?;
    install_python()?;
    install_go_programs()?;
    // Not everywhere is there a rustup, or a way to what it would fetch: then the image is not tried.
    if let Err(error) = run::program("", "rustup", &["target", "add", &static_target()]) {
        eprintln!("the image cannot be made here: {error:#}");
    }
    if is_stale("e2e/browser/package-lock.json", "e2e/browser/node_modules/.package-lock.json")? {
        run::program("e2e/browser", "npm", &["ci", "--no-audit", "--no-fund"])?;
    }
    Ok(())
}

/// Asks Debian's package manager for what is missing.
fn install_packages() -> Result<()> {
    let is_missing = |&&(name, version_argument, _): &&(&str, &str, &str)| {
        !run::is_there(name, version_argument)
    };
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(is_missing).map(|&(_, _, package)| package).collect();
    if packages.contains(&"chromium") {
        // Without recommended packages a browser has no font to draw a page with.
        packages.push("fonts-liberation");
    }
    if run::is_there("python3", "--version") && !has_venv() {
        packages.push("python3-venv");
    }
    if !run::is_there("initdb", "--version") && !Path::new(POSTGRES).is_dir() {
        packages.push("postgresql");
    }
    if packages.is_empty() {
        return Ok(());
    }
    if !run::is_there("apt-get", "--version") {
        bail!("install these, which the tests need: {}", packages.join(", "));
    }
    let is_root = std::env::var("USER").is_ok_and(|user| user == "root") || uid() == Some(0);
    let prefix: &[&str] = if is_root { &[] } else { &["sudo"] };
    for step in [
        &["update"][..],
        &[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat(),
    ] {
        let words = [prefix, &["apt-get"], step].concat();
        run::program("", words[0], &words[1..])?;
    }
    Ok(())
}

fn has_venv() -> bool {
    let status =
        std::process::Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    status.is_ok_and(|output| output.status.success())
}

fn uid() -> Option<u32> {
    let output = std::process::Command::new("id").arg("-u").output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn install_python() -> Result<()> {
    let requirements = "e2e/python/requirements.txt";
    let stamp = ".test-env/python/installed";
    if !is_stale(requirements, stamp)? {
        return Ok(());
    }
    run::program("", "python3", &["-m", "venv", ".test-env/python"])?;
    run::program("", PYTHON, &["-m", "pip", "install", "--quiet", "--requirement", requirements])?;
    std::fs::write(root()?.join(stamp), "")?;
    Ok(())
}

/// Builds what is named in `e2e/tools/go.mod`, at the versions that stand there.
fn install_go_programs() -> Result<()> {
    let versions = "e2e/tools/go.sum";
    let stamp = ".test-env/bin/installed";
    if !is_stale(versions, stamp)? {
        return Ok(());
    }
    let folder = root()?.join(".test-env/bin");
    std::fs::create_dir_all(&folder)?;
    let to = [("GOBIN", folder.as_path())];
    run::command("e2e/tools", "go".as_ref(), &[&["install"], &GO_PROGRAMS[..]].concat(), &to)?;
    std::fs::write(root()?.join(stamp), "")?;
    Ok(())
}

/// What a binary is built for that needs nothing of the system it runs on, as in an image.
fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Whether `made` is missing or older than what it is made from.
fn is_stale(from: &str, made: &str) -> Result<bool> {
    let root = root()?;
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let from = modified(&root.join(from));
    ensure!(from.is_some(), "a file of the project is missing");
    Ok(modified(&root.join(made)) < from)
}
