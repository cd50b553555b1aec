//! Mercure: built by the Go toolchain from the module proxy, and driven by its documented protocol
//! and flags alone.
//!
//! The hub that its documentation recommends is a build of Caddy; this is the smaller program of
//! the same module, which serves the same hub without Caddy's layers, and so rather flatters it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::go::Module;
use crate::starting::{free_addresses, post, raise_file_limit};

/// What it is called where it keeps what is published.
pub const DURABLE_NAME: &str = "Mercure 0.24.2, Bolt";

/// Where it publishes and subscribes.
pub const PATH: &str = "/.well-known/mercure";

/// Events in memory where none are kept, else in Bolt.
#[derive(Debug, Default)]
pub struct Mercure {
    program: PathBuf,
}

impl Target for Mercure {
    fn name(&self) -> &'static str {
        "mercure"
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        self.program = build(cache)?;
        let settings = json!({
            "--transport-url": "local://local; bolt:// with as many events as are to be kept, if any are",
            "--write-timeout": "0s: streams are not to end after a minute",
            "--heartbeat-interval": "as wanted",
            "--allow-anonymous": "subscribers need no token, publishers have one (HS256)",
            "program": "cmd/mercure of the module, without Caddy",
        });
        Ok(Prepared { version: MODULE.describe()?, settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: Transport::Sse,
            tls: true,
            http2: true,
            resume: true,
            topics_max: 100,
            heartbeat: true,
        }
    }

    fn start(&self, folder: &Path, wanted: &Wanted) -> Result<Running> {
        let transport = match wanted.kept_events {
            0 => "local://local".to_owned(),
            kept => format!("{}?size={kept}&cleanup_frequency=0.1", bolt(folder)),
        };
        let mut options = vec!["--write-timeout".to_owned(), "0s".to_owned()];
        if let Some(heartbeat) = wanted.heartbeat {
            let interval = format!("{}ms", heartbeat.as_millis());
            options.extend(["--heartbeat-interval".to_owned(), interval]);
        }
        if let Some(files) = &wanted.tls {
            options.push("--cert-file".to_owned());
            options.push(files.certificate.display().to_string());
            options.push("--key-file".to_owned());
            options.push(files.key.display().to_string());
        }
        let served = start(&self.program, folder, &transport, &options)?;
        Ok(Running::one(served, wanted.tls.is_some()))
    }

    fn subscribe(&self, topics: &[String], after: Option<&str>) -> Request {
        let topics: Vec<_> = topics.iter().map(|topic| format!("topic={topic}")).collect();
        let id = after.map(|id| ("last-event-id".to_owned(), id.to_owned()));
        Request {
            path: format!("{PATH}?{}", topics.join("&")),
            headers: id.into_iter().collect(),
            ..Request::default()
        }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        let headers = authorization() + "content-type: application/x-www-form-urlencoded\r\n";
        post(PATH, &headers, &format!("topic={topic}&data={data}"))
    }
}

/// Where the program is, built into `cache` unless it is there already.
///
/// # Errors
///
/// If there is no Go, or the build fails.
pub fn build(cache: &Path) -> Result<PathBuf> {
    MODULE.build(cache)
}

/// Starts it with its log in `folder`, kept by Bolt without a limit.
///
/// # Errors
///
/// If it does not start.
pub fn start_durable(program: &Path, folder: &Path) -> Result<Served> {
    start(program, folder, &bolt(folder), &[])
}

fn start(program: &Path, folder: &Path, transport: &str, options: &[String]) -> Result<Served> {
    raise_file_limit()?;
    let [address] = free_addresses()?;
    let mut command = Command::new(program);
    command
        .arg("--allow-anonymous")
        .args(["--addr", &address.to_string()])
        .args(["--jwt-key", KEY])
        .args(["--transport-url", transport])
        .args(options)
        .current_dir(folder);
    Served::listening(&mut command, address)
}

fn bolt(folder: &Path) -> String {
    format!("bolt://{}", folder.join("mercure.db").display())
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

/// The newest release that is no forerunner of 1.0, which no longer has the program.
const MODULE: Module = Module {
    name: "mercure",
    module: "github.com/dunglas/mercure",
    version: "v0.24.2",
    package: "github.com/dunglas/mercure/cmd/mercure",
    tags: "deprecated_server,deprecated_transport",
};

/// As secret as the address of a server that lives for seconds.
const KEY: &str = "the key of a benchmark, 32 bytes";
