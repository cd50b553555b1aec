//! A certificate, and TLS by the programs `openssl` and `curl`, so that all versions of HTTP are
//! spoken by someone who knows them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, ensure};
use bench_stand::{Request, TlsFiles};

/// Makes a certificate for 127.0.0.1 that nobody but itself vouches for.
pub(crate) fn make_certificate(folder: &Path) -> Result<TlsFiles> {
    let files =
        TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&files.certificate)
        .arg("-keyout")
        .arg(&files.key);
    let output = command.output().context("openssl makes the certificate")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(files)
}

/// An event stream that `curl` reads.
pub(crate) struct Curl {
    child: Child,
    /// Each line; the first is the version of HTTP.
    pub(crate) lines: Receiver<String>,
}

impl Curl {
    pub(crate) fn open(address: SocketAddr, request: &Request, version: &str) -> Result<Self> {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--no-buffer", "--insecure", "--tlsv1.3", "--globoff", version])
            .args(["--include", "--header", "accept: text/event-stream"])
            .arg(format!("https://{address}{}", request.path));
        for (name, value) in &request.headers {
            command.arg("--header").arg(format!("{name}: {value}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("curl is missing")?;
        let stdout = child.stdout.take().context("it is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request over TLS and returns the line of the status.
pub(crate) fn status_over_tls(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("openssl is missing")?;
    let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("piped")?;
    stdin.write_all(request)?;
    let mut line = String::new();
    BufReader::new(stdout.take(1 << 16)).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    Ok(line.trim_end().to_owned())
}
