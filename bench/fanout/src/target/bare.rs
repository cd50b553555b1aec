//! The limits, see [`bare`](crate::bare) and [`uring`](crate::uring).

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

/// A bare loop.
#[derive(Debug)]
pub struct Bare {
    is_uring: bool,
}

impl Bare {
    pub fn new(is_uring: bool) -> Self {
        Self { is_uring }
    }

    fn role(&self) -> &'static str {
        if self.is_uring { "bare-uring" } else { "bare" }
    }
}

impl Target for Bare {
    fn name(&self) -> &'static str {
        self.role()
    }

    fn prepare(&mut self, _: &Path) -> Result<Prepared> {
        Ok(Prepared { version: "of this benchmark".to_owned(), settings: json!({}) })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: Transport::Sse,
            tls: false,
            http2: false,
            resume: false,
            topics_max: usize::MAX,
            heartbeat: false,
        }
    }

    fn start(&self, _: &Path, _: &Wanted) -> Result<Running> {
        let served = Served::announced(Command::new(env::current_exe()?).arg(self.role()))?;
        Ok(Running::one(served, false))
    }

    fn subscribe(&self, topics: &[String], _: Option<&str>) -> Request {
        Request { path: format!("/{}", topics.concat()), ..Request::default() }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        let length = data.len();
        format!("POST /{topic} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{data}").into_bytes()
    }
}
