//! Lines on their way into the hub.
//!
//! They are sent in requests of bounded length, one after the other, so that what is published is
//! known piece by piece, and after a cut only the last piece is in doubt. A request ends early when
//! the input pauses, so that no connection is held open for nothing and the ids come soon.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, Method};
use tokio::time::{Sleep, sleep};

use crate::backoff::{jitter, next_delay};
use crate::failure::Failure;
use crate::hub_address::{HubAddress, Refusal};
use crate::publish::answer::{AnswerError, IdPrinter, print_ids};
use crate::publish::event::EventKind;
use crate::publish::feed::{Chunks, Feed};
use crate::publish::input::Input;
use crate::publish::lines::{Chunk, Lines, Place};
use crate::publish::progress::Progress;
use crate::value::show_duration;

/// An input that is being published.
pub(super) struct Upload {
    hub: HubAddress,
    client: Client,
    kind: EventKind,
    ids: IdPrinter,
    progress: Arc<Progress>,
    /// For how long to go on by itself without anything being published.
    retry_for: Duration,
    /// How far the hub has answered.
    confirmed: Place,
    /// How far it was sent in the last request.
    sent: Place,
    request_size: RequestSize,
    /// Something listens there.
    was_connected: bool,
    failures: u32,
    failing_since: Option<Instant>,
}

impl Upload {
    /// Gets ready to publish lines as events of `kind`.
    ///
    /// # Errors
    ///
    /// As [`HubAddress::client`].
    pub(super) fn new(
        hub: HubAddress,
        kind: EventKind,
        json: bool,
        progress: Arc<Progress>,
        retry_for: Duration,
    ) -> Result<Self, Failure> {
        Ok(Self {
            client: hub.client()?,
            hub,
            kind,
            ids: IdPrinter::new(Arc::clone(&progress), json),
            progress,
            retry_for,
            confirmed: Place::default(),
            sent: Place::default(),
            request_size: RequestSize::MAX,
            was_connected: false,
            failures: 0,
            failing_since: None,
        })
    }

    /// Publishes `input` to its end.
    ///
    /// # Errors
    ///
    /// [`Failure::Failed`] with what is published and what is not, as far as it is known, and how to
    /// go on.
    pub(super) async fn run(mut self, input: Input) -> Result<(), Failure> {
        let progress = Arc::clone(&self.progress);
        tokio::select! {
            done = self.publish_all(input) => done,
            () = progress.show_later() => Ok(()),
        }
    }

    async fn publish_all(&mut self, input: Input) -> Result<(), Failure> {
        let goes_on = self.kind.key_prefix.is_some() && matches!(input, Input::Regular { .. });
        let mut feed = self.start_feed(input);
        while let Some(first) = feed.chunks().next().await {
            let Err(cut) = self.send(feed.chunks(), first).await else { continue };
            if !goes_on || !cut.is_passing {
                return Err(self.give_up(&cut));
            }
            self.pause(&cut).await?;
            let (mut input, _) = feed.stop();
            input.go_to(self.confirmed.bytes).map_err(|error| {
                Failure::Failed(format!("cannot read standard input again: {error}"))
            })?;
            feed = self.start_feed(input);
        }
        let (_, outcome) = feed.stop();
        self.progress.finish();
        outcome.and(self.ids.finish())
    }

    fn start_feed(&self, input: Input) -> Feed {
        Feed::start(Lines::new(input, self.kind.clone(), self.confirmed, INPUT_BYTES))
    }

    /// Publishes one request's worth of chunks, `first` at the front.
    async fn send(&mut self, chunks: Chunks, first: Chunk) -> Result<(), Cut> {
        let sent = Arc::new(Mutex::new(self.confirmed));
        let body = RequestBody {
            first: Some(first),
            chunks,
            ends_after: self.request_size.after(self.confirmed),
            pause: Box::pin(sleep(PAUSE)),
            sent: Arc::clone(&sent),
            progress: Arc::clone(&self.progress),
        };
        let answered = self.post(Body::wrap_stream(body)).await;
        self.sent = *sent.lock().unwrap_or_else(PoisonError::into_inner);
        let count = answered?;
        if count != self.sent.lines - self.confirmed.lines {
            return Err(AnswerError::Strange.into());
        }
        self.ids.confirm();
        self.confirmed = self.sent;
        self.request_size = self.request_size.larger();
        self.failures = 0;
        if self.failing_since.take().is_some() {
            self.progress.suspend(|| eprintln!("tidings: the hub answers again"));
        }
        Ok(())
    }

