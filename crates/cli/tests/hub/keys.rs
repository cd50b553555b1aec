//! Publishing again what may have been published already.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use crate::process::{Hub, Process, tidings};

/// Lines with the numbers from 1 to `count`.
fn numbers(count: u32) -> String {
    (1..=count).fold(String::new(), |mut lines, number| {
        let _ = writeln!(lines, "{number}");
        lines
    })
}

#[test]
fn what_has_the_key_of_before_is_answered_with_the_id_of_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = ["publish", "a", "one", "--key", "k"];
    let lines = ["publish", "a", "--key-prefix", "p"];
    let hub = Hub::start_on(folder.path(), &[]);
    let first = hub.result(&one, "");
    let two = hub.result(&lines, "1\n2\n");
    hub.stop();
    let hub = Hub::start_on(folder.path(), &[]);
    assert_eq!(hub.result(&one, ""), first);
    let four = hub.result(&lines, "1\n2\n3\n4\n");
    assert!(four.starts_with(&two), "{two}{four}");
    let kept = hub.result(&["tail", "a", "--from", "earliest", "--count", "5"], "");
    let ids: String = first.lines().chain(four.lines()).fold(String::new(), |mut ids, id| {
        let _ = writeln!(ids, "{id}");
        ids
    });
    let kept_ids: String = kept
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(|id| format!("{id}\n"))
        .collect();
    assert_eq!(kept_ids, ids);
}

#[test]
fn a_file_is_published_once_though_the_hub_is_killed_meanwhile() {
    const LINES: u32 = 300_000;
    let folder = tempfile::tempdir().expect("a folder");
    let text = numbers(LINES);
    let mut hub = Hub::start_on(folder.path(), &[]);
    let address = hub.url.trim_start_matches("http://").to_owned();
    let path = folder.path().join("lines");
    File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    let ids = tempfile::NamedTempFile::new_in(&folder).expect("a file");
    let publish = tidings(&["publish", "numbers", "--key-prefix", "p", "--url", &hub.url])
        .stdin(File::open(&path).expect("a file"))
        .stdout(ids.reopen().expect("a file"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidings starts");
    // Each time, when some thousands more have come through.
    for killed in 1..=3 {
        let mut tail = hub.tail(&["numbers", "--from", "earliest"]);
        (0..killed * 40_000).for_each(|_| drop(tail.line()));
        hub.process.signal("KILL");
        drop((tail, hub));
        let data = folder.path().to_str().expect("text");
        let serve = ["serve", "--listen", &address, "--data", data];
        hub = Hub::ready(Process::start(&serve));
    }
    let output = publish.wait_with_output().expect("an end");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.contains("the hub answers again"), "{err}");
    let count = LINES.to_string();
    let kept = hub.result(&["tail", "numbers", "--from", "earliest", "--count", &count], "");
    let data: String = kept
        .lines()
        .filter_map(|line| line.rsplit('\t').next())
        .map(|it| format!("{it}\n"))
        .collect();
    assert!(data == text, "the events are not the lines");
    let kept_ids: String = kept
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(|id| format!("{id}\n"))
        .collect();
    let ids = std::fs::read_to_string(ids.path()).expect("text");
    assert!(ids == kept_ids, "the ids are not those of the events");
}
