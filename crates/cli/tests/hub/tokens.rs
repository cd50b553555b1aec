//! Tokens from the command line to the hub and back: what `tidings token` makes, a hub that has the
//! same key takes, for what it says and no more.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use tempfile::TempDir;

use crate::process::{Hub, Process, tidings};

/// A key in a file.
struct Key {
    _folder: TempDir,
    path: String,
}

impl Key {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hub.key");
        fs::write(&path, "6f1c0a2d9e8b47355d0c1f7a6e2b9d48\n").expect("room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        let path = path.to_str().expect("text").to_owned();
        Self { _folder: folder, path }
    }

    /// A token by `tidings token`.
    #[track_caller]
    fn token(&self, args: &[&str]) -> String {
        let output = tidings(&["token", "--key-file", &self.path]).args(args).output();
        let output = output.expect("tidings runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    fn hub(&self, options: &[&str]) -> Hub {
        Hub::start(&[&["--key-file", &self.path], options].concat())
    }
}

const MAKE: &str = "\n  who has the hub's key makes one with `tidings token`\n";

#[test]
fn publishing_needs_a_token_with_the_right() {
    let key = Key::new();
    let hub = key.hub(&[]);
    let missing = hub.failure(&["publish", "orders/1", "x"], "");
    assert!(missing.starts_with("tidings: A token is missing: "), "{missing}");
    assert!(
        missing.contains("\n  give one with TIDINGS_TOKEN, --token-file or --token; "),
        "{missing}"
    );
    let token = key.token(&["--publish", "orders/{id}", "news"]);
    for topic in ["orders/1", "news"] {
        hub.result(&["publish", topic, "x", "--token", &token], "");
    }
    hub.result(&["publish", "orders/2", "--token", &token], "a\nb\n");
    let right = hub.failure(&["publish", "users/1", "x", "--token", &token], "");
    assert!(right.starts_with("tidings: A right is missing: "), "{right}");
    assert!(right.contains("publish to users/1") && right.ends_with(MAKE), "{right}");
    let (body, signature) = token.rsplit_once('.').expect("a signature");
    let forged = format!("{body}.{}", signature.chars().rev().collect::<String>());
    let invalid = hub.failure(&["publish", "news", "x", "--token", &forged], "");
    assert!(invalid.starts_with("tidings: The token does not hold: "), "{invalid}");
    assert!(invalid.ends_with(MAKE), "{invalid}");
}

#[test]
fn private_events_reach_who_has_the_right_and_nobody_else() {
    let key = Key::new();
    let hub = key.hub(&["--default-private"]);
    let publisher = key.token(&["--publish", "*"]);
    for topic in ["users/ann/inbox", "users/bob/inbox", "users/ann/orders"] {
        hub.result(&["publish", topic, topic, "--token", &publisher], "");
    }
    let ann = key.token(&["--subscribe", "users/ann/{box}", "--user", "ann"]);
    let read = |token: &str, count: &str| {
        let args = ["tail", "*", "--from", "earliest", "--count", count, "--token", token];
        let out = hub.result(&args, "");
        let data = |line: &str| line.rsplit('\t').next().unwrap_or_default().to_owned();
        out.lines().map(data).collect::<Vec<_>>()
    };
    assert_eq!(read(&ann, "2"), ["users/ann/inbox", "users/ann/orders"]);
    assert_eq!(read(&key.token(&["--subscribe", "*"]), "3").len(), 3);
}

#[test]
fn one_event_can_be_private_where_others_are_not() {
    let key = Key::new();
    let hub = key.hub(&[]);
    let publisher = key.token(&["--publish", "*"]);
    hub.result(&["publish", "a", "for some", "--private", "--token", &publisher], "");
    hub.result(&["publish", "a", "--private", "--token", &publisher], "for some, too\n");
    hub.result(&["publish", "a", "for all", "--token", &publisher], "");
    let first = hub.result(&["tail", "a", "--from", "earliest", "--count", "1"], "");
    assert!(first.ends_with("\tfor all\n"), "{first}");
}

#[test]
fn an_address_has_no_more_streams_than_it_is_allowed() {
    let key = Key::new();
    let hub = key.hub(&["--max-connections-per-ip", "1", "--retry", "100ms"]);
    let publisher = key.token(&["--publish", "*"]);
    hub.result(&["publish", "a", "one", "--token", &publisher], "");
    let mut first = hub.tail(&["a", "--from", "earliest"]);
    first.line();
    let mut second = hub.tail(&["a", "--from", "earliest"]);
    second.told("has no room for another stream");
    drop(first);
    assert!(second.line().ends_with("\tone"));
}

/// Answers each request on a free port of this machine with `body`, and gives its URL.
fn serve_json(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("a connection");
            let lines = BufReader::new(&socket).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            // Who has asked may be gone.
            let _ = socket.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

/// A key pair (RFC 8037, appendix A), and the set that its issuer publishes.
const PRIVATE: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const PUBLIC: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[test]
fn a_hub_trusts_the_keys_of_a_set_that_it_fetches() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("private.jwk");
    fs::write(&path, PRIVATE).expect("room");
    let key = Key { path: path.to_str().expect("text").to_owned(), _folder: folder };
    let url = serve_json(PUBLIC);
    let hub = Hub::start(&["--jwks-url", &url]);
    let token = key.token(&["--publish", "*", "--key-id", "k"]);
    hub.result(&["publish", "a", "x", "--token", &token], "");
    let other = Key::new().token(&["--publish", "*"]);
    assert!(hub.failure(&["publish", "a", "x", "--token", &other], "").ends_with(MAKE));
    let none = serve_json("{}");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "memory", "--jwks-url", &none];
    let (status, out, err) = Process::start(&serve).end();
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("cannot tell who may do what: "), "{err}");
    assert!(err.ends_with("or give the key with --key-file\n"), "{err}");
}

