//! TLS, with an authority that is made here.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tidings_log::shared::{Engine, EngineError};
use tidings_log_postgres::PostgresEngine;

use crate::calls::{Node, fresh};
use crate::server::{Server, eventually, postgres_user, quiet};

fn openssl(arguments: &[&str]) {
    let mut command = Command::new("openssl");
    assert!(quiet(command.args(arguments)).status().unwrap().success(), "{arguments:?}");
}

/// An authority, and certificates that it has signed.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let it = Self(tempfile::tempdir().unwrap());
        let (key, cert) = (it.file("ca.key"), it.file("ca.pem"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            &key,
            "-out",
            &cert,
        ]);
        it
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Signs a certificate; writes `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str, alternative: &str) {
        let (key, request) = (self.file(&format!("{name}.key")), self.file("request"));
        let extensions = self.file("extensions");
        std::fs::write(&extensions, format!("subjectAltName={alternative}")).unwrap();
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &self.file("ca.pem"),
            "-CAkey",
            &self.file("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
            "-out",
            &self.file(&format!("{name}.pem")),
        ]);
    }
}

fn install(from: &str, to: &Path) {
    std::fs::copy(from, to).unwrap();
    if let Some((user, group)) = postgres_user() {
        chown(to, Some(user), Some(group)).unwrap();
    }
}

#[test]
fn certificates_are_checked_as_the_url_says() {
    let authority = Authority::new();
    authority.sign("server", "DNS:db.example,IP:127.0.0.1");
    authority.sign("app", "DNS:app");
    let mut server = Server::start();
    let data = server.data();
    install(&authority.file("server.pem"), &data.join("server.crt"));
    install(&authority.file("server.key"), &data.join("server.key"));
    install(&authority.file("ca.pem"), &data.join("root.crt"));
    server.sql("create role app login");
    server.sql("create database app owner app");
    let rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
                 hostssl all app 127.0.0.1/32 cert\nhostnossl all app 127.0.0.1/32 reject\n";
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let without = format!("{}?sslmode=require", server.url("postgres"));
    let Err(EngineError::Refused(words)) = open(&without) else { panic!("{:?}", open(&without)) };
    assert!(words.contains("TLS"), "{words}");
    server.sql("alter system set ssl = on");
    server.sql("alter system set ssl_ca_file = 'root.crt'");
    server.stop("INT");
    server.start_again();
    let other = Authority::new();
    let (right, wrong) = (authority.file("ca.pem"), other.file("ca.pem"));
    let named = server.url("postgres").replace("@127.0.0.1", "@localhost");
    let url = server.url("postgres");
    for (url, parameters, is_taken) in [
        (&url, "sslmode=disable".to_owned(), true),
        (&url, "sslmode=require".to_owned(), true),
        (&url, format!("sslmode=verify-full&sslrootcert={right}"), true),
        (&url, format!("sslmode=verify-full&sslrootcert={wrong}"), false),
        (&url, format!("sslmode=require&sslrootcert={wrong}"), false),
        // Its certificate is for another name.
        (&named, format!("sslmode=verify-ca&sslrootcert={right}"), true),
        (&named, format!("sslmode=verify-full&sslrootcert={right}"), false),
        (&url, "sslmode=verify-full&sslrootcert=/nowhere".to_owned(), false),
    ] {
        let outcome = open(&format!("{url}?{parameters}"));
        match outcome {
            Ok(()) => assert!(is_taken, "{parameters}"),
            Err(EngineError::Refused(_)) => assert!(!is_taken, "{parameters}"),
            Err(error) => panic!("{parameters}: {error:?}"),
        }
    }
    // Who has the certificate of a role needs no password, and it is encrypted.
    let certificate =
        format!("sslcert={}&sslkey={}", authority.file("app.pem"), authority.file("app.key"));
    let url = format!("{}?sslmode=verify-full&sslrootcert={right}", server.url_of("app", "app"));
    assert!(matches!(open(&url), Err(EngineError::Refused(_))));
    let node = Node::open(&format!("{url}&{certificate}"));
    assert_eq!(node.append("a", "1"), 1);
    let encrypted = "select count(*) > 0 and bool_and(s.ssl) from pg_stat_ssl s \
                     join pg_stat_activity a using (pid) where a.usename = 'app'";
    eventually("all connections are encrypted", || server.sql(encrypted) == ["t"]);
}

fn open(url: &str) -> Result<(), EngineError> {
    PostgresEngine::new(url).unwrap().open(None, fresh()).map(drop)
}
