//! The report: a page of tables and its charts, generated from records.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bench_stand::Samples;

use crate::chart::{Bar, chart, number};
use crate::goal::GOALS;
use crate::record::Record;
use crate::workload::Workload;

/// Writes `<folder>/fan-out-measured.md` and its charts, from all records in a folder; of each workload,
/// the newest counts.
pub fn write(records: &Path, folder: &Path) -> Result<()> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(records).with_context(|| records.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("fanout") && name.ends_with(".json") {
            paths.push(path);
        }
    }
    let mut all = paths.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>>>()?;
    all.sort_by(|one, other| one.date.cmp(&other.date));
    let conditions: Vec<_> = all.iter().map(describe).collect();
    let merged = all.into_iter().reduce(|mut record, later| {
        record.take(later);
        record
    });
    let record = merged.context("there are no records")?;

    let charts = folder.join("fan-out");
    fs::create_dir_all(&charts)?;
    let mut page = String::from(HEAD);
    page.push_str("## Where it was measured\n\n");
    page.push_str(&conditions.concat());
    goals(&record, &mut page)?;
    for workload in record.measured_workloads() {
        section(&record, workload, &charts, &mut page)?;
    }
    transports(&record, &mut page)?;
    servers(&record, &mut page)?;
    fs::write(folder.join("fan-out-measured.md"), page)?;
    Ok(())
}

fn describe(record: &Record) -> String {
    let names: Vec<_> = record.measured_workloads().map(|one| &*one.name).collect();
    let machine = |name: &str| match &record.machine[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "- {}, commit `{}`: {} cores of {}, Linux {}. {}. Workloads: {}.\n",
        record.date,
        record.commit,
        machine("cores"),
        machine("processor"),
        machine("kernel"),
        record.conditions,
        names.join(", ")
    )
}

fn goals(record: &Record, page: &mut String) -> Result<()> {
    page.push_str(
        "\n## Goals\n\nRatios are taken within each round. A goal is met by the median.\n\n\
         | what | workload | goal | measured | |\n|---|---|---|---|---|\n",
    );
    for goal in &GOALS {
        let (measured, verdict) = match goal.measured(record) {
            Some(samples) => {
                (range(&samples), if goal.is_met(&samples) { "met" } else { "**missed**" })
            }
            None => ("not measured".to_owned(), ""),
        };
        let figure = goal.figure.replace('_', " ");
        let (what, workload, wish) = (goal.what, goal.workload, goal.wish());
        writeln!(page, "| {what} | {workload}, {figure} | {wish} | {measured} | {verdict} |")?;
    }
    page.push('\n');
    Ok(())
}

fn section(record: &Record, workload: &Workload, charts: &Path, page: &mut String) -> Result<()> {
    let figures = workload.shown();
    let (name, main) = (&workload.name, figures[0]);
    let mut bars = Vec::new();
    for target in record.targets_of(name) {
        if let Some(samples) = record.samples(name, target, main) {
            bars.push(Bar { name: target.to_owned(), samples });
        }
    }
    bars.sort_by(|one, other| one.samples.median().total_cmp(&other.samples.median()));
    if unit_of(main).ends_with("more is better") {
        bars.reverse();
    }
    writeln!(page, "## {}\n\nWorkload `{name}`.", workload.title)?;
    ensure!(figures.len() > 1, "a workload shows figures");
    if !bars.is_empty() {
        let title = format!("{name}: {}", main.replace('_', " "));
        fs::write(charts.join(format!("{name}.svg")), chart(&title, unit_of(main), &bars))?;
        writeln!(page, "\n![{title}](fan-out/{name}.svg)\n")?;
        let names: Vec<_> = figures.iter().map(|figure| figure.replace('_', " ")).collect();
        writeln!(page, "| | {} | {}, × bare | rounds |", names.join(" | "), names[0])?;
        writeln!(page, "|---{}|---|---|", "|---".repeat(figures.len()))?;
        for bar in &bars {
            write!(page, "| {} |", bar.name)?;
            for figure in figures {
                let samples = record.samples(name, &bar.name, figure);
                write!(page, " {} |", samples.as_ref().map(range).unwrap_or_default())?;
            }
            let ratios = record.ratios((name, &bar.name), (name, "bare"), main);
            write!(page, " {} |", ratios.as_ref().map(range).unwrap_or_default())?;
            let turns = record.turns.iter();
            let turns = turns.filter(|turn| turn.is(name, &bar.name) && turn.failed.is_none());
            writeln!(page, " {} |", turns.count())?;
        }
    }
    for turn in record.turns.iter().filter(|turn| &turn.workload == name) {
        if let Some(why) = &turn.failed {
            let why = why.lines().next().unwrap_or_default();
            writeln!(page, "\n{} failed in round {}: {why}", turn.target, turn.round)?;
        }
    }
    let busy = record.targets_of(name).into_iter().filter(|target| {
        let busy = record.samples(name, target, "load_busy");
        busy.is_some_and(|busy| busy.median() > BUSY_MAX)
    });
    let busy: Vec<_> = busy.collect();
    if !busy.is_empty() {
        writeln!(
            page,
            "\nThe load was busy for more than {:.0} % of the time with {}: these could be faster \
             than it tells.",
            BUSY_MAX * 100.0,
            busy.join(", ")
        )?;
    }
    page.push('\n');
    Ok(())
}

