//! Which seeds run: those that once failed, always; then as many as are asked for.
//!
//! `ONDUTY_SIM_SEEDS=200` runs 200 of each test, `ONDUTY_SIM_SEED=7` that one alone.

use std::io::Write as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The seeds of a test that by itself runs `usual` of them.
///
/// # Panics
///
/// When a variable or the file holds something that is no number.
#[must_use]
pub fn seeds(test: &str, usual: u64) -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("`{name}` must be a number, not `{text}`")))
    };
    if let Some(one) = number("ONDUTY_SIM_SEED") {
        return vec![one];
    }
    let many: u64 = number("ONDUTY_SIM_SEEDS").unwrap_or(usual);
    let mut all = regressions(test);
    let kept = all.len();
    all.extend((1..=many).filter(|seed| !regressions(test).contains(seed)));
    // Written past the capture of the test runner: people are to see how much was looked at.
    let _ = writeln!(std::io::stderr(), "{test}: {} seeds ({kept} of them kept from before)", all.len());
    all
}

/// The kept seeds of a test: those in `regressions/<test>.txt`, one per line, with the finding after `#`.
fn regressions(test: &str) -> Vec<u64> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(test).with_extension("txt");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let seeds = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    seeds
        .filter(|seed| !seed.is_empty())
        .map(|seed| seed.parse().unwrap_or_else(|_| panic!("`{seed}` in {} is no seed", file.display())))
        .collect()
}

/// Runs a test once per seed.
pub fn each(test: &str, usual: u64, run: impl Fn(u64)) {
    for seed in seeds(test, usual) {
        run(seed);
    }
}

/// Runs a test once per seed on every core: a life has a thread for itself, and none knows of another.
///
/// # Panics
///
/// With the first failure, after every thread has come to the end of its life of now.
pub fn each_at_once(test: &str, usual: u64, run: impl Fn(u64) + Sync) {
    let (seeds, next) = (seeds(test, usual), AtomicUsize::new(0));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(*seed);
        }
    };
    let failed = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).next()
    });
    if let Some(failed) = failed {
        resume_unwind(failed);
    }
}
