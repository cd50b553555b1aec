//! A hub on a free port, in this process.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tidings::{Hub, HubOptions, MemoryLog, Position, Record, Topic, random_epoch};
use tidings_http::{Ending, HttpOptions, Tls, serve, serve_until};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Client;

/// A served hub.
pub(crate) struct Served {
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// In plain.
    pub(crate) async fn start(http: HttpOptions, hub: HubOptions) -> Self {
        let hub = Self::hub(hub);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let http = HttpOptions { drain: Duration::from_millis(50), ..http };
        let shutdown = async move { drop(stopped.await) };
        let ended = tokio::spawn(serve(listener, hub.clone(), http, shutdown));
        Self { hub, address, certificate: None, stop, ended }
    }

    /// In plain, to end like this.
    pub(crate) async fn until(ending: Ending) -> Self {
        let hub = Self::hub(HubOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let end = async move {
            stopped.await.unwrap();
            ending
        };
        let serving = serve_until(vec![listener], hub.clone(), HttpOptions::default(), end);
        Self { hub, address, certificate: None, stop, ended: tokio::spawn(serving) }
    }

    fn hub(options: HubOptions) -> Hub {
        let log = MemoryLog::new(random_epoch().unwrap(), Default::default());
        Hub::start(options, Arc::new(log)).unwrap()
    }

    pub(crate) async fn plain() -> Self {
        Self::start(HttpOptions::default(), HubOptions::default()).await
    }

    /// Encrypted, with a certificate of its own.
    pub(crate) async fn encrypted(hub: HubOptions) -> Self {
        Self::start_encrypted(HttpOptions::default(), hub).await
    }

    pub(crate) async fn start_encrypted(http: HttpOptions, hub: HubOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let certificate = write_certificate(&cert, &key);
        let tls = Some(Tls::load(&cert, &key).unwrap());
        Self::start(HttpOptions { tls, ..http }, hub).await.trusting(certificate)
    }

    /// With clients that trust this certificate and no other.
    pub(crate) fn trusting(mut self, certificate: CertificateDer<'static>) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Waits until new connections are shown another certificate, which is trusted from then on.
    pub(crate) async fn wait_for_certificate(&mut self, certificate: CertificateDer<'static>) {
        self.certificate = Some(certificate);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connection = TcpStream::connect(self.address).await.unwrap();
            match self.try_shake_hands(connection, &TLS13, &[]).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// A connection over TLS, with what the client offers by ALPN.
    pub(crate) async fn connect_encrypted(
        &self,
        version: &'static SupportedProtocolVersion,
        protocols: &[&[u8]],
    ) -> TlsStream<TcpStream> {
        self.shake_hands(TcpStream::connect(self.address).await.unwrap(), version, protocols).await
    }

    /// The same on a connection that exists.
    pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: S,
        version: &'static SupportedProtocolVersion,
        protocols: &[&[u8]],
    ) -> TlsStream<S> {
        self.try_shake_hands(connection, version, protocols).await.unwrap()
    }

    pub(crate) async fn try_shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: S,
        version: &'static SupportedProtocolVersion,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone().unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, connection).await
    }

    pub(crate) async fn publish(&self, topic: &str, data: impl Into<String>) -> Position {
        let record = Record::new([Topic::parse(topic).unwrap()], data.into());
        self.hub.publish(vec![record]).await.unwrap().last().unwrap()
    }

    /// Waits until so many subscriptions are open.
    pub(crate) async fn wait_for_subscribers(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.hub.figures().subscribers != count {
            assert!(Instant::now() < deadline, "{} are open", self.hub.figures().subscribers);
            tokio::task::yield_now().await;
        }
    }

    /// Asks the server to end; completes when it has.
    pub(crate) async fn stop(self) {
        self.begin_to_stop().await.unwrap().unwrap();
    }

    /// Asks the server to end.
    pub(crate) fn begin_to_stop(self) -> JoinHandle<io::Result<()>> {
        self.stop.send(()).unwrap();
        self.ended
    }
}

/// Writes a new certificate for `localhost` and its key.
pub(crate) fn write_certificate(cert: &Path, key: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert: certificate, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(cert, certificate.pem()).unwrap();
    std::fs::write(key, signing_key.serialize_pem()).unwrap();
    certificate.der().clone()
}

pub(crate) const TLS_VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// How long something may take before the test gives up: only ever waited for in full by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
