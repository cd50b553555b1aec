//! The stores, started anew for each round with nothing in them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bench_stand::{Running, Served};
use rustix::process::getuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Redis,
    Postgres,
}

/// A store that runs; it ends when this is dropped.
pub struct Started {
    pub running: Running,
    pub url: String,
}

impl Store {
    pub const ALL: [Self; 2] = [Self::Redis, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Postgres => "Postgres",
        }
    }

    /// Starts it with its files in `folder`, as durable as the benchmark compares them: each append is
    /// on the disk before it is answered.
    pub fn start(self, folder: &Path) -> Result<Started> {
        let address = free_address()?;
        let port = address.port().to_string();
        let (mut command, url) = match self {
            Self::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
                command
                    .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
                    .arg(folder);
                (command, format!("redis://{address}"))
            }
            Self::Postgres => {
                let data = folder.join("data");
                init_postgres(folder, &data)?;
                let mut command = as_postgres(&programs()?.join("postgres"));
                command
                    .arg("-D")
                    .arg(&data)
                    .args(["-p", &port, "-h", "127.0.0.1", "-k"])
                    .arg(folder);
                command.args(["-c", "shared_buffers=256MB"]);
                (command, format!("postgres://tidings@{address}/postgres"))
            }
        };
        let served = Served::listening(&mut command, address).context(self.name())?;
        let started = Started { running: Running::several(vec![served], address, address), url };
        if self == Self::Postgres {
            started.wait_for_postgres()?;
        }
        Ok(started)
    }
}

impl Started {
    /// It listens before it lets anybody in.
    fn wait_for_postgres(&self) -> Result<()> {
        let begin = std::time::Instant::now();
        loop {
            match postgres::Client::connect(&self.url, postgres::NoTls) {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(begin.elapsed().as_secs() < 20, "{error}"),
            }
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    }
}

fn init_postgres(folder: &Path, data: &Path) -> Result<()> {
    if getuid().is_root() {
        let (user, group) = ids_of_postgres()?;
        chown(folder, Some(user), Some(group))?;
    }
    let mut command = as_postgres(&programs()?.join("initdb"));
    command.arg("-D").arg(data).args(["-A", "trust", "-U", "tidings", "-E", "UTF8"]);
    let status = command.stdout(Stdio::null()).status().context("initdb")?;
    ensure!(status.success(), "initdb ended with {status}");
    Ok(())
}

/// Postgres refuses to be run by root.
fn as_postgres(program: &Path) -> Command {
    if !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn ids_of_postgres() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line.context("there is no user postgres")?.split(':').skip(2);
    let mut id = || ids.next().and_then(|text| text.parse().ok()).context("a user has two ids");
    Ok((id()?, id()?))
}

/// Where Debian keeps the programs of the newest version.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("Postgres is not installed")?;
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = newest.max().context("Postgres is not installed")?;
    Ok(format!("/usr/lib/postgresql/{newest}/bin").into())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
