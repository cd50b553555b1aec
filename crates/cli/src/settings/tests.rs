use std::path::Path;

use crate::options::{Kind, serve_options};
use crate::settings::contradictions::{doubts, webhook_doubts};
use crate::settings::file::SettingsFile;
use crate::settings::secret::Secret;
use crate::settings::{Settings, merge, misspelt_variables};

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
    for log in ["disk", "memory", "redis://localhost", "postgres://localhost/app"] {
        let given = [("log", log)];
        let settings = merged(flags(&given)).unwrap_or_else(|faults| panic!("{faults:?}"));
        for row in serve_options().filter(|row| row.key().is_some() && row.name != "log") {
            let shown = row.kind.toml(&settings.serve);
            let none = match row.kind {
                Kind::File(_) | Kind::WebUrl(_) | Kind::Text { .. } | Kind::Secret(_) => "",
                _ => "[]",
            };
            let default = row.default_text(3, &settings.serve).unwrap_or_else(|| none.into());
            assert_eq!(shown.trim_matches('"'), default, "{}", row.name);
        }
    }
    check_value(Given::default(), "log", "\"disk\"", "default");
}

#[test]
fn selectors_are_taken_from_each_place() {
    let shown = "[\"chat/{room}\",\"a,b\"]";
    check_value(flags(&[("presence", "chat/{room}\n\na,b\na,b")]), "presence", shown, "--presence");
    let given = [("TIDINGS_PRESENCE", "chat/{room}\na,b")];
    check_value(variables(&given), "presence", shown, "TIDINGS_PRESENCE");
    check_value(file(&format!("presence = {shown}")), "presence", shown, "t.toml:1");
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
    let networks = "[\"10.0.0.0/8\",\"::1\",\"fd00::/8\"]";
    check_value(
        flags(&[("trusted-proxies", "10.0.0.0/8, ::1/128,fd00::/8,::1")]),
        "trusted-proxies",
        networks,
        "--trusted-proxies",
    );
    check_value(
        file(&format!("proxy_protocol = {networks}")),
        "proxy-protocol",
        networks,
        "t.toml:1",
    );
    check_value(flags(&[("key-file", "a,b ,")]), "key-file", "[\"a\",\"b\"]", "--key-file");
    check_value(file("token_cookie = ''"), "token-cookie", "\"\"", "t.toml:1");
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
        flags(&[
            ("trusted-proxies", "10.0.0.1/8"),
            ("proxy-protocol", "lb"),
            ("token-cookie", "a b"),
            ("acme-email", "me"),
            ("algorithm", "none"),
            ("connection-webhook", "https://u:hush@app.example"),
        ]),
        &[
            "--acme-email me: this is not an e-mail address\n  allowed: an e-mail address",
            "--trusted-proxies 10.0.0.1/8: `10.0.0.1/8` has bits after its prefix; write 10.0.0.0/8\n  \
             allowed: addresses and networks such as 10.0.0.0/8, separated by commas",
            "--proxy-protocol lb: `lb` is neither an address nor a network such as 10.0.0.0/8\n  \
             allowed: addresses and networks such as 10.0.0.0/8, separated by commas",
            "--algorithm none: tokens that nobody signed prove nothing\n  allowed: auto, HS256, HS384, \
             HS512, RS256, RS384, RS512, PS256, ES256, ES384, EdDSA",
            "--token-cookie a b: a cookie has no such name\n  allowed: the name of a cookie, or nothing",
            "--connection-webhook https://…@app.example: a user name or a password has no place here\n  \
             allowed: an http:// or https:// URL, without a user name",
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
fn logs_that_there_are_not_are_refused_and_passwords_are_not_repeated() {
    check_faults(
        variables(&[("TIDINGS_LOG", "nats://u:secret@nats.example/1")]),
        &["TIDINGS_LOG=nats://…@nats.example/1: this version keeps no events in NATS\n  allowed: \
           disk, memory, redis://HOST:PORT or postgres://USER@HOST/DATABASE"],
    );
    check_faults(
        variables(&[("TIDINGS_LOG", "debug")]),
        &[
            "TIDINGS_LOG=debug: this option says where events are kept; for the process's own log there \
           is --log-level debug\n  allowed: disk, memory, redis://HOST:PORT or \
             postgres://USER@HOST/DATABASE",
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
            "t.toml:1: log: a table has no place here; all keys but `authority` and `retention` stand \
             at the top\n  allowed: disk, memory, redis://HOST:PORT or postgres://USER@HOST/DATABASE",
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
}

const NO_KEY: &str = "--listen 0.0.0.0:80: other machines can reach this address, and there is no key to \
                      check who they are\n  make one with `openssl rand -hex 32 > hub.key` and add \
                      --key-file hub.key\n  or listen on 127.0.0.1, or add --insecure to let everyone \
                      publish and subscribe";

#[test]
fn an_address_that_others_reach_needs_a_key_or_the_word_that_it_needs_none() {
    const EVERYWHERE: (&str, &str) = ("listen", "0.0.0.0:80");
    check_faults(flags(&[EVERYWHERE]), &[NO_KEY]);
    for given in [
        ("key", "k"),
        ("key-file", "a.pem"),
        ("jwks-url", "https://id.example/jwks"),
        ("authority", "key-file=a"),
        ("insecure", "true"),
    ] {
        check_faults(flags(&[EVERYWHERE, given]), &[]);
    }
    for key in [("key", ""), ("key-file", ""), ("issuer", "")] {
        check_faults(flags(&[EVERYWHERE, key]), &[NO_KEY]);
    }
    for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
        check_faults(flags(&[("listen", address)]), &[]);
    }
}

#[test]
fn trust_that_contradicts_itself_is_refused() {
    for (given, told) in [
        (
            flags(&[("insecure", "true"), ("key", "hush")]),
            "--insecure true: this is for a hub that asks nobody, and with --key it asks everybody\n  \
             leave one of the two out",
        ),
        (
            file("insecure = true\n[[authority]]\nkey_file = 'a'"),
            "t.toml:1: insecure = true: this is for a hub that asks nobody, and with t.toml:2: \
             authority it asks everybody\n  leave one of the two out",
        ),
        (
            flags(&[("authorization-webhook", "https://app.example/who")]),
            "--authorization-webhook https://app.example/who: nobody could publish: the webhook is \
             asked about subscribers alone\n  add a key for those who publish: `openssl rand -hex 32 \
             > hub.key`, and --key-file hub.key",
        ),
        (
            variables(&[("TIDINGS_JWKS_URL", "http://127.0.0.1/a,http://id.example/jwks")]),
            "TIDINGS_JWKS_URL=[\"http://127.0.0.1/a\",\"http://id.example/jwks\"]: \
             http://id.example/jwks is not encrypted, so that anybody on the way could add a key and \
             make tokens\n  use https, or save the key set and give it with --key-file",
        ),
        (
            flags(&[("authority", "jwks-url=http://id.example/jwks")]),
            "--authority: http://id.example/jwks is not encrypted, so that anybody on the way could \
             add a key and make tokens\n  use https, or save the key set and give it with --key-file",
        ),
        (
            flags(&[("audience", "hub"), ("authority", "key-file=a")]),
            "--audience [\"hub\"]: there is no key whose tokens it could be about\n  give --key or \
             --key-file or --jwks-url as well, or leave it out",
        ),
        (
            flags(&[("algorithm", "ES256")]),
            "--algorithm ES256: there is no key that it could be the algorithm of\n  give --key or \
             --key-file or --jwks-url as well, or leave it out",
        ),
        (
            variables(&[("TIDINGS_WEBHOOK_SECRET", "hush")]),
            "TIDINGS_WEBHOOK_SECRET: there is no webhook to sign anything for\n  give \
             --authorization-webhook or --connection-webhook as well, or leave it out",
        ),
        (
            flags(&[("publish-burst", "9")]),
            "--publish-burst 9: there is no rate that it could be above\n  give --publish-rate as well, \
             or leave it out",
        ),
    ] {
        check_faults(given, &[told]);
    }
    check_faults(flags(&[("algorithm", "auto"), ("require-exp", "false")]), &[]);
}

#[test]
fn one_certificate_is_enough() {
    let both = ("tls-self-signed", "true");
    check_faults(
        flags(&[("tls-cert", "a"), ("tls-key", "a"), both]),
        &[
            "--tls-self-signed true: there is another certificate by --tls-cert a\n  give one of them",
        ],
    );
    check_faults(
        flags(&[("acme-domain", "a.example"), both]),
        &[
            "--acme-domain [\"a.example\"]: there is another certificate by --tls-self-signed true\n  \
           give one of them",
        ],
    );
    check_faults(
        flags(&[("acme-domain", "localhost")]),
        &[
            "--acme-domain [\"localhost\"]: nobody certifies `localhost`\n  give names that lead to this \
           machine from everywhere; for development there is --tls-self-signed",
        ],
    );
    check_faults(
        flags(&[("acme-domain", "hub.test"), ("acme-directory", "https://localhost:14000/dir")]),
        &[],
    );
    check_faults(
        flags(&[("acme-email", "a@b.example")]),
        &[
            "--acme-email a@b.example: there is no name to get a certificate for\n  give --acme-domain \
           as well, or leave it out",
        ],
    );
    let memory = [("acme-domain", "a.example"), ("log", "memory")];
    check_faults(
        flags(&memory),
        &[
            "--acme-domain [\"a.example\"]: the certificate must outlive the process, as an authority \
           gives only a few a week\n  name a folder for it with --data",
        ],
    );
    check_faults(flags(&[memory[0], memory[1], ("data", "d")]), &[]);
}

#[test]
fn what_may_be_meant_is_told_all_the_same() {
    let key = ("key", "hush");
    for (given, told) in [
        (
            &[("trusted-proxies", "10.0.0.0/8,::/0")][..],
            "--trusted-proxies [\"10.0.0.0/8\",\"::/0\"]: ::/0 is everybody, so that clients can say of \
             themselves who they are; name the proxies alone",
        ),
        (
            &[("proxy-protocol", "0.0.0.0/0")],
            "--proxy-protocol [\"0.0.0.0/0\"]: 0.0.0.0/0 is everybody, so that clients can say of \
             themselves who they are; name the proxies alone",
        ),
        (
            &[("anonymous", "true"), ("listen", "[::]:443"), key],
            "--anonymous true: whoever reaches [::]:443 may read public events without a token",
        ),
        (
            &[("cors-origins", "*"), key],
            "--cors-origins [\"*\"]: pages of other origins cannot use the cookie `tidings_token`, as \
             browsers send none where all are allowed; name the origins if they are to",
        ),
        (
            &[("connection-webhook", "http://app.example")],
            "--connection-webhook http://app.example: what is sent there can be read and changed on \
             the way; use https",
        ),
    ] {
        let settings = merged(flags(given)).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!([doubts(&settings), webhook_doubts(&settings)].concat(), [told]);
    }
    for fine in [
        &[("cors-origins", "*")][..],
        &[("cors-origins", "*"), ("token-cookie", ""), key],
        &[("anonymous", "true"), key],
        &[("connection-webhook", "http://localhost/a")],
        &[("trusted-proxies", "10.0.0.1")],
    ] {
        let settings = merged(flags(fine)).unwrap_or_else(|faults| panic!("{faults:?}"));
        let told = [doubts(&settings), webhook_doubts(&settings)].concat();
        assert!(told.is_empty(), "{fine:?}: {told:?}");
    }
}

#[test]
fn a_secret_is_not_repeated_wherever_it_was_given() {
    for given in
        [flags(&[("key", "hush")]), variables(&[("TIDINGS_KEY", "hush")]), file("key = 'hush'")]
    {
        let settings = merged(given).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(settings.serve.key.as_ref().map(Secret::expose), Some("hush"));
        let Some(row) = serve_options().find(|row| row.name == "key") else { panic!("no key") };
        assert!(row.is_hidden(&settings.serve));
        assert_eq!(row.kind.json(&settings.serve), "set");
        assert!(!format!("{:?}", settings.serve).contains("hush"));
    }
    check_faults(
        file("key = ['hush']"),
        &["t.toml:1: key: a list has no place here\n  allowed: a secret"],
    );
}

#[test]
fn who_may_do_what_by_default_depends_on_who_can_reach_the_address() {
    let exposed = [("listen", "0.0.0.0:1"), ("key", "k")];
    for name in ["anonymous", "public-figures"] {
        check_value(Given::default(), name, "true", "default");
        check_value(flags(&exposed), name, "false", "default");
    }
    check_value(file("publish_rate = 7"), "publish-burst", "7", "default");
    check_value(Given::default(), "publish-burst", "\"unlimited\"", "default");
}

#[test]
fn authorities_are_taken_from_each_place() {
    let shown = r#"[{ issuer = "a", audience = ["x","y"], jwks_url = "https://a.example/k" }, { key_file = ["b.pem"], algorithm = "ES256" }]"#;
    let text = "issuer=a;audience=x;audience=y;jwks-url=https://a.example/k\nkey-file=b.pem;algorithm=ES256";
    check_value(flags(&[("authority", text)]), "authority", shown, "--authority");
    check_value(
        file(
            "[[authority]]\nissuer = 'a'\naudience = ['x', 'y']\njwks_url = 'https://a.example/k'\n\
             [[authority]]\nkey_file = 'b.pem'\nalgorithm = 'es256'\n",
        ),
        "authority",
        shown,
        "t.toml:1",
    );
    check_value(file(&format!("authority = {shown}")), "authority", shown, "t.toml:1");
    let allowed = "\n  allowed: whose tokens and what proves them: \
                   issuer=https://id.example.com;jwks-url=https://id.example.com/jwks";
    check_faults(
        file("[[authority]]\nkey_file = 'a'\n\n[[authority]]\nkey-file = 'b'"),
        &[&format!(
            "t.toml:1: authority: line 4: there is no `key-file`; did you mean `key_file`?{allowed}"
        )],
    );
}

#[test]
fn variables_that_look_like_a_misspelt_option_are_told() {
    let set = ["TIDINGS_HEARBEAT", "TIDINGS_RETRY", "TIDINGS_PORT_80_TCP", "TIDINGS_TOKEN", "PATH"];
    assert_eq!(misspelt_variables(set), [("TIDINGS_HEARBEAT", "TIDINGS_HEARTBEAT".to_owned())]);
}
