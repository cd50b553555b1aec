//! A body of one event a line, of any length.
//!
//! Lines are published in batches, each as a whole. A body that says it is at most
//! [`BATCH_BYTES_MAX`] long is one batch, so it is published as a whole or not at all, unless it has
//! more events than an array may have or than may be published at once. Of any other body a batch ends when it is full or when the
//! body pauses, so that a pipe that trickles is published as it comes. The next part of the body is
//! read when the last batch is in the log, and a batch waits until the publisher may publish so much:
//! that is the back-pressure.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tidings::{Published, Record};

use crate::app::App;
use crate::body_budget::Share;
use crate::idempotency_key::NumberedKeys;
use crate::problem::{Kind, Problem, broken_body};
use crate::publisher::Publisher;
use crate::record_input::event_from_json;

/// Publishes `body`, as fast as its publisher may; answers the ids in order. Each event gets one of
/// `keys`.
pub(crate) async fn publish(
    app: &App,
    publisher: Publisher,
    body: Body,
    keys: Option<NumberedKeys>,
) -> Result<Published, Problem> {
    let mut stream = LineStream::new(app, publisher, body, keys);
    match stream.publish_all().await {
        Ok(()) => Ok(stream.published),
        Err(problem) => Err(problem.published(stream.published.count(), stream.published.last())),
    }
}

struct LineStream<'a> {
    app: &'a App,
    publisher: Publisher,
    body: Body,
    keys: Option<NumberedKeys>,
    share: Share,
    /// The body is known to be short enough to be one batch.
    is_one_batch: bool,
    /// What has arrived and is not a whole line yet; searched up to `searched`.
    rest: BytesMut,
    searched: usize,
    line: u64,
    batch: Vec<Record>,
    /// Events of a batch that may be published at once.
    events_max: usize,
    batch_bytes: usize,
    published: Published,
}

/// What the body has next.
enum Next {
    Bytes(Bytes),
    Pause,
    End,
}

impl<'a> LineStream<'a> {
    fn new(app: &'a App, publisher: Publisher, body: Body, keys: Option<NumberedKeys>) -> Self {
        let known = http_body::Body::size_hint(&body).upper();
        Self {
            app,
            publisher,
            events_max: app.client_limits().publish_burst().unwrap_or(usize::MAX),
            body,
            keys,
            share: app.body_budget().share(),
            is_one_batch: known.is_some_and(|bytes| bytes <= BATCH_BYTES_MAX as u64),
            rest: BytesMut::new(),
            searched: 0,
            line: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            published: Published::default(),
        }
    }

    async fn publish_all(&mut self) -> Result<(), Problem> {
        loop {
            match self.next().await? {
                Next::Bytes(bytes) => {
                    let batch = self.batch_bytes + self.batch.len() * RECORD_BYTES;
                    self.share.received(bytes.len());
                    self.share.resize(self.rest.len() + bytes.len() + batch)?;
                    self.rest.extend_from_slice(&bytes);
                    self.take_lines().await?;
                }
                Next::Pause => self.flush().await?,
                Next::End => {
                    let last = self.rest.split().freeze();
                    self.take_line(&last)?;
                    return self.flush().await;
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Next, Problem> {
        let may_pause = !self.is_one_batch && !self.batch.is_empty();
        let mut frame = pin!(self.body.frame());
        let frame = poll_fn(|cx| match Pin::new(&mut frame).poll(cx) {
            Poll::Pending if may_pause => Poll::Ready(None),
            polled => polled.map(Some),
        });
        // Between lines a body may pause for as long as it likes: it holds nothing then.
        let frame = async {
            if self.rest.is_empty() && self.batch.is_empty() {
                let frame = frame.await;
                self.share.begin_anew();
                return Ok(frame);
            }
            self.share.in_time(frame).await
        };
        match frame.await? {
            None => Ok(Next::Pause),
            Some(None) => Ok(Next::End),
            Some(Some(Ok(frame))) => Ok(Next::Bytes(frame.into_data().unwrap_or_default())),
            Some(Some(Err(_))) => Err(broken_body()),
        }
    }

    async fn take_lines(&mut self) -> Result<(), Problem> {
        while let Some(end) = memchr::memchr(b'\n', &self.rest[self.searched..]) {
            let line = self.rest.split_to(self.searched + end).freeze();
            self.rest.advance(1);
            self.searched = 0;
            self.take_line(&line)?;
            if self.is_full() {
                self.flush().await?;
            }
        }
        self.searched = self.rest.len();
        self.check_line_length(self.rest.len(), self.line + 1)
    }

    fn is_full(&self) -> bool {
        let events = self.batch.len();
        if events >= self.events_max {
            return true;
        }
        if self.is_one_batch {
            return events >= self.app.record_limits().array_events_max;
        }
        events >= BATCH_EVENTS_MAX || self.batch_bytes >= BATCH_BYTES_MAX
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        self.check_line_length(line.len(), self.line)?;
        let mut record = event_from_json(line, self.app.record_limits())
            .map_err(|problem| problem.at(&format!("Line {}", self.line)).line(self.line))?;
        if let Some(keys) = &mut self.keys {
            keys.give_to(&mut record);
        }
        self.publisher
            .admit(&mut record)
            .map_err(|problem| problem.at(&format!("Line {}", self.line)).line(self.line))?;
        self.batch_bytes += line.len();
        self.batch.push(record);
        Ok(())
    }

    fn check_line_length(&self, bytes: usize, line: u64) -> Result<(), Problem> {
        let event_bytes_max = self.app.record_limits().event_bytes_max;
        let line_bytes_max = event_bytes_max * ESCAPED_BYTES_MAX + FIELDS_BYTES_MAX;
        if bytes <= line_bytes_max {
            return Ok(());
        }
        let detail = format!(
            "Line {line} has more than {line_bytes_max} bytes, which no event has whose data is \
             within max_event_bytes ({event_bytes_max}). Each line is one event."
        );
        Err(Problem::new(Kind::EventTooLarge, detail).line(line))
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let source = self.publisher.source();
        self.app.client_limits().publish_when_due(source, self.batch.len()).await;
        // What began long ago may not be allowed any more.
        self.publisher.check_again(self.app).await?;
        let published = self.app.hub().publish(std::mem::take(&mut self.batch)).await?;
        self.batch_bytes = 0;
        self.share.begin_anew();
        self.share.resize(self.rest.len())?;
        self.published.extend(published);
        if self.published.run_count() > ID_RUNS_MAX {
            let detail = "Go on with the next line in another request: this one has been answered \
                          as much as it can be.";
            return Err(Problem::new(Kind::BodyTooLarge, detail));
        }
        Ok(())
    }
}

/// Events after which a batch ends.
const BATCH_EVENTS_MAX: usize = 1_024;
/// Bytes of lines after which a batch ends.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes that JSON may need for one byte of data: `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// Bytes that the other fields of an event may need.
const FIELDS_BYTES_MAX: usize = 512 << 10;
/// Runs of consecutive ids that are remembered for the answer, which interleaved publishers make
/// many of; 16 MB.
const ID_RUNS_MAX: usize = 1_000_000;
/// About what an event of a batch takes besides its text.
const RECORD_BYTES: usize = 128;
