//! What stands on the wire: commands as they are sent, replies as they are read (RESP 2).
//!
//! No reply takes more memory than its reader was given, whatever the other side claims.

use std::io::{self, Read};

/// Commands that are sent in one write, their replies read in order.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    bytes: Vec<u8>,
}

impl Commands {
    /// Begins a command of so many words, which must follow.
    pub(crate) fn begin(&mut self, words: usize) -> &mut Self {
        self.bytes.push(b'*');
        self.number(words);
        self
    }

    /// Adds a word to the command that was begun.
    pub(crate) fn word(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        let word = word.as_ref();
        self.bytes.push(b'$');
        self.number(word.len());
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a whole command.
    pub(crate) fn add<W: AsRef<[u8]>>(&mut self, words: &[W]) -> &mut Self {
        self.begin(words.len());
        for word in words {
            self.word(word);
        }
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn number(&mut self, number: usize) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[start..]);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// What a server answers to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Reply>),
    /// The command was refused: a code in capitals, a space, and words.
    Error(String),
}

impl Reply {
    /// The text, if it is one and UTF-8.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The number, also if it was sent as text.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            _ => self.as_str()?.parse().ok(),
        }
    }

    pub(crate) fn into_list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// Why no reply could be read.
#[derive(Debug)]
pub(crate) enum ReplyFault {
    /// The connection failed, or was too slow.
    Io(io::Error),
    /// What came is no reply.
    Nonsense,
    /// The reply is larger than it may be.
    TooLarge,
}

