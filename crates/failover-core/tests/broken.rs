//! Six machines that break one rule each. A suite that cannot tell them from the right one proves nothing, so each
//! must be caught by at least one check that the right machine passes.
#![allow(clippy::unwrap_used)]

mod pair;

use failover_core::{Rules, State};
use pair::{World, ms};

fn world(rules: Option<Rules>) -> World {
    let mut world = World::new(11);
    world.watch = false;
    world.rules = rules;
    world
}

fn up(rules: Option<Rules>) -> World {
    let mut world = world(rules);
    world.boot(0);
    world.boot(1);
    world.run_for(ms(6500));
    world
}

/// Every message is under way for nearly a second when the primary's host dies. The bound is T after the *send* of the
/// last acknowledged heartbeat; counted from the arrival of its answer, the takeover comes almost two seconds late.
fn takes_over_late(rules: Option<Rules>) -> bool {
    let mut world = up(rules);
    world.net.latency = (ms(900), ms(910));
    world.run_for(ms(4000));
    world.power_off(0);
    world.run_for(ms(920)); // The answers that were under way arrive.
    let host = &world.hosts[1];
    let echo = host.machine.as_ref().unwrap().view(host.clock(world.now)).peer.last_echo.unwrap();
    let bound = host.real(echo) + ms(3100);
    world.run_for(bound - world.now);
    world.states()[1] == Some(State::Standby)
}

/// The secondary is active and the primary boots: without the wait it starts beside it.
fn starts_beside_the_active(rules: Option<Rules>) -> bool {
    let mut world = up(rules);
    world.crash(0);
    world.run_for(ms(2000));
    world.boot(0);
    world.run_for(ms(3000));
    world.checks.overlap > 0
}

/// A hand-over with a slow stop: released before reaped, both run.
fn hands_over_what_still_runs(rules: Option<Rules>) -> bool {
    let mut world = up(rules);
    world.hosts[0].stop_delay = ms(2000);
    let request = failover_core::RequestId("move".to_owned());
    world.tell(0, failover_core::Input::SwitchoverRequested { request });
    world.run_for(ms(5000));
    world.checks.overlap > 0 || !world.checks.broken.is_empty()
}

/// A firewall refuses for an instant in the living primary's name.
fn takes_a_refusal_for_death(rules: Option<Rules>) -> bool {
    let mut world = up(rules);
    world.net.reject = true;
    let link = *world.links.keys().next().unwrap();
    world.broken(1, link, "reset by the firewall");
    world.run_for(ms(1500));
    world.states()[1] != Some(State::Standby)
}

fn up_on_two_paths(rules: Option<Rules>) -> World {
    let mut world = world(rules);
    world.two_paths();
    world.boot(0);
    world.boot(1);
    world.run_for(ms(6500));
    world
}

/// One of two cables is cut and both ends notice at once.
fn takes_one_path_for_all(rules: Option<Rules>) -> bool {
    let mut world = up_on_two_paths(rules);
    world.net.down[0] = true;
    let link = *world.links.iter().find(|(_, link)| link.path == 0).unwrap().0;
    world.broken(0, link, "the connection broke");
    world.broken(1, link, "the connection broke");
    world.run_for(ms(5000));
    world.states()[1] != Some(State::Standby) || world.checks.overlap > 0
}

/// A hand-over to the secondary while what was said before it is still under way over a slow path.
fn believes_what_comes_last(rules: Option<Rules>) -> bool {
    let mut world = world(rules);
    world.two_paths();
    for host in &mut world.hosts {
        host.settings.failback = failover_core::FailbackMode::Manual;
    }
    world.net.slow[1] = ms(1600);
    world.boot(0);
    world.boot(1);
    world.run_for(ms(12_000));
    for round in 0..6 {
        let from = usize::from(world.states()[0] != Some(State::Active));
        let request = failover_core::RequestId(format!("move-{round}"));
        world.tell(from, failover_core::Input::SwitchoverRequested { request });
        world.run_for(ms(700 + 350 * round));
    }
    world.run_for(ms(5000));
    let told = world.told.iter().any(|(_, code, _)| *code == failover_core::EventCode::ConflictFound);
    told || world.checks.overlap > 0 || !world.checks.broken.is_empty()
}

#[test]
fn one_path_taken_for_all_is_caught() {
    assert!(takes_one_path_for_all(Some(Rules::ONE_PATH_IS_ALL)));
}

#[test]
fn believing_the_report_that_comes_last_is_caught() {
    assert!(believes_what_comes_last(Some(Rules::LAST_REPORT_COUNTS)));
}

#[test]
fn the_right_machine_passes_every_check() {
    assert!(!takes_one_path_for_all(None));
    assert!(!believes_what_comes_last(None));
    assert!(!takes_over_late(None));
    assert!(!starts_beside_the_active(None));
    assert!(!hands_over_what_still_runs(None));
    assert!(!takes_a_refusal_for_death(None));
}

#[test]
fn counting_from_the_arrival_is_caught() {
    assert!(takes_over_late(Some(Rules::COUNT_FROM_ARRIVAL)));
}

#[test]
fn a_start_without_waiting_is_caught() {
    assert!(starts_beside_the_active(Some(Rules::NO_STARTUP_WAIT)));
}

#[test]
fn standby_before_every_plugin_is_reaped_is_caught() {
    assert!(hands_over_what_still_runs(Some(Rules::STANDBY_BEFORE_REAPED)));
}

#[test]
fn a_refusal_taken_for_death_is_caught() {
    assert!(takes_a_refusal_for_death(Some(Rules::REFUSED_IS_DEAD)));
}
