//! The promises of the pair, on real processes: each test is a story with a fault, and asserts who ran when from what
//! the canaries have written, not from what onduty says about itself.
//!
//! ```text
//!   crash.rs      kill -9, freeze: of the manager, of everything, of either node
//!   planned.rs    hand-back, SIGTERM, switchover, maintenance
//!   modes.rs      the swap of the roles as documented, deactivation, kills on the way
//!   startup.rs    both cold in every order, a secondary that goes and comes
//!   refused.rs    wrong keys, wrong roles, strangers and garbage on the port
//!   settings.rs   files that are wrong, ports that are taken, programs that are not there
//!   hostile.rs    peers that know too little, too much or the wrong things, and a man in the middle
//!   flood.rs      ten thousand strangers, and a peer that floods
//!   operators.rs  who may give orders, and from where
//!   storage.rs    disks that are full, read-only or slow, and files that are damaged
//!   leaks.rs      whether the key is anywhere it should not be
//!   attacker.rs   what these attack with: a client that does what it likes, wires to cut, a relay
//! ```
//!
//! Bounds are those of the documentation times [`SLACK`], because the machine may be busy with other work; overlap and
//! order get no slack at all. The figures themselves come from `benches/takeover`.

mod attacker;
mod crash;
mod flood;
mod hostile;
mod leaks;
mod modes;
mod operators;
mod planned;
mod refused;
mod settings;
mod startup;
mod storage;

use std::time::Duration;

use test_support::{Node, Pair, PairOptions, ms_between, until};

/// What a busy machine may take longer than the documented bound.
const SLACK: f64 = 3.0;
/// How long anything may take that has no documented bound.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pair of the program under test.
fn options() -> PairOptions {
    PairOptions::new(env!("CARGO_BIN_EXE_onduty"))
}

/// Asserts that something took at most the documented time, with slack.
#[track_caller]
fn at_most(what: &str, bound_ms: f64, from_ns: u64, to_ns: u64) {
    let took = ms_between(from_ns, to_ns);
    assert!(
        took <= bound_ms * SLACK,
        "{what} took {took:.1} ms; documented: {bound_ms} ms, allowed: × {SLACK}"
    );
}

/// Waits for a node's canary to write after a time; gives the time of that line.
#[track_caller]
fn runs_again(pair: &Pair, node: &Node, after_ns: u64) -> u64 {
    let what = format!("the canary of {}", node.name());
    until(&what, PATIENCE, || pair.canary().first_of(node.name(), after_ns).map(|stamp| stamp.boot_ns))
}

/// Asserts that nodes never ran at once, and that epochs only grew.
#[track_caller]
fn one_at_a_time(pair: &Pair) {
    let canary = pair.canary();
    let overlap = canary.overlap_ms();
    assert!(overlap <= 0.0, "both ran for {overlap:.1} ms: {:#?}", canary.activities());
    assert_eq!(canary.epochs_in_order(), Ok(()), "{:#?}", canary.activities());
}

/// Asserts that a node's canary is undisturbed for some time: it writes on, and under the same epoch.
#[track_caller]
fn undisturbed(pair: &Pair, node: &Node, since_ns: u64) {
    let canary = pair.canary();
    let later: Vec<_> = canary.activities().into_iter().filter(|run| run.last_ns >= since_ns).collect();
    assert!(
        later.len() == 1 && later[0].node == node.name(),
        "only {} should run on: {later:#?}",
        node.name()
    );
    let gap = canary.longest_outage_ms(since_ns);
    assert!(gap < 500.0, "{} did not run for {gap:.1} ms", node.name());
}

/// Whether the journal of a node has an event of this kind.
fn has_event(node: &Node, code: &str) -> bool {
    node.ask(&["events", "--json", "--limit", "500"]).stdout.contains(&format!("\"{code}\""))
}

/// How many events of this kind the journal of a node has.
fn count_of(node: &Node, code: &str) -> usize {
    node.ask(&["events", "--json", "--limit", "500"]).stdout.matches(&format!("\"{code}\"")).count()
}

/// How many sessions a node has had since its first start.
fn sessions(node: &Node) -> usize {
    node.log().matches("a session was proved").count()
}

/// Waits until the journal of a node has an event of this kind.
#[track_caller]
fn tells(node: &Node, code: &str) {
    let what = format!("the event `{code}` of {}", node.name());
    until(&what, PATIENCE, || has_event(node, code).then_some(()));
}
