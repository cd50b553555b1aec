//! Real servers that tests start, on free ports and in folders that go with them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    directory: Arc<TempDir>,
    arguments: Vec<String>,
    output: Arc<Output>,
}

/// What a server has said on its standard output.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    came: Condvar,
}

impl Server {
    /// Starts a server that listens on TCP and on a socket, and saves nothing unless `arguments` say so.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(directory, free_port(), arguments)
    }

    pub(crate) fn start_in(directory: Arc<TempDir>, port: u16, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let (child, output) = launch(directory.path(), port, &arguments);
        let is_sentinel = arguments.iter().any(|it| it == "--sentinel");
        output.await_line(if is_sentinel { "+monitor" } else { READY });
        Self { child, port, directory, arguments, output }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A connection of another client than the engine's.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Ends it at once, as a crash does, and starts it again in its folder.
    pub(crate) fn restart(&mut self) {
        self.restart_unready();
        self.output.await_line(READY);
    }

    /// As [`restart`](Self::restart), without waiting until it is ready.
    pub(crate) fn restart_unready(&mut self) {
        self.kill();
        (self.child, self.output) = launch(self.directory.path(), self.port, &self.arguments);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has the kernel stop or continue it: `STOP`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has said something.
    pub(crate) fn await_output(&self, words: &str) {
        self.output.await_line(words);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn await_line(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        while !lines.iter().any(|line| line.contains(words)) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server never said {words:?}, but {lines:#?}");
            lines = self.came.wait_timeout(lines, left).unwrap().0;
        }
    }
}

fn launch(directory: &Path, port: u16, arguments: &[String]) -> (Child, Arc<Output>) {
    let mut command = Command::new("redis-server");
    let is_sentinel = arguments.iter().any(|it| it == "--sentinel");
    if !is_sentinel {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--unixsocket", &directory.join("redis.sock").to_string_lossy()]);
        command.args(["--dir", &directory.to_string_lossy(), "--save", "", "--loglevel", "notice"]);
    }
    let mut child = command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed: cargo xtask install");
    let output = Arc::new(Output::default());
    let stdout = child.stdout.take().unwrap();
    let told = output.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            told.lines.lock().unwrap().push_back(line);
            told.came.notify_all();
        }
    });
    (child, output)
}

/// A port that nobody listens on, and that nobody is given soon again.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks again and again until something is so.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

const READY: &str = "Ready to accept connections";
const PATIENCE: Duration = Duration::from_secs(20);
