//! A hub that runs as a process of its own, and plain HTTP to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running hub on a free port, ended when it is dropped.
pub(crate) struct Hub {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Hub {
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "memory"])
            .args(options)
            .env_clear()
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").expect("the line has the URL").1;
        let address = address.parse().unwrap();
        Self { child, address }
    }

    /// Sends bytes on a new connection and reads the answer until the hub closes or, for a body of
    /// known length, until it is complete.
    pub(crate) fn exchange(&self, request: &[u8]) -> Answer {
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        // A hub that refuses early may close before it has read everything.
        let _ = connection.write_all(request);
        Answer::read(&mut connection)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.exchange(
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        )
    }

    pub(crate) fn post(&self, content_type: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn publish(&self, json: &str) {
        let answer = self.post("application/json", json.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body());
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let answer = self.get("/metrics");
        let line = answer.body().lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.unwrap_or_else(|| panic!("there is no metric {name}")).rsplit_once(' ');
        value.unwrap().1.parse().unwrap()
    }

    /// Waits until a metric has a value; says what it was if it never does.
    pub(crate) fn wait_for_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.metric(name)) {
            assert!(Instant::now() < deadline, "{name} stays at {}", self.metric(name));
            std::thread::yield_now();
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for the end of the process.
    pub(crate) fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(connection: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 << 10];
        loop {
            match connection.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no answer within {PATIENCE:?}: {error}"),
            }
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes.split_off(end + 4);
        if head.contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Self { status, head, body }
    }

    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The last part of the `type` of a problem.
    pub(crate) fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let json: serde_json::Value = serde_json::from_str(self.body()).unwrap();
        assert_eq!(json["status"], self.status);
        for member in ["title", "detail", "instance"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}");
        }
        json["type"].as_str().unwrap().strip_prefix("urn:tidings:problem:").unwrap().to_owned()
    }
}

fn unchunk(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length =
            usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
    body
}

/// How long something may take before the test gives up: only ever waited for in full by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
