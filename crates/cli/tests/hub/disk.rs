//! The log on disk, and the commands that look after it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Hub, Process, terminal, tidings};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs `tidings log` on the log in a folder.
fn log(args: &[&str], data: &Path) -> Output {
    tidings(&["log"]).args(args).arg("--data").arg(data).output().expect("tidings runs")
}

/// Runs `tidings log`, and checks its status and a part of what it says on each side.
#[track_caller]
fn check_log(args: &[&str], data: &Path, status: i32, stdout: &str, stderr: &str) {
    let output = log(args, data);
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}\n{out}\n{err}");
    assert!(out.contains(stdout) && stdout.is_empty() == out.is_empty(), "{args:?}\n{out}");
    assert!(err.contains(stderr) && stderr.is_empty() == err.is_empty(), "{args:?}\n{err}");
}

/// The report of `tidings log check --json`.
fn report(data: &Path) -> Value {
    serde_json::from_slice(&log(&["check", "--json"], data).stdout).expect("JSON")
}

/// The files of a log that hold events, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let report = report(data);
    let files = report["segments"].as_array().expect("a list").iter();
    files.map(|it| data.join("log").join(it["file"].as_str().expect("a name"))).collect()
}

/// A log of three events in one file, whose ids it gives.
fn three_events(data: &Path) -> Vec<String> {
    let hub = Hub::start_on(data, &[]);
    let ids = hub.result(&["publish", "a"], "one\ntwo\nthree\n");
    hub.stop();
    ids.lines().map(str::to_owned).collect()
}

/// Turns a byte of the file around that is `back` before the first place where `text` stands.
fn damage(file: &Path, text: &str, back: usize) {
    let mut bytes = fs::read(file).expect("a file");
    let place = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    bytes[place.expect("it is there") - back] ^= 0xff;
    fs::write(file, bytes).expect("a file");
}

#[test]
fn without_options_events_are_kept_in_the_folder_one_is_in() {
    let folder = folder();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let hub = Hub::ready(Process::spawn(tidings(&serve).current_dir(&folder)));
    hub.result(&["publish", "a", "one"], "");
    assert!(folder.path().join("tidings-data/log").is_dir());
    hub.stop();
    check_log(&["check"], &folder.path().join("tidings-data"), 0, "state     whole\n", "");
}

#[test]
fn events_and_ids_outlive_the_process_however_it_ends() {
    let folder = folder();
    let hub = Hub::start_on(folder.path(), &[]);
    let first = hub.result(&["publish", "a", "one"], "");
    hub.stop();
    let hub = Hub::start_on(folder.path(), &["--durability", "os"]);
    let second = hub.result(&["publish", "a", "two"], "");
    hub.process.signal("KILL");
    drop(hub);
    check_log(&["check"], folder.path(), 0, "whole, but not closed", "");
    let hub = Hub::start_on(folder.path(), &[]);
    let kept = hub.result(&["tail", "a", "--from", "earliest", "--count", "2"], "");
    let [first, second] = [first.trim_end(), second.trim_end()];
    assert_eq!(kept, format!("{first}\tmessage\tone\n{second}\tmessage\ttwo\n"));
    let after = hub.result(&["tail", "a", "--from", first, "--count", "1"], "");
    assert_eq!(after, format!("{second}\tmessage\ttwo\n"));
}

#[test]
fn what_a_check_finds_is_told_to_people_and_to_machines() {
    let folder = folder();
    let ids = three_events(folder.path());
    let report = report(folder.path());
    assert_eq!(report["state"], "whole");
    assert_eq!(report["oldest"], ids[0]);
    assert_eq!(report["newest"], ids[2]);
    assert_eq!(report["events"], 3);
    assert_eq!(report["damages"], Value::Array(Vec::new()));
    let [segment] = &segments(folder.path())[..] else { panic!("{report}") };
    assert_eq!(report["bytes"], fs::metadata(segment).expect("a file").len());
    let line = ": 3 events, events 1 to 3, ";
    check_log(&["check"], folder.path(), 0, line, "");
    check_log(&["repair"], folder.path(), 0, "there is nothing to repair", "");
}

