use std::path::Path;

use crate::options::{Kind, serve_options};
use crate::settings::file::SettingsFile;
use crate::settings::{LogPlace, Settings, merge, misspelt_variables};

/// What is given in one case; pairs of name and value, and the text of a file.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    flags: &'a [(&'a str, &'a str)],
    variables: &'a [(&'a str, &'a str)],
    file: &'a str,
}

fn merged(given: Given<'_>) -> Result<Settings, Vec<String>> {
    let find = |pairs: &[(&str, &str)], name: &str| {
        pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let file = SettingsFile::parse(Path::new("t.toml"), given.file)?;
    let flags = |name: &str| find(given.flags, name);
    let variables = |name: &str| find(given.variables, name);
    merge(&flags, &variables, Some(&file), 3)
}

/// Merges, and compares the value of `option` as the file would hold it, and its origin.
#[track_caller]
fn check_value(given: Given<'_>, option: &str, value: &str, origin: &str) {
    let settings = merged(given).unwrap_or_else(|faults| panic!("{faults:?}"));
    let Some(row) = serve_options().find(|row| row.name == option) else { panic!("no {option}") };
    assert_eq!(row.kind.toml(&settings.serve), value);
    assert_eq!(settings.origin(option).to_string(), origin);
}

/// Merges, and compares everything that is told to be wrong.
#[track_caller]
fn check_faults(given: Given<'_>, expected: &[&str]) {
    let faults = merged(given).err().unwrap_or_default();
    assert_eq!(faults, expected);
}

fn flags<'a>(flags: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given { flags, ..Given::default() }
}

fn variables<'a>(variables: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given { variables, ..Given::default() }
}

fn file(text: &str) -> Given<'_> {
    Given { file: text, ..Given::default() }
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_default() {
    let mut given = Given {
        flags: &[("heartbeat", "1s")],
        variables: &[("TIDINGS_HEARTBEAT", "2s")],
        file: "retry = '1s'\nheartbeat = '3s'",
    };
    check_value(given, "heartbeat", "\"1s\"", "--heartbeat");
    given.flags = &[];
    check_value(given, "heartbeat", "\"2s\"", "TIDINGS_HEARTBEAT");
    given.variables = &[("TIDINGS_HEARTBEAT", "")];
    check_value(given, "heartbeat", "\"3s\"", "t.toml:2");
    given.file = "";
    check_value(given, "heartbeat", "\"15s\"", "default");
}

#[test]
fn every_default_is_valid_and_written_as_it_is_shown() {
    for log in LogPlace::ALL {
        let given = [("log", log.name())];
        let settings = merged(flags(&given)).unwrap_or_else(|faults| panic!("{faults:?}"));
        for row in serve_options().filter(|row| row.key().is_some() && row.name != "log") {
            let shown = row.kind.toml(&settings.serve);
            let none = if matches!(row.kind, Kind::File(_)) { "" } else { "[]" };
            let default = row.default_text(3, log).unwrap_or_else(|| none.into());
            assert_eq!(shown.trim_matches('"'), default, "{}", row.name);
        }
    }
    check_value(Given::default(), "log", "\"disk\"", "default");
}

#[test]
fn how_much_is_kept_depends_on_where_it_is_kept() {
    check_value(Given::default(), "log-bytes-max", "\"1GiB\"", "default");
    check_value(Given::default(), "log-events-max", "\"unlimited\"", "default");
    check_value(file("log = 'memory'"), "log-bytes-max", "\"64MiB\"", "default");
    check_value(file("log = 'memory'"), "log-events-max", "100000", "default");
    check_value(flags(&[("log-events-max", "5")]), "log-events-max", "5", "--log-events-max");
}

