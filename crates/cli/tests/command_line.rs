//! What users of the binary meet before any hub is involved.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// Runs `tidings` with arguments and variables, and with nothing on standard input.
fn tidings(args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("tidings runs")
}

/// Runs `tidings`, and checks its status and a part of what it says on each side.
#[track_caller]
fn check(args: &[&str], variables: &[(&str, &str)], status: i32, stdout: &str, stderr: &str) {
    let output = tidings(args, variables);
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}\n{out}\n{err}");
    assert!(out.contains(stdout), "{args:?}\n{out}");
    assert!(err.contains(stderr), "{args:?}\n{err}");
    assert_eq!(stdout.is_empty(), out.is_empty(), "{args:?}\n{out}");
    assert_eq!(stderr.is_empty(), err.is_empty(), "{args:?}\n{err}");
}

#[test]
fn help_is_a_result_and_a_wrong_command_line_is_not() {
    check(&[], &[], 2, "", "Usage: tidings <COMMAND>");
    check(&["--help"], &[], 0, "Examples:", "");
    check(&["--version"], &[], 0, concat!("tidings ", env!("CARGO_PKG_VERSION")), "");
    check(&["srve"], &[], 2, "", "a similar subcommand exists: 'serve'");
    check(&["serve", "--hearbeat", "1s"], &[], 2, "", "'--heartbeat'");
    check(&["tail"], &[], 2, "", "<TOPIC>...");
    check(&["tail", "a", "--count", "0"], &[], 2, "", "--count");
    check(&["tail", "a", "--from", ""], &[], 2, "", "give an id, or `earliest`");
    check(&["tail", "a", "--from", "x", "--last", "1"], &[], 2, "", "cannot be used with");
    check(&["config"], &[], 2, "", "Usage: tidings config <COMMAND>");
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        check(&["completions", shell], &[], 0, "heartbeat", "");
    }
    check(&["completions", "tcsh"], &[], 2, "", "possible values: bash, elvish, fish");
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_before_it_is_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("empty.pem");
    fs::write(&path, "").expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    for command in [&["serve"][..], &["config", "check"]] {
        let with = |cert, key| [command, &["--tls-cert", cert, "--tls-key", key]].concat();
        check(&with("/nowhere.pem", path), &[], 2, "", "/nowhere.pem cannot be read: No such file");
        check(&with(path, path), &[], 2, "", "give --tls-cert a file with -----BEGIN CERT");
        let alone = [command, &["--tls-cert", path]].concat();
        check(&alone, &[], 2, "", "give --tls-key as well; one file may hold both");
    }
}

#[test]
fn bad_values_are_wrong_usage_wherever_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tidings.toml");
    fs::write(&path, "listen = '127.0.0.1:1'\nhearbeat = '1s'\n").expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    for command in [&["serve"][..], &["config", "check"], &["config", "show"]] {
        let with = |more: &[&'static str]| [command, more].concat();
        check(&with(&["--listen", "1"]), &[], 2, "", "--listen 1: there is no address");
        check(&with(&["--insecure=maybe"]), &[], 2, "", "--insecure maybe: this is neither");
        check(&with(&[]), &[("TIDINGS_SHARDS", "0")], 2, "", "TIDINGS_SHARDS=0: this is too small");
        check(&with(&[]), &[("TIDINGS_CONFIG", path)], 2, "", "did you mean `heartbeat`?");
        check(
            &with(&["--config", "/nowhere.toml"]),
            &[],
            2,
            "",
            "/nowhere.toml, named by --config",
        );
        check(&with(&["--log", "redis://x"]), &[], 2, "", "on disk or in memory only");
        check(
            &with(&["--retention", "a;age=1"]),
            &[],
            2,
            "",
            "--retention: `a;age=1`: 1: the unit",
        );
        check(&with(&["--listen", "0.0.0.0:0"]), &[], 2, "", "--insecure");
    }
    check(&["publish", "a", "--key", "k"], &[], 2, "", "--key is for one event");
    check(&["publish", "a", "b", "--key-prefix", "k"], &[], 2, "", "cannot be used with");
    check(&["publish", "a", "--key-prefix", ""], &[], 2, "", "at least one character");
    check(&["tail", "a", "--url", "hub"], &[], 2, "", "--url: `hub` is not a URL");
    check(
        &["tail", "a"],
        &[("TIDINGS_URL", "ftp://x")],
        2,
        "",
        "TIDINGS_URL: `ftp://x` is neither",
    );
    check(&["tail", "a", "--token", "a\nb"], &[], 2, "", "--token: this holds characters");
}

#[test]
fn the_configuration_is_shown_with_origins() {
    check(&["config", "check"], &[], 0, "the configuration is valid", "");
    check(
        &["config", "show", "--retry", "5s"],
        &[("TIDINGS_DRAIN", "1m"), ("TIDINGS_HEARBEAT", "1s")],
        0,
        "  # --retry\n",
        "TIDINGS_HEARBEAT is no option; did you mean TIDINGS_HEARTBEAT?",
    );
    check(
        &["config", "show", "--json"],
        &[("TIDINGS_DRAIN", "1m")],
        0,
        r#"{"name":"drain","value":60000,"unit":"ms","origin":"variable","at":"TIDINGS_DRAIN"}"#,
        "",
    );
    check(
        &[
            "config",
            "show",
            "--json",
            "--retention",
            "a,b;events=1",
            "--retention",
            "orders/*;age=1s",
        ],
        &[],
        0,
        r#"{"name":"retention","value":[{"age_max_ms":null,"events_max":1,"topics":"a,b"},{"age_max_ms":1000,"events_max":null,"topics":"orders/*"}],"origin":"flag","at":"--retention"}"#,
        "retention: `orders/*` selects the one topic of that name",
    );
}

#[test]
fn publishing_where_nothing_listens_fails_and_publishing_nothing_does_not() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let url = format!("http://{}", port.expect("a port"));
    check(&["publish", "a", "b", "--url", &url], &[], 1, "", "nothing listens there");
    check(&["publish", "a", "--url", &url], &[], 0, "", "");
}
