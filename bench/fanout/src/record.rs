//! What was measured, kept so that reports can be made of it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bench_stand::Samples;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::Figures;
use crate::workload::Workload;

/// One run of the benchmark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What else the machine did, in words.
    pub conditions: String,
    /// Begin of the run, UTC.
    pub date: String,
    pub commit: String,
    pub machine: Value,
    /// By name.
    pub targets: BTreeMap<String, TargetRecord>,
    /// The definitions in force, in the order of the table.
    pub workloads: Vec<Workload>,
    /// In the order in which they were measured.
    pub turns: Vec<Turn>,
}

/// What is known of a target before it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetRecord {
    pub version: String,
    pub settings: Value,
}

/// One target, one workload, one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    pub workload: String,
    pub target: String,
    pub round: usize,
    /// What was measured, by name; empty if it failed.
    pub figures: BTreeMap<String, f64>,
    /// Why there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Record {
    /// Nothing has been measured yet.
    pub fn begin(conditions: &str, machine: Value, workloads: Vec<Workload>) -> Self {
        Self {
            conditions: conditions.to_owned(),
            date: said_by("date", &["-u", "+%Y-%m-%dT%H:%MZ"]),
            commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            machine,
            targets: BTreeMap::new(),
            workloads,
            turns: Vec::new(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut record: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        for turn in &mut record.turns {
            // Follows from the rest; the oldest records lack it.
            let each = turn.figures.get("cpu_us_per_delivery").copied();
            if let Some((each, together)) = each.zip(turn.figures.get("deliveries_per_read")) {
                turn.figures.insert("cpu_us_per_read".to_owned(), rounded(each * together));
            }
        }
        Ok(record)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Keeps one turn.
    pub fn add(&mut self, workload: &str, target: &str, round: usize, outcome: Result<Figures>) {
        let (figures, failed) = match outcome {
            Ok(figures) => (figures, None),
            Err(error) => (Figures::new(), Some(format!("{error:#}"))),
        };
        // More digits than mean anything would only make the record long.
        let figures = figures.into_iter().map(|(name, value)| (name.to_owned(), rounded(value)));
        self.turns.push(Turn {
            workload: workload.to_owned(),
            target: target.to_owned(),
            round,
            figures: figures.collect(),
            failed,
        });
    }

    /// One figure of a target in a workload, of all rounds.
    pub fn samples(&self, workload: &str, target: &str, figure: &str) -> Option<Samples> {
        let turns = self.turns.iter().filter(|turn| turn.is(workload, target));
        let values: Vec<_> = turns.filter_map(|turn| turn.figures.get(figure).copied()).collect();
        (!values.is_empty()).then(|| Samples::new(values))
    }

    /// One figure of a target in a workload as a part of that of another pair, in the same round.
    pub fn ratios(
        &self,
        (workload, target): (&str, &str),
        to: (&str, &str),
        figure: &str,
    ) -> Option<Samples> {
        let turns = self.turns.iter().filter(|turn| turn.is(workload, target));
        let ratio = |turn: &Turn| {
            let mut others = self.turns.iter().filter(|other| other.is(to.0, to.1));
            let other = others.find(|other| other.round == turn.round)?;
            Some(turn.figures.get(figure)? / other.figures.get(figure)?)
        };
        let ratios: Vec<_> = turns.filter_map(ratio).collect();
        (!ratios.is_empty()).then(|| Samples::new(ratios))
    }

    /// The workloads that were measured, in the order of the table.
    pub fn measured_workloads(&self) -> impl Iterator<Item = &Workload> {
        let is_measured =
            |workload: &&Workload| self.turns.iter().any(|turn| turn.workload == workload.name);
        self.workloads.iter().filter(is_measured)
    }

    /// Takes each workload of a later record in place of its own.
    pub fn take(&mut self, later: Self) {
        let is_newer = |name: &str| later.turns.iter().any(|turn| turn.workload == name);
        self.turns.retain(|turn| !is_newer(&turn.workload));
        self.workloads.retain(|workload| !is_newer(&workload.name));
        let newer = later.workloads.into_iter();
        let measured = newer.filter(|one| later.turns.iter().any(|turn| turn.workload == one.name));
        self.workloads.extend(measured);
        self.turns.extend(later.turns);
        self.targets.extend(later.targets);
        self.date = later.date;
        self.commit = later.commit;
        self.conditions = later.conditions;
        self.machine = later.machine;
    }

    /// The targets of a workload that have any figures, in the order of their first turns.
    pub fn targets_of(&self, workload: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let measured = |turn: &&Turn| turn.workload == workload && turn.failed.is_none();
        for turn in self.turns.iter().filter(measured) {
            if !names.contains(&&*turn.target) {
                names.push(&turn.target);
            }
        }
        names
    }
}

impl Turn {
    /// Whether it is of this workload and target.
    pub fn is(&self, workload: &str, target: &str) -> bool {
        self.workload == workload && self.target == target
    }
}

/// Four significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// What a program prints, or nothing.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}
