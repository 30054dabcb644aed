//! The steps and verdicts of stories with a fault, by what the canaries have written.

use std::time::Duration;

use crate::{Canary, Node, Pair, ms_between, until};

/// What a busy machine may take longer than the documented bound. The figures themselves are measured by `benches/takeover`.
pub const SLACK: f64 = 3.0;
/// How long anything may take that has no documented bound; far above what it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a canary that runs is ever silent on a busy machine, shorter than any takeover by silence.
const UNDISTURBED_MS: f64 = 450.0;

/// Waits for a node's canary to write after a time; gives the time of that line.
///
/// # Panics
///
/// When it does not write.
#[track_caller]
pub fn runs_again(pair: &Pair, node: &Node, after_ns: u64) -> u64 {
    let what = format!("the canary of {}", node.name());
    until(&what, PATIENCE, || pair.canary().first_of(node.name(), after_ns).map(|stamp| stamp.boot_ns))
}

/// Asserts that nodes never ran at once, and that epochs only grew.
///
/// # Panics
///
/// When it is not so.
#[track_caller]
pub fn one_at_a_time(pair: &Pair) {
    let canary = pair.canary();
    let overlap = canary.overlap_ms();
    assert!(overlap <= 0.0, "both ran for {overlap:.1} ms: {:#?}", canary.activities());
    assert_eq!(canary.epochs_in_order(), Ok(()), "{:#?}", canary.activities());
}

/// Asserts that something took at most the documented time, with [`SLACK`].
///
/// # Panics
///
/// When it took longer.
#[track_caller]
#[allow(clippy::print_stdout, reason = "the measured times are worth reading")]
pub fn at_most(what: &str, bound_ms: f64, from_ns: u64, to_ns: u64) {
    let took = ms_between(from_ns, to_ns);
    println!("{what}: {took:.1} ms");
    assert!(
        took <= bound_ms * SLACK,
        "{what} took {took:.1} ms; documented: {bound_ms} ms, allowed: × {SLACK}"
    );
}

/// Asserts that a node's canary is undisturbed since a time: it alone writes, under one epoch, without a pause.
///
/// # Panics
///
/// When it is not so.
#[track_caller]
pub fn undisturbed(pair: &Pair, node: &Node, since_ns: u64) {
    // What happened may have taken less time than it has between two of its words.
    let spoke = |canary: &Canary| canary.newest().is_some_and(|stamp| stamp.boot_ns >= since_ns);
    let canary = until("the canary's next word", PATIENCE, || Some(pair.canary()).filter(spoke));
    let later: Vec<_> = canary.activities().into_iter().filter(|run| run.last_ns >= since_ns).collect();
    assert!(
        later.len() == 1 && later[0].node == node.name(),
        "only {} should run on: {later:#?}",
        node.name()
    );
    let gap = canary.longest_outage_ms(since_ns);
    assert!(gap < UNDISTURBED_MS, "{} did not run for {gap:.1} ms", node.name());
}
