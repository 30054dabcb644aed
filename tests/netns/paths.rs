//! A pair on two cables: one cut, both cut, one that flaps, and a crash while one is cut.

use std::fs;
use std::time::Duration;

use test_support::{
    Link, Node, Pair, PairOptions, Profile, Side, Status, boot_ns, ms_between, netns_wanted, timed, until,
};

use super::{PATIENCE, SLACK, healed, in_time, runs_again, tells};

/// A redundant pair on two cables; the link is dropped after the pair.
fn pair(change: impl FnOnce(PairOptions) -> PairOptions) -> (Pair, Link) {
    let link = Link::with_two_cables();
    let side = |side: Side| (link.namespace(side), link.address(side));
    let options = PairOptions::new(env!("CARGO_BIN_EXE_onduty"));
    let options = PairOptions { network: Some([side(Side::A), side(Side::B)]), ..options };
    let mut pair = Pair::prepare(change(options));
    let port = pair.port;
    let [first, second] = [0, 1].map(|cable| link.address_on(cable, Side::A));
    let everywhere =
        pair.primary.settings().replace(&format!("\"{first}:{port}\""), &format!("\"0.0.0.0:{port}\""));
    pair.primary.settle(&everywhere);
    let one = format!("address = \"https://{first}:{port}\"");
    let two = format!("address = [\"https://{first}:{port}\", \"https://{second}:{port}\"]");
    assert!(pair.secondary.settings().contains(&one));
    let two = pair.secondary.settings().replace(&one, &two);
    pair.secondary.settle(&two);
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("both paths", PATIENCE, |status| links(status) == ["established", "established"]);
    }
    (pair, link)
}

/// What the link over each path is like.
fn links(status: &Status) -> Vec<&str> {
    let paths = status.0.pointer("/peer/paths").and_then(|paths| paths.as_array());
    paths.into_iter().flatten().filter_map(|path| path.pointer("/link")?.as_str()).collect()
}

/// Nobody but the primary has run since, and the canary saw nothing.
#[track_caller]
#[expect(clippy::print_stdout, reason = "the measured gap is worth reading")]
fn undisturbed(pair: &Pair, since_ns: u64) {
    let canary = pair.canary();
    assert!(canary.first_of("node-b", since_ns).is_none(), "nobody took over: {:#?}", canary.activities());
    let gap = canary.longest_outage_ms(since_ns);
    println!("MEASURED the longest gap at the canary: {gap:.1} ms");
    assert!(gap < 100.0 * SLACK, "the plugins are undisturbed, but there is a gap of {gap} ms");
}

#[track_caller]
fn quiet_for(span: Duration) {
    let since = boot_ns();
    until("time to pass", PATIENCE, || {
        (ms_between(since, boot_ns()) > span.as_secs_f64() * 1000.0).then_some(())
    });
}

/// How many events with this code a node has journalled.
fn events(node: &Node, code: &str) -> usize {
    node.ask(&["events", "--json", "--limit", "500"]).stdout.matches(&format!("\"{code}\"")).count()
}

#[test]
fn one_of_two_cables_cut_is_a_warning_and_no_more() {
    if !netns_wanted() {
        return;
    }
    for cable in [0, 1] {
        let _turn = timed();
        let (pair, link) = pair(|options| options.profile(Profile::Standard));
        // A busy machine may have said one or the other while the pair started.
        let said = |node: &Node| ["peer_disconnected", "path_lost"].map(|code| events(node, code));
        let before_cut = [&pair.primary, &pair.secondary].map(said);
        let before = boot_ns();
        link.cut_cable(cable);
        for node in [&pair.primary, &pair.secondary] {
            let status = node.reaches("the warning", PATIENCE, |status| status.warns("path_lost"));
            eprintln!(
                "MEASURED warned on {} {:.0} ms after the cut",
                node.name(),
                ms_between(before, boot_ns())
            );
            assert_eq!(status.redundancy(), "ready", "{status:#?}");
            assert_eq!(status.link(), "established", "{status:#?}");
            let wanted = if cable == 0 { ["silent", "established"] } else { ["established", "silent"] };
            assert_eq!(links(&status), wanted, "{status:#?}");
            assert!(status.warning("path_lost").contains(&format!("path {} of 2", cable + 1)), "{status:#?}");
        }
        quiet_for(Profile::Standard.timeout());
        link.restore_cable(cable);
        for (node, [disconnected, lost]) in [&pair.primary, &pair.secondary].into_iter().zip(before_cut) {
            node.reaches("the end of the warning", PATIENCE, |status| {
                !status.warns("path_lost") && links(status) == ["established", "established"]
            });
            tells(node, "path_back");
            assert_eq!(
                said(node),
                [disconnected, lost + 1],
                "the path was said to be lost once, and nothing else"
            );
        }
        undisturbed(&pair, before);
    }
}

