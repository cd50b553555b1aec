//! Notices that whoever read standard output went away, also while there is nothing to print.

/// Ends when standard output is a pipe or a terminal that was closed at the other end; with a file,
/// never. Leaves a waiting thread behind when it is dropped.
#[cfg(unix)]
pub(super) async fn closed() {
    use std::future::pending;
    use std::io;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, poll};
    use tokio::sync::oneshot;

    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let stdout = io::stdout();
        // Errors and hang-ups are told without being asked for.
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        if poll(&mut fds, None).is_ok() {
            let _ = end.send(());
        }
    });
    if ended.await.is_err() {
        pending::<()>().await;
    }
}

/// Never ends: here a closed pipe is noticed when the next event is printed.
#[cfg(not(unix))]
pub(super) async fn closed() {
    std::future::pending().await
}
