//! The packages `better-sse` and `ws` of npm, each in a server of a few lines, run by Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

use crate::starting::{output_of, post, raise_file_limit};

/// One process: both packages know the connections of their own process only.
#[derive(Debug)]
pub struct Node {
    transport: Transport,
    folder: PathBuf,
}

impl Node {
    /// `better-sse` for event streams, `ws` for WebSockets.
    pub fn new(transport: Transport) -> Self {
        Self { transport, folder: PathBuf::new() }
    }

    fn package(&self) -> &'static str {
        match self.transport {
            Transport::Sse => "better-sse",
            Transport::WebSocket => "ws",
        }
    }
}

impl Target for Node {
    fn name(&self) -> &'static str {
        self.package()
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        let folder = cache.join("node");
        fs::create_dir_all(&folder)?;
        self.folder = folder.canonicalize()?;
        let node = output_of(Command::new("node").arg("--version"))?;
        let installed = folder.join("installed");
        let is_installed = fs::read_to_string(&installed).is_ok_and(|lock| lock == LOCK);
        for (name, text) in FILES {
            fs::write(folder.join(name), text)?;
        }
        if !is_installed {
            let npm_ci = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
            output_of(Command::new("npm").args(npm_ci).current_dir(&folder))?;
            fs::write(installed, LOCK)?;
        }
        let lock: serde_json::Value = serde_json::from_str(LOCK)?;
        let version = &lock["packages"][format!("node_modules/{}", self.package())]["version"];
        let version = version.as_str().unwrap_or_default();
        let settings = match self.transport {
            Transport::Sse => json!({
                "processes": "1: a channel knows the sessions of its own process",
                "keepAlive": "as wanted",
                "serializer": "none: data is sent as it is",
            }),
            Transport::WebSocket => json!({
                "processes": "1: a server knows the sockets of its own process",
                "perMessageDeflate": false,
                "pings": "as wanted, by one timer for all sockets, as the documentation has it",
            }),
        };
        Ok(Prepared { version: format!("{} {version}, Node {node}", self.package()), settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: self.transport,
            tls: true,
            http2: self.transport == Transport::Sse,
            resume: false,
            topics_max: 255,
            heartbeat: true,
        }
    }

    fn start(&self, _folder: &Path, wanted: &Wanted) -> Result<Running> {
        raise_file_limit()?;
        let mut command = Command::new("node");
        // better-sse names a header that HTTP/2 has not, and Node says so.
        command.arg("--no-warnings").arg(self.folder.join(format!("{}.js", self.package())));
        let heartbeat_ms = wanted.heartbeat.map_or(0, |heartbeat| heartbeat.as_millis());
        command.arg(heartbeat_ms.to_string());
        if let Some(files) = &wanted.tls {
            command.args([&files.certificate, &files.key]);
        }
        Ok(Running::one(Served::announced(&mut command)?, wanted.tls.is_some()))
    }

    fn subscribe(&self, topics: &[String], _after: Option<&str>) -> Request {
        Request { path: format!("/{}", topics.join(",")), ..Request::default() }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        post(&format!("/{topic}"), "content-type: text/plain\r\n", data)
    }

    fn patience(&self) -> u32 {
        4
    }
}

const LOCK: &str = include_str!("../node/package-lock.json");

const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("../node/package.json")),
    ("package-lock.json", LOCK),
    ("serve.js", include_str!("../node/serve.js")),
    ("better-sse.js", include_str!("../node/better-sse.js")),
    ("ws.js", include_str!("../node/ws.js")),
];