#[test]
fn retention_rules_are_taken_from_each_place() {
    let shown = r#"[{ topics = "a/{b}", events_max = 2, age_max = "90s" }, { topics = "*", age_max = "24h" }]"#;
    let text = "a/{b};events=2;age=90s\n*;age=24h";
    check_value(flags(&[("retention", text)]), "retention", shown, "--retention");
    let given = [("TIDINGS_RETENTION", text)];
    check_value(variables(&given), "retention", shown, "TIDINGS_RETENTION");
    check_value(
        file(
            "log = 'disk'\n[[retention]]\ntopics = 'a/{b}'\nevents_max = 2\nage_max = '1m30s'\n\
             [[retention]]\ntopics = '*'\nage_max = '24h'\n",
        ),
        "retention",
        shown,
        "t.toml:2",
    );
    check_value(file(&format!("retention = {shown}")), "retention", shown, "t.toml:1");
    check_value(
        file("retention = ['*;events=7']"),
        "retention",
        r#"[{ topics = "*", events_max = 7 }]"#,
        "t.toml:1",
    );
    let allowed = "\n  allowed: a topic or selector and what is kept of each of its topics: \
                   jobs/{id};events=100;age=1h";
    for (given, told) in [
        (
            flags(&[("retention", "a;events=1\nb")]),
            "--retention: `b`: it does not say how much is kept: give a number of events, an age, or both",
        ),
        (
            file("\n[[retention]]\ntopics = 'a'\nage_max = '1h'\n[[retention]]\ntopic = 'b'\n"),
            "t.toml:2: retention: line 5: there is no `topic`; did you mean `topics`?",
        ),
        (
            file("[retention]\nevents_max = 1\n"),
            "t.toml:1: retention: line 1: it does not say for which topics; `*` is all of them",
        ),
        (
            file("[[retention]]\ntopics = 'a'\nevents_max = 0\n"),
            "t.toml:1: retention: line 1: 0: this is too small; the events to keep are a whole number from 1 on",
        ),
    ] {
        check_faults(given, &[&format!("{told}{allowed}")]);
    }
}

#[test]
fn values_of_each_kind_are_taken_from_each_place() {
    check_value(flags(&[("insecure", "true")]), "insecure", "true", "--insecure");
    check_value(variables(&[("TIDINGS_INSECURE", "1")]), "insecure", "true", "TIDINGS_INSECURE");
    check_value(file("insecure = true"), "insecure", "true", "t.toml:1");
    check_value(file("listen = 'localhost:9'"), "listen", "\"127.0.0.1:9\"", "t.toml:1");
    check_value(file("log_bytes_max = 0x100_0000"), "log-bytes-max", "\"16MiB\"", "t.toml:1");
    check_value(file("log_bytes_max = '5 MB'"), "log-bytes-max", "\"5000000\"", "t.toml:1");
    check_value(flags(&[("log-level", "DEBUG")]), "log-level", "\"debug\"", "--log-level");
    check_value(flags(&[("shards", "7")]), "shards", "7", "--shards");
    let list = "[\"https://a.example\",\"https://b.example\"]";
    let text = "https://a.example,https://b.example";
    check_value(flags(&[("cors-origins", text)]), "cors-origins", list, "--cors-origins");
    check_value(
        file("cors_origins = ['https://a.example',\n'https://b.example']"),
        "cors-origins",
        list,
        "t.toml:1",
    );
    check_value(file(&format!("cors_origins = '{text}'")), "cors-origins", list, "t.toml:1");
    check_value(
        Given { flags: &[("listen", "0.0.0.0:1")], file: "insecure = true", ..Given::default() },
        "listen",
        "\"0.0.0.0:1\"",
        "--listen",
    );
}

#[test]
fn a_bad_value_is_told_with_its_place_and_what_is_allowed() {
    check_faults(
        flags(&[("heartbeat", "15")]),
        &[
            "--heartbeat 15: the unit is missing\n  allowed: a duration from 1s to 1h, with its unit: \
           500ms, 15s, 2m, 1h30m, 7d",
        ],
    );
    check_faults(
        variables(&[("TIDINGS_MAX_EVENT_BYTES", "1GiB")]),
        &[
            "TIDINGS_MAX_EVENT_BYTES=1GiB: this is too large\n  allowed: a size from 1KiB to 64MiB, in \
           bytes or with a unit: 65536, 64KiB, 16MiB, 64MB",
        ],
    );
    check_faults(
        file("\nshards = 0\nlog_level = 'loud'"),
        &[
            "t.toml:2: shards = 0: this is too small\n  allowed: a whole number from 1 to 1024",
            "t.toml:3: log_level = loud: there is no such choice\n  allowed: off, error, warn, info, \
             debug, trace",
        ],
    );
    check_faults(
        file("retry = ['1s']"),
        &[
            "t.toml:1: retry = [\"1s\"]: a list has no place here\n  allowed: a duration from 100ms to \
           1h, with its unit: 500ms, 15s, 2m, 1h30m, 7d",
        ],
    );
}

