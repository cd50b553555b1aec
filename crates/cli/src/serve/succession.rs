//! How one process takes over from another that serves the same hub: it gets the listening sockets
//! over a Unix socket, so that they are never closed.
//!
//! ```text
//! successor                         predecessor
//!   hello ───────────────────────────►
//!   ◄─────────────────────────── offer      with the listening sockets; both still may give up
//!   (gets ready)
//!   take ────────────────────────────►      from here on the predecessor accepts no connections;
//!   ◄──────────────────────── released      they wait in the kernel
//!   (opens the log, if it had to wait for it, and serves)
//!   serving ─────────────────────────►      the predecessor ends
//! ```
//!
//! If the successor is gone before it has said that it serves, the predecessor goes on. Messages are
//! JSON objects, one a line; members that are not known are passed over, so that processes of
//! different versions understand each other as long as the number of the protocol is the same.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::failure::Failure;

/// Where a process waits for those who take over from it.
pub(super) struct Succession {
    path: PathBuf,
    listener: UnixListener,
    /// Device and number of the socket's file, which somebody else may have replaced.
    file: (u64, u64),
}

/// A process that takes over from this one.
pub(super) struct Successor {
    line: Line,
    /// Whether it can begin only when this one has let go of its log.
    pub(super) waits: bool,
}

/// The process that this one takes over from.
pub(super) struct Predecessor {
    line: Line,
    /// Where it listens.
    pub(super) listeners: Vec<TcpListener>,
}

/// What both say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Saying {
    Hello { protocol: u32, version: String },
    Offer { protocol: u32, version: String, sockets: usize },
    Refused { reason: String },
    Take { waits: bool },
    Released {},
    Serving {},
}

