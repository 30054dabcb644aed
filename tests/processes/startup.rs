//! Beginnings: both nodes cold in every order, and a standby that goes and comes.

use std::time::Duration;

use test_support::{Node, Pair, Profile, beside_others, boot_ns, timed};

use crate::{PATIENCE, at_most, one_at_a_time, options, runs_again, tells, undisturbed};

/// Starts the nodes in an order, and expects exactly one of them to run: the primary.
fn cold_start(first_and_second: impl FnOnce(&mut Pair)) {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    first_and_second(&mut pair);
    pair.redundant();
    one_at_a_time(&pair);
    assert!(pair.canary().first_of("node-b", 0).is_none(), "the secondary never ran");
}

fn answers(node: &Node) {
    node.reaches("an answer", PATIENCE, |_| true);
}

#[test]
fn both_cold_at_once() {
    cold_start(|pair| {
        pair.primary.start();
        pair.secondary.start();
    });
}

#[test]
fn both_cold_the_primary_first() {
    cold_start(|pair| {
        pair.primary.start();
        answers(&pair.primary);
        pair.secondary.start();
    });
}

#[test]
fn both_cold_the_secondary_first() {
    cold_start(|pair| {
        pair.secondary.start();
        answers(&pair.secondary);
        pair.primary.start();
    });
}

#[test]
fn after_a_power_cut_the_pair_finds_back_also_when_the_secondary_was_active() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let killed = pair.primary.kill_manager();
    runs_again(&pair, &pair.secondary, killed);
    pair.secondary.kill_everything();
    pair.secondary.clean_up();
    pair.primary.clean_up();

    let powered = boot_ns();
    pair.secondary.start();
    pair.primary.start();
    runs_again(&pair, &pair.primary, powered);
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn a_primary_without_a_peer_runs_after_its_startup_wait() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    let status = pair.primary.reaches("active", PATIENCE, |status| status.state() == "active");
    assert_ne!(status.redundancy(), "ready", "nobody could take over: {status:?}");
}

#[test]
fn a_secondary_that_was_never_paired_does_not_run_alone() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let patient = format!("{}\n", pair.secondary.settings());
    let short = patient.replace("trust = \"all\"", "trust = \"all\"\nstartup_wait = \"500ms\"");
    pair.secondary.settle(&short);
    pair.secondary.start();
    let begun = boot_ns();
    answers(&pair.secondary);
    // Well beyond start-up wait and takeover time.
    test_support::until("three seconds", PATIENCE, || {
        (test_support::ms_between(begun, boot_ns()) > 3000.0).then_some(())
    });
    assert!(pair.canary().newest().is_none(), "the primary may well be running somewhere");
    assert!(pair.secondary.plugins().is_empty());
}

#[test]
fn a_stopped_secondary_is_a_warning_that_disturbs_nothing_and_goes_when_it_is_back() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let killed = pair.secondary.kill_everything();
    let limit = Duration::from_secs(10);
    pair.primary.reaches("the warning", limit, |status| status.warns("peer_disconnected"));
    let bound = Profile::Fast.timeout().as_secs_f64() * 1000.0 + 100.0;
    at_most("the warning", bound, killed, boot_ns());
    tells(&pair.primary, "peer_disconnected");

    pair.secondary.start();
    pair.primary.reaches("the warning to go", limit, |status| !status.warns("peer_disconnected"));
    pair.redundant();
    tells(&pair.primary, "peer_connected");
    undisturbed(&pair, &pair.primary, killed);
    one_at_a_time(&pair);
}
