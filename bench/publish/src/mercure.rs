//! Mercure as a peer: built by the Go toolchain from the module proxy, outside the project, and
//! driven by its documented protocol and flags alone.
//!
//! The hub that its documentation recommends is a build of Caddy; this is the smaller program of
//! the same module, which serves the same hub without Caddy's layers, and so rather flatters it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bench_stand::Served;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Where it publishes and subscribes.
pub const PATH: &str = "/.well-known/mercure";

pub const NAME: &str = "Mercure 0.20.2, Bolt";

/// Where the program is, built into `cache` unless it is there already.
///
/// # Errors
///
/// If there is no Go, or the build fails.
pub fn build(cache: &Path) -> Result<PathBuf> {
    let program = cache.join(format!("mercure-{VERSION}"));
    if program.exists() {
        return Ok(program);
    }
    let folder = cache.join("mercure-build");
    fs::create_dir_all(&folder)?;
    let module =
        format!("module peer\n\ngo 1.25\n\nrequire github.com/dunglas/mercure {VERSION}\n");
    fs::write(folder.join("go.mod"), module)?;
    eprintln!("building Mercure {VERSION}");
    let output = Command::new("go")
        .args([
            "build",
            "-mod=mod",
            "-buildvcs=false",
            "-trimpath",
            "-tags=deprecated_server",
            "-o",
        ])
        .args([&program, Path::new("github.com/dunglas/mercure/cmd/mercure")])
        .current_dir(&folder)
        .output()
        .context("there is no Go")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(program)
}

/// Starts it with its log in `folder`.
///
/// # Errors
///
/// If it does not start.
pub fn start(program: &Path, folder: &Path) -> Result<Served> {
    let address = free_address()?;
    let mut command = Command::new(program);
    command
        .arg("--allow-anonymous")
        .args(["--addr", &address.to_string()])
        .args(["--jwt-key", KEY])
        .args(["--transport-url", &format!("bolt://{}", folder.join("mercure.db").display())])
        .current_dir(folder);
    Served::listening(&mut command, address)
}

/// The header line that allows to publish anything.
pub fn authorization() -> String {
    let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = BASE64.encode(r#"{"mercure":{"publish":["*"]}}"#);
    let signed = format!("{head}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("any length is right");
    mac.update(signed.as_bytes());
    format!("authorization: Bearer {signed}.{}\r\n", BASE64.encode(mac.finalize().into_bytes()))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The newest that the proxy gives with a checksum and that has the program.
const VERSION: &str = "v0.20.2";

/// As secret as the address of a server that lives for seconds.
const KEY: &str = "the key of a benchmark, 32 bytes";
