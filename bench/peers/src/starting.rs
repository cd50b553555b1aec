//! What starting a foreign server takes.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Finds loopback addresses that nobody listens on, all different.
///
/// They are free until someone else takes them, so a server that is started at once gets them,
/// and one that does not, fails.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<_> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    Ok(addresses.try_into().expect("as many as listeners"))
}

/// Lets this process, and those it starts from now on, hold as many files as it may; returns how
/// many that are.
pub(crate) fn raise_file_limit() -> Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(1 << 20))
}

/// Runs a program to its end and returns what it printed, errors included.
///
/// # Errors
///
/// If it is missing or fails; what it printed is the reason then.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} is missing"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    ensure!(output.status.success(), "{program} failed: {text}");
    Ok(text)
}

/// A configuration in which each `<gap>` is replaced.
pub(crate) fn filled_in(template: &str, gaps: &[(&str, String)]) -> String {
    let fill = |text: String, (gap, by): &(&str, String)| text.replace(&format!("<{gap}>"), by);
    gaps.iter().fold(template.to_owned(), fill)
}

/// The user and group that run this, as nginx has it.
pub(crate) fn user() -> Result<String> {
    let name = |option| output_of(Command::new("id").arg(option));
    Ok(format!("{} {}", name("-un")?, name("-gn")?))
}

/// A whole request that publishes `body`.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
