//! A Postgres server of its own for a test, on a free port and a socket in a temporary folder.

use std::future::poll_fn;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

/// Ends with the test.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) port: u16,
    settings: Vec<String>,
    child: Option<Child>,
    /// Kept for other tests.
    template: Option<Arc<TempDir>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with settings beside those of every test, such as `fsync=off`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let (folder, template) = (folder(), template());
        copy(template.path(), &folder.path().join("data"));
        let mut server = Self::start_in(folder, settings);
        server.template = Some(template);
        server
    }

    /// Starts on the folder `data` in a folder.
    pub(crate) fn start_in(folder: TempDir, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&it| it.to_owned()).collect();
        let mut server = Self { folder, port: free_port(), settings, child: None, template: None };
        server.start_again();
        server
    }

    /// Starts a server that was stopped.
    pub(crate) fn start_again(&mut self) {
        self.spawn();
        let is_ready = || {
            let folder = self.folder.path().display().to_string();
            let port = self.port.to_string();
            let mut command = Command::new(program("pg_isready"));
            command.args(["-h", &folder, "-p", &port, "-U", "postgres"]);
            quiet(&mut command).status().unwrap().success()
        };
        eventually("the server is ready", is_ready);
    }

    /// Starts it without waiting until it is ready.
    pub(crate) fn spawn(&mut self) {
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string()]);
        let common = ["listen_addresses=127.0.0.1", "shared_buffers=32MB", "max_connections=100"];
        for setting in common.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Has roles be asked for their passwords from now on.
    pub(crate) fn ask_for_passwords(&self) {
        let rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
                     hostssl all all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
        self.sql("select pg_reload_conf()");
    }

    /// A URL of a database for a role.
    pub(crate) fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// A URL of a database for the role that owns everything.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn socket_url(&self, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres:///{database}?host={folder}&port={}&user=postgres", self.port)
    }

    /// Runs statements as the superuser; the first column of the rows.
    pub(crate) fn sql(&self, statements: &str) -> Vec<String> {
        Sql::connect(&self.url("postgres")).run(statements)
    }

    /// The number of the process of the postmaster.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// The numbers of all its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let postmaster = self.process_id();
        children_of(postmaster).into_iter().chain([postmaster]).collect()
    }

    /// `INT` stops in good order, `QUIT` at once, `KILL` as a crash does.
    pub(crate) fn stop(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        let others = children_of(child.id());
        send(signal, child.id());
        if signal == "KILL" {
            // Its processes notice by themselves, but not at once.
            others.iter().for_each(|&id| send("KILL", id));
        }
        let _ = child.wait();
        eventually("its processes have ended", || others.iter().all(|&id| !is_running(id)));
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(2_000);
            eprintln!("the server's log ends:\n{}", log.get(from..).unwrap_or_default());
        }
        self.stop("QUIT");
    }
}

/// A connection beside those of the engine.
pub(crate) struct Sql {
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
}

impl Sql {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap();
        runtime.spawn(connection);
        Self { client, runtime }
    }

    /// Connects and counts the notifications that come.
    pub(crate) fn listening(url: &str, channel: &str, heard: Arc<AtomicUsize>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, mut connection) =
            runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap();
        runtime.spawn(async move {
            while let Some(Ok(told)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if matches!(told, AsyncMessage::Notification(_)) {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let sql = Self { client, runtime };
        sql.run(&format!("listen \"{channel}\""));
        sql
    }

    /// Runs statements, which are separated by a semicolon and a space; the first column of their rows.
    pub(crate) fn run(&self, statements: &str) -> Vec<String> {
        self.try_run(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"))
    }

    pub(crate) fn try_run(&self, statements: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut values = Vec::new();
        // One by one: some cannot be in a transaction with others.
        for statement in statements.split("; ") {
            let told = self.runtime.block_on(self.client.simple_query(statement))?;
            values.extend(told.iter().filter_map(|it| match it {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            }));
        }
        Ok(values)
    }
}

/// An empty cluster, made once for all servers that there are at a time, and gone with the last of them.
fn template() -> Arc<TempDir> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut template = TEMPLATE.lock().unwrap();
    if let Some(present) = template.upgrade() {
        return present;
    }
    let folder = folder();
    let mut command = as_postgres("initdb");
    command.args(["-A", "trust", "-U", "postgres", "--encoding=UTF8", "--locale=C"]);
    command.args(["--no-sync", "-D"]).arg(folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = Arc::new(folder);
    *template = Arc::downgrade(&folder);
    folder
}

/// A temporary folder that the server may write to.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("tidings-pg-").tempdir().unwrap();
    if let Some((user, group)) = postgres_user() {
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "the cluster is copied");
}

/// A program of the server's, as a user who may run it; ends with the thread that has started it.
pub(crate) fn as_postgres(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some((user, group)) = postgres_user() {
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.arg("--clear-groups");
    }
    command.arg(program(name)).current_dir("/").process_group(0);
    command
}

/// Who runs the server in place of root, whom it refuses.
pub(crate) fn postgres_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:")).expect(INSTALL);
    let mut fields = user.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

/// The program of the latest version that is installed.
pub(crate) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect(INSTALL);
    let programs = versions.map(|version| version.unwrap().path().join("bin").join(name));
    let mut programs: Vec<PathBuf> = programs.filter(|path| path.exists()).collect();
    programs.sort();
    programs.pop().expect(INSTALL)
}

pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Sends a signal to a process of a server that the test has started.
pub(crate) fn send(signal: &str, process_id: u32) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &process_id.to_string()]).status();
}

fn children_of(process_id: u32) -> Vec<u32> {
    let path = format!("/proc/{process_id}/task/{process_id}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn is_running(process_id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it is not so after 30 s: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

const INSTALL: &str = "Postgres is installed, for instance by `cargo xtask install`";