/// Servers that speak both, on the same events.
fn transports(record: &Record, page: &mut String) -> Result<()> {
    page.push_str(
        "## SSE against WebSocket\n\nThe same events to the same number of subscribers (workload \
         `websocket`). Bytes are those that subscribers read from their sockets; memory of the \
         server is after connecting, that of the kernel is of both ends.\n\n",
    );
    let figures = [
        "bytes_per_delivery",
        "cpu_us_per_delivery",
        "resident_bytes_per_stream",
        "kernel_bytes_per_stream",
    ];
    let names: Vec<_> = figures.iter().map(|figure| figure.replace('_', " ")).collect();
    writeln!(page, "| | {} |\n|---{}|", names.join(" | "), "|---".repeat(figures.len()))?;
    for target in SSE_AND_WEBSOCKET {
        write!(page, "| {target} |")?;
        for figure in figures {
            let samples = record.samples("websocket", target, figure);
            write!(page, " {} |", samples.as_ref().map(range).unwrap_or_default())?;
        }
        page.push('\n');
    }
    page.push('\n');
    Ok(())
}

fn servers(record: &Record, page: &mut String) -> Result<()> {
    page.push_str("## Servers\n\n| | version | settings |\n|---|---|---|\n");
    for (name, target) in &record.targets {
        let settings = target.settings.to_string().replace('|', "\\|");
        writeln!(page, "| {name} | {} | `{settings}` |", target.version)?;
    }
    Ok(())
}

/// `median (low–high)`.
fn range(samples: &Samples) -> String {
    let (low, median, high) = (samples.low(), samples.median(), samples.high());
    if low.total_cmp(&high).is_eq() {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(low), number(high))
}

fn unit_of(figure: &str) -> &'static str {
    match figure {
        "cpu_us_per_delivery" => "microseconds of processor time, user and kernel; less is better",
        "resident_bytes_per_connection" => "bytes; less is better",
        "caught_up_per_s" => "subscribers a second; more is better",
        "deliveries_per_s" => "deliveries a second; more is better",
        _ => "milliseconds; less is better",
    }
}

/// Each with its WebSocket after it, where it has one.
const SSE_AND_WEBSOCKET: [&str; 7] =
    ["tidings", "nchan", "nchan-ws", "centrifugo", "centrifugo-ws", "better-sse", "ws"];

/// Above this, the load may be what limits.
const BUSY_MAX: f64 = 0.9;

const HEAD: &str = "\
# Fan-out, measured

<!-- cargo xtask bench report -->

Generated from the records in `bench/record/` by `cargo xtask bench report`. How it is measured:
[benchmarks.md](benchmarks.md). `bare` is a loop of bare `write(2)` calls that knows nothing of events, `bare-uring` the
same with io_uring: the limits. Each figure is the median of its rounds, with the lowest and the
highest. Processor time and memory are those of the server alone, all its processes together.
Events that leave in one write share its cost, so a server that falls behind, on a machine that has
other work, pays less for each delivery: `deliveries per read` tells how many came together, and
`cpu us per read` what such a write cost.

";