#[test]
fn a_log_belongs_to_one_process() {
    let folder = folder();
    let _hub = Hub::start_on(folder.path(), &[]);
    let data = folder.path().to_str().expect("text");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data];
    let (status, out, err) = Process::start(&serve).end();
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    let told =
        "another process has the log open\n  stop that process first, or name another folder";
    assert!(err.contains(told), "{err}");
    check_log(&["check"], folder.path(), 1, "", told);
    check_log(&["repair", "--yes"], folder.path(), 1, "", told);
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_what_to_do() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    for data in [&file, &file.join("below")] {
        let data = data.to_str().expect("text");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data];
        let (status, out, err) = Process::start(&serve).end();
        assert_eq!((status, &*out), (Some(1), ""), "{err}");
        assert!(err.contains("a file is in the way: name another folder with --data"), "{err}");
    }
    check_log(&["check"], &folder.path().join("none"), 1, "", "there is no log in ");
    assert!(!folder.path().join("none").exists());
}

#[test]
fn a_damaged_log_is_not_opened_until_it_is_repaired() {
    let folder = folder();
    let ids = three_events(folder.path());
    let [segment] = &segments(folder.path())[..] else { panic!("more than one segment") };
    let end = fs::metadata(segment).expect("a file").len() - 1;
    let mut bytes = fs::read(segment).expect("a file");
    bytes[end as usize] ^= 0xff;
    fs::write(segment, bytes).expect("a file");
    damage(segment, "two", 0);
    let data = folder.path().to_str().expect("text");
    let (status, out, err) =
        Process::start(&["serve", "--listen", "127.0.0.1:0", "--data", data]).end();
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("the log is damaged: "), "{err}");
    assert!(
        err.contains(&format!("`tidings log repair --data {data}` saves what is whole")),
        "{err}"
    );
    let name = segment.file_name().and_then(|name| name.to_str()).expect("a name");
    check_log(&["check"], folder.path(), 1, &format!("damaged: {name}, byte "), "is damaged in ");
    assert_eq!(report(folder.path())["state"], "damaged");
    check_log(&["repair"], folder.path(), 2, "", "add --yes to repair it");
    let output = log(&["repair", "--yes"], folder.path());
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(out.starts_with("lost: event 2"), "{out}");
    assert!(out.contains(&format!("set aside: {name}.damaged-1\n")), "{out}");
    assert!(out.ends_with("the log is whole now\n"), "{out}");
    check_log(&["check"], folder.path(), 0, "state     whole\n", "");
    let hub = Hub::start_on(folder.path(), &[]);
    let mut tail = hub.tail(&["a", "--from", &ids[0], "--json"]);
    let gap = tail.line();
    assert!(gap.contains("tidings.gap") && gap.contains("unknown-epoch"), "{gap}");
    for data in ["one", "three"] {
        let event = tail.line();
        assert!(event.ends_with(&format!(r#""event":"message","data":"{data}"}}"#)), "{event}");
    }
}

#[test]
fn whoever_repairs_at_a_terminal_is_asked() {
    let folder = folder();
    three_events(folder.path());
    damage(&segments(folder.path())[0], "two", 0);
    for (answer, status, stdout, stderr) in
        [("no\n", 1, "", "nothing was changed"), ("y\n", 0, "lost: event 2\n", "[y/N]")]
    {
        let (terminal, mut user) = terminal();
        user.write_all(answer.as_bytes()).expect("a terminal");
        let mut repair = tidings(&["log", "repair", "--data"]);
        let output = repair.arg(folder.path()).stdin(terminal).output().expect("tidings runs");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{err}");
        assert!(out.contains(stdout) && stdout.is_empty() == out.is_empty(), "{out}");
        assert!(err.contains("it holds events 1 to 3, of which some may be lost"), "{err}");
        assert!(err.contains(stderr), "{err}");
    }
}

#[test]
fn rules_keep_less_of_some_topics() {
    let folder = folder();
    let options = ["--retention", "jobs/{id};events=1"];
    let hub = Hub::start_on(folder.path(), &options);
    hub.result(&["publish", "jobs/1"], "one\ntwo\n");
    hub.result(&["publish", "jobs/2", "other"], "");
    hub.result(&["publish", "news"], "one\ntwo\n");
    let kept = |topic: &str| {
        let count = if topic == "news" { "2" } else { "1" };
        let kept = hub.result(&["tail", topic, "--last", "9", "--count", count], "");
        kept.lines().filter_map(|line| line.rsplit('\t').next()).collect::<Vec<_>>().join(" ")
    };
    let begun = Instant::now();
    while kept("jobs/1") != "two" {
        assert!(begun.elapsed() < Duration::from_secs(60), "the rule does not hold");
    }
    assert_eq!((kept("jobs/2"), kept("news")), ("other".into(), "one two".into()));
}