impl From<io::Error> for ReplyFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads replies from a connection.
#[derive(Debug)]
pub(crate) struct ReplyBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReplyBuffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 }
    }

    /// Reads one reply that takes at most about so many bytes.
    pub(crate) fn read(
        &mut self,
        from: &mut dyn Read,
        bytes_max: usize,
    ) -> Result<Reply, ReplyFault> {
        let mut budget = bytes_max;
        self.read_within(from, &mut budget, 0)
    }

    fn read_within(
        &mut self,
        from: &mut dyn Read,
        budget: &mut usize,
        depth: u32,
    ) -> Result<Reply, ReplyFault> {
        spend(budget, size_of::<Reply>())?;
        let kind = self.byte(from)?;
        match kind {
            b'$' => match self.length(from)? {
                Some(length) => {
                    spend(budget, length)?;
                    self.text(from, length).map(Reply::Text)
                }
                None => Ok(Reply::Nil),
            },
            b'*' if depth < DEPTH_MAX => match self.length(from)? {
                Some(length) => {
                    // Not more than is paid for by what comes.
                    let mut list = Vec::with_capacity(length.min(LIST_AHEAD));
                    for _ in 0..length {
                        list.push(self.read_within(from, budget, depth + 1)?);
                    }
                    Ok(Reply::List(list))
                }
                None => Ok(Reply::Nil),
            },
            b':' => {
                let line = self.line(from)?;
                line.parse().map(Reply::Int).map_err(|_| ReplyFault::Nonsense)
            }
            b'+' => Ok(Reply::Text(self.line(from)?.into_bytes())),
            b'-' => Ok(Reply::Error(self.line(from)?)),
            _ => Err(ReplyFault::Nonsense),
        }
    }

    fn text(&mut self, from: &mut dyn Read, length: usize) -> Result<Vec<u8>, ReplyFault> {
        let mut text = Vec::with_capacity(length.min(BUFFER_BYTES));
        while text.len() < length {
            self.fill_if_empty(from)?;
            let take = (self.end - self.start).min(length - text.len());
            text.extend_from_slice(&self.bytes[self.start..self.start + take]);
            self.start += take;
        }
        if self.byte(from)? == b'\r' && self.byte(from)? == b'\n' {
            Ok(text)
        } else {
            Err(ReplyFault::Nonsense)
        }
    }

    /// `None` stands for -1, the length of what is not there.
    fn length(&mut self, from: &mut dyn Read) -> Result<Option<usize>, ReplyFault> {
        let mut length = 0_usize;
        let mut byte = self.byte(from)?;
        if byte == b'-' {
            let line = self.line(from)?;
            return if line == "1" { Ok(None) } else { Err(ReplyFault::Nonsense) };
        }
        loop {
            let digit = match byte {
                b'0'..=b'9' => usize::from(byte - b'0'),
                b'\r' if self.byte(from)? == b'\n' => return Ok(Some(length)),
                _ => return Err(ReplyFault::Nonsense),
            };
            length = length
                .checked_mul(10)
                .and_then(|it| it.checked_add(digit))
                .ok_or(ReplyFault::Nonsense)?;
            byte = self.byte(from)?;
        }
    }

    fn line(&mut self, from: &mut dyn Read) -> Result<String, ReplyFault> {
        let mut line = Vec::new();
        loop {
            match self.byte(from)? {
                b'\r' if self.byte(from)? == b'\n' => break,
                b'\r' | b'\n' => return Err(ReplyFault::Nonsense),
                byte if line.len() < LINE_BYTES_MAX => line.push(byte),
                _ => return Err(ReplyFault::TooLarge),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn byte(&mut self, from: &mut dyn Read) -> Result<u8, ReplyFault> {
        self.fill_if_empty(from)?;
        let byte = self.bytes[self.start];
        self.start += 1;
        Ok(byte)
    }

    fn fill_if_empty(&mut self, from: &mut dyn Read) -> Result<(), ReplyFault> {
        while self.start == self.end {
            match from.read(&mut self.bytes) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn spend(budget: &mut usize, bytes: usize) -> Result<(), ReplyFault> {
    *budget = budget.checked_sub(bytes).ok_or(ReplyFault::TooLarge)?;
    Ok(())
}

const BUFFER_BYTES: usize = 64 << 10;
/// Deeper than any reply that is asked for.
const DEPTH_MAX: u32 = 8;
const LIST_AHEAD: usize = 1024;
/// Errors quote what they are about.
const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], bytes_max: usize) -> Result<Reply, ReplyFault> {
        /// Gives a byte at a time, so that every reply is read across all edges.
        struct Trickle<'a>(&'a [u8]);
        impl Read for Trickle<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
                into[0] = *first;
                self.0 = rest;
                Ok(1)
            }
        }
        ReplyBuffer::new().read(&mut Trickle(bytes), bytes_max)
    }

    #[test]
    fn replies_are_read() {
        let text = |text: &str| Reply::Text(text.into());
        for (bytes, expected) in [
            ("+OK\r\n", text("OK")),
            ("$5\r\na\r\nbc\r\n", text("a\r\nbc")),
            ("$0\r\n\r\n", text("")),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            (":-3\r\n", Reply::Int(-3)),
            ("-ERR no\r\n", Reply::Error("ERR no".into())),
            ("*0\r\n", Reply::List(Vec::new())),
            (
                "*2\r\n*1\r\n$1\r\na\r\n:7\r\n",
                Reply::List(vec![Reply::List(vec![text("a")]), Reply::Int(7)]),
            ),
        ] {
            assert_eq!(read(bytes.as_bytes(), 1_000).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_memory_is_taken_for_it() {
        let deep = "*1\r\n".repeat(1_000);
        let long = format!("-{}\r\n", "x".repeat(5_000));
        for bytes in [
            "HTTP/1.1 400\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$3\r\nabcd\r\n",
            "$99999999999999999999\r\n",
            &deep,
        ] {
            assert!(
                matches!(read(bytes.as_bytes(), 1_000), Err(ReplyFault::Nonsense)),
                "{bytes:?}"
            );
        }
        for bytes in ["$2000\r\n", "*9999999999\r\n:1\r\n", &long] {
            let bytes = format!("{bytes}{}", ":1\r\n".repeat(500));
            assert!(
                matches!(read(bytes.as_bytes(), 1_000), Err(ReplyFault::TooLarge)),
                "{bytes:?}"
            );
        }
        for bytes in ["", "$3\r\nab", "*2\r\n:1\r\n"] {
            assert!(matches!(read(bytes.as_bytes(), 1_000), Err(ReplyFault::Io(_))), "{bytes:?}");
        }
    }

    #[test]
    fn commands_are_written() {
        let mut commands = Commands::default();
        commands.add(&["GET", "ü"]).begin(1).word("PING");
        assert_eq!(
            commands.as_bytes(),
            "*2\r\n$3\r\nGET\r\n$2\r\nü\r\n*1\r\n$4\r\nPING\r\n".as_bytes()
        );
    }
}
