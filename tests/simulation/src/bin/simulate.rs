//! Lives many lives: `simulate [--from SEED] [--count N] [--state FILE] [--shrink SEED] [--tell SEED] [--broken RULE]`.
//!
//! `--tell` prints one life, `--shrink` makes a failing one shorter, `--broken` lives them with a machine that breaks a rule
//! (`arrival`, `start`, `reaped`, `refused`) until it is caught.
//!
//! Every seed that breaks an invariant is printed with what it broke, and the run goes on. With `--state` the next seed is
//! kept in a file and the next run goes on there. Ends with 1 when a seed failed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for people, with a real clock"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use failover_core::Rules;
use simulation::chaos::{Plan, Weather, live, outcome, seed_fails, shrink};

/// Between two lines of progress.
const TELLS_EVERY: Duration = Duration::from_secs(30);

struct Wanted {
    from: u64,
    count: u64,
    state: Option<PathBuf>,
    shrink: Option<u64>,
    tell: Option<u64>,
    broken: Option<Rules>,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted { from: 1, count: 1000, state: None, shrink: None, tell: None, broken: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{word}` needs a number, not `{value}`"));
        match word.as_str() {
            "--from" => wanted.from = number()?,
            "--count" => wanted.count = number()?,
            "--shrink" => wanted.shrink = Some(number()?),
            "--tell" => wanted.tell = Some(number()?),
            "--broken" => wanted.broken = Some(rules(&value)?),
            "--state" => wanted.state = Some(PathBuf::from(value)),
            _ => {
                return Err(format!(
                    "`{word}` is no option: --from, --count, --state, --shrink, --tell, --broken"
                ));
            }
        }
    }
    Ok(wanted)
}

fn rules(name: &str) -> Result<Rules, String> {
    Ok(match name {
        "arrival" => Rules::COUNT_FROM_ARRIVAL,
        "start" => Rules::NO_STARTUP_WAIT,
        "reaped" => Rules::STANDBY_BEFORE_REAPED,
        "refused" => Rules::REFUSED_IS_DEAD,
        _ => return Err(format!("`{name}` is no rule: arrival, start, reaped, refused")),
    })
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if wanted.broken.is_some() {
        let caught = seed_fails(wanted.from..wanted.from + wanted.count, wanted.broken);
        let Some((seed, lived, failure)) = caught else {
            println!("not caught by {} seeds", wanted.count);
            return ExitCode::FAILURE;
        };
        println!("caught by seed {seed}, life {lived}: {}", failure.lines().next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = wanted.tell {
        println!("{}", live(&Plan::draw(seed), None).told);
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = wanted.shrink {
        return match shrink(&Plan::draw(seed)) {
            Some((_, failure)) => {
                println!("{failure}");
                ExitCode::FAILURE
            }
            None => {
                println!("seed {seed} breaks nothing");
                ExitCode::SUCCESS
            }
        };
    }
    many(&wanted)
}

fn many(wanted: &Wanted) -> ExitCode {
    let kept = wanted.state.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    let first = kept.and_then(|text| text.trim().parse().ok()).unwrap_or(wanted.from).max(wanted.from);
    let end = wanted.from + wanted.count;
    let (begun, mut told) = (Instant::now(), Instant::now());
    let (mut failed, mut steps_back, mut refused, mut lived) = (Vec::new(), 0, 0_u64, Duration::ZERO);
    for seed in first..end {
        let plan = Plan::draw(seed);
        refused += u64::from(plan.refused);
        match outcome(&plan, None) {
            Ok(ended) => {
                steps_back += u64::from(ended.steps_back > 0);
                if ended.steps_back > 0 && plan.weather == Weather::Fair {
                    println!("seed {seed}: an epoch stepped back in fair weather");
                }
                lived += ended.lasted;
            }
            Err(failure) => {
                println!("seed {seed}: {}", failure.lines().next().unwrap_or_default());
                failed.push(seed);
            }
        }
        if told.elapsed() >= TELLS_EVERY || seed + 1 == end {
            told = Instant::now();
            if let Some(file) = &wanted.state
                && let Err(error) = std::fs::write(file, (seed + 1).to_string())
            {
                eprintln!("{}: {error}", file.display());
            }
            println!(
                "{} of {} seeds ({first}..={seed}), {} failed, {steps_back} with an epoch that stepped back, \
                 {refused} drafts of settings refused, {} s simulated in {} s",
                seed + 1 - first,
                end - first,
                failed.len(),
                lived.as_secs(),
                begun.elapsed().as_secs()
            );
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