    /// Sends a request, prints the ids of the answer and gives their number.
    async fn post(&mut self, body: Body) -> Result<u64, Cut> {
        let url = self.hub.events_url.clone();
        let request = match self.hub.request(&self.client, Method::POST, url) {
            Ok(request) => request,
            Err(failure) => {
                let reason = failure.to_string();
                let (published, retry_after) = (Some(0), Duration::ZERO);
                return Err(Cut { reason, published, is_passing: false, retry_after });
            }
        };
        let request = request.header(CONTENT_TYPE, "application/x-ndjson").body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let is_connect = error.is_connect();
                let is_passing = self.was_connected || !is_connect;
                self.was_connected |= !is_connect;
                let published = is_connect.then_some(0);
                let reason = self.hub.unreachable(&error);
                return Err(Cut { reason, published, is_passing, retry_after: Duration::ZERO });
            }
        };
        self.was_connected = true;
        if response.status().is_success() {
            return Ok(print_ids(response, self.ids.clone()).await?);
        }
        let Refusal { mut text, is_passing, retry_after, line, published } =
            Refusal::read(response).await;
        if let Some(line) = line {
            // The hub counts the lines of the request.
            let counted = self.confirmed.lines.saturating_add(line);
            text = text.replacen(&format!("Line {line}"), &format!("Line {counted}"), 1);
        }
        let retry_after = retry_after.unwrap_or_default();
        Err(Cut { reason: text, published, is_passing, retry_after })
    }

    /// Waits before the next attempt.
    async fn pause(&mut self, cut: &Cut) -> Result<(), Failure> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        let delay = next_delay(self.failures, RETRY, jitter()?).max(cut.retry_after);
        if since.elapsed() + delay > self.retry_for {
            return Err(self.give_up(cut));
        }
        self.request_size = self.request_size.smaller();
        let reason = &cut.reason;
        let place = match self.confirmed.lines {
            0 => "from the start".to_owned(),
            lines => format!("after line {lines}"),
        };
        let shown = show_duration(Duration::from_secs(delay.as_secs_f64().ceil() as u64));
        self.progress
            .suspend(|| eprintln!("tidings: {reason}; going on {place} in {shown} or sooner"));
        sleep(delay).await;
        Ok(())
    }

    fn give_up(&self, cut: &Cut) -> Failure {
        self.progress.clear();
        let (confirmed, sent) = (self.confirmed.lines, self.sent.lines);
        let known = what_is_known(confirmed, sent, cut.published, self.kind.key_prefix.is_some());
        Failure::Failed(format!("{}{known}", cut.reason))
    }
}

/// Why a request did not come to its end.
struct Cut {
    reason: String,
    /// How many of its events are published, if that is known.
    published: Option<u64>,
    /// Another attempt may succeed.
    is_passing: bool,
    /// How long to wait before that at least.
    retry_after: Duration,
}

impl From<AnswerError> for Cut {
    fn from(error: AnswerError) -> Self {
        Self {
            reason: error.to_string(),
            published: None,
            is_passing: matches!(error, AnswerError::Cut(_)),
            retry_after: Duration::ZERO,
        }
    }
}

/// What became of the lines, and how to go on, as further lines of a message; nothing when nothing
/// was published.
fn what_is_known(confirmed: u64, sent: u64, published: Option<u64>, has_prefix: bool) -> String {
    let known = confirmed + published.unwrap_or(0);
    let doubtful = if published.is_none() { sent.saturating_sub(known) } else { 0 };
    let lines = |from: u64, to: u64| match to - from {
        0 => format!("line {from}"),
        _ => format!("lines {from} to {to}"),
    };
    let told = match (known, doubtful) {
        (0, 0) => return String::new(),
        (_, 0) => format!("published: {}, and no other", lines(1, known)),
        (0, _) => format!("published: perhaps some of {}", lines(1, sent)),
        _ => format!(
            "published: {}, and perhaps some of {}",
            lines(1, known),
            lines(known + 1, sent)
        ),
    };
    let advice = if has_prefix {
        "to go on, run the same command again with the same --key-prefix: what was published is not \
         published twice"
            .to_owned()
    } else if doubtful == 0 {
        format!("to go on, publish what follows from line {} on", known + 1)
    } else {
        "with --key-prefix, the same command could be run again, and nothing would be published \
         twice"
            .to_owned()
    };
    format!("\n  {told}\n  {advice}")
}

