//! Crashes: the manager or all of a node is killed or stands still, on either side of the pair.

use test_support::{Pair, Profile, Signal, alive, boot_ns, ms_between, timed, until};

use crate::{PATIENCE, at_most, one_at_a_time, options, runs_again, tells, undisturbed};

/// `kill -9` of the active primary's manager, with the guard alive: it kills the plugins, and its tombstone spares the
/// secondary the wait.
fn killed_manager(profile: Profile, bound_ms: f64) {
    let _turn = timed();
    let mut pair = Pair::running(options().profile(profile));
    let plugins = pair.primary.plugins();
    assert!(!plugins.is_empty(), "the canary of the primary is a process");

    let killed = pair.primary.kill_manager();
    let running = runs_again(&pair, &pair.secondary, killed);
    at_most("the takeover", bound_ms, killed, running);
    one_at_a_time(&pair);
    until("the primary's plugins to be gone", PATIENCE, || {
        plugins.iter().all(|pid| !alive(*pid)).then_some(())
    });
    assert!(pair.primary.plugins().is_empty(), "none is left on the primary");
    tells(&pair.secondary, "tombstone_read");
    tells(&pair.secondary, "redundancy_active");
}

#[test]
fn a_killed_manager_is_replaced_at_once() {
    killed_manager(Profile::Fast, 60.0);
}

#[test]
fn a_killed_manager_is_replaced_long_before_the_takeover_time() {
    killed_manager(Profile::Standard, 100.0);
}

#[test]
fn when_all_of_the_primary_is_killed_its_plugins_go_with_it_and_the_silence_decides() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let plugins = pair.primary.plugins();
    assert!(!plugins.is_empty(), "the canary of the primary is a process");

    let killed = pair.primary.kill_everything();
    let running = runs_again(&pair, &pair.secondary, killed);
    at_most("the takeover", 520.0, killed, running);
    assert!(plugins.iter().all(|pid| !alive(*pid)), "a plugin survived onduty");
    let canary = pair.canary();
    let last = canary.last_of("node-a").expect("the primary ran").boot_ns;
    at_most("the end of the plugins", 100.0, killed, last.max(killed));
    one_at_a_time(&pair);
    tells(&pair.secondary, "redundancy_active");
}

#[test]
fn a_frozen_manager_has_lost_its_plugins_before_the_secondary_acts_and_gets_none_when_it_thaws() {
    let _turn = timed();
    let pair = Pair::running(options());

    let frozen = pair.primary.signal(Signal::SIGSTOP);
    let running = runs_again(&pair, &pair.secondary, frozen);
    at_most("the takeover", 520.0, frozen, running);
    assert!(
        pair.primary.plugins().is_empty(),
        "the guard killed the primary's plugins before the secondary acted"
    );
    one_at_a_time(&pair);

    // While the secondary is active, the thawed primary waits and takes the duty back in the planned way.
    let thawed = pair.primary.signal(Signal::SIGCONT);
    let back = runs_again(&pair, &pair.primary, thawed);
    let last = pair.canary().last_of("node-b").expect("the secondary ran").boot_ns;
    assert!(ms_between(last, back) >= 0.0, "the primary started beside the active secondary");
    tells(&pair.primary, "guard_fired");
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn a_thawed_primary_stays_on_standby_when_hand_back_is_manual() {
    let _turn = timed();
    let pair = Pair::running(options().manual());

    let frozen = pair.primary.signal(Signal::SIGSTOP);
    let running = runs_again(&pair, &pair.secondary, frozen);
    pair.primary.signal(Signal::SIGCONT);
    pair.primary
        .reaches("standby", PATIENCE, |status| status.state() == "standby" && status.redundancy() == "ready");
    assert!(pair.primary.plugins().is_empty());
    undisturbed(&pair, &pair.secondary, running);
    one_at_a_time(&pair);
}

#[test]
fn the_primary_takes_over_from_a_killed_secondary() {
    let _turn = timed();
    let mut pair = Pair::running(options().manual());
    pair.move_to_secondary();

    let killed = pair.secondary.kill_manager();
    let running = runs_again(&pair, &pair.primary, killed);
    at_most("the takeover", 520.0, killed, running);
    one_at_a_time(&pair);
    assert!(pair.secondary.plugins().is_empty(), "none is left on the secondary");
}

#[test]
fn the_primary_takes_over_from_a_frozen_secondary() {
    let _turn = timed();
    let pair = Pair::running(options().manual());
    pair.move_to_secondary();

    let frozen = pair.secondary.signal(Signal::SIGSTOP);
    let running = runs_again(&pair, &pair.primary, frozen);
    at_most("the takeover", 520.0, frozen, running);
    assert!(pair.secondary.plugins().is_empty(), "the guard killed the secondary's plugins");
    one_at_a_time(&pair);

    pair.secondary.signal(Signal::SIGCONT);
    pair.secondary.reaches("standby", PATIENCE, |status| status.state() == "standby");
    one_at_a_time(&pair);
}

#[test]
fn plugins_that_ignore_signals_and_fork_away_do_not_survive_a_killed_manager() {
    let _turn = timed();
    // Ignores SIGTERM, and leaves a grandchild in a session of its own behind.
    let stubborn = "[plugins.stubborn]\n\
        command = [\"sh\", \"-c\", \"trap '' TERM; setsid sh -c 'exec sleep 1000' {folder}/grandchild & while :; do sleep 1; done\", \"{folder}/stubborn\"]\n\
        stop = { grace = \"300ms\" }\nready = { stays_up = \"50ms\" }\n";
    let mut pair = Pair::running(options().plugins(stubborn));
    let before = until("the grandchild", PATIENCE, || {
        let plugins = pair.primary.plugins();
        (plugins.len() >= 3).then_some(plugins)
    });

    let killed = pair.primary.kill_manager();
    runs_again(&pair, &pair.secondary, killed);
    assert!(before.iter().all(|pid| !alive(*pid)), "something survived");
    one_at_a_time(&pair);
    assert!(boot_ns() > killed);
}
