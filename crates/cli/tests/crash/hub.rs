//! A hub that runs as a process of its own on a log that stays.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running hub, killed when it is dropped.
pub(crate) struct Hub {
    child: Child,
    out: BufReader<ChildStdout>,
    data: PathBuf,
}

impl Hub {
    /// Starts one on a host of its own: no other hub can come to stand where a client still looks for
    /// one that was killed.
    pub(crate) fn start(data: &Path, durability: &str) -> Self {
        let id = std::process::id();
        let host = Ipv4Addr::new(127, durability.len() as u8, (id >> 8) as u8, id as u8 | 1);
        let told = File::options().create(true).append(true).open(told_of(data)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["serve", "--listen", &format!("{host}:0"), "--data"])
            .arg(data)
            // Nothing leaves, but files are small: each takes a 64th.
            .args(["--log-bytes-max", "64MiB", "--durability", durability, "--drain", "0s"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(told)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, data: data.to_owned() }
    }

    /// Where it listens.
    pub(crate) fn wait_until_ready(&mut self) -> SocketAddr {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        match line.trim().rsplit_once("http://") {
            Some((_, address)) => address.parse().unwrap(),
            None => panic!("it does not start: {line}{}", told(&self.data)),
        }
    }

    /// Kills it at some moment before it is ready, or just after.
    pub(crate) fn kill_within_its_start(self, random: &mut fastrand::Rng) {
        // Looking into a folder takes some microseconds, starting some milliseconds.
        for _ in 0..random.u32(0..4_000) {
            let _ = fs::read_dir(self.data.join("log")).map(Iterator::count);
        }
        self.kill();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it ended by itself: {}", told(&self.data));
    }

    /// How many segments its log has.
    pub(crate) fn segment_count(&self) -> usize {
        let files = fs::read_dir(self.data.join("log")).unwrap();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "log");
        files.map(|entry| entry.unwrap().path()).filter(is_segment).count()
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", told(&self.data));
    }

    /// Lets the binary look at every byte of a log that nobody has open.
    pub(crate) fn check_log(data: &Path) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        let output = command.args(["log", "check", "--data"]).arg(data).env_clear().output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where its standard error goes.
fn told_of(data: &Path) -> PathBuf {
    data.join("told")
}

fn told(data: &Path) -> String {
    fs::read_to_string(told_of(data)).unwrap_or_default()
}
