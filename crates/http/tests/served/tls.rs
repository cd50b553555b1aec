//! TLS, and what clients can do to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use tidings::HubOptions;
use tidings_http::{AcmeOptions, HttpOptions, Tls, TlsError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{Served, TLS_VERSIONS, write_certificate};

#[tokio::test(flavor = "multi_thread")]
async fn streams_begin_live_and_end_over_each_version() {
    let served = Served::encrypted(HubOptions::default()).await;
    let mut clients = Vec::new();
    for version in TLS_VERSIONS {
        for protocols in [&[][..], &[&b"http/1.1"[..]]] {
            let connection = served.connect_encrypted(version, protocols).await;
            let mut client = Client::new(connection);
            client.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            client.until("}").await;
            client.subscribe("topic=a", "").await;
            assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
            assert_eq!(client.chunk().await, "retry: 2000\n:\n");
            clients.push(client);
        }
    }
    served.publish("a", "1").await;
    let large = "x".repeat(100_000);
    let id = served.publish("a", large.as_str()).await;
    for client in &mut clients {
        assert!(client.chunk().await.ends_with("data: 1\n\n"));
        assert!(client.chunk().await == format!("id: {id}\ndata: {large}\n\n"));
    }
    served.stop().await;
    for client in &mut clients {
        // That the end of the connection is no error means that it was announced (close_notify).
        assert!(client.rest().await.ends_with("\n\n\r\n0\r\n\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_receives_everything_in_order() {
    const EVENTS: usize = 1_000;
    let served = Served::encrypted(HubOptions::default()).await;
    let mut client = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    client.subscribe("topic=a", "").await;
    client.until("\n:\n\r\n").await;
    let data = "x".repeat(20_000);
    let mut ids = Vec::new();
    for _ in 0..EVENTS {
        ids.push(served.publish("a", data.as_str()).await);
    }
    for id in ids {
        let event = client.chunk().await;
        assert!(event == format!("id: {id}\ndata: {data}\n\n"), "{id}: {}", &event[..100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_change_its_keys_and_leave() {
    let served = Served::encrypted(HubOptions::default()).await;
    let mut client = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    client.subscribe("topic=a", "").await;
    client.until("\n:\n\r\n").await;
    for number in 0..10 {
        client.connection.get_mut().1.refresh_traffic_keys().unwrap();
        client.send("what is said here is dropped").await;
        served.publish("a", number.to_string()).await;
        assert!(client.chunk().await.ends_with(&format!("data: {number}\n\n")));
    }
    client.connection.shutdown().await.unwrap();
    served.wait_for_subscribers(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_may_come_byte_by_byte() {
    let served = Served::encrypted(HubOptions::default()).await;
    for version in TLS_VERSIONS {
        let connection = TcpStream::connect(served.address).await.unwrap();
        connection.set_nodelay(true).unwrap();
        let connection = served.shake_hands(Trickle(connection), version, &[]).await;
        let mut client = Client::new(connection);
        client.subscribe("topic=a", "").await;
        client.until("\n:\n\r\n").await;
        client.send("dropped").await;
        served.publish("a", "1").await;
        assert!(client.chunk().await.ends_with("data: 1\n\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_ends_its_own_connection_alone() {
    let served = Served::encrypted(HubOptions::default()).await;
    let mut open = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    open.subscribe("topic=a", "").await;
    open.until("\n:\n\r\n").await;
    let mut plain = served.connect().await;
    plain.send("GET /events?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    // An alert, and the end.
    while plain.connection.readable().await.is_ok() {
        let mut piece = [0; 100];
        match plain.connection.try_read(&mut piece) {
            Ok(0) => break,
            Ok(length) => assert_eq!(piece[0], 21, "{:?}", &piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    // After the handshake as well.
    let mut broken = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    broken.subscribe("topic=a", "").await;
    broken.until("\n:\n\r\n").await;
    served.wait_for_subscribers(2).await;
    broken.connection.get_mut().0.write_all(&[23, 3, 3, 0, 20, 0]).await.unwrap();
    broken.connection.get_mut().0.write_all(&[7; 100]).await.unwrap();
    served.wait_for_subscribers(1).await;
    served.publish("a", "1").await;
    assert!(open.chunk().await.ends_with("data: 1\n\n"));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends() {
    let served = Served::encrypted(HubOptions::default()).await;
    let mut silent = served.connect().await;
    assert_eq!(silent.rest().await, "");
    let mut begun = served.connect().await;
    begun.connection.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(begun.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_and_streams_go_on() {
    let folder = tempfile::tempdir().unwrap();
    // As volumes of configuration are exchanged: the files are behind a link that is replaced.
    let version = |number: u32| folder.path().join(format!("version-{number}"));
    let current = folder.path().join("current");
    let (cert, key) = (current.join("cert.pem"), current.join("key.pem"));
    let write = |number: u32| {
        std::fs::create_dir(version(number)).unwrap();
        write_certificate(&version(number).join("cert.pem"), &version(number).join("key.pem"))
    };
    let link = |number: u32| {
        let new = folder.path().join("new");
        std::os::unix::fs::symlink(version(number), &new).unwrap();
        std::fs::rename(new, &current).unwrap();
    };
    let old = write(1);
    link(1);
    let tls = Tls::load(&cert, &key).unwrap();
    let http = HttpOptions { tls: Some(tls.clone()), ..HttpOptions::default() };
    let mut served = Served::start(http, HubOptions::default()).await.trusting(old);
    let mut stream = Client::new(served.connect_encrypted(&TLS13, &[]).await);
    stream.subscribe("topic=a", "").await;
    stream.until("\n:\n\r\n").await;

    write(2);
    // Torn, as it is for a moment when files are not exchanged at once.
    write(3);
    std::fs::copy(version(3).join("key.pem"), version(2).join("key.pem")).unwrap();
    let fitting = std::fs::read(version(3).join("cert.pem")).unwrap();
    link(2);
    assert!(matches!(tls.reload(), Err(TlsError::KeyDoesNotFit { .. })));
    served.connect_encrypted(&TLS13, &[]).await;
    std::fs::write(version(2).join("cert.pem"), &fitting).unwrap();
    served.wait_for_certificate(CertificateDer::from_pem_slice(&fitting).unwrap()).await;

    served.publish("a", "1").await;
    assert!(stream.chunk().await.ends_with("data: 1\n\n"));
    let served = served.trusting(write(4));
    link(4);
    tls.reload().unwrap();
    served.connect_encrypted(&TLS13, &[]).await;
    served.publish("a", "2").await;
    assert!(stream.chunk().await.ends_with("data: 2\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_its_own_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["hub.example".to_owned(), "localhost".to_owned()];
    let own = |names: &[String], folder| Tls::self_signed(names, folder).unwrap();
    let first = own(&names, Some(folder.path()));
    let fingerprint = first.fingerprint().unwrap();
    assert_eq!(fingerprint.split(':').filter(|pair| pair.len() == 2).count(), 32);
    let http = HttpOptions { tls: Some(first), ..HttpOptions::default() };
    let pem = std::fs::read(folder.path().join("self-signed.pem")).unwrap();
    let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
    let served = Served::start(http, HubOptions::default()).await.trusting(certificate);
    for version in TLS_VERSIONS {
        served.connect_encrypted(version, &[b"h2"]).await;
    }

    let again = |names: &[String]| own(names, Some(folder.path())).fingerprint().unwrap();
    assert_eq!(again(&names), fingerprint);
    assert_eq!(again(&[]), fingerprint, "it is for more names than are asked for");
    let other = again(&["::2".to_owned()]);
    assert_ne!(other, fingerprint, "a name was missing");
    assert_eq!(again(&["::2".to_owned()]), other);
    assert_ne!(own(&[], None).fingerprint(), own(&[], None).fingerprint());
    let mode = folder.path().join("self-signed.pem").metadata().unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    std::fs::write(folder.path().join("self-signed.pem"), "torn").unwrap();
    let refused = Tls::self_signed(&[], Some(folder.path())).unwrap_err();
    assert!(matches!(refused, TlsError::NoCertificate { .. }), "{refused}");
    let refused = Tls::self_signed(&["a:80".to_owned()], None).unwrap_err();
    assert!(matches!(refused, TlsError::InvalidName { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_is_shown_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = AcmeOptions {
        domains: vec!["localhost".to_owned()],
        email: None,
        // Nobody is there.
        directory: "https://127.0.0.1:9/directory".to_owned(),
        ca_file: None,
        folder: folder.path().to_owned(),
    };
    let tls = Tls::acme(options.clone()).unwrap();
    assert_eq!((tls.fingerprint(), tls.expires_at()), (None, None));
    let http = HttpOptions { tls: Some(tls), ..HttpOptions::default() };
    let certificate = write_certificate(&folder.path().join("cert"), &folder.path().join("key"));
    let served = Served::start(http, HubOptions::default()).await.trusting(certificate);
    for protocols in [&[][..], &[&b"h2"[..]], &[b"acme-tls/1"], &[b"acme-tls/1", b"h2"]] {
        let connection = TcpStream::connect(served.address).await.unwrap();
        let error = served.try_shake_hands(connection, &TLS13, protocols).await.unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    }

    let refused = |options: AcmeOptions| Tls::acme(options).unwrap_err();
    let named = |domain: &str| AcmeOptions { domains: vec![domain.to_owned()], ..options.clone() };
    for domain in ["*.example.com", "127.0.0.1", "::1", "a b", "example.com:443", ""] {
        assert!(matches!(refused(named(domain)), TlsError::InvalidName { .. }), "{domain}");
    }
    let nothing = AcmeOptions { domains: Vec::new(), ..options.clone() };
    assert!(matches!(refused(nothing), TlsError::NoNames));
    let directory = "http://localhost/".to_owned();
    let plain = AcmeOptions { directory, ..options.clone() };
    assert!(matches!(refused(plain), TlsError::InvalidDirectory { .. }));
    let absent = AcmeOptions { ca_file: Some("/nowhere.pem".into()), ..options };
    assert!(matches!(refused(absent), TlsError::Unreadable { .. }));
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_certificate(&path("cert"), &path("key"));
    write_certificate(&path("other-cert"), &path("other-key"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let torn = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let both = [std::fs::read(path("cert")).unwrap(), std::fs::read(path("key")).unwrap()].concat();
    for (name, content) in [
        ("empty", &b""[..]),
        ("encrypted", encrypted.as_bytes()),
        ("torn", torn.as_bytes()),
        ("wrong", wrong.as_bytes()),
        ("both", &both),
    ] {
        std::fs::write(path(name), content).unwrap();
    }
    let check = |cert: &str, key: &str, expected: fn(&TlsError) -> bool| {
        let error = Tls::load(&path(cert), &path(key)).unwrap_err();
        assert!(expected(&error), "{cert} {key}: {error:?}");
    };
    for (cert, key) in [("cert", "key"), ("both", "both"), ("both", "key")] {
        Tls::load(&path(cert), &path(key)).unwrap();
    }
    check("none", "key", |error| matches!(error, TlsError::Unreadable { .. }));
    check("cert", "none", |error| matches!(error, TlsError::Unreadable { .. }));
    check("empty", "key", |error| matches!(error, TlsError::NoCertificate { .. }));
    check("key", "cert", |error| matches!(error, TlsError::NoCertificate { .. }));
    check("torn", "key", |error| matches!(error, TlsError::Malformed { .. }));
    check("cert", "empty", |error| matches!(error, TlsError::NoKey { .. }));
    check("cert", "cert", |error| matches!(error, TlsError::NoKey { .. }));
    check("cert", "encrypted", |error| matches!(error, TlsError::EncryptedKey { .. }));
    check("cert", "other-key", |error| matches!(error, TlsError::KeyDoesNotFit { .. }));
    check("wrong", "key", |error| matches!(error, TlsError::Unusable { .. }));
}

/// A connection that sends one byte at a time.
pub(crate) struct Trickle(pub(crate) TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
