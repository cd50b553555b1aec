//! How much later good clients get their events while others attack the hub.
//!
//! Good clients hold streams of private events that come at a known rate. For each attack, in each
//! round, their delays are measured in turns of equal length: alone, beside the same attack on
//! another hub of the same machine, and attacked. The first against the last is the result. The
//! one between tells how much of it is that attackers and hub share the processors, which no hub
//! can help. Every event is looked at: each stream gets the next one each time, with its own data.
//!
//! ```text
//! cargo xtask bench attacked [OPTIONS]
//! ```

mod attack;
mod crowd;
mod tokens;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_stand::{Machine, Samples, Scratch, Served, own_cpu, write_record};
use clap::Parser;
use serde_json::{Value, json};

use crate::attack::{ATTACKS, Attack, Done};
use crate::crowd::Crowd;
use crate::tokens::Tokens;

#[derive(Debug, Parser)]
#[command(about = "Measures how much later good clients get events while others attack the hub")]
struct Options {
    /// The release build of tidings.
    #[arg(long, value_name = "FILE", default_value = "target/release/tidings")]
    tidings: PathBuf,
    /// An argument more for `tidings serve`; may be repeated.
    #[arg(long = "serve-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arguments: Vec<String>,
    /// An attack to measure, all unless some are named; may be repeated.
    #[arg(long = "attack", value_name = "NAME", value_parser = ATTACKS.map(|attack| attack.name))]
    attacks: Vec<String>,
    /// How fast they come, in percent of their own rates.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each turn lasts.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Good streams.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Events a second, each to all streams.
    #[arg(long, default_value_t = 20)]
    events: u32,
    /// Where keys are kept meanwhile.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-data")]
    folder: PathBuf,
    /// A file for the record of the run.
    #[arg(long, value_name = "FILE", overrides_with = "json")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let machine = Machine::probe(&options.folder)?;
    let load_before = load_average()?;
    println!("{}\nLoad average before: {load_before}\n", machine.describe());
    let is_chosen = |attack: &Attack| {
        options.attacks.is_empty() || options.attacks.iter().any(|name| name == attack.name)
    };
    let at_rate = |attack: Attack| {
        let per_second = (attack.per_second * options.rate / 100).max(1);
        attack.at(per_second)
    };
    let chosen = ATTACKS.into_iter().filter(is_chosen).map(at_rate);
    let mut measured: Vec<_> = chosen.map(|attack| (attack, Vec::new())).collect();
    for round in 1..=options.rounds {
        let mut stage = Stage::start(&options)?;
        for place in 0..measured.len() {
            // Nobody is always the first.
            let place = (round + place) % measured.len();
            let (attack, rounds) = &mut measured[place];
            eprintln!("round {round} of {}: {}", options.rounds, attack.name);
            rounds.push(stage.measure(attack).context(attack.name)?);
        }
    }
    print_table(&measured);
    if let Some(path) = &options.json {
        let results = json!({
            "streams": options.streams,
            "events_per_second": options.events,
            "load_average_before": load_before,
            "attacks": measured.iter().map(to_json).collect::<Vec<_>>(),
        });
        write_record(path, &machine, &results)?;
    }
    Ok(())
}

/// What a round is played on.
struct Stage<'a> {
    options: &'a Options,
    tokens: Tokens,
    attacked: Served,
    /// Another hub, which serves no one.
    beside: Served,
    crowd: Crowd,
    _scratch: Scratch,
}

impl<'a> Stage<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        let scratch = Scratch::new(&options.folder)?;
        let key_file = scratch.path().join("keys.json");
        let tokens = Tokens::new(&key_file)?;
        let attacked = serve(options, &key_file, &scratch.path().join("attacked.log"))?;
        let beside = serve(options, &key_file, &scratch.path().join("beside.log"))?;
        let mut crowd = Crowd::open(attacked.address(), &tokens, options.streams)?;
        crowd.measure(options.events, WARM_UP)?;
        Ok(Self { options, tokens, attacked, beside, crowd, _scratch: scratch })
    }

    /// One round of one attack.
    fn measure(&mut self, attack: &Attack) -> Result<Round> {
        let (alone, usage_alone) = self.turn(|crowd| Ok((crowd()?, Done::default())))?;
        let (beside_at, attacked_at) = (self.beside.address(), self.attacked.address());
        let tokens = self.tokens.clone();
        let (beside, _) = self.turn(|crowd| attack.run(beside_at, &tokens, crowd))?;
        let (attacked, usage) = self.turn(|crowd| attack.run(attacked_at, &tokens, crowd))?;
        Ok(Round { alone, beside, attacked, usage_alone, usage })
    }

    fn turn(
        &mut self,
        run: impl FnOnce(&mut dyn FnMut() -> Result<Samples>) -> Result<(Samples, Done)>,
    ) -> Result<(Samples, Usage)> {
        let (events, time) = (self.options.events, Duration::from_secs(self.options.seconds));
        self.crowd.measure(events, SETTLING)?;
        let (hub_cpu, own_before, machine) = (self.attacked.cpu()?, own_cpu()?, machine_ticks()?);
        let begin = Instant::now();
        let crowd = &mut self.crowd;
        let (delays, done) = run(&mut || crowd.measure(events, time))?;
        let seconds = begin.elapsed().as_secs_f64();
        let of_a_core = |cpu: Duration| cpu.as_secs_f64() / seconds * 100.0;
        let (busy, all) = machine_ticks()?;
        let usage = Usage {
            attacks_per_second: done.count as f64 / seconds,
            hub_percent: of_a_core(self.attacked.cpu()? - hub_cpu),
            attack_percent: of_a_core(done.cpu),
            crowd_percent: of_a_core((own_cpu()? - own_before).saturating_sub(done.cpu)),
            machine_percent: (busy - machine.0) / (all - machine.1) * 100.0,
        };
        Ok((delays, usage))
    }
}

