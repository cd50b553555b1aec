use super::*;

fn target(url: &str) -> Target {
    Target::parse(url).unwrap()
}

#[test]
fn a_url_names_servers_a_database_and_a_log() {
    let it = target("postgres://me:s3cret@one,two:5433/app?name=orders&timeout=2");
    let names: Vec<_> = it.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["one", "two:5433"]);
    assert_eq!((it.database.as_str(), it.log.as_str()), ("app", "orders"));
    assert_eq!(it.call_timeout, Duration::from_secs(2));
    let socket = target("postgresql:///app?host=/run/postgresql&user=me");
    assert_eq!(socket.servers[0].name, "/run/postgresql");
    assert_eq!((socket.log.as_str(), socket.database.as_str()), ("tidings", "app"));
}

#[test]
fn ssl_modes_are_those_of_libpq() {
    for (mode, ssl_mode, check) in [
        ("", SslMode::Prefer, TlsCheck::None),
        ("sslmode=disable", SslMode::Disable, TlsCheck::None),
        ("sslmode=require", SslMode::Require, TlsCheck::None),
        ("sslmode=require&sslrootcert=/ca.pem", SslMode::Require, TlsCheck::Authority),
        ("sslmode=verify-ca&sslrootcert=/ca.pem", SslMode::Require, TlsCheck::Authority),
        ("sslmode=verify-full", SslMode::Require, TlsCheck::Name),
    ] {
        let it = target(&format!("postgres://me@db/app?{mode}"));
        assert_eq!(it.servers[0].config.get_ssl_mode(), ssl_mode, "{mode}");
        assert_eq!(it.tls.check, check, "{mode}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let shown = format!("{:?}", target("postgres://me:s3cret@db/app"));
    assert!(!shown.contains("s3cret"), "{shown}");
    for wrong in [
        "mysql://me:s3cret@db/app",
        "postgres://me:s3cret@db/app?nonsense=1",
        "postgres://me:s3cret@db:port/app",
        "postgres://me:s3cret@db/app?name=Orders",
        "postgres://me:s3cret@db/app?sslmode=maybe",
        "postgres://me:s3cret@db/app?sslcert=/cert.pem",
        "postgres://me:s3cret@db/app?timeout=soon",
        "postgres://me:s3cret@db/app?name=%ff",
    ] {
        let error = Target::parse(wrong).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
