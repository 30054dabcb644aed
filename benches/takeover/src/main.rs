//! How long a takeover takes: real nodes on this machine, the fault at a random phase of the heartbeat interval, many
//! rounds, one table. Called by `just bench`, on an otherwise idle machine.
//!
//! ```text
//!   takeover [--apart] [--rounds N] [--only WORD] [--binary FILE] [--steady MINUTES]
//!
//!   for each scenario: N × ( fresh pair ─► redundancy ─► random wait ─► fault ─► first line of the other canary )
//!   ──► figure, min / median / max, overlap, verdict
//! ```
//!
//! "Running" is the first line that the canary of the other node writes, counted from just before the fault; a "gap" is
//! the longest time around a planned move in which no canary wrote. Verdict: median ≤ figure, maximum ≤ figure + 150 ms,
//! overlap 0. With `--apart` each service is a process of its own, and its figures have 20 ms more. Ends with 1 when a verdict is not met, with 2 when it is called wrongly.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring tool talks through its two streams"
)]

mod scenarios;
mod steady;

use std::path::PathBuf;
use std::process::ExitCode;

use scenarios::{ALL, APART, Round, Scenario};

/// What the slowest of all rounds may take longer than the figure: the scheduling of a busy machine.
const TAIL_MS: f64 = 150.0;
const USAGE: &str = "usage: takeover [--apart] [--rounds N] [--only WORD] [--binary FILE] [--steady MINUTES]";

struct Arguments {
    apart: bool,
    rounds: usize,
    only: Option<String>,
    binary: PathBuf,
    steady_minutes: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let met = match arguments.steady_minutes {
        Some(minutes) => steady::measure(&arguments.binary, minutes, arguments.apart),
        None => takeovers(&arguments),
    };
    if met { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed =
            Self { apart: false, rounds: 20, only: None, binary: beside_us(), steady_minutes: None };
        while let Some(word) = words.next() {
            if word == "--apart" {
                parsed.apart = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
            match word.as_str() {
                "--rounds" => parsed.rounds = usize::try_from(number()?.clamp(1, 10_000)).unwrap_or(1),
                "--only" => parsed.only = Some(value),
                "--binary" => parsed.binary = PathBuf::from(value),
                "--steady" => parsed.steady_minutes = Some(number()?),
                other => return Err(format!("`{other}` is unknown")),
            }
        }
        if parsed.binary.is_file() {
            return Ok(parsed);
        }
        Err(format!(
            "{} is not there; build it with `cargo build --release -p onduty`",
            parsed.binary.display()
        ))
    }
}

/// The program of the same build: it lies beside this one.
fn beside_us() -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|path| Some(path.parent()?.join("onduty"))).unwrap_or_else(|| PathBuf::from("onduty"))
}

/// Runs every scenario; gives whether all verdicts are met.
fn takeovers(arguments: &Arguments) -> bool {
    let wanted = |scenario: &&Scenario| {
        let title = format!("{} ({})", scenario.name, scenario.profile.name());
        arguments.only.as_ref().is_none_or(|word| title.contains(word.as_str()))
    };
    println!(
        "{:<48} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "scenario", "rounds", "figure", "min", "median", "max", "overlap"
    );
    let mut all_met = true;
    let scenarios = if arguments.apart { APART } else { ALL };
    for scenario in scenarios.iter().filter(wanted) {
        let Some(rounds) = scenario.rounds(&arguments.binary, arguments.rounds) else {
            println!("{:<48} skipped: needs root and network namespaces", scenario.name);
            continue;
        };
        all_met &= report(scenario, &rounds);
    }
    all_met
}

/// One line of the table; gives whether its verdict is met.
fn report(scenario: &Scenario, rounds: &[Round]) -> bool {
    let mut times: Vec<f64> = rounds.iter().map(|round| round.ms).collect();
    times.sort_by(f64::total_cmp);
    let (min, median, max) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let overlap = rounds.iter().map(|round| round.overlap_ms).fold(0.0, f64::max);
    let figure = scenario.figure_ms;
    let overlap_allowed = scenario.may_overlap || overlap <= 0.0;
    let met = median <= figure && max <= figure + TAIL_MS && overlap_allowed;
    let title = format!("{} ({})", scenario.name, scenario.profile.name());
    println!(
        "{title:<48} {:>6} {figure:>8.0} {min:>8.1} {median:>8.1} {max:>8.1} {overlap:>8.1}  {}",
        rounds.len(),
        if met { "met" } else { "NOT MET" }
    );
    met
}