impl Succession {
    /// Begins to wait at `path`, in the place of whoever did so before. Only processes of the same user
    /// are heard.
    ///
    /// # Errors
    ///
    /// There is something else at the path, or it cannot be written.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        Self::bind(path).map_err(|error| cannot_use(path, &error))
    }

    fn bind(path: &Path) -> io::Result<Self> {
        check_is_socket(path)?;
        // Nobody is to find it before it is for its owner alone; and whoever connects finds either
        // the one before or this one.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", process::id()));
        let new = PathBuf::from(new);
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        let placed = fs::set_permissions(&new, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&new))
            .and_then(|found| fs::rename(&new, path).map(|()| (found.dev(), found.ino())));
        if placed.is_err() {
            let _ = fs::remove_file(&new);
        }
        Ok(Self { path: path.to_owned(), listener, file: placed? })
    }

    /// Waits until a process wants to take over, and is ready for it.
    ///
    /// # Cancel safety
    ///
    /// A process that has not got so far is told nothing more, and has to end.
    pub(super) async fn next(&self, listeners: &[TcpListener]) -> Successor {
        loop {
            let heard = async {
                let (stream, _) = self.listener.accept().await?;
                let mut line = Line::new(stream)?;
                let waits = timeout(READY_WITHIN, line.offer(listeners)).await??;
                Ok::<_, io::Error>(Successor { line, waits })
            };
            match heard.await {
                Ok(successor) => return successor,
                Err(error) => {
                    warn!(%error, "a process wanted to take over, and did not get so far");
                    // It may be for lack of files.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        let is_own = |it: fs::Metadata| (it.dev(), it.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Successor {
    /// Tells it that it may have everything, and waits until it serves. Gives whether it does; else
    /// it is gone.
    pub(super) async fn release(mut self) -> bool {
        if self.line.say(&Saying::Released {}, &[]).await.is_err() {
            return false;
        }
        matches!(self.line.hear().await, Ok((Saying::Serving {}, _)))
    }
}

impl Predecessor {
    /// Looks for a process that waits at `path`, and gets its sockets.
    ///
    /// # Errors
    ///
    /// One is there, and does not give them.
    pub(super) async fn find(path: &Path) -> Result<Option<Self>, Failure> {
        check_is_socket(path).map_err(|error| cannot_use(path, &error))?;
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Whoever listened there was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(cannot_use(path, &error)),
        };
        let asked = async { timeout(ANSWER_WITHIN, Line::new(stream)?.ask()).await? };
        asked.await.map(Some).map_err(|error| cannot_take_over(path, &error))
    }

    /// Asks it to accept no more connections and, if this process `waits` for the log, to let go of
    /// that; returns when it has.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) async fn take(&mut self, waits: bool) -> Result<(), Failure> {
        let taken = async {
            self.line.say(&Saying::Take { waits }, &[]).await?;
            match self.line.hear().await?.0 {
                Saying::Released {} => Ok(()),
                other => Err(unexpected(&other)),
            }
        };
        taken.await.map_err(|error: io::Error| {
            Failure::Failed(format!("cannot take over: the hub that runs did not let go: {error}"))
        })
    }

    /// Tells it that this process serves, so that it can end.
    pub(super) async fn dismiss(mut self) {
        if let Err(error) = self.line.say(&Saying::Serving {}, &[]).await {
            warn!(%error, "the hub that was taken over from is gone already");
        }
    }
}

/// A connection between two processes.
struct Line {
    stream: UnixStream,
    received: Vec<u8>,
    files: Vec<OwnedFd>,
}

impl Line {
    fn new(stream: UnixStream) -> io::Result<Self> {
        let (theirs, ours) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if theirs != ours && theirs != 0 {
            let text = format!("it is of the user {theirs}, and this one of the user {ours}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { stream, received: Vec::new(), files: Vec::new() })
    }

    /// Offers sockets to whoever asks for them, and gives whether they have to wait.
    async fn offer(&mut self, listeners: &[TcpListener]) -> io::Result<bool> {
        match timeout(ANSWER_WITHIN, self.hear()).await??.0 {
            Saying::Hello { protocol: PROTOCOL, version } => {
                info!(version, "a process wants to take over");
            }
            Saying::Hello { protocol, version } => {
                let reason = format!(
                    "version {version} takes over by protocol {protocol}, and {VERSION} by \
                     {PROTOCOL}; stop the one and start the other"
                );
                self.say(&Saying::Refused { reason: reason.clone() }, &[]).await?;
                return Err(io::Error::other(reason));
            }
            other => return Err(unexpected(&other)),
        }
        let offer = Saying::Offer {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            sockets: listeners.len(),
        };
        self.say(&offer, listeners).await?;
        match self.hear().await?.0 {
            Saying::Take { waits } => Ok(waits),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(mut self) -> io::Result<Predecessor> {
        self.say(&Saying::Hello { protocol: PROTOCOL, version: VERSION.to_owned() }, &[]).await?;
        match self.hear().await? {
            (Saying::Offer { version, sockets, .. }, files) if files.len() == sockets => {
                info!(version, sockets, "taking over from the hub that runs");
                let listeners = files.into_iter().map(TcpListener::from).collect();
                Ok(Predecessor { line: self, listeners })
            }
            (Saying::Refused { reason }, _) => Err(io::Error::other(reason)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn say(&mut self, saying: &Saying, files: &[TcpListener]) -> io::Result<()> {
        let mut text = serde_json::to_vec(saying)?;
        text.push(b'\n');
        let files: Vec<_> = files.iter().take(FILES_MAX).map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < text.len() {
            let send = || {
                let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
                let mut attached = SendAncillaryBuffer::new(&mut room);
                if sent == 0 && !files.is_empty() {
                    attached.push(SendAncillaryMessage::ScmRights(&files));
                }
                let text = [IoSlice::new(&text[sent..])];
                Ok(sendmsg(&self.stream, &text, &mut attached, SendFlags::NOSIGNAL)?)
            };
            sent += self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// The next message, and the files that came with it.
    async fn hear(&mut self) -> io::Result<(Saying, Vec<OwnedFd>)> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let files = std::mem::take(&mut self.files);
                return Ok((serde_json::from_slice(&line)?, files));
            }
            if self.received.len() > SAYING_BYTES_MAX {
                return Err(io::Error::other("it says too much"));
            }
            let Self { stream, received, files } = self;
            let receive = || {
                let mut piece = [0; 1_024];
                let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
                let mut attached = RecvAncillaryBuffer::new(&mut room);
                let mut pieces = [IoSliceMut::new(&mut piece)];
                let message =
                    recvmsg(&*stream, &mut pieces, &mut attached, RecvFlags::CMSG_CLOEXEC)?;
                for attachment in attached.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = attachment {
                        files.extend(rights);
                    }
                }
                received.extend_from_slice(&piece[..message.bytes]);
                Ok(message.bytes)
            };
            if stream.async_io(Interest::READABLE, receive).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn check_is_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unexpected(saying: &Saying) -> io::Error {
    io::Error::other(format!("it says what it should not: {saying:?}"))
}

fn cannot_use(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Failed(format!(
        "cannot use {path} to take over: {error}\n  give --takeover a path in a folder of this user's"
    ))
}

fn cannot_take_over(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Failed(format!("cannot take over from the hub that waits at {path}: {error}"))
}

/// Changes when a process could not go on with what another one says.
const PROTOCOL: u32 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Listening sockets that are handed over, of which a hub has a few; what one message may carry is 253.
const FILES_MAX: usize = 64;
const SAYING_BYTES_MAX: usize = 64 << 10;
/// For an answer that takes no work.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// For a process to get ready, keys and a log on other servers included. It may try again.
const READY_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> Vec<TcpListener> {
        (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    fn addresses(listeners: &[TcpListener]) -> Vec<std::net::SocketAddr> {
        listeners.iter().map(|it| it.local_addr().unwrap()).collect()
    }

    #[tokio::test]
    async fn sockets_pass_to_who_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let succession = Succession::begin(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let own = listeners();
        let old = async {
            let successor = succession.next(&own).await;
            assert!(successor.waits);
            successor.release().await
        };
        let new = async {
            let mut predecessor = Predecessor::find(&path).await.unwrap().unwrap();
            predecessor.take(true).await.unwrap();
            let got = addresses(&predecessor.listeners);
            predecessor.dismiss().await;
            got
        };
        assert_eq!(tokio::join!(old, new), (true, addresses(&own)));
    }

    #[tokio::test]
    async fn who_ends_before_it_serves_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let succession = Succession::begin(&path).unwrap();
        let own = listeners();
        let old = async { succession.next(&own).await.release().await };
        let new = async {
            // The first does not even get so far.
            drop(Predecessor::find(&path).await.unwrap().unwrap());
            let mut predecessor = Predecessor::find(&path).await.unwrap().unwrap();
            predecessor.take(false).await.unwrap();
        };
        assert!(!tokio::join!(old, new).0);
    }

    #[tokio::test]
    async fn another_protocol_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let succession = Succession::begin(&path).unwrap();
        let own = listeners();
        let new = async {
            let mut line = Line::new(UnixStream::connect(&path).await.unwrap()).unwrap();
            let version = "9.9.9".to_owned();
            line.say(&Saying::Hello { protocol: 9, version }, &[]).await.unwrap();
            line.hear().await.unwrap()
        };
        let said = tokio::select! {
            (said, _) = new => said,
            _ = succession.next(&own) => panic!("nobody takes over"),
        };
        assert!(
            matches!(&said, Saying::Refused { reason } if reason.contains("9.9.9")),
            "{said:?}"
        );
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let said = r#"{"take": {"waits": true, "because": "of the log"}}"#;
        assert!(matches!(serde_json::from_str(said), Ok(Saying::Take { waits: true })));
        let said = r#"{"released": {"after_ms": 5}}"#;
        assert!(matches!(serde_json::from_str(said), Ok(Saying::Released {})));
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Predecessor::find(&path).await.unwrap().is_none());
        let first = Succession::begin(&path).unwrap();
        let second = Succession::begin(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        drop(second);
        assert!(!path.exists());
        assert!(Predecessor::find(&path).await.unwrap().is_none());

        fs::write(&path, "precious").unwrap();
        assert!(Succession::begin(&path).is_err());
        assert!(Predecessor::find(&path).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
