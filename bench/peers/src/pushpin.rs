//! Pushpin: Debian's packages of it and of what it needs, before an nginx that is its origin.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

use crate::debian::unpack;
use crate::starting::{filled_in, free_addresses, post, raise_file_limit, user};

/// Five processes, and a plain nginx.
///
/// Pushpin asks an origin what to do with each subscriber. The origin here is a configuration of
/// nginx that tells it to hold the stream, which costs nothing afterwards.
#[derive(Debug, Default)]
pub struct Pushpin {
    nginx: PathBuf,
    /// Of the package, with the parts that name places of an installation made to fit.
    lib: PathBuf,
    /// Where its programs are, and where their libraries.
    programs: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Pushpin {
    fn program(&self, name: &str) -> Result<PathBuf> {
        let mut paths = self.programs.iter().map(|folder| folder.join(name));
        paths.find(|path| path.exists()).with_context(|| format!("{name} is in no package"))
    }

    fn start_origin(
        &self,
        folder: &Path,
        publish: SocketAddr,
        control: SocketAddr,
        wanted: &Wanted,
    ) -> Result<Served> {
        let keep_alive = wanted.heartbeat.map_or_else(String::new, |interval| {
            let seconds = interval.as_secs().max(1);
            // The backslashes are Pushpin's.
            format!(r#"add_header Grip-Keep-Alive ":\\n\\n; format=cstring; timeout={seconds}";"#)
        });
        let text = filled_in(
            ORIGIN,
            &[
                ("user", user()?),
                ("publish", publish.to_string()),
                ("control", control.to_string()),
                ("keep-alive", keep_alive),
            ],
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text)?;
        let mut command = Command::new(&self.nginx);
        command.arg("-p").arg(folder).arg("-c").arg(&file).args(["-e", "error.log"]);
        Served::listening(&mut command, publish)
    }
}

impl Target for Pushpin {
    fn name(&self) -> &'static str {
        "pushpin"
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        let nginx = unpack("nginx", cache)?;
        self.nginx = nginx.root.join("usr/sbin/nginx");
        let mut versions = Vec::new();
        for package in PACKAGES {
            let unpacked = unpack(package, cache)?;
            self.programs.push(unpacked.root.join("usr/bin"));
            for entry in fs::read_dir(unpacked.root.join("usr/lib")).into_iter().flatten() {
                self.libraries.push(entry?.path());
            }
            if !package.starts_with("lib") {
                versions.push(format!("{package} {}", unpacked.version));
            }
        }
        self.lib = cache.canonicalize()?.join("pushpin-lib");
        let root = unpack("pushpin", cache)?.root.join("usr/lib/pushpin");
        let runner = self.lib.join("runner");
        fs::create_dir_all(&runner)?;
        // The package leaves zurl to a service of its own, which is not allowed to ask this machine.
        let internal = fs::read_to_string(root.join("internal.conf"))?;
        let internal = internal.replace("ipc:///var/run/zurl/", "ipc://{rundir}/{ipc_prefix}");
        fs::write(self.lib.join("internal.conf"), internal)?;
        let zurl = fs::read_to_string(root.join("runner/zurl.conf.template"))?;
        let lines = zurl.lines().map(|line| if line.starts_with("deny=") { "deny=" } else { line });
        let zurl: Vec<_> = lines.collect();
        fs::write(runner.join("zurl.conf.template"), zurl.join("\n"))?;
        let settings = json!({
            "services": "condure, zurl, pushpin-proxy, pushpin-handler: it runs zurl itself",
            "message_rate, message_hwm": "1,000,000: not to be held back",
            "Grip-Keep-Alive": "as wanted",
            "publish": "by HTTP through nginx, so that publishers keep their connections",
            "origin": "nginx, one process, which answers each subscriber with Grip-Hold: stream",
        });
        let version = format!("{}, nginx {} (Debian)", versions.join(", "), nginx.version);
        Ok(Prepared { version, settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: Transport::Sse,
            tls: false,
            http2: false,
            resume: false,
            topics_max: 1,
            heartbeat: true,
        }
    }

    fn start(&self, folder: &Path, wanted: &Wanted) -> Result<Running> {
        raise_file_limit()?;
        let folder = folder.canonicalize()?;
        let [subscribe, publish, control] = free_addresses()?;
        let origin = self.start_origin(&folder, publish, control, wanted)?;
        let text = filled_in(
            CONFIGURATION,
            &[
                ("lib", self.lib.display().to_string()),
                ("folder", folder.display().to_string()),
                ("subscribe", subscribe.to_string()),
                ("condure", self.program("condure")?.display().to_string()),
                ("zurl", self.program("zurl")?.display().to_string()),
                ("control-port", control.port().to_string()),
            ],
        );
        fs::write(folder.join("pushpin.conf"), text)?;
        fs::write(folder.join("routes"), format!("* {publish}\n"))?;
        for name in ["run", "log"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let mut command = Command::new(self.program("pushpin")?);
        command
            .args(["--merge-output", "--config"])
            .arg(folder.join("pushpin.conf"))
            .env("LD_LIBRARY_PATH", env::join_paths(&self.libraries)?)
            .env("PATH", before(&self.programs, "PATH")?);
        let served = Served::listening(&mut command, subscribe)?;
        let running = Running::several(vec![served, origin], subscribe, publish);
        // It accepts before all of its processes have found each other, and forgets who came then.
        let begin = Instant::now();
        while let Err(error) = ask(subscribe) {
            if begin.elapsed() > START_MAX {
                return Err(error.context("it does not get ready"));
            }
        }
        Ok(running)
    }

    fn subscribe(&self, topics: &[String], _after: Option<&str>) -> Request {
        Request { path: format!("/stream/{}", topics.join(",")), ..Request::default() }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        let content = format!("data: {data}\n\n");
        let formats = json!({ "http-stream": { "content": content } });
        let body = json!({ "items": [{ "channel": topic, "formats": formats }] }).to_string();
        post("/publish/", "content-type: application/json\r\n", &body)
    }

    fn connecting_max(&self) -> usize {
        // With 200 it turns some away with a 502.
        20
    }

    fn patience(&self) -> u32 {
        10
    }
}

/// Subscribes, and waits a moment for an answer.
fn ask(address: SocketAddr) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.write_all(b"GET /stream/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")?;
    let mut begin = [0; 12];
    socket.read_exact(&mut begin)?;
    ensure!(&begin == b"HTTP/1.1 200", "it answers {}", String::from_utf8_lossy(&begin));
    Ok(())
}

/// The folders, and after them those that a variable names already.
fn before(folders: &[PathBuf], variable: &str) -> Result<OsString> {
    let present = env::var_os(variable).unwrap_or_default();
    Ok(env::join_paths(folders.iter().cloned().chain(env::split_paths(&present)))?)
}

/// What it consists of, and the libraries that only it needs.
const PACKAGES: [&str; 9] = [
    "pushpin",
    "condure",
    "zurl",
    "libqt5core5a",
    "libqt5network5",
    "libzmq5",
    "libnorm1",
    "libpcre2-16-0",
    "libpgm-5.3-0",
];

const START_MAX: Duration = Duration::from_secs(10);

const CONFIGURATION: &str = include_str!("../pushpin/pushpin.conf");

const ORIGIN: &str = include_str!("../nginx/origin.conf");
