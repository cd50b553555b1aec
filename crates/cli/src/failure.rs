//! How a command ends when it does not succeed. The kind decides the exit status: 1 for a command
//! that failed, 2 for one that was used wrongly.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command did not do what was asked. The text is for people and goes to standard error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, a variable or the configuration file is wrong. Exit status 2.
    Usage(String),
    /// The command was right and could not be carried out. Exit status 1.
    Failed(String),
    /// Whoever read standard output went away. Says nothing; exit status 0.
    OutputClosed,
}

impl Failure {
    /// Turns an error of writing to standard output into a failure.
    pub(crate) fn from_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Failed(format!("cannot write to standard output: {error}"))
    }

    /// Tells the user on standard error, and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                eprintln!("tidings: {text}");
                ExitCode::from(2)
            }
            Self::Failed(text) => {
                eprintln!("tidings: {text}");
                ExitCode::from(1)
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}
