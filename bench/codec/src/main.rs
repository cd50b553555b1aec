//! Throughput of decoders on the same bytes in the same chunks.
//!
//! Decoders take turns, each turn in a process of its own: what one leaves in the allocator and
//! the caches changes the speed of the next by half. A decoder counts only if it is right: each
//! run must give the expected number of events and bytes, and the vectors of `conformance/sse` are
//! replayed through each.
//!
//! ```text
//! cargo run --release --manifest-path bench/Cargo.toml -p bench-codec [rounds]
//! ```

mod engine;
mod vectors;
mod workload;

use std::{
    env,
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};

use engine::{ENGINES, Engine};
use workload::{WORKLOADS, Workload};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |text: &String| text.parse().expect("arguments are numbers");
    match &arguments[..] {
        [] => report(ROUNDS_DEFAULT),
        [rounds] => report(number(rounds)),
        [workload, engine] => {
            println!("{}", seconds_of_a_run(number(workload), &ENGINES[number(engine)]));
        }
        _ => panic!("usage: bench-codec [rounds]"),
    }
}

fn report(rounds: usize) {
    println!("| decoder | vectors whose events are right |");
    println!("|---|---|");
    for engine in ENGINES.iter().filter(|engine| engine.decodes) {
        let (right, wrong) = vectors::replay(engine);
        let total = right + wrong.len();
        let but =
            if wrong.is_empty() { String::new() } else { format!(", but not {}", wrong.join(" ")) };
        println!("| {} | {right} of {total}{but} |", engine.name);
    }
    for (index, workload) in WORKLOADS.iter().enumerate() {
        println!();
        println!(
            "| {} in chunks of 16 KiB | MB/s | slowest, fastest | times our time |",
            workload.name
        );
        println!("|---|---|---|---|");
        let mut seconds = vec![Vec::new(); ENGINES.len()];
        for _ in 0..rounds {
            for (engine, seconds) in seconds.iter_mut().enumerate() {
                seconds.push(seconds_in_a_process(index, engine));
            }
        }
        seconds.iter_mut().for_each(|seconds| seconds.sort_by(f64::total_cmp));
        let median = |engine: usize| seconds[engine][rounds / 2];
        let bytes = (workload.make)().bytes();
        let speed = |seconds: f64| bytes as f64 / seconds / 1e6;
        for (engine, Engine { name, .. }) in ENGINES.iter().enumerate() {
            println!(
                "| {name} | {:.0} | {:.0}, {:.0} | {:.2} |",
                speed(median(engine)),
                speed(seconds[engine][rounds - 1]),
                speed(seconds[engine][0]),
                median(engine) / median(0)
            );
        }
    }
}

fn seconds_in_a_process(workload: usize, engine: usize) -> f64 {
    let program = env::current_exe().expect("the program knows where it is");
    let output = Command::new(program)
        .args([workload.to_string(), engine.to_string()])
        .output()
        .expect("the program starts once more");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("the program prints a number");
    text.trim().parse().expect("the program prints a number")
}

/// The median of as many runs as fit the time, after one that is not measured.
fn seconds_of_a_run(workload: usize, engine: &Engine) -> f64 {
    let workload: Workload = (WORKLOADS[workload].make)();
    let mut seconds = Vec::new();
    let begin = Instant::now();
    while seconds.len() < 3 || begin.elapsed() < TURN_DURATION {
        let start = Instant::now();
        let tally = black_box((engine.run)(black_box(workload.chunks())));
        seconds.push(start.elapsed().as_secs_f64());
        let expected = workload.expected();
        assert!(
            !engine.decodes || tally == expected,
            "{} gave {tally:?}, not {expected:?}",
            engine.name
        );
    }
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

const ROUNDS_DEFAULT: usize = 21;

/// Long enough for dozens of runs of a fast decoder.
const TURN_DURATION: Duration = Duration::from_millis(100);
