//! The hub, as its users run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

/// The hub with its log in one place.
#[derive(Debug)]
pub struct Tidings {
    program: PathBuf,
    log: &'static str,
}

impl Tidings {
    pub fn new(program: &Path, log: &'static str) -> Self {
        Self { program: program.to_owned(), log }
    }
}

impl Target for Tidings {
    fn name(&self) -> &'static str {
        if self.log == "disk" { "tidings-disk" } else { "tidings" }
    }

    fn prepare(&mut self, _: &Path) -> Result<Prepared> {
        let output = Command::new(&self.program)
            .arg("--version")
            .output()
            .with_context(|| self.program.display().to_string())?;
        ensure!(output.status.success(), "it does not run");
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Prepared { version, settings: json!({"log": self.log}) })
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
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", self.log, "--data"]).arg(folder);
        if let Some(heartbeat) = wanted.heartbeat {
            command.args(["--heartbeat", &format!("{}ms", heartbeat.as_millis())]);
        }
        if let Some(tls) = &wanted.tls {
            command.arg("--tls-cert").arg(&tls.certificate).arg("--tls-key").arg(&tls.key);
        }
        Ok(Running::one(Served::announced(&mut command)?, wanted.tls.is_some()))
    }

    fn subscribe(&self, topics: &[String], after: Option<&str>) -> Request {
        let topics: Vec<_> = topics.iter().map(|topic| format!("topic={topic}")).collect();
        let after = after.map(|id| ("last-event-id".to_owned(), id.to_owned()));
        Request {
            path: format!("/events?{}", topics.join("&")),
            headers: after.into_iter().collect(),
            ..Request::default()
        }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        let body = format!(r#"{{"topic":"{topic}","data":"{data}"}}"#);
        format!(
            "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}
