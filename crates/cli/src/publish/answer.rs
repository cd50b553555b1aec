//! The ids in an answer, printed as they come, so that an answer of any length takes little memory.

use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, panic};

use bytes::Bytes;
use reqwest::Response;
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task;

use crate::failure::Failure;
use crate::hub_address::reason;
use crate::publish::progress::Progress;

/// Why an answer does not say what became of the events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnswerError {
    /// The connection was cut before its end.
    Cut(String),
    /// It is none that a hub gives.
    Strange,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(reason) => write!(f, "the answer did not come: {reason}"),
            Self::Strange => f.write_str("the answer is not that of a tidings hub"),
        }
    }
}

/// Prints ids to standard output, each once: an answer that came in part and is asked for again has
/// the same ids.
#[derive(Clone)]
pub(super) struct IdPrinter(Arc<Mutex<Ids<Stdout>>>);

impl IdPrinter {
    /// Prints ids one a line, with `json` each in an object.
    pub(super) fn new(progress: Arc<Progress>, json: bool) -> Self {
        let stdout = Stdout { progress, is_terminal: io::stdout().is_terminal() };
        Self(Arc::new(Mutex::new(Ids::new(stdout, json))))
    }

    /// Forgets the ids of the last answer: its events are not published again.
    pub(super) fn confirm(&self) {
        self.lock().confirm();
    }

    /// Tells whether the ids could be printed.
    ///
    /// # Errors
    ///
    /// As [`Failure::from_output`].
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let failed = self.lock().failed.take();
        failed.map_or(Ok(()), |error| Err(Failure::from_output(&error)))
    }

    fn lock(&self) -> MutexGuard<'_, Ids<Stdout>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints the ids in `response` and gives their number. That they cannot be printed is no reason to
/// publish nothing more, so [`IdPrinter::finish`] tells it in the end.
///
/// # Errors
///
/// [`AnswerError`]: not all ids came.
pub(super) async fn print_ids(mut response: Response, ids: IdPrinter) -> Result<u64, AnswerError> {
    let (chunks, rest) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    let printing = task::spawn_blocking(move || {
        ids.lock().print(BufReader::new(ChunkReader { now: Bytes::new(), rest }))
    });
    let mut cut = None;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                cut = Some(reason(&error));
                break;
            }
        }
    }
    drop(chunks);
    let printed = printing.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
    match cut {
        Some(reason) => Err(AnswerError::Cut(reason)),
        None => printed,
    }
}

/// What is printed of the ids of one answer.
struct Ids<W: Write> {
    json: bool,
    out: BufWriter<W>,
    /// Ids in this answer so far.
    seen: u64,
    /// Ids printed since the last confirmed answer; so many are not printed again.
    printed: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Ids<W> {
    fn new(out: W, json: bool) -> Self {
        Self { json, out: BufWriter::new(out), seen: 0, printed: 0, failed: None }
    }

    /// Prints the ids in `{"id":..}` or `{"ids":[..]}` and gives their number.
    fn print(&mut self, input: impl Read) -> Result<u64, AnswerError> {
        self.seen = 0;
        let answer = Answer { take: &mut |id: &str| self.take(id) };
        let read = answer.deserialize(&mut serde_json::Deserializer::from_reader(input));
        let flushed = self.out.flush();
        self.handle_written(flushed);
        if read.is_err() || self.seen == 0 {
            return Err(AnswerError::Strange);
        }
        Ok(self.seen)
    }

    fn take(&mut self, id: &str) {
        self.seen += 1;
        if self.seen <= self.printed {
            return;
        }
        self.printed = self.seen;
        if self.failed.is_none() {
            let written = if self.json {
                writeln!(self.out, "{}", json!({"id": id}))
            } else {
                writeln!(self.out, "{id}")
            };
            self.handle_written(written);
        }
    }

    fn handle_written(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn confirm(&mut self) {
        self.printed -= self.seen.min(self.printed);
        self.seen = 0;
    }
}

/// Standard output, which may be the terminal that the progress is told on.
struct Stdout {
    progress: Arc<Progress>,
    is_terminal: bool,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_terminal {
            self.progress.suspend(|| io::stdout().write(bytes))
        } else {
            io::stdout().write(bytes)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Reads what arrives from another thread.
struct ChunkReader {
    now: Bytes,
    rest: mpsc::Receiver<Bytes>,
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.rest.blocking_recv() {
                Some(chunk) => self.now = chunk,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.now.len());
        out[..count].copy_from_slice(&self.now.split_to(count));
        Ok(count)
    }
}

/// Goes through an answer and gives each id to `take` where it stands.
struct Answer<'a> {
    take: &'a mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for Answer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Answer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the ids of the events")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "id" | "ids" => map.next_value_seed(Taker { take: self.take })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Takes one id, or an array of them.
struct Taker<'a> {
    take: &'a mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for Taker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Taker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id or an array of ids")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<(), E> {
        (self.take)(id);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<(), A::Error> {
        while ids.next_element_seed(Taker { take: self.take })?.is_some() {}
        Ok(())
    }
}

/// How many pieces of an answer wait to be printed.
const CHUNKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::{AnswerError, Ids};

    /// Prints the ids of `answers`, one after the other, and compares what is printed in all and
    /// what each comes to.
    #[track_caller]
    fn check(json: bool, answers: &[(&str, Result<u64, AnswerError>)], expected: &str) {
        let mut out = Vec::new();
        let mut ids = Ids::new(&mut out, json);
        for (answer, count) in answers {
            let printed = ids.print(answer.as_bytes());
            assert_eq!(&printed, count, "{answer}");
            if printed.is_ok() {
                ids.confirm();
            }
        }
        drop(ids);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn ids_are_printed_one_a_line() {
        check(false, &[(r#"{"id":"a-1"}"#, Ok(1))], "a-1\n");
        check(true, &[(r#"{"id":"a-1"}"#, Ok(1))], "{\"id\":\"a-1\"}\n");
        check(false, &[(r#"{"ids":["a-1","a-2"]}"#, Ok(2))], "a-1\na-2\n");
        check(true, &[(r#"{"more":{"x":[1]},"ids":["a-1"]}"#, Ok(1))], "{\"id\":\"a-1\"}\n");
    }

    #[test]
    fn what_no_hub_answers_is_told() {
        for answer in ["{}", "<html>", r#"{"ids":[1]}"#, ""] {
            check(false, &[(answer, Err(AnswerError::Strange))], "");
        }
    }

    #[test]
    fn the_ids_of_an_answer_that_came_in_part_are_printed_once() {
        let part = (r#"{"ids":["a-1","a-2","#, Err(AnswerError::Strange));
        let short = (r#"{"ids":["a-1"]}"#, Ok(1));
        let rest = (r#"{"ids":["a-2","a-3"]}"#, Ok(2));
        check(false, &[part, short, rest], "a-1\na-2\na-3\n");
    }

    #[test]
    fn an_answer_is_read_to_its_end_though_nobody_reads_the_ids() {
        struct Closed;

        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let mut ids = Ids::new(Closed, false);
        assert_eq!(ids.print(&br#"{"ids":["a-1","a-2"]}"#[..]), Ok(2));
        assert_eq!(ids.failed.map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
    }
}
