//! axum's `Sse` over a broadcast channel of tokio, see the crate `bench-axum`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

use crate::starting::{output_of, post, raise_file_limit};

/// One process with two worker threads.
#[derive(Debug, Default)]
pub struct Axum {
    program: PathBuf,
}

impl Target for Axum {
    fn name(&self) -> &'static str {
        "axum"
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        let target = cache.join("axum-build");
        fs::create_dir_all(&target)?;
        let target = target.canonicalize()?;
        let mut command = Command::new("cargo");
        command
            .args(["build", "--quiet", "--release", "--package", "bench-axum", "--target-dir"])
            .arg(&target)
            .current_dir(WORKSPACE);
        output_of(&mut command)?;
        self.program = target.join("release/bench-axum");
        let settings = json!({
            "worker_threads": "2: as many as there are cores",
            "capacity": "of a broadcast channel: 65,536 events over all topics, at least 16; who is further behind loses events",
            "keep_alive": "as wanted",
            "tcp_nodelay": "on",
            "allocator": "that of the system",
        });
        let version = |name| format!("{name} {}", locked_version(name).unwrap_or("?"));
        let version = ["axum", "hyper", "tokio"].map(version).join(", ");
        Ok(Prepared { version, settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: Transport::Sse,
            tls: true,
            http2: true,
            resume: false,
            topics_max: 1,
            heartbeat: true,
        }
    }

    fn start(&self, _folder: &Path, wanted: &Wanted) -> Result<Running> {
        raise_file_limit()?;
        let mut command = Command::new(&self.program);
        let capacity = (CAPACITY_EVENTS / wanted.topics.max(1)).max(16);
        command.args(["--capacity", &capacity.to_string()]);
        if let Some(heartbeat) = wanted.heartbeat {
            command.args(["--heartbeat-ms", &heartbeat.as_millis().to_string()]);
        }
        if let Some(files) = &wanted.tls {
            command.arg("--certificate").arg(&files.certificate).arg("--key").arg(&files.key);
        }
        Ok(Running::one(Served::announced(&mut command)?, wanted.tls.is_some()))
    }

    fn subscribe(&self, topics: &[String], _after: Option<&str>) -> Request {
        Request { path: format!("/{}", topics.join(",")), ..Request::default() }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        post(&format!("/{topic}"), "content-type: text/plain\r\n", data)
    }
}

/// Which version of a crate the workspace builds with.
fn locked_version(name: &str) -> Option<&'static str> {
    let (_, rest) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0)
}

const LOCK: &str = include_str!("../../Cargo.lock");

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What is published while everybody is written to fits.
const CAPACITY_EVENTS: usize = 65_536;
