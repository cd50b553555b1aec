//! A process of the load, from the side of the harness.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::histogram::Sparse;
use crate::plan::{Answer, Command, Plan, Received};

/// Ends when this is dropped.
#[derive(Debug)]
pub struct LoadProcess {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Answer>,
}

impl LoadProcess {
    pub fn start(plan: &Plan) -> Result<Self> {
        let mut child = Program::new(env::current_exe()?)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("it is piped")?;
        let stdout = child.stdout.take().context("it is piped")?;
        serde_json::to_writer(&mut stdin, plan)?;
        stdin.write_all(b"\n")?;
        let (sender, answers) = channel();
        thread::spawn(move || -> Result<()> {
            for line in BufReader::new(stdout).lines() {
                sender.send(serde_json::from_str(&line?)?)?;
            }
            Ok(())
        });
        Ok(Self { child, stdin, answers })
    }

    pub fn tell(&mut self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.stdin.write_all(&line).context("the load has ended")
    }

    /// What it answers.
    ///
    /// # Errors
    ///
    /// If it ends, or says nothing for minutes.
    pub fn answer(&mut self) -> Result<Answer> {
        match self.answers.recv_timeout(SILENCE_MAX) {
            Ok(Answer::Failed(why)) => bail!("{why}"),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => bail!("the load ended: {}", self.child.wait()?),
            Err(RecvTimeoutError::Timeout) => bail!("the load says nothing"),
        }
    }

    pub fn connected(&mut self) -> Result<Connected> {
        match self.answer()? {
            Answer::Connected { first_ns, last_ns, first_byte } => {
                Ok(Connected { first_ns, last_ns, first_byte })
            }
            other => bail!("not connected, but {other:?}"),
        }
    }

    pub fn begun(&mut self) -> Result<()> {
        match self.answer()? {
            Answer::Begun => Ok(()),
            other => bail!("not begun, but {other:?}"),
        }
    }

    pub fn published(&mut self) -> Result<Published> {
        match self.answer()? {
            Answer::Published { published, first_ns, answered } => {
                Ok(Published { published, first_ns, answered })
            }
            other => bail!("not published, but {other:?}"),
        }
    }

    pub fn complete(&mut self) -> Result<Received> {
        match self.answer()? {
            Answer::Complete(received) => Ok(*received),
            other => bail!("not complete, but {other:?}"),
        }
    }
}

/// See [`Answer::Connected`].
pub struct Connected {
    pub first_ns: u64,
    pub last_ns: u64,
    pub first_byte: Sparse,
}

/// See [`Answer::Published`].
pub struct Published {
    pub published: Vec<u64>,
    pub first_ns: u64,
    pub answered: Sparse,
}

impl Drop for LoadProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than any workload takes.
const SILENCE_MAX: Duration = Duration::from_secs(400);