/// How much one request takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestSize {
    lines: u64,
    bytes: u64,
}

impl RequestSize {
    /// Large enough that the pause between two requests costs nothing, small enough that little has
    /// to be sent again.
    const MAX: Self = Self { lines: 200_000, bytes: 64 << 20 };

    /// Small enough for a connection that is always cut soon.
    const MIN: Self = Self { lines: 1_000, bytes: 320 << 10 };

    fn smaller(self) -> Self {
        Self {
            lines: (self.lines / 4).max(Self::MIN.lines),
            bytes: (self.bytes / 4).max(Self::MIN.bytes),
        }
    }

    fn larger(self) -> Self {
        Self {
            lines: (self.lines * 2).min(Self::MAX.lines),
            bytes: (self.bytes * 2).min(Self::MAX.bytes),
        }
    }

    fn after(self, place: Place) -> Place {
        Place { lines: place.lines + self.lines, bytes: place.bytes + self.bytes }
    }
}

/// The body of one request.
struct RequestBody {
    first: Option<Chunk>,
    chunks: Chunks,
    /// It ends with the chunk that reaches this.
    ends_after: Place,
    /// Runs out when nothing comes.
    pause: Pin<Box<Sleep>>,
    /// How far it has come.
    sent: Arc<Mutex<Place>>,
    progress: Arc<Progress>,
}

impl Stream for RequestBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = match self.first.take() {
            Some(first) => first,
            None if self.is_full() => return Poll::Ready(None),
            None => match self.chunks.poll_next(cx) {
                Poll::Ready(Some(chunk)) => chunk,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return self.pause.as_mut().poll(cx).map(|()| None),
            },
        };
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = chunk.end;
        self.progress.set(chunk.end);
        self.pause = Box::pin(sleep(PAUSE));
        Poll::Ready(Some(Ok(chunk.ndjson)))
    }
}

impl RequestBody {
    fn is_full(&self) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.lines >= self.ends_after.lines || sent.bytes >= self.ends_after.bytes
    }
}

/// The wait before the first new attempt; doubled with each further one, up to a minute.
const RETRY: Duration = Duration::from_millis(200);

/// A request ends when the input has brought nothing for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of the input is read at once.
const INPUT_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::{RequestSize, what_is_known};

    #[track_caller]
    fn check(confirmed: u64, sent: u64, published: Option<u64>, has_prefix: bool, expected: &str) {
        assert_eq!(what_is_known(confirmed, sent, published, has_prefix), expected);
    }

    #[test]
    fn after_a_cut_it_is_told_what_is_published_and_how_to_go_on() {
        check(0, 0, Some(0), true, "");
        check(0, 9, Some(0), false, "");
        check(
            0,
            9,
            Some(1),
            false,
            "\n  published: line 1, and no other\n  to go on, publish what follows from line 2 on",
        );
        check(
            5,
            9,
            None,
            false,
            "\n  published: lines 1 to 5, and perhaps some of lines 6 to 9\n  with --key-prefix, the \
             same command could be run again, and nothing would be published twice",
        );
        let go_on = "to go on, run the same command again with the same --key-prefix: what was \
                     published is not published twice";
        check(0, 1, None, true, &format!("\n  published: perhaps some of line 1\n  {go_on}"));
        check(
            5,
            9,
            Some(2),
            true,
            &format!("\n  published: lines 1 to 7, and no other\n  {go_on}"),
        );
    }

    #[test]
    fn requests_shrink_with_each_cut_to_a_smallest_one_and_grow_again() {
        let mut size = RequestSize::MAX;
        for _ in 0..9 {
            size = size.smaller();
        }
        assert_eq!(size, RequestSize::MIN);
        for _ in 0..9 {
            size = size.larger();
        }
        assert_eq!(size, RequestSize::MAX);
    }
}
