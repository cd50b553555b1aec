//! The servers that are measured.

use std::env;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bench_peers::mercure;
use bench_stand::{EventStream, Served, is_data, number_of};

use crate::request::{Answer, Template};

/// A server that publishes are sent to.
#[derive(Debug)]
pub enum Target {
    Tidings { program: PathBuf, arguments: Vec<String> },
    Echo,
    Mercure { program: PathBuf },
}

impl Target {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tidings { .. } => "tidings",
            Self::Echo => "bare hyper echo",
            Self::Mercure { .. } => mercure::DURABLE_NAME,
        }
    }

    /// Starts it with what it keeps in an empty `folder`.
    pub fn start(&self, folder: &Path) -> Result<Served> {
        match self {
            Self::Tidings { program, arguments } => {
                let mut command = Command::new(program);
                command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder);
                Served::announced(command.args(arguments))
            }
            Self::Echo => Served::announced(Command::new(env::current_exe()?).arg("echo")),
            Self::Mercure { program } => mercure::start_durable(program, folder),
        }
    }

    pub fn template(&self) -> Template {
        match self {
            Self::Tidings { .. } | Self::Echo => Template::new(
                "/events",
                "content-type: application/json\r\n",
                r#"{"topic":"bench/1","data":""#,
                r#""}"#,
            ),
            Self::Mercure { .. } => {
                let headers = mercure::authorization()
                    + "content-type: application/x-www-form-urlencoded\r\n";
                Template::new(mercure::PATH, &headers, "topic=bench%2F1&data=", "")
            }
        }
    }

    pub fn answer(&self) -> Answer {
        match self {
            Self::Tidings { .. } => Answer::Position,
            Self::Echo => Answer::Echo,
            Self::Mercure { .. } => Answer::Opaque,
        }
    }

    /// Reads back what was acknowledged: each event is there once, unchanged, under the id that
    /// its publisher was told. Where the server ends the stream, it is resumed.
    ///
    /// # Errors
    ///
    /// If anything is missing, doubled or changed.
    pub fn check(&self, served: &Served, offsets: &[u64]) -> Result<()> {
        let target = match self {
            Self::Echo => return Ok(()),
            Self::Tidings { .. } => {
                check_dense(offsets)?;
                "/events?topic=bench/1&last=earliest".to_owned()
            }
            Self::Mercure { .. } => {
                format!("{}?topic=bench%2F1&lastEventID=earliest", mercure::PATH)
            }
        };
        let mut is_there = vec![false; offsets.len()];
        let mut left = offsets.len();
        let mut last_id = String::new();
        while left > 0 {
            let resumed_with = left;
            let headers = match &last_id[..] {
                "" => String::new(),
                id => format!("last-event-id: {id}\r\n"),
            };
            let mut stream = EventStream::open(served.address(), &target, &headers)?;
            let mut fault = None;
            let ended = stream.for_each(|event| {
                let outcome = take(&event.id, &event.data, offsets, &mut is_there);
                fault = outcome.with_context(|| format!("{event:?}")).err();
                left -= usize::from(fault.is_none());
                event.id[..].clone_into(&mut last_id);
                let is_over = left == 0 || fault.is_some();
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            if left == resumed_with {
                ended?;
                bail!("{left} of {} events are missing", offsets.len());
            }
        }
        Ok(())
    }
}

/// Checks one event that came back, and notes that it did.
fn take(id: &str, data: &str, offsets: &[u64], is_there: &mut [bool]) -> Result<()> {
    let number = number_of(data).context("an event without a number")?;
    ensure!(is_data(number, data), "its data was changed");
    let index = (number as usize).wrapping_sub(1);
    let (Some(is_there), Some(offset)) = (is_there.get_mut(index), offsets.get(index)) else {
        bail!("it was never published");
    };
    ensure!(!*is_there, "it was delivered twice");
    *is_there = true;
    let told = id.rsplit_once('-').filter(|_| *offset > 0);
    ensure!(
        told.is_none_or(|(_, found)| found == offset.to_string()),
        "it has not the id {offset}"
    );
    Ok(())
}

/// Checks that no offset was given twice and none left out.
fn check_dense(offsets: &[u64]) -> Result<()> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    for (expected, offset) in (1..).zip(sorted) {
        ensure!(offset == expected, "offset {offset} was answered, {expected} expected");
    }
    Ok(())
}
