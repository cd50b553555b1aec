//! Getting in: passwords, rights, TLS, sockets.

use std::path::Path;
use std::process::Command;

use tidings_log::shared::{Engine, EngineError};
use tidings_log_redis::RedisEngine;

use crate::node::{Node, ample};
use crate::server::{Server, eventually, free_port};

#[test]
fn passwords_let_in_and_are_never_told() {
    let server = Server::start(&["--requirepass", "s3cret"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port);
    for (login, words) in [
        ("", "asks for a password"),
        (":wrong-s3cret@", "does not know this user and password"),
        ("nobody:s3cret@", "does not know this user and password"),
    ] {
        let fault = Node::try_open(&url(login)).unwrap_err();
        assert!(matches!(&fault, EngineError::Refused(told) if told.contains(words)), "{fault}");
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
    }
    let mut node = Node::open(&url(":s3cret@"));
    assert!(!format!("{:?} {:#?} {}", node.engine, node, node.engine.name()).contains("s3cret"));
    assert_eq!(node.engine.redacted_url(), format!("{}?name=tidings", url(":***@")));
    node.append(&["a"]).unwrap();
    // Changed while it runs: who is in stays in, and who comes is told.
    let mut client = redis::Client::open(url(":s3cret@")).unwrap().get_connection().unwrap();
    let _: () =
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("new").query(&mut client).unwrap();
    assert_eq!(node.append(&["b"]), Ok(vec![2]));
    let _: () =
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query(&mut client).unwrap();
    eventually("who comes is told", || match node.append(&["c"]) {
        Err(EngineError::Refused(_)) => Some(()),
        _ => None,
    });
    let _: () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("s3cret")
        .query(&mut client)
        .unwrap();
    assert_eq!(node.append(&["c"]), Ok(vec![3]));
    let open = Server::start(&[]);
    let fault = Node::try_open(&format!("redis://:s3cret@127.0.0.1:{}", open.port)).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("out of the URL")),
        "{fault}"
    );
}

/// The rights that `docs/operate/redis.md` recommends, and each of them is needed.
#[test]
fn the_least_rights_are_enough() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/redis.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rule = document.lines().find_map(|line| line.strip_prefix("ACL SETUSER hub ")).unwrap();
    let server = Server::start(&[]);
    let mut client = server.client();
    let set = |client: &mut redis::Connection, words: &[&str]| {
        let _: () = redis::cmd("ACL").arg("SETUSER").arg("hub").arg(words).query(client).unwrap();
    };
    let words: Vec<&str> = rule.split(' ').collect();
    set(&mut client, &words);
    let password = words.iter().find_map(|word| word.strip_prefix('>')).unwrap();
    let url = format!("redis://hub:{password}@127.0.0.1:{}", server.port);
    let everything = |url: &str| -> Result<(), EngineError> {
        let mut node = Node::try_open(url)?;
        node.append(&["a"])?;
        node.publish(vec![crate::node::keyed("k:1"), crate::node::keyed("k")])?;
        node.publish(vec![crate::node::ended("job")])?;
        node.read()?;
        node.engine.read_backwards(
            &node.life,
            &tidings_log::shared::Wish {
                from: 1,
                until: 9,
                topics: None,
                limit: crate::node::LIMIT,
            },
        )?;
        node.wait(1, 1)?;
        node.trim(&tidings_log::shared::Cut { events_max: 1, offsets: &[3], ..ample() })?;
        node.engine.put_note("n", b"x", std::time::Duration::from_secs(9))?;
        node.engine.notes("n")?;
        node.engine.bounds(&node.life)?;
        Ok(())
    };
    everything(&url).unwrap();
    let fault = everything(&format!("{url}?name=other")).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("does not permit")),
        "{fault}"
    );
    for right in words.iter().filter(|word| word.starts_with('+') && **word != "+config|get") {
        let without = format!("-{}", &right[1..]);
        set(&mut client, &[&without]);
        let _: () = redis::cmd("FLUSHALL").query(&mut client).unwrap();
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut client).unwrap();
        let fault = everything(&url).expect_err(right);
        assert!(
            matches!(&fault, EngineError::Refused(words) if words.contains("does not permit")),
            "{right}: {fault}"
        );
        set(&mut client, &[right]);
    }
}

#[test]
fn tls_is_spoken_to_those_who_can_prove_themselves() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let port = free_port();
    let server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-ca-cert-file",
        &path("ca.crt"),
        "--tls-cert-file",
        &path("server.crt"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-auth-clients",
        "optional",
    ]);
    let (ca, base) = (path("ca.crt"), format!("rediss://127.0.0.1:{port}"));
    let mut node = Node::open(&format!("{base}?ca={ca}"));
    node.append(&["a"]).unwrap();
    assert_eq!(node.wait(1, 1).unwrap().entries.len(), 1);
    assert_eq!(Node::open(&format!("{base}?insecure=true")).data(), ["a"]);
    for url in [base.clone(), format!("{base}?ca={}", path("other.crt"))] {
        let Ok(engine) = RedisEngine::new(&url) else { continue };
        let fault = engine.open(None, tidings_core::Epoch::from_random(1)).unwrap_err();
        assert!(
            matches!(&fault, EngineError::Unavailable(words) if words.contains("certificate")),
            "{fault}"
        );
    }
    // With a certificate of its own, where the server asks for one.
    let mut client = server.client();
    let _: () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("tls-auth-clients")
        .arg("yes")
        .query(&mut client)
        .unwrap();
    assert!(Node::try_open(&format!("{base}?ca={ca}")).is_err());
    let identity = format!("cert={}&key={}", path("client.crt"), path("client.key"));
    assert_eq!(Node::open(&format!("{base}?ca={ca}&{identity}")).data(), ["a"]);
    for (url, words) in [
        (format!("{base}?ca=/nowhere.pem"), "/nowhere.pem"),
        (format!("{base}?ca={}", path("client.key")), "no certificate in it"),
        (
            format!("{base}?ca={ca}&cert={}&key={}", path("client.crt"), path("server.key")),
            "cannot be used",
        ),
    ] {
        let error = RedisEngine::new(&url).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_database_and_a_socket_can_be_chosen() {
    let server = Server::start(&[]);
    let mut node = Node::open(&format!("redis+unix://{}?db=3", server.socket().display()));
    node.append(&["a"]).unwrap();
    assert_eq!(Node::open(&format!("{}/3", server.url())).data(), ["a"]);
    assert!(Node::open(&server.url()).data().is_empty());
    let fault = Node::try_open(&format!("{}/99", server.url())).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("fewer databases")),
        "{fault}"
    );
}

#[test]
fn a_server_that_is_loading_is_waited_for() {
    // It looks at who asks after each 1,024 commands that it loads.
    let slowly = ["--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "100"];
    let mut server = Server::start(&slowly);
    let mut node = Node::open(&server.url());
    for _ in 0..20 {
        node.publish(vec![crate::node::record("t", "x"); 1_000]).unwrap();
    }
    server.restart_unready();
    let words = eventually("it loads", || {
        node.reopen()
            .err()
            .map(|fault| fault.to_string())
            .filter(|words| !words.contains("refused"))
    });
    assert!(words.contains("loading"), "{words}");
    let opened = eventually("it has loaded", || node.reopen().ok());
    assert_eq!(opened.bounds.next, 20_001);
}

fn make_certificates(directory: &Path) {
    let run = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for ca in ["ca", "other"] {
        run(&format!("req -x509 {key} -keyout {ca}.key -out {ca}.crt -days 2 -subj /CN={ca}"));
    }
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    for name in ["server", "client"] {
        run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -extfile names"
        ));
    }
}
