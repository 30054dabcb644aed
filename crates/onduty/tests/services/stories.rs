//! Nodes whose services run in processes of their own: what `up` promises holds, and each service may die and come back.

use super::{CLIENT, MANAGEMENT, SERVER, SUPERVISOR, TRUST};
use test_support::{
    PATIENCE as LIMIT, Pair, PairOptions, Profile, Signal, alive, at_most, boot_ns, kill, one_at_a_time,
    runs_again, timed, until,
};

/// A pair with its services apart, started in these orders.
fn started(options: PairOptions, primary: [&'static str; 3], secondary: [&'static str; 3]) -> Pair {
    let mut pair = Pair::prepare(options);
    // Nothing waits for anything but this one's first bundle; the orders with it are in `trust.rs`.
    pair.primary.start_service(TRUST);
    pair.secondary.start_service(TRUST);
    primary.into_iter().for_each(|service| pair.primary.start_service(service));
    secondary.into_iter().for_each(|service| pair.secondary.start_service(service));
    pair.redundant();
    pair
}

fn running(options: PairOptions) -> Pair {
    started(options, [SUPERVISOR, SERVER, MANAGEMENT], [MANAGEMENT, CLIENT, SUPERVISOR])
}

fn options() -> PairOptions {
    PairOptions::new(env!("CARGO_BIN_EXE_onduty"))
}

