//! SIGTERM of every service and of whole nodes, active and on standby, with a plugin that ignores SIGTERM: each ends within
//! the stop budget that `config check` prints, and the duty is handed over.

use std::time::Duration;

use test_support::{
    Node, PATIENCE, Pair, PairOptions, Signal, boot_ns, kill, ms_between, one_at_a_time, runs_again, timed,
    undisturbed, until,
};

use super::{MANAGEMENT, TRUST, Which, options, redundant, running};

const STUBBORN: &str = "[plugins.stubborn]\n\
     command = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 0.2; done\"]\n\
     ready = { stays_up = \"50ms\" }\nstop = { grace = \"700ms\" }\n";

fn stubborn() -> PairOptions {
    options().plugins(STUBBORN)
}

/// What `config check` prints.
#[track_caller]
fn budget(node: &Node) -> Duration {
    let answer = node.ask(&["config", "check", "--json"]);
    let (_, rest) = answer.stdout.split_once("\"stop_budget_s\":").unwrap_or_else(|| panic!("{answer:?}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    Duration::from_secs(digits.parse().unwrap())
}

/// Says how long it took; that it was not longer than the budget was seen by the wait.
fn ended(what: &str, asked: u64, budget: Duration) {
    println!("{what}: {:.0} ms of {budget:?}", ms_between(asked, boot_ns()));
}

#[test]
fn a_whole_node() {
    let _turn = timed();
    let mut pair = Pair::running(stubborn().manual());
    for active in [Which::Primary, Which::Secondary] {
        let standby = active.other();
        let budget = budget(standby.of(&pair));
        let asked = standby.of(&pair).signal(Signal::SIGTERM);
        assert_eq!(standby.of_mut(&mut pair).ended(budget).code(), Some(0));
        ended(&format!("the {standby:?} on standby"), asked, budget);
        undisturbed(&pair, active.of(&pair), asked);
        standby.of_mut(&mut pair).start();
        redundant(&pair, active);

        let asked = active.of(&pair).signal(Signal::SIGTERM);
        assert_eq!(active.of_mut(&mut pair).ended(budget).code(), Some(0));
        ended(&format!("the active {active:?}"), asked, budget);
        runs_again(&pair, standby.of(&pair), asked);
        active.of_mut(&mut pair).start();
        redundant(&pair, standby);
        one_at_a_time(&pair);
    }
}

#[test]
fn each_service_in_turn() {
    let _turn = timed();
    let mut pair = running(stubborn());
    let budget = budget(&pair.primary);
    // The duty changes sides with the heartbeat and with the supervisor.
    let mut active = Which::Primary;
    for at in 0..active.services().len() {
        let standby = active.other();
        let service = standby.services()[at];
        let asked = standby.of(&pair).ask_to_end(service);
        assert_eq!(standby.of_mut(&mut pair).service_ended(service, budget).code(), Some(0));
        ended(&format!("{service} of the {standby:?} on standby"), asked, budget);
        standby.of_mut(&mut pair).start_service(service);
        redundant(&pair, active);
        undisturbed(&pair, active.of(&pair), asked);

        let service = active.services()[at];
        let asked = active.of(&pair).ask_to_end(service);
        assert_eq!(active.of_mut(&mut pair).service_ended(service, budget).code(), Some(0));
        ended(&format!("{service} of the active {active:?}"), asked, budget);
        if [TRUST, MANAGEMENT].contains(&service) {
            undisturbed(&pair, active.of(&pair), asked);
            active.of_mut(&mut pair).start_service(service);
        } else {
            runs_again(&pair, standby.of(&pair), asked);
            active.of_mut(&mut pair).start_service(service);
            active = standby;
            redundant(&pair, active);
        }
        one_at_a_time(&pair);
    }
}

/// As a service manager does that stops a machine.
#[test]
fn every_service_of_a_node_at_once() {
    let _turn = timed();
    let mut pair = running(stubborn());
    let budget = budget(&pair.primary);
    for active in [Which::Primary, Which::Secondary] {
        let standby = active.other();
        let services = active.services();
        let asked = boot_ns();
        for service in services {
            active.of(&pair).ask_to_end(service);
        }
        for service in services {
            active.of_mut(&mut pair).service_ended(service, budget);
        }
        ended(&format!("all services of the active {active:?}"), asked, budget);
        runs_again(&pair, standby.of(&pair), asked);
        assert!(active.of(&pair).everything().is_empty(), "something of the node lives on");
        one_at_a_time(&pair);
        for service in services {
            active.of_mut(&mut pair).start_service(service);
        }
        redundant(&pair, standby);
        one_at_a_time(&pair);
    }
}

/// Nobody is left who could say that the plugins are gone: the heartbeat ends all the same, in time and as a failure.
#[test]
fn a_heartbeat_whose_supervisor_and_guard_stand_still() {
    let _turn = timed();
    let mut pair = Pair::prepare(stubborn().manual());
    for node in [Which::Primary, Which::Secondary] {
        // The budget without a hand-over is that of the plugins, and the few seconds that the end of a process may take.
        let settings =
            node.of(&pair).settings().replace("[redundancy]\n", "[redundancy]\nhandover_on_stop = false\n");
        node.of_mut(&mut pair).settle(&settings);
        node.services().into_iter().for_each(|service| node.of_mut(&mut pair).start_service(service));
    }
    pair.redundant();
    let budget = budget(&pair.primary);
    assert!(budget < Duration::from_secs(12), "{budget:?}");
    let heartbeat = pair.primary.service(Which::Primary.services()[0]);
    let still: Vec<_> = pair.primary.onduty_processes().into_iter().filter(|pid| *pid != heartbeat).collect();
    still.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
    let asked = pair.primary.ask_to_end(Which::Primary.services()[0]);
    let status = pair.primary.service_ended(Which::Primary.services()[0], budget);
    ended("the heartbeat of a node that stands still", asked, budget);
    assert_eq!(status.code(), Some(1));
    still.iter().for_each(|pid| kill(*pid, Signal::SIGCONT));
    runs_again(&pair, &pair.secondary, asked);
    until("the plugins to be gone", PATIENCE, || pair.primary.plugins().is_empty().then_some(()));
}
