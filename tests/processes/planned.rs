//! Planned moves: the way back, a stop, a switchover, maintenance. None of them may ever run both nodes at once.

use test_support::{Pair, Signal, beside_others, boot_ns, ms_between, timed};

use crate::{PATIENCE, SLACK, has_event, one_at_a_time, options, runs_again, tells, undisturbed};

/// What a planned move may cost besides stop and start of the plugins.
const MOVE_MS: f64 = 30.0;
/// Stop of a canary (it dies of SIGTERM) and its start until the first line.
const STOP_AND_START_MS: f64 = 100.0;

/// Asserts how long nobody ran around the newest move.
#[track_caller]
fn short_gap(pair: &Pair, since_ns: u64) {
    let gap = pair.canary().longest_outage_ms(since_ns);
    let allowed = (MOVE_MS + STOP_AND_START_MS) * SLACK;
    assert!(gap <= allowed, "nobody ran for {gap:.1} ms, allowed are {allowed} ms");
}

#[test]
fn a_primary_that_is_back_takes_the_duty_back_without_overlap() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let killed = pair.primary.kill_manager();
    let taken = runs_again(&pair, &pair.secondary, killed);

    pair.primary.start();
    runs_again(&pair, &pair.primary, taken);
    pair.redundant();
    short_gap(&pair, taken);
    one_at_a_time(&pair);
    tells(&pair.secondary, "redundancy_inactive");
}

#[test]
fn sigterm_of_the_active_node_hands_over_first() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let asked = pair.primary.signal(Signal::SIGTERM);
    let running = runs_again(&pair, &pair.secondary, asked);
    short_gap(&pair, asked);
    let ended = pair.primary.ended(PATIENCE);
    assert!(ended.success(), "a stop that was asked for succeeds: {ended}");
    assert!(pair.primary.plugins().is_empty());
    undisturbed(&pair, &pair.secondary, running);
    one_at_a_time(&pair);
}

#[test]
fn a_stop_of_the_standby_ends_it_without_disturbing_the_active_node() {
    let _turn = beside_others();
    let mut pair = Pair::running(options());
    let asked = pair.secondary.signal(Signal::SIGTERM);
    assert!(pair.secondary.ended(PATIENCE).success());
    undisturbed(&pair, &pair.primary, asked);
    assert!(pair.secondary.onduty_processes().is_empty(), "the guard went with it");
}

#[test]
fn a_switchover_moves_the_duty_there_and_back() {
    let _turn = timed();
    let pair = Pair::running(options().manual());
    let check = pair.primary.ask(&["switchover", "--check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let begun = boot_ns();
    undisturbed(&pair, &pair.primary, pair.canary().newest().map_or(begun, |stamp| stamp.boot_ns));

    pair.move_to_secondary();
    let running = runs_again(&pair, &pair.secondary, begun);
    short_gap(&pair, begun);

    // Asked at the standby this time: either node may be asked.
    let answer = pair.primary.ask(&["switchover"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let back = runs_again(&pair, &pair.primary, running);
    assert!(ms_between(running, back) > 0.0);
    pair.redundant();
    short_gap(&pair, begun);
    one_at_a_time(&pair);
    tells(&pair.primary, "handover_done");
}

#[test]
fn a_switchover_without_a_peer_is_refused_with_the_reason_and_changes_nothing() {
    let _turn = beside_others();
    let mut pair = Pair::running(options());
    pair.secondary.kill_everything();
    pair.primary.reaches("the warning", PATIENCE, |status| status.warns("peer_disconnected"));
    let before = boot_ns();
    let answer = pair.primary.ask(&["switchover"]);
    assert_eq!(answer.code, Some(5), "refused: {answer:?}");
    assert!(!answer.stderr.trim().is_empty(), "with a reason: {answer:?}");
    runs_again(&pair, &pair.primary, boot_ns());
    undisturbed(&pair, &pair.primary, before);
}

#[test]
fn maintenance_holds_a_takeover_back_until_it_is_ended() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let answer = pair.secondary.ask(&["maintenance", "on", "--reason", "new cable", "--for", "1h"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    pair.primary
        .reaches("maintenance on both nodes", PATIENCE, |status| status.0.to_string().contains("new cable"));

    let killed = pair.primary.kill_manager();
    tells(&pair.secondary, "maintenance_holds");
    assert!(pair.canary().first_of("node-b", 0).is_none(), "maintenance holds the takeover back");
    let answer = pair.secondary.ask(&["maintenance", "off"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    runs_again(&pair, &pair.secondary, killed);
    one_at_a_time(&pair);
    assert!(has_event(&pair.secondary, "maintenance_cleared"));
}