#[test]
fn a_killed_heartbeat_leaves_a_tombstone_and_comes_back() {
    let _turn = timed();
    let mut pair = running(options());
    let plugins = pair.primary.plugins();
    assert!(!plugins.is_empty(), "the canary of the primary is a process");

    let killed = pair.primary.kill_service(SERVER);
    let takeover = runs_again(&pair, &pair.secondary, killed);
    at_most("takeover after the heartbeat was killed", 80.0, killed, takeover);
    assert!(plugins.iter().all(|pid| !alive(*pid)), "a plugin survived");
    let events = pair.secondary.ask(&["events", "--json", "--limit", "500"]).stdout;
    assert!(events.contains("\"tombstone_read\""), "{events}");
    one_at_a_time(&pair);

    // Management answers for a duty service that is away.
    let away = pair.primary.ask(&["status"]);
    assert_eq!(away.code, Some(4), "{away:?}");
    assert!(away.stderr.contains("the duty service of this node is away"), "{away:?}");

    let back = boot_ns();
    pair.primary.start_service(SERVER);
    runs_again(&pair, &pair.primary, back);
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn the_heartbeats_first_and_the_supervisors_last_is_an_order_too_and_the_duty_moves_as_ever() {
    let _turn = timed();
    let orders = [MANAGEMENT, SERVER, SUPERVISOR];
    let pair = started(options().manual(), orders, [CLIENT, SUPERVISOR, MANAGEMENT]);
    pair.move_to_secondary();
    let back = pair.secondary.ask(&["switchover"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    pair.redundant();
    one_at_a_time(&pair);
    let listed = pair.primary.ask(&["plugins", "list", "--json"]).stdout;
    assert!(listed.contains("\"ready\"") && listed.contains("\"pid\""), "{listed}");
    assert_eq!(pair.secondary.ask(&["test"]).code, Some(0));
}

#[test]
fn a_killed_supervisor_on_the_standby_makes_it_unfit_until_one_is_back() {
    let _turn = timed();
    let mut pair = running(options());
    let killed = pair.secondary.kill_service(SUPERVISOR);
    let unfit = |status: &test_support::Status| status.redundancy() != "ready";
    let status = pair.primary.reaches("the standby unfit", LIMIT, unfit);
    assert!(format!("{status:?}").contains("the plugin supervisor is away"), "{status:?}");
    pair.secondary.start_service(SUPERVISOR);
    pair.redundant();
    one_at_a_time(&pair);
    let gap = pair.canary().longest_outage_ms(killed);
    assert!(gap < 500.0, "the active node was disturbed for {gap:.1} ms");
}

/// Waits for either canary to write after a time; gives the time of that line.
#[track_caller]
fn somebody_runs(pair: &Pair, after_ns: u64) -> u64 {
    until("a canary", LIMIT, || {
        let canary = pair.canary();
        let names = [pair.primary.name(), pair.secondary.name()];
        names.iter().filter_map(|name| canary.first_of(name, after_ns)).map(|stamp| stamp.boot_ns).min()
    })
}

#[test]
fn a_killed_supervisor_on_the_active_node_takes_the_plugins_with_it_and_the_other_node_takes_over() {
    let _turn = timed();
    let mut pair = running(options());
    let plugins = pair.primary.plugins();
    let killed = pair.primary.kill_service(SUPERVISOR);
    until("the guard to kill the plugins", LIMIT, || plugins.iter().all(|pid| !alive(*pid)).then_some(()));
    let gone = boot_ns();
    at_most("the end of the plugins", 100.0, killed, gone);
    let takeover = runs_again(&pair, &pair.secondary, gone);
    at_most("takeover after the supervisor was killed", 600.0, killed, takeover);
    one_at_a_time(&pair);

    pair.primary.start_service(SUPERVISOR);
    runs_again(&pair, &pair.primary, boot_ns());
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn a_supervisor_that_is_back_at_once_never_runs_the_epoch_of_the_one_before() {
    let _turn = timed();
    let mut pair = running(options());
    let before = pair.canary().last_of("node-a").expect("the primary ran").epoch;
    let killed = pair.primary.kill_service(SUPERVISOR);
    pair.primary.start_service(SUPERVISOR);
    let plugins_gone = until("the plugins to be gone", LIMIT, || {
        let last = pair.canary().last_of("node-a")?.boot_ns;
        (boot_ns() > last + 50_000_000).then_some(last)
    });
    let running = somebody_runs(&pair, plugins_gone + 1);
    at_most("the outage of a supervisor that is back at once", 1500.0, killed, running);
    pair.redundant();
    one_at_a_time(&pair);
    let runs = pair.canary().activities();
    assert!(runs.len() >= 2 && runs.iter().skip(1).all(|run| run.epoch > before), "{runs:#?}");
}

/// The guard is left alone with the port: it shows the tombstone, and the next heartbeat waits until it lets go.
#[test]
fn a_node_whose_services_are_killed_beside_their_guard_leaves_a_tombstone_too() {
    let _turn = timed();
    let mut pair = running(options());
    let plugins = pair.primary.plugins();
    let killed = pair.primary.kill_service(SUPERVISOR);
    pair.primary.kill_service(SERVER);
    let takeover = runs_again(&pair, &pair.secondary, killed);
    at_most("takeover after heartbeat and supervisor were killed", 540.0, killed, takeover);
    assert!(plugins.iter().all(|pid| !alive(*pid)), "a plugin survived");
    one_at_a_time(&pair);
    let back = boot_ns();
    pair.primary.start_service(SERVER);
    pair.primary.start_service(SUPERVISOR);
    runs_again(&pair, &pair.primary, back);
    pair.redundant();
    one_at_a_time(&pair);
}

/// Also with everything of the node killed at once, in whatever order it comes back.
#[test]
fn a_node_that_is_killed_whole_comes_back_with_its_heartbeat_first() {
    let _turn = timed();
    let mut pair = running(options());
    let plugins = pair.primary.plugins();
    let killed = boot_ns();
    pair.primary.onduty_processes().into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
    for service in [SERVER, SUPERVISOR, MANAGEMENT, TRUST] {
        pair.primary.kill_service(service);
    }
    let takeover = runs_again(&pair, &pair.secondary, killed);
    at_most("takeover after all of the node was killed", 540.0, killed, takeover);
    assert!(plugins.iter().all(|pid| !alive(*pid)), "a plugin survived");
    one_at_a_time(&pair);
    let back = boot_ns();
    for service in [SERVER, MANAGEMENT, SUPERVISOR, TRUST] {
        pair.primary.start_service(service);
    }
    runs_again(&pair, &pair.primary, back);
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn management_holds_nothing() {
    let _turn = timed();
    let mut pair = running(options());
    let killed = pair.primary.kill_service(MANAGEMENT);
    assert_eq!(pair.primary.ask(&["status"]).code, Some(4));
    pair.primary.start_service(MANAGEMENT);
    pair.redundant();
    let gap = pair.canary().longest_outage_ms(killed);
    assert!(gap < 500.0, "the active node was disturbed for {gap:.1} ms");
    one_at_a_time(&pair);
}

#[test]
fn a_frozen_heartbeat_loses_its_plugins_to_the_lease_and_a_thawed_one_starts_nothing_beside_the_other() {
    let _turn = timed();
    let pair = running(options());
    let frozen = boot_ns();
    kill(pair.primary.service(SERVER), Signal::SIGSTOP);
    let takeover = runs_again(&pair, &pair.secondary, frozen);
    at_most("takeover after the heartbeat froze", 540.0, frozen, takeover);
    assert!(pair.primary.plugins().is_empty(), "the guard killed the plugins before the secondary acted");
    kill(pair.primary.service(SERVER), Signal::SIGCONT);
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn services_that_are_asked_to_stop_give_the_duty_away_first() {
    let _turn = timed();
    let mut pair = running(options().manual());
    let asked = boot_ns();
    assert_eq!(pair.primary.end_service(SERVER, LIMIT).code(), Some(0));
    runs_again(&pair, &pair.secondary, asked);
    one_at_a_time(&pair);

    pair.primary.start_service(SERVER);
    pair.primary
        .reaches("standby", LIMIT, |status| status.redundancy() == "ready" && status.state() == "standby");
    let asked = boot_ns();
    assert_eq!(pair.secondary.end_service(SUPERVISOR, LIMIT).code(), Some(0));
    runs_again(&pair, &pair.primary, asked);
    one_at_a_time(&pair);
    pair.secondary.start_service(SUPERVISOR);
    pair.redundant();
    assert_eq!(pair.secondary.end_service(MANAGEMENT, LIMIT).code(), Some(0));
}

#[test]
fn a_part_that_runs_already_a_whole_node_beside_parts_and_the_wrong_heartbeat_are_refused() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    pair.primary.start_service(SUPERVISOR);
    pair.primary.start_service(MANAGEMENT);
    until("the operators' socket", LIMIT, || {
        pair.primary.data_dir().join("onduty.sock").exists().then_some(())
    });
    let whole = pair.primary.ask(&["up"]);
    assert_eq!(whole.code, Some(1), "{whole:?}");
    assert!(whole.stderr.contains("another onduty runs"), "{whole:?}");
    let twice = pair.primary.ask(&["serve", MANAGEMENT]);
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert!(twice.stderr.contains("`onduty serve management` runs"), "{twice:?}");
    let wrong = pair.secondary.ask(&["serve", SERVER]);
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    let said = "`redundancy.mode` is secondary: its service is `onduty serve heartbeat-client`";
    assert!(wrong.stderr.contains(said), "{wrong:?}");
}

#[test]
fn a_node_without_redundancy_runs_its_plugins_again_whichever_service_died() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    let settings = pair.primary.settings().replace("mode = \"primary\"", "mode = \"deactivated\"");
    pair.primary.settle(&settings);
    let services = [SERVER, SUPERVISOR, MANAGEMENT, TRUST];
    services.into_iter().for_each(|service| pair.primary.start_service(service));
    runs_again(&pair, &pair.primary, 0);
    for service in [SERVER, SUPERVISOR] {
        let plugins = pair.primary.plugins();
        pair.primary.kill_service(service);
        until("its plugins to be gone", LIMIT, || plugins.iter().all(|pid| !alive(*pid)).then_some(()));
        let gone = boot_ns();
        pair.primary.start_service(service);
        runs_again(&pair, &pair.primary, gone);
    }
    assert_eq!(pair.canary().epochs_in_order(), Ok(()), "{:#?}", pair.canary().activities());
}

#[test]
fn with_the_usual_timings_a_killed_heartbeat_is_replaced_long_before_the_takeover_time() {
    let _turn = timed();
    let mut pair = running(options().profile(Profile::Standard));
    let killed = pair.primary.kill_service(SERVER);
    let takeover = runs_again(&pair, &pair.secondary, killed);
    at_most("takeover after the heartbeat was killed, 1 s / 3 s", 120.0, killed, takeover);
    one_at_a_time(&pair);
}
