//! The promises of the pair on two network namespaces, as root: cut links, one-way links, firewalls that reject, and two
//! cables of which one or both are cut (`paths`), and forged resets (`reset`).
//!
//! ```text
//!   primary 10.77.N.1 ════ veth ════ 10.77.N.2 secondary
//! ```
//!
//! With arbitration `none` a cut makes both nodes active, for a node cannot tell a cut from a crash; what is promised is
//! when, that both say so, and that contact heals it by the rule. A machine without namespaces skips these tests loudly;
//! `ONDUTY_TEST_NETNS=required` turns the skip into a failure.

mod paths;
mod reset;

use std::time::Duration;

use test_support::{
    Link, Node, Pair, PairOptions, Profile, Side, boot_ns, ms_between, netns_wanted, timed, until,
};

/// What a busy machine may take longer than the documented bound.
const SLACK: f64 = 3.0;
/// How long anything may take that has no documented bound.
const PATIENCE: Duration = Duration::from_secs(30);

/// A redundant pair on two namespaces; the link is dropped after the pair.
fn pair(change: impl FnOnce(PairOptions) -> PairOptions) -> (Pair, Link) {
    let link = Link::new();
    let side = |side: Side| (link.namespace(side), link.address(side));
    let options = PairOptions::new(env!("CARGO_BIN_EXE_onduty"));
    let options = PairOptions { network: Some([side(Side::A), side(Side::B)]), ..options };
    (Pair::running(change(options)), link)
}

/// Waits for a node's canary to write after a time; gives the time of that line.
#[track_caller]
fn runs_again(pair: &Pair, node: &Node, after_ns: u64) -> u64 {
    let what = format!("the canary of {}", node.name());
    until(&what, PATIENCE, || pair.canary().first_of(node.name(), after_ns).map(|stamp| stamp.boot_ns))
}

#[track_caller]
fn tells(node: &Node, code: &str) {
    let what = format!("the event `{code}` of {}", node.name());
    let said = || node.ask(&["events", "--json", "--limit", "500"]).stdout.contains(&format!("\"{code}\""));
    until(&what, PATIENCE, || said().then_some(()));
}

/// Asserts that a takeover came neither before the silence was long enough nor much later.
#[track_caller]
fn in_time(profile: Profile, fault_ns: u64, running_ns: u64) {
    let took = ms_between(fault_ns, running_ns);
    let timeout = profile.timeout().as_secs_f64() * 1000.0;
    let interval = profile.interval().as_secs_f64() * 1000.0;
    // The last acknowledged heartbeat is at most one interval (and a round trip) older than the fault.
    assert!(took >= timeout - interval - 50.0, "took over {took:.1} ms after the fault: before its time");
    let allowed = (timeout + 50.0) * SLACK;
    assert!(took <= allowed, "took over {took:.1} ms after the fault, allowed are {allowed} ms");
}

/// Lets both run for a while, long enough for either to have told that it is active.
#[track_caller]
fn both_run(pair: &Pair, from_ns: u64) {
    until("both to run", PATIENCE, || (ms_between(from_ns, boot_ns()) > 500.0).then_some(()));
    assert!(pair.canary().overlap_ms() > 0.0, "both run: that is what arbitration `none` can do");
}

/// The primary keeps the duty after contact, the secondary stops, both tell how long both ran.
#[track_caller]
fn healed(pair: &Pair) {
    pair.redundant();
    let since = boot_ns();
    until("a quiet second", PATIENCE, || (ms_between(since, boot_ns()) > 1000.0).then_some(()));
    let canary = pair.canary();
    assert!(canary.first_of("node-b", since).is_none(), "the secondary stopped: {:#?}", canary.activities());
    assert!(pair.secondary.plugins().is_empty());
    let activities = canary.activities();
    let highest = activities.iter().max_by_key(|run| run.epoch).expect("somebody ran");
    assert_eq!(highest.node, "node-a", "the winner has announced itself with a new epoch: {activities:#?}");
}

#[test]
fn a_cut_link_makes_both_active_says_so_and_heals_by_the_rule() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options);
    let before = boot_ns();
    link.cut();
    let running = runs_again(&pair, &pair.secondary, before);
    in_time(Profile::Fast, before, running);
    both_run(&pair, running);
    pair.primary.reaches("the warning", PATIENCE, |status| status.warns("peer_disconnected"));

    link.restore();
    tells(&pair.primary, "conflict_found");
    tells(&pair.secondary, "conflict_found");
    healed(&pair);
    tells(&pair.primary, "conflict_healed");
    let said = pair.primary.ask(&["events", "--json", "--limit", "500"]).stdout;
    assert!(said.contains("overlap_ms"), "the overlap is measured: {said}");
}

#[test]
fn a_link_that_loses_one_direction_counts_as_cut() {
    if !netns_wanted() {
        return;
    }
    for side in [Side::A, Side::B] {
        let _turn = timed();
        let (pair, link) = pair(|options| options);
        let before = boot_ns();
        link.drop_arriving(side);
        let running = runs_again(&pair, &pair.secondary, before);
        in_time(Profile::Fast, before, running);
        link.allow(side);
        healed(&pair);
    }
}

#[test]
fn a_firewall_that_rejects_is_not_a_proof_of_death() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options.profile(Profile::Standard));
    let before = boot_ns();
    link.reject_arriving(Side::A, pair.port);
    let running = runs_again(&pair, &pair.secondary, before);
    in_time(Profile::Standard, before, running);
    link.allow(Side::A);
    healed(&pair);
}

#[test]
fn an_active_secondary_that_is_cut_off_is_followed_by_the_primary_in_time() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(PairOptions::manual);
    pair.move_to_secondary();
    let before = boot_ns();
    link.cut();
    let running = runs_again(&pair, &pair.primary, before);
    in_time(Profile::Fast, before, running);
    both_run(&pair, running);
    link.restore();
    tells(&pair.primary, "conflict_found");
}

#[test]
fn a_short_cut_changes_nothing() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options.profile(Profile::Standard));
    let before = boot_ns();
    link.cut();
    until("one second", PATIENCE, || (ms_between(before, boot_ns()) > 1000.0).then_some(()));
    link.restore();
    pair.redundant();
    let since = boot_ns();
    until("longer than the takeover time", PATIENCE, || {
        (ms_between(since, boot_ns()) > 3500.0).then_some(())
    });
    let canary = pair.canary();
    assert!(canary.first_of("node-b", 0).is_none(), "nobody took over: {:#?}", canary.activities());
    assert!(canary.longest_outage_ms(before) < 500.0, "the plugins are undisturbed");
}