#[test]
fn a_stream_ends_with_its_token_and_goes_on_with_the_next_one() {
    let key = Key::new();
    let hub = key.hub(&["--retry", "100ms"]);
    let publisher = key.token(&["--publish", "*"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let short = key.token(&["--subscribe", "*", "--ttl", "2s"]);
    fs::write(&path, &short).expect("room");
    let path = path.to_str().expect("text");
    let mut tail = hub.tail(&["a", "--from", "earliest", "--token-file", path]);
    let mut fixed = hub.tail(&["a", "--from", "earliest", "--token", &short]);
    hub.result(&["publish", "a", "one", "--token", &publisher], "");
    assert!(tail.line().ends_with("\tone") && fixed.line().ends_with("\tone"));
    fixed.told("the token has expired");
    tail.told("the token has expired");
    fs::write(path, key.token(&["--subscribe", "*"])).expect("room");
    hub.result(&["publish", "a", "two", "--token", &publisher], "");
    assert!(tail.line().ends_with("\ttwo"));
    let (status, out, err) = fixed.end();
    assert_eq!((status, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("the token expired at "), "{err}");
}

#[test]
fn who_has_no_token_reads_public_events_where_that_is_allowed() {
    let key = Key::new();
    let publisher = key.token(&["--publish", "*"]);
    for (option, is_admitted) in [("--anonymous=true", true), ("--anonymous=false", false)] {
        let hub = key.hub(&[option]);
        hub.result(&["publish", "a", "one", "--token", &publisher], "");
        let args = ["tail", "a", "--from", "earliest", "--count", "1"];
        if is_admitted {
            assert!(hub.result(&args, "").ends_with("\tone\n"));
        } else {
            assert!(hub.failure(&args, "").starts_with("tidings: A token is missing: "));
        }
    }
}

#[test]
fn a_hub_trusts_the_keys_and_issuers_that_it_is_told() {
    let key = Key::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.toml");
    let path = &key.path;
    let text = format!("[[authority]]\nissuer = 'me'\naudience = 'hub'\nkey_file = '{path}'\n");
    fs::write(&file, text).expect("room");
    let hub = Hub::start(&["--config", file.to_str().expect("text")]);
    let publish = |more: &[&str]| {
        let token = key.token(&[&["--publish", "*"], more].concat());
        hub.run(&["publish", "a", "x", "--token", &token], "").status.success()
    };
    assert!(publish(&["--issuer", "me", "--audience", "hub"]));
    assert!(!publish(&["--issuer", "you", "--audience", "hub"]));
    assert!(!publish(&["--issuer", "me", "--audience", "other"]));
    assert!(!publish(&[]));
}

#[test]
fn a_self_signed_certificate_is_told_by_its_fingerprint_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |names: &str| {
        let mut hub = Hub::start_on(folder.path(), &["--tls-self-signed", "--hosts", names]);
        assert!(hub.url.starts_with("https://127.0.0.1:"), "{}", hub.url);
        let told = hub.process.told("the certificate vouches for itself; its SHA-256 is ");
        hub.stop();
        told
    };
    let first = start("");
    assert_eq!(start(""), first);
    assert_ne!(start("hub.test"), first, "a new name needs a new certificate");
}
