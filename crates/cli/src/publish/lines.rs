//! Lines of text, written as one event each.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;

use crate::failure::Failure;
use crate::publish::event::EventKind;
use crate::publish::key::numbered_key;

/// How far the input was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Whole lines.
    pub(super) lines: u64,
    /// Their bytes, line ends included.
    pub(super) bytes: u64,
}

/// Some events as NDJSON.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The events.
    pub(super) ndjson: Bytes,
    /// Where in the input the last of them ends.
    pub(super) end: Place,
}

/// Reads lines and writes them as events.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    kind: EventKind,
    taken: Place,
    /// What is wrong with the next line; told when those before it were given out.
    wrong: Option<Failure>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads `input`, which stands at `taken`, in pieces of `capacity` bytes.
    pub(super) fn new(input: R, kind: EventKind, taken: Place, capacity: usize) -> Self {
        let input = BufReader::with_capacity(capacity, input);
        Self { input, kind, taken, wrong: None, line: Vec::new() }
    }

    /// Waits for a line, and gives it with those that are here already, as many as make
    /// [`CHUNK_BYTES`]; `None` at the end of the input.
    ///
    /// # Errors
    ///
    /// When the input cannot be read, or a line is no text or too long.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, Failure> {
        let mut ndjson = Vec::new();
        while self.wrong.is_none() {
            match self.next_line(&mut ndjson) {
                Ok(true) => {}
                Ok(false) => break,
                Err(wrong) => {
                    self.wrong = Some(Failure::Failed(format!(
                        "line {} of standard input: {wrong}; the lines before it are published",
                        self.taken.lines + 1
                    )));
                }
            }
            let more_is_here = self.input.buffer().contains(&b'\n');
            if ndjson.len() >= CHUNK_BYTES || !more_is_here {
                break;
            }
        }
        match self.wrong.take_if(|_| ndjson.is_empty()) {
            Some(wrong) => Err(wrong),
            None if ndjson.is_empty() => Ok(None),
            None => Ok(Some(Chunk { ndjson: ndjson.into(), end: self.taken })),
        }
    }

    /// Gives the input back, wherever it stands.
    pub(super) fn into_input(self) -> R {
        self.input.into_inner()
    }

    /// Writes the next line, and says whether there was one.
    fn next_line(&mut self, out: &mut Vec<u8>) -> Result<bool, String> {
        self.line.clear();
        let taken = (&mut self.input)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| format!("cannot read: {error}"))?;
        if taken == 0 {
            return Ok(false);
        }
        if taken as u64 > LINE_BYTES_MAX {
            return Err(format!("this is longer than {LINE_BYTES_MAX} bytes"));
        }
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = str::from_utf8(text).map_err(|_| "this is not text (UTF-8)")?;
        self.taken.lines += 1;
        self.taken.bytes += taken as u64;
        let prefix = self.kind.key_prefix.as_ref();
        let key = prefix.map(|prefix| numbered_key(prefix, self.taken.lines));
        self.kind.write(text, key.as_deref(), out);
        Ok(true)
    }
}

/// How much is given out at once, in bytes, when more lines are there than that.
const CHUNK_BYTES: usize = 64 * 1024;

/// The longest line: a hub takes no larger event whatever its options say.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::{Lines, Place};
    use crate::publish::event::EventKind;

    /// Feeds `input` in pieces of `capacity` bytes, and compares the members of the events, the
    /// place at the end, and how it ends.
    #[track_caller]
    fn check(input: &[u8], prefix: Option<&str>, expected: &[&str], end: u64, wrong: Option<&str>) {
        let kind = EventKind {
            topic: "t".into(),
            event: None,
            is_private: false,
            key_prefix: prefix.map(str::to_owned),
        };
        let bodies: String =
            expected.iter().map(|members| format!("{{\"topic\":\"t\",{members}}}\n")).collect();
        for capacity in [1, 2, 64, 4096] {
            let mut lines = Lines::new(input, kind.clone(), Place::default(), capacity);
            let mut given = Vec::new();
            let mut place = Place::default();
            let ending = loop {
                match lines.next_chunk() {
                    Ok(Some(chunk)) => {
                        given.extend_from_slice(&chunk.ndjson);
                        place = chunk.end;
                    }
                    Ok(None) => break None,
                    Err(failure) => break Some(failure.to_string()),
                }
            };
            assert_eq!(String::from_utf8(given).as_deref(), Ok(bodies.as_str()));
            assert_eq!(place, Place { lines: expected.len() as u64, bytes: end });
            assert_eq!(ending.as_deref(), wrong);
        }
    }

    #[test]
    fn each_line_is_one_event() {
        check(b"", None, &[], 0, None);
        check(b"a\nb\n", None, &[r#""data":"a""#, r#""data":"b""#], 4, None);
        check(b"a\r\nb", None, &[r#""data":"a""#, r#""data":"b""#], 4, None);
        check(b"\n\n", None, &[r#""data":"""#, r#""data":"""#], 2, None);
        check(b"say \"hi\"\\", None, &[r#""data":"say \"hi\"\\""#], 9, None);
        check("späť\n".as_bytes(), None, &[r#""data":"späť""#], 7, None);
    }

    #[test]
    fn the_key_of_a_line_is_the_prefix_and_its_number() {
        let expected = [r#""key":"p:1","data":"a""#, r#""key":"p:2","data":"""#];
        check(b"a\n\n", Some("p"), &expected, 3, None);
    }

    #[test]
    fn lines_go_on_counting_from_where_the_input_stands() {
        let kind = EventKind {
            topic: "t".into(),
            event: None,
            is_private: false,
            key_prefix: Some("p".into()),
        };
        let mut lines = Lines::new(&b"x\n"[..], kind, Place { lines: 41, bytes: 1_000 }, 64);
        let Ok(Some(chunk)) = lines.next_chunk() else { panic!("no line") };
        assert_eq!(&chunk.ndjson[..], b"{\"topic\":\"t\",\"key\":\"p:42\",\"data\":\"x\"}\n");
        assert_eq!(chunk.end, Place { lines: 42, bytes: 1_002 });
    }

    #[test]
    fn a_line_that_is_no_text_ends_the_lines_after_those_before_it() {
        check(
            b"a\nb\n\xff\nc\n",
            None,
            &[r#""data":"a""#, r#""data":"b""#],
            4,
            Some(
                "line 3 of standard input: this is not text (UTF-8); the lines before it are \
                 published",
            ),
        );
    }
}