#[test]
fn both_cables_cut_one_after_the_other_is_a_takeover_counted_from_the_second() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options);
    let first = boot_ns();
    link.cut_cable(0);
    pair.secondary.reaches("the warning", PATIENCE, |status| status.warns("path_lost"));
    undisturbed(&pair, first);
    let before = boot_ns();
    link.cut_cable(1);
    let running = runs_again(&pair, &pair.secondary, before);
    println!("MEASURED took over {:.1} ms after the second cut", ms_between(before, running));
    in_time(Profile::Fast, before, running);
    pair.primary.reaches("the warning", PATIENCE, |status| status.warns("peer_disconnected"));
    // One cable is enough to meet again.
    link.restore_cable(1);
    tells(&pair.primary, "conflict_found");
    healed(&pair);
}

#[test]
fn both_cables_cut_at_once_is_a_takeover_in_time() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options);
    let before = boot_ns();
    link.cut_cable(0);
    link.cut_cable(1);
    let running = runs_again(&pair, &pair.secondary, before);
    println!("MEASURED took over {:.1} ms after both cuts", ms_between(before, running));
    in_time(Profile::Fast, before, running);
    link.restore_cable(0);
    link.restore_cable(1);
    healed(&pair);
}

#[test]
fn a_crash_is_proved_over_the_cable_that_is_left() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (mut pair, link) = pair(|options| options.profile(Profile::Standard));
    link.cut_cable(0);
    pair.secondary.reaches("the warning", PATIENCE, |status| status.warns("path_lost"));
    let before = pair.primary.kill_manager();
    let running = runs_again(&pair, &pair.secondary, before);
    let took = ms_between(before, running);
    println!("MEASURED took over {took:.1} ms after the crash");
    assert!(took < 500.0 * SLACK, "the tombstone was read over the other cable: {took} ms");
    assert_eq!(events(&pair.secondary, "tombstone_read"), 1);
}

#[test]
fn a_flapping_cable_moves_nothing_and_floods_nothing() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options);
    let sizes = |pair: &Pair| [&pair.primary, &pair.secondary].map(size);
    let disconnected = [&pair.primary, &pair.secondary].map(|node| events(node, "peer_disconnected"));
    let (before, small) = (boot_ns(), sizes(&pair));
    let mut turns = 0;
    while ms_between(before, boot_ns()) < 8000.0 {
        link.cut_cable(0);
        quiet_for(Duration::from_millis(200));
        link.restore_cable(0);
        quiet_for(Duration::from_millis(200));
        turns += 1;
    }
    for (node, disconnected) in [&pair.primary, &pair.secondary].into_iter().zip(disconnected) {
        node.reaches("both paths", PATIENCE, |status| {
            !status.warns("path_lost") && links(status) == ["established", "established"]
        });
        let told = events(node, "path_lost") + events(node, "path_back");
        println!("MEASURED {turns} flaps, {told} events on {}", node.name());
        assert!(told <= 10, "{told} events in {turns} flaps");
        assert_eq!(events(node, "peer_disconnected"), disconnected);
    }
    undisturbed(&pair, before);
    for (small, large) in small.into_iter().zip(sizes(&pair)) {
        println!("MEASURED before: {small:?}, after: {large:?} (KiB, descriptors)");
        assert!(large.0 < small.0 + 16 * 1024, "memory grew from {} to {} KiB", small.0, large.0);
        assert!(large.1 < small.1 + 12, "descriptors grew from {} to {}", small.1, large.1);
    }
}

/// What a manager holds: memory in KiB, descriptors.
fn size(node: &Node) -> (u64, usize) {
    let process = format!("/proc/{}", node.manager());
    let status = fs::read_to_string(format!("{process}/status")).expect("the manager runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line with the size");
    let kib = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    (kib, fs::read_dir(format!("{process}/fd")).expect("its descriptors").count())
}
