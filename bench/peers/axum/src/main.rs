//! Event streams as axum makes them, over a broadcast channel of tokio: what one writes who needs
//! no more than that.
//!
//! `GET /TOPIC` subscribes, `POST /TOPIC` publishes the body. Nothing is kept for those who come
//! back. An event is built once and cloned for each subscriber, which is cheaper than to build it
//! for each. A subscriber that falls behind by more than the capacity loses events, as a channel
//! of tokio has it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path as Route, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use axum::serve::ListenerExt;
use clap::Parser;
use futures_util::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::broadcast::{self, Sender};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_stream::wrappers::BroadcastStream;

#[derive(Debug, Parser)]
struct Options {
    /// How many events each topic holds for those who are behind.
    #[arg(long)]
    capacity: usize,
    /// After how much silence a comment is sent.
    #[arg(long)]
    heartbeat_ms: Option<u64>,
    /// Serves TLS 1.3 with HTTP/1.1 and HTTP/2 by this certificate.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut keep_alive = KeepAlive::default();
    if let Some(heartbeat_ms) = options.heartbeat_ms {
        keep_alive = keep_alive.interval(Duration::from_millis(heartbeat_ms));
    }
    let topics = Topics {
        senders: RwLock::default(),
        capacity: options.capacity,
        keep_alive,
        published: AtomicU64::new(0),
    };
    let router =
        Router::new().route("/{topic}", get(subscribe).post(publish)).with_state(Arc::new(topics));
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(BACKLOG)?;
    println!("listening on {}", listener.local_addr()?);
    match options.certificate.zip(options.key) {
        Some((certificate, key)) => serve_tls(listener, router, &certificate, &key).await,
        None => {
            let listener = listener.tap_io(|socket| {
                // Without it, an event may wait for the last to be acknowledged.
                let _ = socket.set_nodelay(true);
            });
            Ok(axum::serve(listener, router).await?)
        }
    }
}

struct Topics {
    senders: RwLock<HashMap<String, Sender<Event>>>,
    capacity: usize,
    keep_alive: KeepAlive,
    published: AtomicU64,
}

async fn subscribe(
    State(topics): State<Arc<Topics>>,
    Route(topic): Route<String>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = match topics.senders.write().expect("nobody panics").entry(topic) {
        Entry::Occupied(entry) => entry.get().subscribe(),
        Entry::Vacant(entry) => entry.insert(broadcast::channel(topics.capacity).0).subscribe(),
    };
    let events = BroadcastStream::new(receiver).filter_map(async |event| event.ok().map(Ok));
    Sse::new(events).keep_alive(topics.keep_alive.clone())
}

async fn publish(
    State(topics): State<Arc<Topics>>,
    Route(topic): Route<String>,
    data: String,
) -> StatusCode {
    let id = topics.published.fetch_add(1, Ordering::Relaxed) + 1;
    let event = Event::default().id(id.to_string()).data(data);
    if let Some(sender) = topics.senders.read().expect("nobody panics").get(&topic) {
        // Nobody may be there.
        let _ = sender.send(event);
    }
    StatusCode::NO_CONTENT
}

async fn serve_tls(
    listener: TcpListener,
    router: Router,
    certificate: &Path,
    key: &Path,
) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| certificate.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (socket, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            // A client that goes away is no concern of others.
            let _ = socket.set_nodelay(true);
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = TowerToHyperService::new(router);
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// As many as may come at once.
const BACKLOG: u32 = 4096;
