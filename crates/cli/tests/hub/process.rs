//! Processes of the binary, and what they say.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

pub(crate) fn tidings(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A running process, killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(&mut tidings(args))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tidings starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let err = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, out, err }
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next line of standard error that holds `part`.
    #[track_caller]
    pub(crate) fn told(&mut self, part: &str) -> String {
        let found =
            self.err.by_ref().lines().map_while(Result::ok).find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("nothing was told of {part}"))
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the end, and gives the status and what is left of standard output and error.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        let mut err = String::new();
        self.out.read_to_string(&mut out).expect("text");
        self.err.read_to_string(&mut err).expect("text");
        let status = self.child.wait().expect("an end");
        (status.code(), out, err)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running hub.
pub(crate) struct Hub {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl Hub {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", options)
    }

    pub(crate) fn start_at(address: &str, options: &[&str]) -> Self {
        let serve = ["serve", "--listen", address, "--log", "memory"];
        Self::ready(Process::start(&[&serve, options].concat()))
    }

    /// A hub that keeps its events in a folder.
    pub(crate) fn start_on(data: &Path, options: &[&str]) -> Self {
        let data = data.to_str().expect("text");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data];
        Self::ready(Process::start(&[&serve, options].concat()))
    }

    /// Waits until a hub is ready.
    pub(crate) fn ready(mut process: Process) -> Self {
        let line = process.line();
        let Some((told, url)) = line.split_once(" listening on ") else {
            panic!("not ready: {line}; {:?}", process.end())
        };
        assert_eq!(told, concat!("tidings ", env!("CARGO_PKG_VERSION")));
        let url = url.to_owned();
        Self { process, url }
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) {
        self.process.signal("TERM");
        let (status, _, err) = self.process.end();
        assert_eq!(status, Some(0), "{err}");
    }

    /// Runs a command against this hub to its end, with `input` on standard input.
    pub(crate) fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = tidings(args)
            .args(["--url", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tidings starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("somebody who reads");
        drop(stdin);
        child.wait_with_output().expect("an end")
    }

    /// Runs a command that succeeds and says nothing beside its result.
    #[track_caller]
    pub(crate) fn result(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that fails, and gives what it tells.
    #[track_caller]
    pub(crate) fn failure(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    pub(crate) fn tail(&self, args: &[&str]) -> Process {
        Process::start(&[&["tail", "--url", &self.url], args].concat())
    }
}

/// Standard output of a process that is over.
pub(crate) fn closed_pipe() -> ChildStdout {
    let mut child = tidings(&["--version"]).stdout(Stdio::piped()).spawn().expect("tidings starts");
    let out = child.stdout.take().expect("a pipe");
    child.wait().expect("an end");
    out
}

/// A terminal, and the end at which its user sits.
pub(crate) fn terminal() -> (Stdio, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&user).expect("a terminal");
    unlockpt(&user).expect("a terminal");
    let path = ptsname(&user, Vec::new()).expect("its name").into_string().expect("text");
    let terminal = File::options().read(true).write(true).open(path).expect("a terminal");
    (terminal.into(), user.into())
}
