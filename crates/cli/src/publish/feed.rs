//! Standard input on its way to the hub: a thread reads it, and a few chunks wait between.

use std::future::poll_fn;
use std::panic;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::failure::Failure;
use crate::publish::input::Input;
use crate::publish::lines::{Chunk, Lines};

/// Chunks as they are read.
pub(super) struct Feed {
    chunks: Chunks,
    reading: JoinHandle<(Lines<Input>, Result<(), Failure>)>,
}

/// The end of a feed that chunks come out of. Several may take from it, one after the other.
#[derive(Clone)]
pub(super) struct Chunks(Arc<Mutex<Receiver<Chunk>>>);

impl Feed {
    /// Begins to read.
    pub(super) fn start(mut lines: Lines<Input>) -> Self {
        let (chunks, rest) = mpsc::channel(CHUNKS_MAX);
        let reading = thread::spawn(move || {
            let outcome = send_all(&mut lines, &chunks);
            (lines, outcome)
        });
        Self { chunks: Chunks(Arc::new(Mutex::new(rest))), reading }
    }

    /// Where the chunks come out.
    pub(super) fn chunks(&self) -> Chunks {
        self.chunks.clone()
    }

    /// Ends the reading, and waits for that: with anything but a regular file as long as nothing
    /// comes, unless the end was reached. Gives back the input and how reading it went.
    pub(super) fn stop(self) -> (Input, Result<(), Failure>) {
        self.chunks.lock().close();
        let (lines, outcome) =
            self.reading.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        (lines.into_input(), outcome)
    }
}

impl Chunks {
    /// The next chunk; `None` at the end.
    pub(super) async fn next(&self) -> Option<Chunk> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Chunks::next`].
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        Pin::new(&mut *self.lock()).poll_recv(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Receiver<Chunk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end, or until nobody takes the chunks any more.
fn send_all(lines: &mut Lines<Input>, chunks: &Sender<Chunk>) -> Result<(), Failure> {
    while let Some(chunk) = lines.next_chunk()? {
        if chunks.blocking_send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}

/// How many chunks wait between standard input and the connection.
const CHUNKS_MAX: usize = 4;
