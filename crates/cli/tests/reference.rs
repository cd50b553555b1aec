//! The committed reference pages are those that the option table gives.

use std::fs;
use std::path::Path;
use std::process::Command;

#[track_caller]
fn check(page: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["reference", page])
        .output()
        .expect("tidings runs");
    assert!(output.status.success());
    let path = format!("docs/reference/{page}.md");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&path);
    let committed = fs::read_to_string(committed).unwrap_or_default();
    assert!(
        committed == String::from_utf8_lossy(&output.stdout),
        "{path} is out of date; write it anew:\n  \
         cargo run --package tidings-cli -- reference {page} > {path}"
    );
}

#[test]
fn the_page_of_the_options_is_up_to_date() {
    check("options");
}

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    check("command-line");
}