/// Starts a hub that says in a file what it has to say, for attacks may make it say much.
fn serve(options: &Options, key_file: &Path, said: &Path) -> Result<Served> {
    let mut command = Command::new(&options.tidings);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "memory", "--key-file"]);
    command.arg(key_file).args(&options.serve_arguments).stderr(File::create(said)?);
    Served::announced(&mut command)
        .with_context(|| fs::read_to_string(said).unwrap_or_else(|error| error.to_string()))
}

/// Delays in milliseconds, and what the first and the last turn took.
struct Round {
    alone: Samples,
    beside: Samples,
    attacked: Samples,
    usage_alone: Usage,
    usage: Usage,
}

struct Usage {
    attacks_per_second: f64,
    /// Of one core, as the others but the last.
    hub_percent: f64,
    attack_percent: f64,
    crowd_percent: f64,
    /// Of all cores, by whatever runs there.
    machine_percent: f64,
}

impl Round {
    /// Name and value of all that is measured.
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let p99 = |delays: &Samples| delays.quantile(0.99);
        vec![
            ("p99_attacked_to_alone", p99(&self.attacked) / p99(&self.alone)),
            ("p50_attacked_to_alone", self.attacked.median() / self.alone.median()),
            ("p99_beside_to_alone", p99(&self.beside) / p99(&self.alone)),
            ("p99_attacked_to_beside", p99(&self.attacked) / p99(&self.beside)),
            ("attacks_per_second", self.usage.attacks_per_second),
            ("hub_percent_of_a_core", self.usage.hub_percent),
            ("attackers_percent_of_a_core", self.usage.attack_percent),
            ("crowd_percent_of_a_core", self.usage.crowd_percent),
            ("machine_percent", self.usage.machine_percent),
            ("alone_hub_percent_of_a_core", self.usage_alone.hub_percent),
            ("alone_machine_percent", self.usage_alone.machine_percent),
            ("alone_p50_ms", self.alone.median()),
            ("alone_p99_ms", p99(&self.alone)),
            ("beside_p50_ms", self.beside.median()),
            ("beside_p99_ms", p99(&self.beside)),
            ("attacked_p50_ms", self.attacked.median()),
            ("attacked_p99_ms", p99(&self.attacked)),
        ]
    }
}

/// All rounds of each figure.
fn columns(rounds: &[Round]) -> Vec<(&'static str, Samples)> {
    let all: Vec<_> = rounds.iter().map(Round::figures).collect();
    let column = |at: usize| Samples::new(all.iter().map(|figures| figures[at].1).collect());
    (0..all[0].len()).map(|at| (all[0][at].0, column(at))).collect()
}

fn print_table(measured: &[(Attack, Vec<Round>)]) {
    println!(
        "| attack | p99, attacked / alone | p50 | p99, beside / alone | attacks/s | hub, % of a \
         core | attackers | good clients | machine, % |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut limits = Vec::new();
    for (attack, rounds) in measured {
        let columns = columns(rounds);
        let [p99, p50, beside, _, rate, hub, attackers, crowd, machine] = &columns[..9] else {
            unreachable!("there are more figures");
        };
        print!("| {}: {} |", attack.name, attack.title);
        for (_, samples) in [p99, p50, beside, rate, hub, attackers, crowd, machine] {
            print!(" {samples} |");
        }
        println!();
        let (rate, wanted) = (rate.1.median(), f64::from(attack.per_second));
        if rate < 0.9 * wanted {
            limits.push(format!("Of {wanted} a second, {rate:.0} came of {}.", attack.name));
        }
        if machine.1.median() > 90.0 {
            limits.push(format!("The processors were the limit for {}.", attack.name));
        }
    }
    println!(
        "\nNo event was lost, doubled, out of order or changed. Values are medians of rounds, and \
         their range.\nBeside: the same attack on another hub of this machine."
    );
    limits.iter().for_each(|limit| println!("{limit}"));
}

fn to_json((attack, rounds): &(Attack, Vec<Round>)) -> Value {
    let figures = columns(rounds).into_iter();
    let figures = figures.map(|(name, samples)| (name.to_owned(), samples.to_json()));
    json!({
        "attack": attack.name,
        "title": attack.title,
        "wanted_per_second": attack.per_second,
        "figures": figures.collect::<serde_json::Map<_, _>>(),
        "rounds": rounds.iter().map(round_to_json).collect::<Vec<_>>(),
    })
}

fn round_to_json(round: &Round) -> Value {
    let figures = round.figures().into_iter();
    let figures = figures.map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(figures.collect())
}

fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// How long all cores were busy, and how long they were there, in ticks.
fn machine_ticks() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("the first line is of all cores")?;
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat begins with {line}");
    let all: f64 = ticks[..8].iter().sum();
    // The fourth and fifth are of cores that have nothing to do, or wait for a disk.
    Ok((all - ticks[3] - ticks[4], all))
}

const WARM_UP: Duration = Duration::from_secs(1);

/// Before each turn, for what is left of the one before.
const SETTLING: Duration = Duration::from_millis(250);