#[test]
fn logs_that_this_version_lacks_are_refused_and_passwords_are_not_repeated() {
    check_faults(
        variables(&[("TIDINGS_LOG", "redis://u:secret@redis.example/1")]),
        &["TIDINGS_LOG=redis://…@redis.example/1: this version keeps events on disk or in memory \
           only\n  allowed: disk, memory"],
    );
    check_faults(
        variables(&[("TIDINGS_LOG", "debug")]),
        &[
            "TIDINGS_LOG=debug: this option says where events are kept; for the process's own log there \
           is --log-level debug\n  allowed: disk, memory",
        ],
    );
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_key_that_was_meant() {
    check_faults(
        file("hearbeat = '1s'\n\nlog-bytes-max = 1\nport = 80\n"),
        &[
            "t.toml:1: there is no option `hearbeat`\n  did you mean `heartbeat`?",
            "t.toml:3: there is no option `log-bytes-max`\n  did you mean `log_bytes_max`?",
            "t.toml:4: there is no option `port`\n  `tidings config show` lists the keys",
        ],
    );
    check_faults(
        file("[log]\nplace = 'memory'"),
        &[
            "t.toml:1: log: a table has no place here; all keys but `retention` stand at the top\n  \
           allowed: disk, memory",
        ],
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_the_line() {
    for (text, line) in [("listen = ", 1), ("retry = '1s'\nretry = '2s'", 2), ("a = 1\n?\n", 2)] {
        let faults = merged(file(text)).err().unwrap_or_default();
        assert_eq!(faults.len(), 1, "{text}");
        assert!(faults[0].starts_with(&format!("t.toml:{line}: ")), "{faults:?}");
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    check_faults(
        Given {
            flags: &[("tail-bytes-max", "64KiB")],
            file: "max_event_bytes = '2MiB'",
            ..Given::default()
        },
        &[
            "--tail-bytes-max 64KiB: this is less than t.toml:1: max_event_bytes = 2MiB\n  the tail must \
           have room for one event of any size: raise the one or lower the other",
        ],
    );
    check_faults(
        variables(&[("TIDINGS_MAX_BODY_BYTES", "64KiB")]),
        &[
            "TIDINGS_MAX_BODY_BYTES=64KiB: this is less than --max-event-bytes 1MiB (the default)\n  a \
           request must have room for one event of any size: raise the one or lower the other",
        ],
    );
    check_faults(
        Given {
            flags: &[("log-bytes-max", "5MiB")],
            file: "max_event_bytes = '3MiB'",
            ..Given::default()
        },
        &[
            "--log-bytes-max 5MiB: this is too small for a log on disk, which grows by files of 1MiB at \
           least\n  give it 6MiB or more, or keep events in memory with --log memory",
        ],
    );
    check_faults(
        variables(&[("TIDINGS_TLS_CERT", "a.pem")]),
        &[
            "TIDINGS_TLS_CERT=a.pem: TLS needs a certificate and its key\n  give --tls-key as well; \
           one file may hold both",
        ],
    );
    check_faults(
        file("tls_key = 'a.pem'\ntls_cert = ''"),
        &["t.toml:1: tls_key = a.pem: TLS needs a certificate and its key\n  give --tls-cert as \
           well; one file may hold both"],
    );
    check_faults(
        flags(&[("listen", "0.0.0.0:80")]),
        &[
            "--listen 0.0.0.0:80: other machines can reach this address, and this version cannot check \
           who they are\n  listen on 127.0.0.1, or add --insecure to let everyone publish and \
           subscribe",
        ],
    );
}

#[test]
fn variables_that_look_like_a_misspelt_option_are_told() {
    let set = ["TIDINGS_HEARBEAT", "TIDINGS_RETRY", "TIDINGS_PORT_80_TCP", "TIDINGS_TOKEN", "PATH"];
    assert_eq!(misspelt_variables(set), [("TIDINGS_HEARBEAT", "TIDINGS_HEARTBEAT".to_owned())]);
}
