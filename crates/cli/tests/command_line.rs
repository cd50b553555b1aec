//! What users of the binary meet before any hub is involved.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A key for HS256.
const SECRET: &str = "6f1c0a2d9e8b47355d0c1f7a6e2b9d48";

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
        check(&with(&["--log", "nats://x"]), &[], 2, "", "keeps no events in NATS");
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
    check(
        &["publish", "a", "b", "--token-file", "/nowhere"],
        &[],
        2,
        "",
        "the token in /nowhere: No such file",
    );
    let both = [("TIDINGS_TOKEN", "a"), ("TIDINGS_TOKEN_FILE", "/nowhere")];
    check(&["tail", "a"], &both, 2, "", "TIDINGS_TOKEN and TIDINGS_TOKEN_FILE: give one of them");
}

#[test]
fn the_configuration_is_shown_with_origins() {
    check(&["config", "check"], &[], 0, "the configuration is valid\n", "");
    check(&["config", "show"], &[("TIDINGS_KEY", SECRET)], 0, "\n# key is set, and not shown", "");
    check(
        &["config", "show", "--json"],
        &[("TIDINGS_KEY", SECRET)],
        0,
        r#"{"name":"key","value":"set","unit":"secret","origin":"variable","at":"TIDINGS_KEY"}"#,
        "",
    );
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

/// A folder with keys in it, which nobody else can read.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Writes a file, and gives its path.
    fn write(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a file");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        }
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

/// Checks that neither `serve` nor `config check` takes a key, and what they say.
#[track_caller]
fn check_key(args: &[&str], variables: &[(&str, &str)], told: &str) {
    for command in [&["serve"][..], &["config", "check"]] {
        check(&[command, args].concat(), variables, 2, "", told);
    }
}

#[test]
fn a_key_that_cannot_be_used_is_told_before_it_is_needed() {
    let keys = Keys::new();
    let short = keys.write("short.key", "hush\n", 0o600);
    let good = keys.write("good.key", SECRET, 0o600);
    let empty = keys.write("empty.key", "", 0o600);
    let public = keys.write("public.pem", ED25519_PUBLIC, 0o644);
    check_key(
        &["--key-file", "/nowhere.key"],
        &[],
        "/nowhere.key, named by --key-file, cannot be read: No such file or directory (os error 2)\n  \
         correct its path, or make a key: `openssl rand -hex 32 > hub.key`",
    );
    check_key(
        &["--key-file", &short],
        &[],
        &format!(
            "{short}: a secret for HS256 has at least 32 bytes, this one has 4\n  `openssl rand -hex 32` \
             makes one that is long enough"
        ),
    );
    check_key(&[], &[("TIDINGS_KEY", "hush")], "TIDINGS_KEY: a secret for HS256 has at least 32");
    check_key(&["--key-file", &empty], &[], &format!("{empty}: there is no key"));
    check_key(
        &["--key-file", &public, "--algorithm", "HS256"],
        &[],
        "HS256 does not go with an Ed25519 key\n  give another --algorithm; without one, the kind of the key decides",
    );
    check_key(
        &["--key-file", &good, "--algorithm", "none"],
        &[],
        "--algorithm none: tokens that nobody signed prove nothing",
    );
    check_key(
        &["--authority", &format!("issuer=a;key-file={short}")],
        &[],
        &format!("{short}: a secret for HS256 has at least 32 bytes"),
    );
    check_key(
        &["--key-file", &good, "--listen", "0.0.0.0:0", "--insecure"],
        &[],
        "--insecure true: this is for a hub that asks nobody, and with --key-file",
    );
    check_key(
        &["--connection-webhook", "https://app.example", "--webhook-secret", "hush"],
        &[],
        "--webhook-secret: a webhook secret of 4 bytes is too short; 24 are needed\n  `openssl rand -hex 32`",
    );
    check_key(
        &["--listen", "0.0.0.0:0"],
        &[],
        "there is no key to check who they are\n  make one with `openssl rand -hex 32 > hub.key`",
    );
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_pointed_out() {
    let keys = Keys::new();
    let secret = keys.write("open.key", SECRET, 0o644);
    let told = format!("{secret}: every user of this machine can read this key");
    check(&["config", "check", "--key-file", &secret], &[], 0, "valid", &told);
    let file = keys.write("open.toml", &format!("key = '{SECRET}'"), 0o644);
    let told = format!("{file}: every user of this machine can read this key");
    check(&["config", "check", "--config", &file], &[], 0, "valid", &told);
    let public = keys.write("public.pem", ED25519_PUBLIC, 0o644);
    check(&["config", "check", "--key-file", &public], &[], 0, "valid", "");
}

/// Runs `config check`, which finds nothing wrong, and compares the rows that it prints.
#[track_caller]
fn check_exposure(args: &[&str], variables: &[(&str, &str)], rows: &[&str]) {
    let output = tidings(&[&["config", "check"], args].concat(), variables);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let printed: Vec<&str> = out.lines().skip(2).map(str::trim_start).collect();
    for row in rows {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.iter().any(|line| words(line) == *row), "{row}\nis not in\n{out}");
    }
}

#[test]
fn what_is_open_to_whom_is_told_before_a_hub_starts() {
    check_exposure(
        &[],
        &[],
        &[
            "subscribe to public events everyone on this machine",
            "receive private events everyone on this machine",
            "publish everyone on this machine",
            "list and close connections everyone on this machine",
            "see /metrics and /stats everyone on this machine",
            "tokens may stand nowhere: no token is asked for, and none is looked at",
            "tokens are trusted of nobody's",
            "pages of browsers may use it of the hub's own origin",
            "who comes and goes is told to nobody",
            "proxies are believed none: a client is who connects",
            "connections are encrypted not at all",
            "there is no limit on log_events_max, max_connections_per_ip, max_connections_per_user, \
             publish_rate, publish_burst, connect_rate, connect_burst",
        ],
    );
    check_exposure(
        &["--listen", "0.0.0.0:443", "--insecure"],
        &[],
        &[
            "publish everyone who can reach 0.0.0.0:443",
            "list and close connections nobody",
            "see /metrics and /stats nobody",
        ],
    );
    let keys = Keys::new();
    let public = keys.write("public.pem", ED25519_PUBLIC, 0o644);
    check_exposure(
        &[
            "--listen",
            "0.0.0.0:443",
            "--key-file",
            &public,
            "--audience",
            "a,b",
            "--authority",
            "issuer=https://id.example;jwks-url=https://id.example/jwks;require-exp=true",
            "--query-token=false",
            "--cors-origins",
            "https://app.example",
            "--trusted-proxies",
            "10.0.0.0/8",
            "--authorization-webhook",
            "https://app.example/who",
            "--connection-webhook",
            "https://app.example/news",
            "--webhook-secret",
            SECRET,
        ],
        &[("TIDINGS_KEY", SECRET)],
        &[
            "subscribe to public events who shows a token",
            "whom https://app.example/who admits, as it says",
            "receive private events who shows a token with the right to subscribe to one of their topics",
            "publish who shows a token with the right to publish to all topics of the event",
            "list and close connections who shows a token with the right to operate",
            "see /metrics and /stats who shows a token with the right to operate",
            "who comes and goes is told to https://app.example/news, signed",
            "tokens may stand in the header Authorization",
            "in the cookie tidings_token",
            "tokens are trusted of any issuer, meant for a or b:",
            "by the HS256 key in TIDINGS_KEY",
            &format!("by the EdDSA key in {public}"),
            "issuer https://id.example, that expire:",
            "by the keys at https://id.example/jwks, not fetched here",
            "of https://app.example",
            "proxies are believed 10.0.0.0/8 (X-Forwarded-For)",
            "connections are encrypted not at all: put a proxy with TLS in front, or tokens can be read on \
             the way",
        ],
    );
    check(
        &["config", "check", "--json", "--anonymous"],
        &[("TIDINGS_KEY", SECRET)],
        0,
        r#""publicEvents":["everyone"],"publish":["token:publish"]"#,
        "",
    );
}

/// Makes a token, and gives what it says.
#[track_caller]
fn claims(args: &[&str], variables: &[(&str, &str)]) -> serde_json::Value {
    let output = tidings(&[&["token"], args].concat(), variables);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{args:?}: {err}");
    let token = String::from_utf8(output.stdout).expect("text");
    let (token, after) = token.split_once('\n').expect("a line");
    assert_eq!(after, "", "the token stands alone");
    let key = tidings_auth::Key::parse(SECRET.as_bytes(), None).expect("a key");
    let authority = tidings_auth::Authority::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    tidings_auth::verify(token, &[(&authority, &key)], now.as_secs())
        .expect("a token that is trusted");
    let body = token.split('.').nth(1).expect("a body");
    serde_json::from_slice(&base64url(body)).expect("JSON")
}

/// Decodes base64url (RFC 4648, section 5).
fn base64url(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Vec::new();
    let mut bits = 0_u32;
    for (place, letter) in text.bytes().enumerate() {
        let value = LETTERS.iter().position(|known| *known == letter).expect("base64url");
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        if place % 4 > 0 {
            bytes.push((bits >> (6 - 2 * (place % 4))) as u8);
        }
    }
    bytes
}

#[test]
fn a_token_says_what_it_was_asked_for() {
    let keys = Keys::new();
    let file = keys.write("hub.key", &format!("{SECRET}\n"), 0o600);
    let said = claims(
        &["--publish", "a", "b/{id}", "--subscribe", "*", "--publish", "c", "--key-file", &file],
        &[],
    );
    assert_eq!(said["mercure"]["publish"], serde_json::json!(["a", "b/{id}", "c"]));
    assert_eq!(said["mercure"]["subscribe"], serde_json::json!(["*"]));
    let seconds = |name: &str| said[name].as_u64().expect("seconds");
    assert_eq!(seconds("exp") - seconds("iat"), 3_600);
    assert_eq!(said["jti"].as_str().map(str::len), Some(32));
    let again = claims(&["--publish", "a"], &[("TIDINGS_KEY", SECRET)]);
    assert_ne!(said["jti"], again["jti"]);
    let said = claims(
        &[
            "--operate",
            "--ttl",
            "90d",
            "--user",
            "ann",
            "--id",
            "t-1",
            "--issuer",
            "me",
            "--audience",
            "hub",
            "--key-id",
            "k",
        ],
        &[("TIDINGS_KEY_FILE", &file), ("TIDINGS_ISSUER", "other")],
    );
    assert_eq!(said["tidings"]["operate"], true);
    for (name, value) in [("sub", "ann"), ("jti", "t-1"), ("iss", "me")] {
        assert_eq!(said[name], value);
    }
    assert_eq!(said["aud"], serde_json::json!(["hub"]));
    let spaced = format!(" {SECRET}\n");
    let variables =
        [("TIDINGS_KEY", &*spaced), ("TIDINGS_ISSUER", "me"), ("TIDINGS_AUDIENCE", "hub,b")];
    let said = claims(&["--publish", "a"], &variables);
    assert_eq!((&said["iss"], &said["aud"]), (&"me".into(), &serde_json::json!(["hub"])));
    check(
        &["token", "--publish", "a", "--json", "--id", "t-1"],
        &[("TIDINGS_KEY", SECRET)],
        0,
        r#","id":"t-1","token":"ey"#,
        "",
    );
}

#[test]
fn a_token_that_cannot_be_made_is_told_with_what_to_do() {
    let secret = [("TIDINGS_KEY", SECRET)];
    let keys = Keys::new();
    let public = keys.write("public.pem", ED25519_PUBLIC, 0o644);
    for (args, variables, told) in [
        (
            &["--publish", "a"][..],
            &[][..],
            "there is no key to sign with\n  make one with `openssl rand -hex 32 > hub.key`",
        ),
        (&["--user", "ann"], &secret, "this token would give no right\n  say what it is for"),
        (&["--publish"], &secret, "a value is required for '--publish"),
        (&["--publish", "a", ""], &secret, "--publish ``: a selector has at least one character"),
        (&["--publish", "a", "--ttl", "0"], &secret, "this is too small; give a duration from 1s"),
        (&["--publish", "a", "--ttl", "11000d"], &secret, "this is too large; give a duration"),
        (&["--publish", "a", "--ttl", "1"], &secret, "the unit is missing; give a duration"),
        (&["--publish", "a", "--algorithm", "none"], &secret, "nobody signed prove nothing"),
        (
            &["--publish", "a", "--algorithm", "HS512"],
            &secret,
            "TIDINGS_KEY: a secret for HS512 has at least 64 bytes, this one has 32\n  `openssl rand \
             -hex 64`",
        ),
        (&["--publish", "a"], &[("TIDINGS_KEY", "hush")], "TIDINGS_KEY: a secret for HS256 has"),
        (
            &["--publish", "a", "--key-file", "/nowhere.key"],
            &secret,
            "/nowhere.key, named by --key-file, cannot be read",
        ),
        (
            &["--publish", "a", "--key-file", &public],
            &[],
            "a public key cannot sign\n  tokens are made with the private key",
        ),
    ] {
        check(&[&["token"], args].concat(), variables, 2, "", told);
    }
    check(
        &["token", "--publish", "orders/*"],
        &secret,
        0,
        "ey",
        "`orders/*` selects the one topic of that name",
    );
}

/// A public key (RFC 8410, section 10.1).
const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";
