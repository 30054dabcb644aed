//! Which seeds run: those that once failed, always; then as many as are asked for.
//!
//! `ONDUTY_SIM_SEEDS=200` runs 200 of each test, `ONDUTY_SIM_SEED=7` that one alone.

use std::io::Write as _;

/// Seeds that once found something: one per line, with the finding after `#`.
const REGRESSIONS: &str = include_str!("../regressions.txt");

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

/// The kept seeds of a test.
fn regressions(test: &str) -> Vec<u64> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines
        .filter(|line| !line.is_empty())
        .filter_map(|line| line.split_once(' '))
        .filter(|(of, _)| *of == test)
        .map(|(_, seed)| {
            seed.trim().parse().unwrap_or_else(|_| panic!("`{seed}` in regressions.txt is no seed"))
        })
        .collect()
}

/// Runs a test once per seed.
pub fn each(test: &str, usual: u64, run: impl Fn(u64)) {
    for seed in seeds(test, usual) {
        run(seed);
    }
}
